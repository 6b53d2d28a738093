"""The interface between the program of a workflow and its calls, phases and records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic

from harness.engine.attempt import CallTerms
from harness.engine.call import Completion, complete
from harness.engine.effects import NOW, Message, Program, Request, fan_out
from harness.records.failures import CANCELLED, OK
from harness.records.keys import CallKey, WorkflowKey
from harness.records.schema import Branches, Phase, PhaseInfo, WorkflowOutcome
from harness.workflows.partial_failure import Partial
from harness.workflows.prompts import Prompts
from harness.workflows.section import S


class WorkflowFailedError(Exception):
    """The workflow cannot continue; the text is the reason, in one line."""


class WorkflowCancelledError(Exception):
    """Nobody wants the workflow any more; the text says why, in one line."""


@dataclass
class WorkflowContext(Generic[S]):
    """One workflow while its program runs.

    Phases follow one another: a phase begins at `at`, when the previous one ended. A program that
    nests phases appends to `phases` itself. `infos`: the declared phases by name. `end`: the
    deadline of the workflow, None for no deadline. `json_mode`: the endpoint can be asked for JSON.
    `time_scale`: real seconds a scenario second. `own_code`: nanoseconds of the program's own code.
    `own_retries`: calls that are retries of its own client.
    `ok`: a judgement of the result, None without one. `needs_limit`: each call must have a
    `max_tokens`, because the budget limits tokens or money. `withheld`: the environment variables
    that no other process gets, because they hold keys of endpoints. `exit_code`, `stderr`: of a
    process that has run, as in its record.
    """

    section: S
    prompts: Prompts
    topic: str
    at: int
    terms: CallTerms
    infos: Mapping[str, PhaseInfo]
    key: WorkflowKey
    end: int | None
    json_mode: bool = True
    time_scale: float = 1.0
    own_code: int = 0
    own_retries: int = 0
    ok: bool | None = None
    needs_limit: bool = False
    withheld: tuple[str, ...] = ()
    exit_code: int | None = None
    stderr: str | None = None
    phases: list[Phase] = field(default_factory=list)
    branches: Branches = field(default_factory=lambda: Branches(total=0, ok=0))
    _asked: dict[tuple[str, int | None], int] = field(default_factory=dict)

    def ask(
        self, phase: str, messages: tuple[Message, ...], ready: int, branch: int | None = None
    ) -> Program[Completion]:
        """Make one call of a declared phase. A failure is an outcome and raises nothing.

        Calls are numbered in the order in which this method is called.
        """
        info = self.infos[phase]
        return self.send(phase, Request(messages, info.max_tokens, info.json), ready, branch)

    def send(
        self, phase: str, request: Request, ready: int, branch: int | None = None
    ) -> Program[Completion]:
        """Make one call of any phase, as `ask` does."""
        return complete(self.terms, self.next_key(phase, branch), request, ready, self.end)

    def next_key(self, phase: str, branch: int | None = None) -> CallKey:
        """Return the key of the next call in a phase and branch."""
        number = self._asked[phase, branch] = self._asked.get((phase, branch), 0) + 1
        return CallKey(*self.key, phase, branch, number)

    def ended(self, phase: str, outcome: WorkflowOutcome) -> Program[None]:
        """Record the end of the phase that began at `at`."""
        start = self.at
        self.at = yield NOW
        self.phases.append(Phase(name=phase, start=start, end=self.at, outcome=outcome))

    def call(self, phase: str, messages: tuple[Message, ...]) -> Program[Completion]:
        """Run a phase of one call. Raises WorkflowFailedError if the call fails."""
        completion = yield from self.ask(phase, messages, self.at)
        yield from self.ended(phase, "ok" if completion.outcome == OK else "failed")
        if completion.outcome != OK:
            raise WorkflowFailedError(failure_text(phase, completion))
        return completion

    def fan_out(
        self, phase: str, asked: Sequence[tuple[Message, ...]], partial: Partial
    ) -> Program[list[Completion]]:
        """Run a phase of parallel calls, one for each branch.

        Raises WorkflowFailedError if fewer branches succeed than `partial` needs.
        """
        calls = [
            self.ask(phase, messages, self.at, branch) for branch, messages in enumerate(asked)
        ]

        def enough(found: Sequence[Completion | None]) -> bool:
            return partial.is_enough([None if one is None else one.outcome == OK for one in found])

        found = yield from fan_out(calls, enough if partial.stops else None)
        good = sum(one.outcome == OK for one in found)
        self.branches = Branches(total=self.branches.total + len(found), ok=self.branches.ok + good)
        suffices = partial.suffices(good)
        outcome: WorkflowOutcome = "degraded" if suffices else "failed"
        yield from self.ended(phase, "ok" if good == len(found) else outcome)
        if not suffices:
            raise WorkflowFailedError(_too_few(phase, partial, found))
        return found


def failure_text(phase: str, completion: Completion) -> str:
    """Return the phase and the outcome of a failed call, in one line."""
    detail = f" ({completion.detail})" if completion.detail else ""
    return f"{phase}: {completion.outcome}{detail}"


def _too_few(phase: str, partial: Partial, found: Sequence[Completion]) -> str:
    """Return the first failure of a branch, and how many branches had to succeed."""
    failed = [one for one in found if one.outcome not in (OK, CANCELLED)]
    first = failure_text(phase, min(failed, key=lambda one: one.done))
    if not partial.stops or partial.needed == len(found):
        return first
    return f"{first}; {len(failed)} of {len(found)} failed, {partial.needed} had to succeed"
