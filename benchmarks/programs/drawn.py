"""A program of asks and fan-outs as a value, and the workflow that runs it.

`benchmarks.drawn_programs` draws such programs. The workflow gets one as JSON and does what the
same program would do that somebody has written with `await` and `gather`.
"""

from __future__ import annotations

import math
import random
from typing import Any, Literal, TypeAlias

import msgspec

import harness

Part = Literal["all", "slice", "head", "pick"]
"""What a prompt contains of an earlier answer.

All of it; the item of its list that the branch is about; its beginning; all of it in some runs and
nothing in the others, where code of the program selects answers.
"""
InputPart = Literal["none", "topic", "document", "chunk"]
"""What a prompt contains of the input: nothing, the topic, the document, or a chunk of it."""

CHARACTERS = 4
"""Of a token, as the simulated provider counts prompts."""
HEAD_TOKENS = 150
PICKED_SHARE = 0.5
HEADING = "\n\n### Notes of an earlier step:\n"
GLUE_SECONDS, GLUE_SIGMA = 0.003, 0.8
"""Code of the program before a call: median and spread of a log-normal time."""


class Reading(msgspec.Struct, frozen=True):
    """A part of the answer to the ask `number` in a prompt. `share`: of the text, for a slice."""

    number: int
    part: Part = "all"
    share: float = 1.0


class PlannedAsk(msgspec.Struct, frozen=True, tag="ask"):
    """One call of the model. `number`: in the order of the program text, from 0.

    `role`: for people. `instruction`: tokens of its own text. `answer`: median tokens of the
    answer. `own_seconds`: median of what the program itself waits for before the call, such as a
    search; 0 for nothing. `item`: tokens of what a branch is told that the others are not, such as
    an aspect of the topic. `chunk`: median tokens of its chunk of the document.
    """

    number: int
    role: str
    instruction: int
    answer: int
    own_seconds: float
    input: InputPart
    chunk: int
    item: int = 0
    reads: tuple[Reading, ...] = ()


class FanOut(msgspec.Struct, frozen=True, tag="fan-out"):
    """Branches that run at the same time; the next step begins when all of them have ended."""

    branches: tuple[DrawnSequence, ...]


DrawnStep: TypeAlias = PlannedAsk | FanOut
DrawnSequence: TypeAlias = tuple[DrawnStep, ...]


class DrawnProgram(msgspec.Struct, frozen=True):
    """A program. `spread`: sigma of the log-normal sizes of inputs and of its own waits.

    `document`: median tokens of the document. `seed`: of all that differs between runs.
    """

    steps: DrawnSequence
    spread: float
    document: int
    seed: str


def phase_of(number: int) -> str:
    """Return the phase of an ask: its own, so that the profile can have lengths for each ask."""
    return f"c{number}"


@harness.workflow
async def run_drawn(ask: Any, topic: str, program: str) -> str:
    """Run a program, which is given as JSON, for one topic."""
    run = _Run(msgspec.json.decode(program, type=DrawnProgram), ask, topic)
    await run.sequence(run.program.steps)
    return f"{len(run.answers)} answers"


class _Run:
    """One run of a program. `answers`: the texts so far, by the number of their ask."""

    def __init__(self, program: DrawnProgram, ask: Any, topic: str) -> None:
        self.program = program
        self.ask = ask
        self.topic = topic
        self.answers: dict[int, str] = {}

    async def sequence(self, steps: DrawnSequence) -> None:
        for step in steps:
            if isinstance(step, PlannedAsk):
                await self.one(step)
            else:
                await harness.gather(*(self.sequence(branch) for branch in step.branches))

    async def one(self, planned: PlannedAsk) -> None:
        chance = random.Random(f"{self.program.seed} {self.topic} {planned.number}")
        spread = self.program.spread
        own = _lognormal(chance, planned.own_seconds, spread)
        await harness.sleep(_lognormal(chance, GLUE_SECONDS, GLUE_SIGMA) + own)
        answer = await self.ask(phase_of(planned.number), self.prompt(planned, chance))
        tokens = answer.usage.output - (answer.usage.reasoning or 0)
        # A text has as many tokens in a prompt as it had as an answer.
        self.answers[planned.number] = _text(tokens, answer.text)

    def prompt(self, planned: PlannedAsk, chance: random.Random) -> list[dict[str, str]]:
        # The simulated provider gives equal prompts equal answers, so each ask has a number.
        given = [f"[{planned.number:02}]"]
        if planned.input == "topic":
            given.append(f"Topic: {self.topic}")
        if planned.item:
            given.append(_text(planned.item))
        if planned.input == "document":
            whole = random.Random(f"{self.program.seed} {self.topic}")
            given.append(_text(_lognormal(whole, self.program.document, self.program.spread)))
        elif planned.input == "chunk":
            given.append(_text(_lognormal(chance, planned.chunk, self.program.spread)))
        for reading in planned.reads:
            text = self._part(reading, chance)
            if text:
                given.append(HEADING + text)
        system = {"role": "system", "content": _text(planned.instruction)}
        return [system, {"role": "user", "content": "\n".join(given)}]

    def _part(self, reading: Reading, chance: random.Random) -> str:
        text = self.answers[reading.number]
        match reading.part:
            case "all":
                return text
            case "slice":  # the items of a list differ a little in length
                share = reading.share * chance.uniform(0.7, 1.3)
                return text[: math.ceil(len(text) * share)]
            case "head":
                return text[: HEAD_TOKENS * CHARACTERS]
            case "pick":
                return text if chance.random() < PICKED_SHARE else ""


def _lognormal(chance: random.Random, median: float, sigma: float) -> float:
    return median * chance.lognormvariate(0, sigma) if median else 0.0


def _text(tokens: float, words: str = "") -> str:
    """Return a text with so many tokens in a prompt: `words`, cut or filled up."""
    size = max(1, round(tokens)) * CHARACTERS
    return words[:size].ljust(size, ".")
