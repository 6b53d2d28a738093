"""What the program of one workflow works with, and the record that is made of what it did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Generic

from harness.engine.attempt import CallTerms
from harness.engine.call import Completion, complete
from harness.engine.effects import Message, Program, Request, fan_out, now
from harness.records.failures import CANCELLED, OK
from harness.records.keys import CallKey, WorkflowKey
from harness.records.schema import Branches, Phase, PhaseInfo, WorkflowOutcome
from harness.workflows.partial_failure import Partial
from harness.workflows.prompts import Prompts
from harness.workflows.section import S


class WorkflowFailedError(Exception):
    """The workflow cannot go on; the text says why, in one line."""


class WorkflowContext(Generic[S]):
    """One workflow while its program runs.

    Phases follow one another: a phase begins at `at`, when the one before it ended. A program that
    nests phases appends to `phases` itself.
    """

    def __init__(
        self,
        terms: CallTerms,
        phases: Sequence[PhaseInfo],
        section: S,
        prompts: Prompts,
        key: WorkflowKey,
        topic: str,
        started: int,
        end: int | None,
    ) -> None:
        self.section = section
        self.prompts = prompts
        self.topic = topic
        self.at = started
        self.phases: list[Phase] = []
        self.branches = Branches(total=0, ok=0)
        self._terms = terms
        self._infos = {info.name: info for info in phases}
        self._key = key
        self._end = end
        self._asked: Counter[tuple[str, int | None]] = Counter()

    def ask(
        self, phase: str, messages: tuple[Message, ...], ready: int, branch: int | None = None
    ) -> Program[Completion]:
        """Make one call. Never raises: a failure is an outcome.

        Calls are numbered in the order in which this method is called.
        """
        self._asked[phase, branch] += 1
        info = self._infos[phase]
        return self._complete(
            CallKey(*self._key, phase, branch, self._asked[phase, branch]),
            Request(messages, info.max_tokens, info.json),
            ready,
        )

    def _complete(self, key: CallKey, request: Request, ready: int) -> Program[Completion]:
        completion = yield from complete(self._terms, key, request, ready, self._end)
        return completion if self.section.carry_reasoning else completion._replace(reasoning="")

    def ended(self, phase: str, outcome: WorkflowOutcome) -> Program[None]:
        """Note that the phase that began at `at` has ended."""
        start, self.at = self.at, (yield from now())
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
        """Run a phase of calls in parallel, one a branch; a branch that failed leaves a gap.

        Raises WorkflowFailedError if fewer branches succeed than `partial` needs.
        """
        calls = [
            self.ask(phase, messages, self.at, branch) for branch, messages in enumerate(asked)
        ]

        def enough(found: Sequence[Completion | None]) -> bool:
            return partial.is_enough([one and one.outcome == OK for one in found])

        found = yield from fan_out(calls, enough)
        good = sum(one.outcome == OK for one in found)
        self.branches = Branches(total=self.branches.total + len(found), ok=self.branches.ok + good)
        suffices = partial.suffices(good)
        outcome: WorkflowOutcome = "degraded" if suffices else "failed"
        yield from self.ended(phase, "ok" if good == len(found) else outcome)
        if not suffices:
            raise WorkflowFailedError(_too_few(phase, partial, found))
        return found


def failure_text(phase: str, completion: Completion) -> str:
    """Say which phase a failed call belongs to, and what it came to."""
    return f"{phase}: {completion.outcome}" + (
        f" ({completion.detail})" if completion.detail else ""
    )


def _too_few(phase: str, partial: Partial, found: Sequence[Completion]) -> str:
    """Say what the first branch to fail came to, and how many had to succeed."""
    failed = [one for one in found if one.outcome not in (OK, CANCELLED)]
    first = failure_text(phase, min(failed, key=lambda one: one.done))
    if not partial.stops or partial.needed == len(found):
        return first
    return f"{first}; {len(failed)} of {len(found)} failed, {partial.needed} had to succeed"
