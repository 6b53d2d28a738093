"""Draws programs as people write them around a language model, for `benchmarks.import_programs`.

Families: research (plan, branches, report), map-reduce over a document, review loops, agents with
tools, votes, debates, items that each pass through a pipeline, and an assistant with guardrails.
They are written from what such programs do, and from nothing that an importer assumes.

What is drawn:

- Shape. `flat`: each branch is one call. `chains`: branches are sequences of one to four calls.
  `nested`: branches are programs again, two levels deep at most inside the first. Three of four
  fan-outs come from a loop: all their branches have the same steps, instructions, median lengths
  and readings. The branches of the others are drawn one by one.
- Times. The answer lengths and the time to first token are log-normal, around medians that belong
  to the role of the call. `little`: sigma about 0.11 and 0.1, as for structured output. `much`:
  about 0.56 and 0.4, as for free text, and the speed of the provider wanders. A part of the spread
  of lengths is shared by the calls of a run, as a long document makes all answers long.
- Own time. Each call comes some milliseconds after what it waited for. Tools, and the maps of some
  programs, wait for a search or a download before, of half a second in the median.
- Input. Instructions are the same in every run, and in all branches of a loop but for some words
  about the item of the branch; samples of a vote have equal prompts. The topic is short; a
  document, or a chunk of it, differs in length from run to run.
- What is passed on. `all`: a call reads the whole text of every call that it waited for. `some`:
  the branches of one fan-out read an item of the plan each, all of it, or nothing; what joins them
  reads all answers, only their beginnings, a selection that differs from run to run, the same few
  branches each time, or none; a call after a call reads all, the beginning, or nothing. In both,
  an agent reads its whole conversation again, and a quarter of the other calls read one or two
  answers from further back that their function still has in a variable. `control`: no call reads
  an answer, because results go to files and a database, or are only checked.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import msgspec

from benchmarks.programs.drawn import (
    DrawnProgram,
    DrawnSequence,
    DrawnStep,
    FanOut,
    InputPart,
    Part,
    PlannedAsk,
    Reading,
)

Shape = Literal["flat", "chains", "nested"]
Variation = Literal["little", "much"]
Passing = Literal["all", "some", "control"]

LEAST_CALLS, MOST_CALLS = 2, 30
LEVELS = 2
"""Levels of fan-outs inside the branches of the first one."""
ANSWERS = {
    "plan": 150, "research": 500, "report": 1100, "map": 250, "combine": 600, "draft": 900,
    "critic": 200, "revise": 900, "step": 180, "tool": 250, "sample": 400, "judge": 40,
    "speaker": 300, "extract": 120, "classify": 8, "write": 400, "check": 60, "route": 8,
    "guardrail": 5, "answer": 450, "translate": 700,
}  # fmt: skip
"""Median tokens of an answer by role; each ask has its own, half to twice as long."""


class Kind(NamedTuple):
    """What makes the programs hard: their shape, the spread of times, and what is passed on."""

    shape: Shape
    variation: Variation
    passing: Passing

    def __str__(self) -> str:
        return "/".join(self)


KINDS = tuple(
    Kind(shape, variation, passing)
    for shape in get_args(Shape)
    for variation in get_args(Variation)
    for passing in get_args(Passing)
)


def draw_program(kind: Kind, seed: str) -> DrawnProgram:
    """Draw a program of a kind; the same seed gives the same program."""
    chance = random.Random(f"{kind} {seed}")
    while True:
        steps = _Draft(chance, kind.shape).program(LEVELS)
        calls = sum(1 for _ in asks_of(steps))
        if LEAST_CALLS <= calls <= MOST_CALLS and _shape_of(steps) == kind.shape:
            break
    numbered = _Reader(chance, kind).numbered(steps)
    spread = {"little": 0.15, "much": 0.5}[kind.variation]
    return DrawnProgram(numbered, spread, round(1500 * _factor(chance, 3)), f"{kind} {seed}")


def asks_of(steps: DrawnSequence) -> Iterator[PlannedAsk]:
    """Yield all asks in the order of the program text."""
    for step in steps:
        if isinstance(step, PlannedAsk):
            yield step
        else:
            for branch in step.branches:
                yield from asks_of(branch)


def tree_line(steps: DrawnSequence) -> str:
    """Return a program in one line: `0 (1 2 | 3) 4` runs 1 2 beside 3."""
    return " ".join(
        str(step.number)
        if isinstance(step, PlannedAsk)
        else "(" + " | ".join(map(tree_line, step.branches)) + ")"
        for step in steps
    )


def direct_dependencies(steps: DrawnSequence) -> dict[int, frozenset[int]]:
    """Return the asks that each ask waits for directly, by number."""
    found: dict[int, frozenset[int]] = {}

    def visit(sequence: DrawnSequence, before: frozenset[int]) -> frozenset[int]:
        for step in sequence:
            if isinstance(step, PlannedAsk):
                found[step.number] = before
                before = frozenset({step.number})
            else:
                before = frozenset().union(*[visit(one, before) for one in step.branches])
        return before

    visit(steps, frozenset())
    return found


def _shape_of(steps: DrawnSequence) -> Shape | None:
    """Return the shape of a program; None if it has no fan-out."""
    fans = [step for step in steps if isinstance(step, FanOut)]
    branches = [branch for fan in fans for branch in fan.branches]
    if any(isinstance(step, FanOut) for branch in branches for step in branch):
        return "nested"
    if any(len(branch) > 1 for branch in branches):
        return "chains"
    return "flat" if fans else None


def _factor(chance: random.Random, most: float) -> float:
    """Return a factor between 1/most and most, log-uniform."""
    exponent: float = chance.uniform(-1, 1)
    return float(most**exponent)


@dataclass(frozen=True)
class _Draft:
    """Draws the steps of a program, without numbers and readings."""

    chance: random.Random
    shape: Shape

    def program(self, levels: int) -> DrawnSequence:
        families = (
            self.research, self.map_reduce, self.review, self.agent, self.vote, self.debate,
            self.items, self.assistant,
        )  # fmt: skip
        steps = self.chance.choice(families)(levels)
        if levels == LEVELS and self.chance.random() < 0.1:
            steps += (self.fan("translate", 0, self.width(4)),)
        return steps

    def ask(
        self, role: str, given: InputPart = "none", own_seconds: float = 0.0, chunk: int = 0
    ) -> PlannedAsk:
        return PlannedAsk(
            number=-1,
            role=role,
            instruction=round(100 * _factor(self.chance, 6)),
            answer=max(2, round(ANSWERS[role] * _factor(self.chance, 2))),
            own_seconds=own_seconds,
            input=given,
            chunk=chunk,
        )

    def width(self, most: int = 8) -> int:
        most = min(most, 4) if self.shape == "nested" else most
        return self.chance.randint(2, most)

    def maybe(self, share: float, *steps: DrawnStep) -> DrawnSequence:
        return steps if self.chance.random() < share else ()

    def fan(
        self,
        role: str,
        levels: int,
        width: int,
        given: InputPart = "none",
        own_seconds: float = 0.0,
        chunk: int = 0,
    ) -> FanOut:
        """Draw a fan-out whose branches begin with, or are, asks of a role."""
        if self.chance.random() < 0.75:
            branch = self.branch(role, levels, given, own_seconds, chunk)
            return FanOut((branch,) * width)
        return FanOut(
            tuple(self.branch(role, levels, given, own_seconds, chunk) for _ in range(width))
        )

    def branch(
        self, role: str, levels: int, given: InputPart, own_seconds: float, chunk: int
    ) -> DrawnSequence:
        first = self.ask(role, given, own_seconds, chunk)
        if self.shape == "flat" or not levels:
            return (first,)
        if self.shape == "nested" and self.chance.random() < 0.5:
            return self.program(levels - 1)
        more = self.chance.choice((0, 1, 1, 2, 3))
        roles = [self.chance.choice(("check", "extract", "revise", "write")) for _ in range(more)]
        return (first, *map(self.ask, roles))

    def download(self, share: float) -> float:
        """Return the median seconds of a search or a download, or 0."""
        return 0.5 * _factor(self.chance, 3) if self.chance.random() < share else 0.0

    def research(self, levels: int) -> DrawnSequence:
        own = self.download(0.3)
        return (
            self.ask("plan", "topic"),
            self.fan("research", levels, self.width(), "topic", own),
            *self.maybe(
                0.3, self.ask("plan"), self.fan("research", levels, self.width(5), "topic", own)
            ),
            self.ask("report", "topic"),
            *self.maybe(0.2, self.ask("revise")),
        )

    def map_reduce(self, levels: int) -> DrawnSequence:
        chunk = round(900 * _factor(self.chance, 2))
        return (
            *self.maybe(0.2, self.ask("route", "topic")),
            self.fan("map", levels, self.width(10), "chunk", self.download(0.3), chunk),
            self.ask("combine"),
            *self.maybe(0.3, self.ask("check")),
        )

    def review(self, levels: int) -> DrawnSequence:
        steps: DrawnSequence = (self.ask("draft", self.chance.choice(("topic", "document"))),)
        critics, revise = self.fan("critic", levels, self.width(4)), self.ask("revise", "topic")
        return steps + (critics, revise) * self.chance.randint(1, 3)

    def agent(self, levels: int) -> DrawnSequence:
        step = self.ask("step", "topic")
        steps: DrawnSequence = ()
        own = self.download(0.7)
        for _ in range(self.chance.randint(1, 4)):
            tools: DrawnStep = self.ask("tool", "none", own)
            if self.chance.random() < 0.75:
                tools = self.fan("tool", levels, self.width(4), "none", own)
            steps += (step, tools)
        return (*steps, step)

    def vote(self, levels: int) -> DrawnSequence:
        return (
            self.fan("sample", levels, self.width(), self.chance.choice(("topic", "document"))),
            self.ask("judge", "topic"),
            *self.maybe(0.3, self.ask("revise")),
        )

    def debate(self, levels: int) -> DrawnSequence:
        round_of_all = self.fan("speaker", levels, self.width(4), "topic")
        return (round_of_all,) * self.chance.randint(2, 3) + (self.ask("judge", "topic"),)

    def items(self, levels: int) -> DrawnSequence:
        chunk = round(400 * _factor(self.chance, 3))
        fan = self.fan("extract", levels, self.width(), "chunk", self.download(0.2), chunk)
        return (
            *self.maybe(0.5, self.ask("plan", "document")),
            fan,
            *self.maybe(0.7, self.ask("write")),
        )

    def assistant(self, levels: int) -> DrawnSequence:
        beside = tuple(
            self.branch(role, levels, "topic", 0.0, 0)
            for role in self.chance.sample(("guardrail", "answer", "extract", "classify"), 3)
        )
        return (
            *self.maybe(0.6, self.ask("route", "topic")),
            FanOut(beside[: self.chance.randint(2, 3)]),
            self.ask("answer", "topic"),
            *self.maybe(0.3, self.ask("guardrail")),
        )


class _Place(NamedTuple):
    """Where an ask stands. `before`: what it waits for; `scope`: all answers in variables.

    `own`: those of its own sequence. `branch`: its index and the number of branches if it begins
    one, and how the branches of this fan-out read; None otherwise.
    """

    before: tuple[int, ...]
    scope: tuple[int, ...]
    own: tuple[int, ...]
    branch: tuple[int, int, str] | None = None


class _Reader:
    """Numbers the asks of a program and draws what each of them reads."""

    def __init__(self, chance: random.Random, kind: Kind) -> None:
        self._chance = chance
        self._items = random.Random(chance.random())
        self._passing = kind.passing
        self._next = 0

    def numbered(self, steps: DrawnSequence) -> DrawnSequence:
        return self._sequence(steps, _Place((), (), ()))[0]

    def _sequence(
        self, steps: DrawnSequence, place: _Place
    ) -> tuple[DrawnSequence, tuple[int, ...]]:
        """Return the steps with numbers, and the last asks of the sequence."""
        done: list[DrawnStep] = []
        for step in steps:
            if isinstance(step, PlannedAsk):
                has_item = place.branch is not None and step.role != "sample"
                ask = msgspec.structs.replace(
                    step,
                    number=self._next,
                    item=self._items.randint(3, 12) if has_item else 0,
                    reads=tuple(self._reads(step, place)),
                )
                self._next += 1
                done.append(ask)
                last: tuple[int, ...] = (ask.number,)
            else:
                fan, last = self._fan(step, place)
                done.append(fan)
            place = _Place(last, place.scope + last, place.own + last)
        return tuple(done), place.before

    def _fan(self, fan: FanOut, place: _Place) -> tuple[FanOut, tuple[int, ...]]:
        way = self._draw({"slice": 0.5, "all": 0.2, "none": 0.3})
        branches: list[DrawnSequence] = []
        last: list[int] = []
        begin = self._chance.getstate()
        for index, branch in enumerate(fan.branches):
            if branch is fan.branches[0]:  # the branches of a loop have the same code
                self._chance.setstate(begin)
            at = place._replace(own=(), branch=(index, len(fan.branches), way))
            steps, ends = self._sequence(branch, at)
            branches.append(steps)
            last += ends
        return FanOut(tuple(branches)), tuple(last)

    def _reads(self, ask: PlannedAsk, place: _Place) -> list[Reading]:
        if self._passing == "control":
            return []
        near = self._near(place)
        if ask.role == "step":  # of an agent: the conversation so far
            near = [one for one in near if one.number not in place.own]
            return [*map(Reading, place.own), *near]
        back = [one for one in place.scope if one not in place.before]
        if back and self._chance.random() < 0.25:
            count = min(len(back), self._chance.randint(1, 2))
            part: Part = "all" if self._chance.random() < 2 / 3 else "head"
            near += [Reading(one, part) for one in sorted(self._chance.sample(back, count))]
        return near

    def _near(self, place: _Place) -> list[Reading]:
        """Draw what an ask reads of what it waits for."""
        before = place.before
        if self._passing == "all" or not before:
            return [*map(Reading, before)]
        if place.branch is not None:
            index, count, way = place.branch
            if way == "slice" and len(before) > 1:  # the branch goes on with one of the results
                return [Reading(before[index % len(before)])]
            if way == "slice":
                return [Reading(before[0], "slice", 1 / count)]
            return [*map(Reading, before)] if way == "all" else []
        if len(before) == 1:
            way = self._draw({"all": 0.5, "head": 0.25, "none": 0.25})
        else:
            way = self._draw({"all": 0.35, "head": 0.2, "pick": 0.2, "few": 0.15, "none": 0.1})
        match way:
            case "none":
                return []
            case "head":
                return [Reading(one, "head") for one in before]
            case "pick":
                return [Reading(one, "pick") for one in before]
            case "few":
                count = self._chance.randint(1, len(before) - 1)
                return [Reading(one) for one in sorted(self._chance.sample(before, count))]
        return [*map(Reading, before)]

    def _draw(self, weights: dict[str, float]) -> str:
        return self._chance.choices([*weights], [*weights.values()])[0]
