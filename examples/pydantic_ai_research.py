"""Researches a topic with pydantic-ai: a planner with typed output, researchers and a writer."""

import asyncio
import os
import sys

from pydantic import BaseModel
from pydantic_ai import Agent

MODEL = "openai-chat:" + os.environ.get("MODEL", "gpt-5-mini")


class Plan(BaseModel):
    sub_questions: list[str]


planner = Agent(
    MODEL, output_type=Plan, instructions="Split the topic into exactly 3 sub-questions."
)
researcher = Agent(MODEL, instructions="Answer in one paragraph.")
writer = Agent(MODEL, instructions="Write a report from the findings.")


async def main(topic: str) -> str:
    planned = await planner.run(f"Topic: {topic}")
    runs = await asyncio.gather(*[researcher.run(q) for q in planned.output.sub_questions])
    findings = "\n\n".join(run.output for run in runs)
    report = await writer.run(f"Topic: {topic}\n\n{findings}")
    return report.output


if __name__ == "__main__":
    print(asyncio.run(main(" ".join(sys.argv[1:]) or "How do tides form?")))
