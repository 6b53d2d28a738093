"""Researches a topic: sub-questions, an answer to each of them at the same time, a report."""

import json

import harness


@harness.workflow
async def research(ask, topic, breadth=4):
    plan = await ask(
        "plan",
        f"Topic: {topic}\n\nDivide this topic into exactly {breadth} sub-questions. "
        'Answer with JSON: {"sub_questions": ["..."]}',
        json=True,
    )
    questions = json.loads(plan.text)["sub_questions"]
    answers = await harness.gather(
        *(ask("answer", f"Topic: {topic}\n\nAnswer this: {question}") for question in questions),
        enough=0.75,
        wait_for_all=True,
    )
    found = "\n\n".join(answer.text for answer in answers if answer is not None)
    report = await ask("report", f"Topic: {topic}\n\nWrite a report from:\n\n{found}")
    return harness.Scored(report.text, ok=len(report.text) > 200)
