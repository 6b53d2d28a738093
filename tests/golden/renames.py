"""What the golden runs call a field, and what the program calls it now.

The golden files keep the names of the day they were made. A commit that renames a field or a value
adds a line here; the golden files stay as they are. A path begins with the table (`attempts`,
`calls`, `workflows`, `trials`, `summary`), parts are joined by dots, and `[]` stands for any index
of a list: `summary.cells[].calls.failed`. There are no wildcards.
"""

from __future__ import annotations

from collections.abc import Mapping

RENAMES: Mapping[str, str] = {
    "summary.recommendation.settles_with.repeats": "summary.recommendation.settles_with.max_repeats"
}
"""Old path -> new path. What lies below a path moves with it; the longest path that fits wins."""

VALUES: Mapping[str, Mapping[str, str]] = {}
"""Old path -> old value -> new value. No two old values may become the same new one."""

DEFAULTS: Mapping[str, Mapping[str, object]] = {
    "attempts": {
        "branch": None, "sent": None, "headers": None, "first_reasoning": None,
        "first_answer": None, "last_token": None, "status": None, "retry_after": None,
        "request_id": None, "finish_reason": None, "tokens": {}, "chunks": 0, "gaps": {},
        "decision": None, "response_id": None, "response_model": None, "hedge": False,
    },
    "calls": {"branch": None, "backoffs": [], "tokens": None, "wasted_tokens": None},
    "workflows": {"phases": [], "error": None},
    "trials": {"cpu": 0, "loop_lag": {}, "interrupted": False, "recording": 0},
    "tokens": {"input": None, "cached": None, "output": None, "reasoning": None},
}  # fmt: skip
"""What a line of schema 2 means without a field, by table and field; `tokens`: in both tables.

The golden files have all fields, as schema 1 wrote them."""

ADDED: frozenset[str] = frozenset(
    {
        "attempts.marked_simulated", "attempts.anomalies", "attempts.first_chunk",
        "attempts.error_body", "attempts.location", "attempts.rate_limit_reset",
        "summary.cells[].attempts.anomalies", "summary.marked_answers", "summary.cold_start",
        "summary.cells[].success_latency_p50_s", "summary.verdict.limited_cells",
        "summary.cells[].client_cpu_per_attempt_s",
        "summary.verdict.arrivals",
        *(f"summary.cells[].{name}" for name in (
            "configured_workflows_per_s", "planned_workflows_per_s", "offered_workflows_per_s",
            "offered_over_planned", "arrival_lateness_s",
        )),
        *(f"summary.{name}" for name in (
            "question", "hedged", "planned_workflows", "workflow_failures", "endpoint_keys",
            "stopped", "margin", "slo", "lacking", "recommendation.rivals",
            "recommendation.settles_with.by_resuming", "recommendation.settles_with.at_least",
            "unverified_tls", "reasoning", "server_said", "answered_by", "own_retries",
            "tune", "clients", "runs_commands", "serves_requests",
            "unpriced", "cells[].cost_per_workflow_usd", "cells[].wasted_per_workflow_usd",
        )),
    }
)  # fmt: skip
"""New paths that the golden runs lack; what lies below a path belongs to it."""
