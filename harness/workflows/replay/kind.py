"""`kind = "replay"`: makes the calls of recorded workflows, each when those before it are done."""

from __future__ import annotations

from collections.abc import Mapping

from harness.engine.call import Completion
from harness.engine.effects import NOW, Message, Program, Request, Sleep, fan_out
from harness.records.clock import SECOND
from harness.records.failures import OK
from harness.records.schema import Branches, Phase, PhaseInfo, WorkflowOutcome
from harness.workflows.context import WorkflowContext, WorkflowFailedError, failure_text
from harness.workflows.layout import InParallel, InSequence, Layout, PlannedCall
from harness.workflows.prompts import Prompts, PromptTemplate
from harness.workflows.protocol import WorkflowKind
from harness.workflows.replay.data_file import ReplayedCall, ReplayedWorkflow
from harness.workflows.replay.made_prompts import made_prompts
from harness.workflows.replay.section import ReplaySection

REPLAYED = "replayed"
"""The only phase of a replay."""


class ReplayKind:
    """The recorded workflow."""

    section = ReplaySection
    templates: Mapping[str, PromptTemplate] = {}

    def phases(self, section: ReplaySection) -> tuple[PhaseInfo, ...]:
        """Return the only phase."""
        return (PhaseInfo(name=REPLAYED, setting=REPLAYED),)

    def layout(
        self, section: ReplaySection, prompts: Prompts, topic: str, most: Mapping[str, int]
    ) -> Layout:
        """Return the calls of one workflow, by how many calls each has to wait for in turn."""
        levels: list[list[PlannedCall]] = []
        depths: list[int] = []
        for call in _workflow(section, topic).calls:
            depths.append(1 + max((depths[one] for one in call.after), default=-1))
            while len(levels) <= depths[-1]:
                levels.append([])
            levels[depths[-1]].append(PlannedCall(REPLAYED, call.input))
        return InSequence(
            tuple(each[0] if len(each) == 1 else InParallel(tuple(each)) for each in levels)
        )

    def program(self, context: WorkflowContext[ReplaySection]) -> Program[str]:
        """Make the calls of one workflow. A call that fails ends it; calls in progress go on."""
        calls = _workflow(context.section, context.topic).calls
        run = _ReplayRun(context, calls)
        begin = context.at
        yield from run.all_of([at for at, call in enumerate(calls) if not call.after], begin)
        end: int = yield NOW
        failed = run.failed
        good = sum(one.outcome == OK for one in run.done.values())
        context.branches = Branches(total=len(calls), ok=good)
        outcome: WorkflowOutcome = "ok" if failed is None else "failed"
        context.phases.append(Phase(name=REPLAYED, start=begin, end=end, outcome=outcome))
        if failed is not None:
            raise WorkflowFailedError(failure_text(REPLAYED, failed))
        return ""


REPLAY: WorkflowKind[ReplaySection] = ReplayKind()


def _workflow(section: ReplaySection, topic: str) -> ReplayedWorkflow:
    return section.recorded.workflows[int(topic) - 1]


class _ReplayRun:
    """One workflow in progress.

    The call that ends last of those that another one waits for starts that one, so nothing waits
    for anything but calls. `open`: a mark less than the calls that each one waits for; `pop` is
    atomic, also in threads.
    """

    def __init__(
        self, context: WorkflowContext[ReplaySection], calls: tuple[ReplayedCall, ...]
    ) -> None:
        self._context = context
        self._calls = calls
        nonce = context.prompts.nonce
        self._prompts = made_prompts(calls, f"{nonce}\x1f{context.topic}")
        self._open = [[None] * (len(call.after) - 1) for call in calls]
        self._next: list[list[int]] = [[] for _ in calls]
        for number, call in enumerate(calls):
            for one in call.after:
                self._next[one].append(number)
        self.done: dict[int, Completion] = {}
        self.failed: Completion | None = None

    def all_of(self, numbers: list[int], due: int) -> Program[None]:
        """Make calls that are due at the same time, and all that follow them."""
        if len(numbers) == 1:
            yield from self._one(numbers[0], due)
        elif numbers:
            yield from fan_out([self._one(number, due) for number in numbers])

    def _one(self, number: int, due: int) -> Program[None]:
        call, context = self._calls[number], self._context
        ready = due
        if call.gap:
            ready = due + round(call.gap * context.time_scale * SECOND)
            yield Sleep(ready)
        if self.failed is not None:
            return
        reasoning = call.reasoning or 0
        request = Request(
            (Message("user", self._prompts[number]),),
            max_tokens=call.output,
            lengths=(reasoning, call.output - reasoning),
        )
        branch = number if len(self._calls) > 1 else None
        found = yield from context.send(REPLAYED, request, ready, branch)
        self.done[number] = found
        if found.outcome != OK and not _is_whole(found):
            self.failed = self.failed or found
            return
        due = found.done
        yield from self.all_of([one for one in self._next[number] if self._is_last(one)], due)

    def _is_last(self, number: int) -> bool:
        try:
            self._open[number].pop()
        except IndexError:
            return True
        return False


def _is_whole(found: Completion) -> bool:
    """Return whether an answer was cut at the recorded length, where it should end."""
    return found.outcome == "truncated"
