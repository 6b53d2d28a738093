"""Plans of the research workflow to run by hand."""

from __future__ import annotations

from typing import Any

from harness.bench.scenario import Scenario
from harness.workflows.execution import WorkflowPlan
from harness.workflows.partial_failure import SYNTHESIZE_WITH_GAPS, Partial


def research_plan(
    *,
    json_mode: bool = True,
    timeout: int | None = None,
    partial: Partial = SYNTHESIZE_WITH_GAPS,
    **settings: Any,
) -> WorkflowPlan:
    """Return a plan with three sub-questions; `timeout` in nanoseconds."""
    limits = {"decompose": 11, "research": 22, "synthesize": 33}
    workflow = {"topics": ["letters"], "sub_questions": 3, "max_tokens": limits, **settings}
    if partial.stops:
        workflow |= {"on_branch_failure": "quorum", "quorum": partial.needed}
    live = {"kind": "openai", "base_url": "http://127.0.0.1:1", "model": "m"}
    plan = Scenario.model_validate(
        {"name": "by-hand", "workflow": workflow, "endpoint": {**live, "json_mode": json_mode}}
    ).plan
    return plan._replace(timeout=timeout)
