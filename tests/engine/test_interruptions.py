"""Two threads at a branch, a fan-out or the permits: one runs between any two steps of the other.

A step is an instruction of the interpreter. No schedule of real threads meets all of them.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, NamedTuple

import pytest

from harness.engine.branches import Branch, Fork
from harness.engine.effects import FanOut, Grant, Program, now
from harness.engine.permits import ThreadPermits
from harness.engine.waiting import Turn


class Race(NamedTuple):
    """Two acts, what must be so after both, and the lock that keeps one out of the other."""

    act: Callable[[], object]
    other: Callable[[], object]
    check: Callable[[], object]
    lock: threading.Lock | None = None


def run_at_each_step(make: Callable[[], Race]) -> None:
    """Run a race again and again: `other` before the first step of `act`, before the second ..."""
    at, is_over = 0, False
    while not is_over:
        at, race = at + 1, make()
        is_over = not _run(race, at)
        race.check()
    assert at > 5


def _run(race: Race, at: int) -> bool:
    """Run `other` before step `at` of `act`, or after the lock; return if there is such a step."""
    count, is_done = 0, False

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count, is_done
        frame.f_trace_opcodes = True
        if event == "opcode":
            count += 1
            if count >= at and not is_done and not (race.lock and race.lock.locked()):
                is_done = True
                race.other()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        race.act()
    finally:
        sys.settrace(before)
    if not is_done:
        race.other()
    return count >= at


@pytest.mark.parametrize("swapped", [False, True])
def test_a_cancellation_at_any_moment_of_the_start_of_a_wait_ends_the_wait(swapped: bool) -> None:
    def make() -> Race:
        branch, woken = Branch(), list[bool]()

        def wait() -> None:
            branch.wake_with(lambda: woken.append(True))

        def check() -> None:
            assert woken

        return Race(wait, branch.cancel, check) if swapped else Race(branch.cancel, wait, check)

    run_at_each_step(make)


def forked(claims: bool) -> Fork:
    """Return a fork of three branches that needs two results."""

    def program() -> Program[int]:
        return (yield from now())

    def two(results: Sequence[object]) -> bool:
        return len(results) - results.count(None) >= 2

    return Fork(FanOut((program(), program(), program()), two, claims))


def test_two_branches_that_end_at_the_same_moment_are_enough_together() -> None:
    def make() -> Race:
        fork = forked(claims=False)

        def check() -> None:
            assert fork.results == ["one", "other", None]
            assert fork.parts[2][1].cancelled

        one, other = (lambda: fork.ended(0, "one")), (lambda: fork.ended(1, "other"))
        return Race(one, other, check, fork._lock)

    run_at_each_step(make)


def test_of_two_first_texts_at_the_same_moment_one_cancels_the_other() -> None:
    def make() -> Race:
        fork = forked(claims=True)
        one, other, third = (branch for _, branch in fork.parts)

        def check() -> None:
            assert sorted([one.cancelled, other.cancelled]) == [False, True]
            assert third.cancelled

        return Race(one.first_text, other.first_text, check, fork._lock)

    run_at_each_step(make)


@pytest.mark.parametrize("leaves", [False, True])
def test_a_permit_released_at_any_moment_of_a_request_is_not_lost(leaves: bool) -> None:
    """`leaves`: the permit comes when the wait for it ends."""

    def make() -> Race:
        permits, woken, grants = ThreadPermits(1, lambda: 7), list[bool](), list[Grant | None]()
        turn = Turn(lambda: woken.append(True))
        assert permits.at_once(None) == Grant(7, 7)
        if leaves:
            assert permits.at_once(None, turn) is None

        def ask() -> None:
            grants.append(permits.leave(turn) if leaves else permits.at_once(None, turn))

        def check() -> None:
            (grant,) = grants
            has_permit = turn.served if grant is None else grant.granted is not None
            is_free = permits.at_once(None) is not None
            assert has_permit != is_free
            assert has_permit or leaves
            assert turn.served == bool(woken)

        return Race(ask, permits.release, check, permits._lock)

    run_at_each_step(make)
