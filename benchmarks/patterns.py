"""The steps of docs/async-patterns.md, each run against the simulated provider and timed.

    python -m benchmarks.patterns

Every figure is simulated: scenario seconds, the median of five rounds in which the steps take
turns. The functions below are the ones that the document shows; a test holds them together.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import openai
from openai import AsyncOpenAI, OpenAI

from harness.endpoints.simulated import start_simulator
from harness.workflows.research.decomposition import parse_sub_questions

MODEL = "simulated-reasoner"
TIME_SCALE = 0.02
CAP = 4
ROUNDS = 5
QUESTIONS = [f"What should one know about tides, part {number}?" for number in range(8)]
SECONDS = TIME_SCALE  # one scenario second in real seconds


# step: client
def make_client(base_url: str) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=base_url, api_key="none", max_retries=0)


# step: one-call
async def ask(client: AsyncOpenAI, question: str) -> str:
    reply = await client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": question}]
    )
    return reply.choices[0].message.content or ""


# step: streaming
async def first_token(client: AsyncOpenAI, question: str) -> float:
    began = time.monotonic()
    stream = await client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": question}], stream=True
    )
    async with stream:
        async for chunk in stream:
            delta: Any = chunk.choices[0].delta if chunk.choices else None
            if delta and (delta.content or getattr(delta, "reasoning_content", None)):
                break
    return time.monotonic() - began


# step: loop
async def one_after_another(client: AsyncOpenAI, questions: list[str]) -> list[str]:
    return [await ask(client, question) for question in questions]


# step: gather
async def all_at_once(client: AsyncOpenAI, questions: list[str]) -> list[str | BaseException]:
    return await asyncio.gather(
        *(ask(client, question) for question in questions), return_exceptions=True
    )


# step: semaphore
async def at_most(client: AsyncOpenAI, questions: list[str], permits: int) -> list[str]:
    semaphore = asyncio.Semaphore(permits)

    async def one(question: str) -> str:
        async with semaphore:
            return await ask(client, question)

    return list(await asyncio.gather(*(one(question) for question in questions)))


# step: retry
async def patiently(client: AsyncOpenAI, question: str, attempts: int = 30) -> str:
    for attempt in range(attempts):
        try:
            return await ask(client, question)
        except openai.RateLimitError:
            if attempt == attempts - 1:
                raise
            ceiling = min(20.0, 1.0 * 2**attempt)
            await asyncio.sleep(random.uniform(0, ceiling) * SECONDS)  # full jitter
    raise AssertionError("unreachable")


# step: workflow
async def workflow(client: AsyncOpenAI, topic: str, permits: int) -> str:
    plan = await patiently(
        client, f"Break the topic into exactly 4 sub-questions, as JSON. Topic: {topic}"
    )
    questions = parse_sub_questions(plan, 4)
    semaphore = asyncio.Semaphore(permits)

    async def research(question: str) -> str:
        async with semaphore:
            return await patiently(client, question)

    findings = await asyncio.gather(*(research(question) for question in questions))
    return await patiently(client, f"Write a report on {topic} from: {' '.join(findings)}")


# step: sync
def workflow_sync(client: OpenAI, topic: str) -> str:
    def ask_sync(question: str) -> str:
        reply = client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": question}]
        )
        return reply.choices[0].message.content or ""

    plan = ask_sync(f"Break the topic into exactly 4 sub-questions, as JSON. Topic: {topic}")
    findings = [ask_sync(question) for question in parse_sub_questions(plan, 4)]
    return ask_sync(f"Write a report on {topic} from: {' '.join(findings)}")


async def timed(work: Awaitable[object]) -> float:
    """Return the scenario seconds that `work` takes."""
    began = time.monotonic()
    await work
    return (time.monotonic() - began) / SECONDS


async def one_round(base_url: str) -> dict[str, float]:
    """Run every step once; return scenario seconds, or a count where the name says so."""
    client = make_client(base_url)
    figures = {"one call": await timed(ask(client, QUESTIONS[0]))}
    figures["first token"] = await first_token(client, QUESTIONS[0]) / SECONDS
    figures["eight calls in a loop"] = await timed(one_after_another(client, QUESTIONS))
    refused = [r for r in await all_at_once(client, QUESTIONS) if isinstance(r, BaseException)]
    figures["refused of eight gathered (count)"] = len(refused)
    figures["eight calls, four permits"] = await timed(at_most(client, QUESTIONS, CAP))
    patient = asyncio.gather(*(patiently(client, question) for question in QUESTIONS))
    figures["eight calls, retry alone"] = await timed(patient)
    figures["workflow, async, four permits"] = await timed(workflow(client, "tides", CAP))
    await client.close()
    return figures


def sync_round(base_url: str) -> dict[str, float]:
    """Run the workflow the blocking way once."""
    with OpenAI(base_url=base_url, api_key="none", max_retries=0) as client:
        began = time.monotonic()
        workflow_sync(client, "tides")
        return {"workflow, sync": (time.monotonic() - began) / SECONDS}


def measure() -> dict[str, list[float]]:
    """Return every figure of every round."""
    seen: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "provider.jsonl"
        override = {"concurrency_cap": CAP, "tokens_per_chunk": 20}
        with start_simulator("deepseek-reasoner", override, 1, TIME_SCALE, log) as provider:
            sync_round(provider.base_url)  # the first use imports and connects: not counted
            for repeat in range(ROUNDS):
                provider.begin_trial("patterns", repeat)
                figures = asyncio.run(one_round(provider.base_url))
                figures |= sync_round(provider.base_url)
                for name, value in figures.items():
                    seen.setdefault(name, []).append(value)
    return seen


def main() -> None:
    """Print the median, least and most of every figure."""
    print(f"SIMULATED: deepseek-reasoner, {CAP} requests at once allowed, {ROUNDS} rounds;")
    print("scenario seconds: median (least to most)")
    for name, values in measure().items():
        middle, least, most = statistics.median(values), min(values), max(values)
        print(f"{name:<36} {middle:7.1f} ({least:.1f} to {most:.1f})")


if __name__ == "__main__":
    main()
