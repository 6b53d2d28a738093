"""Random workflows of any shape, played on a small clock of their own.

A reference for whatever is made from the tree of a workflow: it knows the shape beforehand, and
shares no code with the harness but the records that it writes.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter, deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from hypothesis import strategies as st

from harness.records.groups import WorkflowGroups
from harness.records.schema import (
    Attempt,
    Backoff,
    Branches,
    Call,
    Phase,
    Trial,
    Workflow,
    retry_in,
)
from tests.analysis.builders import make_attempt, make_call, make_trial, make_workflow

CELL = "async_2_full-jitter_attempt"


class Ask(NamedTuple):
    """A call: what each of its attempts takes, and the backoff between two of them."""

    services: tuple[int, ...]
    backoff: int


class Split(NamedTuple):
    """Branches that run at the same time."""

    branches: tuple[Body, ...]


class Enter(NamedTuple):
    """A phase; `name` may occur several times."""

    name: str
    body: Body


Body: TypeAlias = tuple[Ask | Split | Enter, ...]

asks = st.builds(
    Ask, st.lists(st.integers(1, 10**9), min_size=1, max_size=2).map(tuple), st.integers(1, 10**9)
)
names = st.sampled_from(["step", "tools", "check"])


def bodies(depth: int) -> st.SearchStrategy[Body]:
    """Return what a phase may do: calls, fan-outs, and phases nested in branches or between."""
    nested = st.builds(Enter, names, st.deferred(lambda: bodies(depth - 1)))
    branch = st.lists(asks | nested if depth else asks, min_size=1, max_size=3).map(tuple)
    splits = st.builds(Split, st.lists(branch, min_size=2, max_size=3).map(tuple))
    parts: st.SearchStrategy[Any] = asks | splits
    if depth:
        parts |= nested
    return st.lists(parts, min_size=1, max_size=3).map(tuple)


def workflows(depth: int = 2) -> st.SearchStrategy[Body]:
    """Return workflows: a sequence of phases, and calls outside every phase."""
    phases = st.builds(Enter, names, bodies(depth))
    return st.lists(phases | asks, min_size=1, max_size=4).map(tuple)


def longest(body: Body) -> int:
    """Return the longest chain of calls, without backoff."""
    whole = 0
    for one in body:
        if isinstance(one, Ask):
            whole += sum(one.services)
        elif isinstance(one, Split):
            whole += max(map(longest, one.branches))
        else:
            whole += longest(one.body)
    return whole


def slots(lengths: list[int], in_flight: int) -> int:
    """Return when workflows of these lengths have ended, each in the slot that is free first."""
    free = [0] * in_flight
    for length in lengths:
        heapq.heappush(free, heapq.heappop(free) + length)
    return max(free)


class Place(NamedTuple):
    """Where a program is: its phase, the index of that, and its branch."""

    phase: str
    parent: int | None
    branch: int | None
    path: str
    """The branches around it: phases in two branches at the same time have different names."""


class Wish(NamedTuple):
    """What a program waits for: a permit (`sleep` is None), some time, or its branches."""

    sleep: int | None = None
    split: tuple[Generator[Wish, None, None], ...] = ()


Running: TypeAlias = Generator[Wish, None, None]


@dataclass
class Played:
    """The records of one trial."""

    workflows: list[Workflow] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    trial: Trial = field(default_factory=make_trial)

    @property
    def groups(self) -> WorkflowGroups:
        """The calls and attempts of each workflow."""
        return WorkflowGroups(self.calls, self.attempts)


class Player:
    """Plays workflows under `permits` and `in_flight` slots; `inherit`: see `_enter`."""

    def __init__(
        self, work: list[Body], permits: int, in_flight: int, *, inherit: bool = False
    ) -> None:
        self._work = iter(enumerate(work))
        self._free = permits
        self._inherit = inherit
        self._in_flight = in_flight
        self._now = 0
        self._heap: list[tuple[int, int, Running]] = []
        self._order = itertools.count()
        self._line: deque[Running] = deque()
        self._parents: dict[int, tuple[Running, list[int]]] = {}
        self.played = Played()

    def run(self) -> Played:
        """Play everything and return the records."""
        for _ in range(self._in_flight):
            self._advance(self._slot())
        while self._heap:
            self._now, _, program = heapq.heappop(self._heap)
            self._advance(program)
        self.played.trial = make_trial(cell=CELL, start=0, end=self._now)
        return self.played

    def _advance(self, program: Running) -> None:
        try:
            wish = next(program)
        except StopIteration:
            if id(program) in self._parents:
                parent, open_ones = self._parents.pop(id(program))
                open_ones.remove(id(program))
                if not open_ones:
                    self._advance(parent)
            return
        if wish.split:
            ids = [id(one) for one in wish.split]
            self._parents |= dict.fromkeys(ids, (program, ids))
            for one in wish.split:
                self._advance(one)
        elif wish.sleep is not None:
            heapq.heappush(self._heap, (self._now + wish.sleep, next(self._order), program))
        elif self._free:
            self._free -= 1
            self._advance(program)
        else:
            self._line.append(program)

    def _release(self) -> None:
        if self._line:
            self._advance(self._line.popleft())
        else:
            self._free += 1

    def _slot(self) -> Running:
        for number, body in self._work:
            ready = self._now
            phases: list[dict[str, Any]] = []
            one = _OneWorkflow(self, number, phases)
            yield from one.body(body, Place("loose", None, None, ""))
            self.played.workflows.append(
                make_workflow(
                    cell=CELL, workflow=number, ready=ready, started=ready, done=self._now,
                    phases=tuple(Phase(**phase) for phase in phases),
                    branches=Branches(total=0, ok=0),
                )
            )  # fmt: skip

    @property
    def now(self) -> int:
        """The time."""
        return self._now

    @property
    def inherit(self) -> bool:
        """Whether calls of a phase in a branch have the number of that branch."""
        return self._inherit

    def attempt(self, service: int) -> Generator[Wish, None, tuple[int, int]]:
        """Take a permit, hold it for `service` and return when it was granted and given back."""
        yield Wish()
        granted = self._now
        yield Wish(service)
        done = self._now
        self._release()
        return granted, done


class _OneWorkflow:
    """One workflow while it is played."""

    def __init__(self, player: Player, number: int, phases: list[dict[str, Any]]) -> None:
        self._player = player
        self._number = number
        self._phases = phases
        self._calls: Counter[tuple[str, int | None]] = Counter()

    def body(self, body: Body, place: Place) -> Running:
        for one in body:
            if isinstance(one, Ask):
                yield from self._ask(one, place)
            elif isinstance(one, Enter):
                yield from self._enter(one, place)
            else:
                yield Wish(split=tuple(self._branches(one, place)))

    def _branches(self, split: Split, place: Place) -> Iterator[Running]:
        for branch, body in enumerate(split.branches):
            path = f"{place.path}.{branch}"
            yield self.body(body, place._replace(branch=branch, path=path))

    def _enter(self, phase: Enter, place: Place) -> Running:
        is_plain = self._player.inherit or place.parent is None
        name = phase.name if is_plain else f"{phase.name}{place.path}-in-{place.phase}"
        index = len(self._phases)
        record = {
            "name": name, "start": self._player.now, "outcome": "ok", "parent": place.parent,
            "branch": place.branch,
        }  # fmt: skip
        self._phases.append(record)
        branch = place.branch if self._player.inherit else None
        yield from self.body(phase.body, Place(name, index, branch, place.path))
        record["end"] = self._player.now

    def _ask(self, ask: Ask, place: Place) -> Running:
        self._calls[place.phase, place.branch] += 1
        key: dict[str, Any] = {
            "cell": CELL, "workflow": self._number, "phase": place.phase, "branch": place.branch,
            "call": self._calls[place.phase, place.branch],
        }  # fmt: skip
        ready = again = self._player.now
        backoffs: list[Backoff] = []
        for number, service in enumerate(ask.services, 1):
            granted, done = yield from self._player.attempt(service)
            is_last = number == len(ask.services)
            self._player.played.attempts.append(
                make_attempt(
                    **key, attempt=number, ready=again, permit_requested=again,
                    permit_granted=granted, sent=granted, headers=granted, first_reasoning=None,
                    first_answer=granted if is_last else None, last_token=done if is_last else None,
                    done=done, outcome="ok" if is_last else "unavailable",
                    decision=None if is_last else retry_in(ask.backoff, "policy"),
                )
            )  # fmt: skip
            if not is_last:
                yield Wish(ask.backoff)
                again = self._player.now
                backoffs.append(
                    Backoff(start=done, end=again, planned=ask.backoff, source="policy")
                )
        self._player.played.calls.append(
            make_call(
                **key, ready=ready, done=self._player.now, attempts=len(ask.services),
                backoffs=tuple(backoffs),
            )
        )  # fmt: skip
