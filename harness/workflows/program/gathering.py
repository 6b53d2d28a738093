"""Gathers: calls and coroutines of a program that run at the same time."""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine, Sequence
from inspect import CORO_CREATED, getcoroutinestate
from types import CoroutineType
from typing import Any, NamedTuple

from harness.engine.effects import NOW, Cancelled, Program, fan_out
from harness.records.schema import WorkflowOutcome
from harness.workflows.context import WorkflowFailedError
from harness.workflows.partial_failure import Partial, fail_fast, quorum
from harness.workflows.program.asking import Answer, Ask
from harness.workflows.program.running import (
    DeadlinePassedError,
    ProgramStep,
    Strand,
    driven,
    steps_of,
)


class GatherFailedError(Exception):
    """Fewer branches of a gather succeeded than were needed."""


class _Branch(NamedTuple):
    """How a branch ended: with a value, or with an error at a time."""

    value: Any
    error: Exception | None
    at: int

    @property
    def ok(self) -> bool:
        return self.error is None and not (isinstance(self.value, Answer) and not self.value.ok)


class Gather(ProgramStep[list[Any]]):
    """Several awaitables that run at the same time."""

    def __init__(self, members: Sequence[Awaitable[Any]], partial: Partial) -> None:
        self._members = members
        self._partial = partial
        self._ends_all = False

    def __repr__(self) -> str:
        return f"harness.gather of {len(self._members)}"

    def steps(self, strand: Strand) -> Program[list[Any]]:
        """Run all members; return their results, None for one that failed or was cancelled."""
        start = yield from strand.begin_step()
        run, partial = strand.run, self._partial
        name = self._phase()
        phase = run.begin_phase(name, start, strand)
        lanes = [Strand(run, start, phase, index) for index in range(len(self._members))]
        branches = [self._branch(*pair) for pair in zip(lanes, self._members, strict=True)]

        def enough(found: Sequence[_Branch | None]) -> bool:
            if self._ends_all or not partial.stops:
                return self._ends_all
            return partial.is_enough([None if one is None else one.ok for one in found])

        try:
            found: Sequence[_Branch | None] = yield from fan_out(branches, enough)
        except Cancelled:
            run.end_phase(phase, (yield NOW), "failed")
            raise
        finally:
            _close_unbegun(self._members)
        end: int = yield NOW
        strand.since = end
        succeeded = [one is not None and one.ok for one in found]
        good = sum(succeeded)
        run.note_branches(len(found), good)
        suffices = partial.suffices(good)
        outcome: WorkflowOutcome = "degraded" if suffices else "failed"
        run.end_phase(phase, end, "ok" if good == len(found) else outcome)
        if good < len(found):
            errors = (one.error for one in found if one is not None)
            fatal = next((error for error in errors if _is_fatal(error)), None)
            if fatal is not None:
                raise fatal
        if not suffices:
            raise self._failure(found)
        return [
            one.value if one is not None and ok else None
            for one, ok in zip(found, succeeded, strict=True)
        ]

    def _branch(self, strand: Strand, member: Awaitable[Any]) -> Program[_Branch]:
        """Run a member. Raises nothing but Cancelled."""
        try:
            if isinstance(member, ProgramStep):
                value = yield from steps_of(member, strand)
            else:
                value = yield from driven(strand, _fresh(member))
        except Exception as error:
            if _is_fatal(error) and not isinstance(error, DeadlinePassedError):
                self._ends_all = True  # others that reach the deadline end by themselves
            return _Branch(None, error, (yield NOW))
        return _Branch(value, None, 0)

    def _phase(self) -> str:
        """Return the name of the phase: that of all members if they have the same."""
        names = {_name_of(member) for member in self._members}
        return names.pop() if len(names) == 1 else "gather"

    def _failure(self, found: Sequence[_Branch | None]) -> Exception:
        failed = [one for one in found if one is not None and not one.ok]
        if not failed:
            return GatherFailedError("gather: no branch could succeed")
        raised = [one for one in failed if one.error is not None]
        first = min(raised, key=lambda one: one.at).error if raised else None
        needed = self._partial.needed
        if first is not None and (not self._partial.stops or needed == len(found)):
            return first
        why = first or f"{self._phase()}: {_outcome_of(failed[0].value)}"
        failure = GatherFailedError(
            f"{why}; {len(failed)} of {len(found)} failed, {needed} had to succeed"
        )
        failure.__cause__ = first
        return failure


def _outcome_of(answer: Answer) -> str:
    return f"{answer.outcome} ({answer.detail})" if answer.detail else answer.outcome


def _is_fatal(error: Exception | None) -> bool:
    return isinstance(error, WorkflowFailedError)


def _name_of(member: Awaitable[Any]) -> str:
    if isinstance(member, Ask):
        return member.phase
    if isinstance(member, Coroutine):
        code = getattr(member, "cr_code", None)
        return str(getattr(code, "co_name", "gather"))
    return "gather"


async def _await(member: Awaitable[Any]) -> Any:
    return await member


def _fresh(member: Awaitable[Any]) -> Coroutine[Any, Any, Any]:
    """Return a coroutine that has not begun. Raises RuntimeError if it has."""
    if not isinstance(member, Coroutine):
        return _await(member)
    if isinstance(member, CoroutineType) and getcoroutinestate(member) != CORO_CREATED:
        raise RuntimeError(
            f"gather: {_name_of(member)}() was awaited before; call the function for each await"
        )
    return member


def _close_unbegun(members: Sequence[Awaitable[Any]]) -> None:
    """Close the coroutines whose branch never began, or Python warns about them."""
    for member in members:
        if isinstance(member, CoroutineType) and getcoroutinestate(member) == CORO_CREATED:
            member.close()


def gather(
    *members: Awaitable[Any], enough: int | float | None = None, wait_for_all: bool = False
) -> Gather:
    """Return a gather, to be awaited: run calls or coroutines at the same time.

    Its result is the list of their results, in their order. `enough`: how many have to succeed, as
    a number or as a fraction; None for all of them. The gather ends as soon as that is decided, and
    cancels the rest; with `wait_for_all`, it waits for all. The result of a member that failed or
    was cancelled is None. If too few succeed, the first failure is raised, or GatherFailedError.
    """
    if len({id(member) for member in members}) < len(members):
        raise ValueError("gather: a member is given twice; make another one for each branch")
    for member in members:
        if not isinstance(member, (ProgramStep, CoroutineType, Awaitable)):
            raise TypeError(
                f"gather: {member!r} cannot be awaited; give calls such as ask(...), or coroutines"
            )
    if enough is None:
        return Gather(members, fail_fast(len(members))._replace(stops=not wait_for_all))
    is_share = isinstance(enough, float) and 0 < enough <= 1
    is_count = type(enough) is int and 0 <= enough <= len(members)
    if not (is_share or is_count):
        raise ValueError(
            f"gather: enough = {enough!r}: give a fraction such as 0.8, or a whole number from 0 "
            f"to {len(members)}"
        )
    partial = quorum(len(members), enough) if enough else Partial(needed=0, stops=True)
    return Gather(members, partial._replace(stops=not wait_for_all))
