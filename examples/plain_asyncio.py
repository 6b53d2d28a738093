"""Researches a topic with asyncio and the openai package alone."""

import asyncio
import os
import sys

from openai import AsyncOpenAI
from pydantic import BaseModel

MODEL = os.environ.get("MODEL", "gpt-5-mini")


class Plan(BaseModel):
    sub_questions: list[str]


async def plan(client: AsyncOpenAI, topic: str) -> list[str]:
    answer = await client.chat.completions.parse(
        model=MODEL,
        messages=[{"role": "user", "content": f"Topic: {topic}\nWrite 3 sub-questions."}],
        response_format=Plan,
    )
    parsed = answer.choices[0].message.parsed
    return parsed.sub_questions if parsed else [topic]


async def write(client: AsyncOpenAI, prompt: str) -> str:
    answer = await client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": prompt}]
    )
    return answer.choices[0].message.content or ""


async def main(topic: str) -> str:
    async with AsyncOpenAI() as client:
        questions = await plan(client, topic)
        findings = await asyncio.gather(*[write(client, question) for question in questions])
        notes = "\n\n".join(findings)
        return await write(client, f"Topic: {topic}\nWrite a report from:\n\n{notes}")


if __name__ == "__main__":
    print(asyncio.run(main(" ".join(sys.argv[1:]) or "How do tides form?")))
