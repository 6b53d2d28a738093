"""Summaries made by hand, for tests of what shows them: every field plain, keywords override."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.analysis.model import (
    AttemptCounts,
    CallCounts,
    Cell,
    Distribution,
    Figure,
    Oracle,
    OutputRates,
    Recommendation,
    Spread,
    Summary,
    Throughput,
    TimeSpent,
    TokenCounts,
    Verdict,
    WorkflowCounts,
)

NOTHING = Distribution(n=0, mean=None, p50=None, p95=None, p99=None)


def figure(value: float, spread: float = 1.1) -> Figure:
    """Return a figure whose interval is `spread` times either way."""
    return Figure(value=value, low=value / spread, high=value * spread)


def distribution(p50: float, p95: float | None = None, n: int = 24) -> Distribution:
    """Return a distribution around `p50`."""
    tail = None if p95 is None else figure(p95)
    return Distribution(n=n, mean=figure(p50 * 1.05), p50=figure(p50), p95=tail, p99=None)


def make_cell(cell: str = "async_8_full-jitter_attempt", **fields: Any) -> Cell:
    """Return the cell with this id; more permits make it faster."""
    mode, permits, retry, scope = cell.split("_")
    pace = 1.0 if mode == "sync" else float(permits)
    plain: dict[str, Any] = {
        "id": cell, "mode": mode, "permits": int(permits), "retry": retry, "permit_scope": scope,
        "repeats": 3,
        "workflows": WorkflowCounts(started=24, ok=24, degraded=0, failed=0),
        "warm_up": 0,
        "calls": CallCounts(started=144, succeeded=144, failed=0),
        "calls_lost": Figure(value=0.0, low=0.0, high=0.03),
        "attempts": AttemptCounts(
            total=150, failed=6, by_outcome={"ok": 144, "rate_limited": 6}, amplification=150 / 144
        ),
        "makespan_s": figure(40 / pace),
        "throughput": Throughput(
            workflows_per_s=figure(0.2 * pace), calls_per_s=figure(1.2 * pace)
        ),
        "goodput_workflows_per_s": figure(0.2 * pace), "success_rate": figure(1.0),
        "speedup_over_sync": Figure(value=1.0) if mode == "sync" else figure(pace),
        "scheduling_efficiency": figure(0.9), "critical_path_bound_s": 40 / pace * 0.8,
        "workflow_latency_s": distribution(5 / pace), "call_latency_s": distribution(1.0),
        "ttft_s": distribution(0.1), "time_to_first_answer_s": distribution(0.4),
        "output_tokens_per_s": OutputRates(all=figure(50 * pace), while_full=None),
        "makespan_per_token_s": figure(0.02 / pace), "speedup_per_token": None,
        "inter_token_s": distribution(0.01), "chunk_gap_s": distribution(0.01),
         "permit_wait_s": distribution(0.01),
        "client_wait_s": distribution(0.001), "backoff_s": NOTHING, "phases": {},
        "time_spent": TimeSpent(
            permit_wait=0.25, backoff=0.05, failed_attempts=0.02, to_first_token=0.1,
            reasoning=0.35, answer=0.2, other=0.03,
        ),
        "tokens": TokenCounts(input=1000, output=5000, reasoning=3000, cached=100, wasted=50),
        "cost_usd": None, "wasted_usd": None, "cost_per_successful_workflow_usd": None,
    }  # fmt: skip
    latency = fields.get("workflow_latency_s", plain["workflow_latency_s"])
    return Cell(**(plain | {"success_latency_p50_s": latency.p50} | fields))


def make_summary(cells: Sequence[Cell | str], **fields: Any) -> Summary:
    """Return a simulated run of these cells, the last one recommended."""
    made = tuple(make_cell(cell) if isinstance(cell, str) else cell for cell in cells)
    plain: dict[str, Any] = {
        "schema": 1, "run_id": "0" * 32, "scenario": "synthetic", "status": "complete",
        "simulated": True, "time_scale": 0.05, "cells": made,
        "verdict": Verdict(
            bottleneck="none", because=("Timers ran at most 1.0 ms late.",),
            event_loop_lag_s=Spread(p50=0.001, p99=0.001), client_cpu_share=0.3,
            provider_lateness_s=None, clock_disagreement_s=None,
        ),
        "oracle": Oracle(
            attempts=450, unmatched=0, outcome_mismatches=0, token_mismatches=0,
            first_text_s=Spread(p50=0.000123, p99=0.00456), inter_token_p50_s=None,
        ),
        "recommendation": Recommendation(
            state="proven", cell=made[-1].id if made else None,
            candidate=made[-1].id if made else None, objective="makespan",
            because=("Its makespan is the shortest.",), lead_over_next=figure(1.31),
            retry_exercised=True,
        ),
    }  # fmt: skip
    return Summary(**(plain | fields))
