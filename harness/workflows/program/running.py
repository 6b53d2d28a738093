"""Runs an async function as an engine program.

The function awaits steps: objects whose `__await__` yields them. `driven` sends the function
forward, runs the engine program of each step, and gives its result back. So the function needs no
event loop, and runs in every mode. What else it awaits, such as `asyncio.sleep`, is passed on to
the event loop where there is one.

A strand is one line of a program: the workflow itself, or a branch of a gather.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager, suppress
from typing import Any, Generic, NamedTuple, TypeVar

from harness.engine.deadlines import DEADLINE_PASSED, WORKFLOW_TIMEOUT
from harness.engine.effects import NOW, Cancelled, Foreign, Program, Raised, Sleep
from harness.engine.own_time import (
    OwnTimeExceededError,
    begin_own_code,
    end_own_code,
    is_interrupted,
)
from harness.engine.program_limits import (
    CANCELLED_ITSELF,
    OWN_TIME_EXCEEDED,
    ProgramLimits,
    exited,
    made_no_call,
)
from harness.records.clock import SECOND
from harness.records.schema import Branches, Phase, WorkflowOutcome
from harness.workflows.context import WorkflowContext, WorkflowFailedError
from harness.workflows.program.section import ProgramSection

_T = TypeVar("_T")


class DeadlinePassedError(WorkflowFailedError):
    """The deadline of the workflow has passed. All branches end with it, each by itself."""

    def __init__(self, text: str = f"{WORKFLOW_TIMEOUT} ({DEADLINE_PASSED})") -> None:
        super().__init__(text)


class ProgramStep(Generic[_T]):
    """What a program awaits of the harness.

    It is no Protocol, because `isinstance` of a Protocol takes 10 us.
    """

    is_used = False
    steps: Callable[[Strand], Program[_T]]
    """Returns the engine program of this step."""

    def __await__(self) -> Generator[Any, Any, _T]:
        """Yield the step to the strand that awaits it. Raises RuntimeError outside of a program."""
        if current_strand() is None:
            raise RuntimeError(
                f"{self!r} was awaited outside of a workflow, or in a task of asyncio; await it in "
                "the function itself, or in harness.gather(...) instead of asyncio.gather or "
                "create_task"
            )
        result: _T = yield self
        return result


class _Phase(NamedTuple):
    """A phase of which not all is known while it runs; without a start, nothing has begun in it."""

    name: str
    start: int | None
    parent: int | None
    branch: int | None
    end: int | None = None
    outcome: WorkflowOutcome = "ok"


class ProgramRun:
    """One workflow: its context, its phases, and the time of the program's own code.

    `own`: nanoseconds between the steps of its strands.
    """

    def __init__(self, context: WorkflowContext[ProgramSection]) -> None:
        self.context = context
        self.own = 0
        self._limits = ProgramLimits(context.section.most_calls, context.needs_limit)
        self._calls = 0
        self._phases: list[_Phase] = []

    def count_call(self, phase: str, max_tokens: int | None) -> None:
        """Count a call. Raises WorkflowFailedError if it cannot be made."""
        self._calls += 1
        refusal = self._limits.refusal(self._calls, phase, max_tokens)
        if refusal is not None:
            raise WorkflowFailedError(refusal)

    def begin_phase(self, name: str, start: int | None, strand: Strand) -> int:
        """Note a phase; return its index. Without a start, it begins with its first step."""
        self._phases.append(_Phase(name, start, strand.phase, strand.branch))
        return len(self._phases) - 1

    def start_phase(self, index: int | None, now: int) -> None:
        """Note the first step of a phase, and of those around it."""
        while index is not None and self._phases[index].start is None:
            self._phases[index] = self._phases[index]._replace(start=now)
            index = self._phases[index].parent

    def end_phase(self, index: int, end: int | None, outcome: WorkflowOutcome) -> None:
        """Note the end of a phase."""
        self._phases[index] = self._phases[index]._replace(end=end, outcome=outcome)

    @property
    def has_gaps(self) -> bool:
        """Whether a gather has ended without some of its branches."""
        return any(phase.outcome == "degraded" for phase in self._phases)

    def name_of(self, index: int) -> str:
        """Return the name of a phase."""
        return self._phases[index].name

    def note_branches(self, total: int, good: int) -> None:
        """Count the branches of a gather."""
        before = self.context.branches
        self.context.branches = Branches(total=before.total + total, ok=before.ok + good)

    def end(self, now: int, strand: Strand) -> None:
        """Give phases and own time to the context; phases that did not end end now, as failed.

        `strand`: the workflow itself, whose last step may have been a while ago.
        """
        self.own += 0 if strand.since is None else now - strand.since
        self.context.own_code += self.own
        places: dict[int | None, int | None] = {None: None}
        for index, phase in enumerate(self._phases):
            if phase.start is None:
                continue  # no other phase can be in it
            places[index], parent = len(self.context.phases), places[phase.parent]
            self.context.phases.append(
                Phase(
                    name=phase.name,
                    start=phase.start,
                    end=now if phase.end is None else phase.end,
                    outcome="failed" if phase.end is None else phase.outcome,
                    parent=parent,
                    branch=None if parent is None else phase.branch,
                )
            )


class Strand:
    """One line of a program.

    `branch`: its index in its gather, None for the workflow itself. `phase`: the index of the phase
    that it is in. `since`: when its last step ended; None before the first one, which is `ready`
    when the gather began.
    """

    def __init__(
        self, run: ProgramRun, ready: int, phase: int | None = None, branch: int | None = None
    ) -> None:
        self.run = run
        self.ready = ready
        self.phase = phase
        self.branch = branch
        self.since: int | None = None

    def begin_step(self) -> Program[int]:
        """Return when a step is ready; the time since the last one was own time."""
        if self.since is None:
            now = self.ready
        else:
            now = yield NOW
            self.run.own += now - self.since
        if self.phase is not None:
            self.run.start_phase(self.phase, now)
        return now

    @contextmanager
    def within(self, name: str) -> Generator[None, None, None]:
        """Let the steps in this context belong to a phase."""
        around, self.phase = self.phase, self.run.begin_phase(name, None, self)
        outcome: WorkflowOutcome = "failed"
        try:
            yield
            outcome = "ok"
        finally:
            index, self.phase = self.phase, around
            assert index is not None, "it has begun"
            self.run.end_phase(index, self.since, outcome)

    def is_in(self, phase: str) -> bool:
        """Return whether the strand is in a phase of this name."""
        return self.phase is not None and self.run.name_of(self.phase) == phase


_local = threading.local()


def current_strand() -> Strand | None:
    """Return the strand whose code is running in this thread, None outside of every one."""
    return getattr(_local, "strand", None)


def _advance(
    strand: Strand, coroutine: Coroutine[Any, Any, Any], result: Any, error: BaseException | None
) -> Any:
    """Run the code of a strand up to what it awaits next."""
    if is_interrupted():
        raise KeyboardInterrupt  # the code of another workflow was interrupted
    _local.strand = strand
    begin_own_code()
    try:
        return coroutine.send(result) if error is None else coroutine.throw(error)
    finally:
        end_own_code()
        _local.strand = None


def driven(strand: Strand, coroutine: Coroutine[Any, Any, _T]) -> Program[_T]:
    """Run a coroutine to its end and return its result.

    Where a step is cancelled, asyncio.CancelledError is raised in the coroutine. It may continue;
    if its branch was cancelled, it is closed when its next step is cancelled too. Raises what it
    raises, and WorkflowFailedError, which it cannot catch.
    """
    result: Any = None
    error: BaseException | None = None
    was_cancelled = False
    try:
        while True:
            try:
                step = _advance(strand, coroutine, result, error)
            except StopIteration as end:
                value: _T = end.value
                return value
            except asyncio.CancelledError:
                if was_cancelled:
                    raise Cancelled from None
                raise WorkflowFailedError(CANCELLED_ITSELF) from None
            except (Exception, KeyboardInterrupt):
                raise
            except OwnTimeExceededError:
                raise WorkflowFailedError(OWN_TIME_EXCEEDED) from None
            except SystemExit as exiting:
                raise WorkflowFailedError(exited(exiting.code)) from None
            except BaseException as other:
                raise WorkflowFailedError(f"the program raised {type(other).__name__}") from None
            result = error = None
            try:
                result = yield from (
                    steps_of(step, strand)
                    if isinstance(step, ProgramStep)
                    else _foreign(strand, step)
                )
                was_cancelled = False
            except Cancelled:
                strand.since = yield NOW
                if was_cancelled:
                    yield Sleep(strand.since)  # raises Cancelled if the branch was cancelled
                was_cancelled, error = True, asyncio.CancelledError()
            except WorkflowFailedError:
                raise
            except (Exception, asyncio.CancelledError) as raised:
                error = raised
    finally:
        _close(strand, coroutine)


def steps_of(step: ProgramStep[_T], strand: Strand) -> Program[_T]:
    """Return the engine program of a step. Raises RuntimeError if it is not its first one."""
    if step.is_used:
        raise RuntimeError(f"{step!r} was awaited before; make another one for each await")
    step.is_used = True
    return step.steps(strand)


def _close(strand: Strand, coroutine: Coroutine[Any, Any, Any]) -> None:
    """End a coroutine; what its code raises or awaits then has no effect."""
    _local.strand = strand
    begin_own_code()
    try:
        with suppress(Exception, SystemExit, asyncio.CancelledError, OwnTimeExceededError):
            coroutine.close()
    finally:
        end_own_code()
        _local.strand = None


def _foreign(strand: Strand, step: Any) -> Program[Any]:
    """Wait for what is no step of the harness. Raises what it raises."""
    now = yield from strand.begin_step()
    section, end = strand.run.context.section, strand.run.context.end
    until = now + round(section.own_time_limit * SECOND)
    ends_with_workflow = end is not None and end <= until
    reply = yield Foreign(step, until if end is None else min(end, until))
    strand.since = yield NOW
    if not isinstance(reply, Raised):
        return reply
    if reply.is_late and ends_with_workflow:
        raise DeadlinePassedError
    if reply.is_late:
        raise WorkflowFailedError(made_no_call(section.own_time_limit))
    raise reply.error
