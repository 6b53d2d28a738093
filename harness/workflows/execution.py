"""Runs one workflow of any kind, and emits its record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from harness.engine.attempt import CallTerms
from harness.engine.effects import NOW, Emit, Program
from harness.records.keys import WARM_UP, WorkflowKey
from harness.records.schema import PhaseInfo, Workflow, WorkflowOutcome
from harness.workflows.context import WorkflowCancelledError, WorkflowContext, WorkflowFailedError
from harness.workflows.layout import Layout
from harness.workflows.prompts import Prompts, PromptTemplate
from harness.workflows.protocol import WorkflowKind
from harness.workflows.section import WorkflowSection

_NONCE = "0" * 16
"""As long as the nonces of a run, for estimates."""


class WorkflowPlan(NamedTuple):
    """The parts that all workflows of a cell share.

    `phases`: with the limits of the section. `timeout`: nanoseconds for a whole workflow.
    `json_mode`: the endpoint can be asked for JSON. `time_scale`: real seconds a scenario second.
    `needs_limit`: each call must have a `max_tokens`, because the budget limits tokens or money.
    `withheld`: the environment variables that hold keys of the run's endpoints.
    """

    kind: WorkflowKind[Any]
    section: WorkflowSection
    templates: Mapping[str, PromptTemplate]
    phases: tuple[PhaseInfo, ...]
    timeout: int | None = None
    json_mode: bool = True
    time_scale: float = 1.0
    needs_limit: bool = False
    withheld: tuple[str, ...] = ()

    @property
    def settings(self) -> dict[str, str]:
        """The name under which a scenario has settings of each phase; a warm-up has the first's."""
        names = {info.name: info.setting for info in self.phases}
        first = self.phases[0].setting if self.phases else WARM_UP
        return {WARM_UP: first, **names}

    @property
    def most_of_warm_up(self) -> int | None:
        """The most tokens of a warm-up call: those of the first phase."""
        return self.phases[0].max_tokens if self.phases else None

    def layout(self, topic: str) -> Layout:
        """Return the tree of the calls of a workflow about `topic`.

        Calls of a phase without a limit count as 0 tokens written.
        """
        most = {info.name: info.max_tokens or 0 for info in self.phases}
        return self.kind.layout(self.section, Prompts(self.templates, _NONCE), topic, most)


class WorkflowResult(NamedTuple):
    """The result of a workflow; `text` is empty if the workflow failed."""

    outcome: WorkflowOutcome
    text: str


def run_workflow(
    terms: CallTerms, plan: WorkflowPlan, key: WorkflowKey, topic: str, ready: int, nonce: str = ""
) -> Program[WorkflowResult]:
    """Run one workflow and emit its record. A failure is an outcome and raises nothing."""
    started = yield NOW
    keeps = plan.section.keeps_reasoning
    if terms.carry_reasoning != keeps:
        terms = terms._replace(carry_reasoning=keeps)
    context: WorkflowContext[Any] = WorkflowContext(
        section=plan.section,
        prompts=Prompts(plan.templates, nonce),
        topic=topic,
        at=started,
        terms=terms,
        infos={info.name: info for info in plan.phases},
        key=key,
        end=None if plan.timeout is None else ready + plan.timeout,
        json_mode=plan.json_mode,
        time_scale=plan.time_scale,
        needs_limit=plan.needs_limit,
        withheld=plan.withheld,
    )
    error, cancelled = None, False
    text = ""
    try:
        text = yield from plan.kind.program(context)
    except WorkflowFailedError as failed:
        error = str(failed)
    except WorkflowCancelledError as ended:
        error, cancelled = str(ended), True
    done = yield NOW
    outcome: WorkflowOutcome = "failed" if error else "ok"
    if error is None and any(phase.outcome == "degraded" for phase in context.phases):
        outcome = "degraded"
    if cancelled:
        outcome = "cancelled"
    yield Emit(
        Workflow(
            cell=key.cell,
            repeat=key.repeat,
            workflow=key.workflow,
            execution=key.execution,
            topic=topic,
            ready=ready,
            started=started,
            done=done,
            outcome=outcome,
            phases=tuple(context.phases),
            branches=context.branches,
            error=error,
            own_code=context.own_code,
            own_retries=context.own_retries,
            ok=context.ok,
            exit_code=context.exit_code,
            stderr=context.stderr,
        )
    )
    return WorkflowResult(outcome, text)
