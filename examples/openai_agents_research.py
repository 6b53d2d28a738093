"""Researches a topic with the OpenAI Agents SDK: a planner, researchers and a writer."""

import asyncio
import os
import sys

from agents import Agent, Runner, trace
from pydantic import BaseModel

MODEL = os.environ.get("MODEL", "gpt-5-mini")


class Plan(BaseModel):
    sub_questions: list[str]


planner = Agent(
    name="planner",
    model=MODEL,
    instructions="Split the topic into exactly 3 sub-questions.",
    output_type=Plan,
)
researcher = Agent(name="researcher", model=MODEL, instructions="Answer in one paragraph.")
writer = Agent(name="writer", model=MODEL, instructions="Write a report from the findings.")


async def main(topic: str) -> str:
    with trace("research"):
        planned = await Runner.run(planner, f"Topic: {topic}")
        plan = planned.final_output_as(Plan)
        runs = await asyncio.gather(*[Runner.run(researcher, q) for q in plan.sub_questions])
        findings = "\n\n".join(run.final_output for run in runs)
        report = await Runner.run(writer, f"Topic: {topic}\n\n{findings}")
    return str(report.final_output)


if __name__ == "__main__":
    print(asyncio.run(main(" ".join(sys.argv[1:]) or "How do tides form?")))
