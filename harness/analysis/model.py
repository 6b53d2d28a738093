"""What summary.json holds: the figures of a run, each with its interval.

Durations end in `_s` and are real seconds; every view divides them by `time_scale` to get scenario
seconds, and says so. A percentile or bound that the sample cannot carry is None, never a number
that only looks like one.
"""

from __future__ import annotations

import msgspec

from harness.records import RunStatus


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """A number and its 95 % interval; bounds are None where no interval can be had."""

    value: float
    low: float | None = None
    high: float | None = None


class Distribution(msgspec.Struct, frozen=True, kw_only=True):
    """How a quantity is spread over `n` observations."""

    n: int
    mean: Figure | None
    p50: Figure | None
    p95: Figure | None
    p99: Figure | None


class WorkflowCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How the workflows of a cell ended."""

    started: int
    ok: int
    degraded: int
    failed: int


class CallCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How the calls of a cell ended."""

    started: int
    succeeded: int
    failed: int


class AttemptCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How the attempts of a cell ended; `amplification` is attempts over calls."""

    total: int
    failed: int
    by_outcome: dict[str, int]
    amplification: float | None


class Throughput(msgspec.Struct, frozen=True, kw_only=True):
    """Finished per second of makespan, over repeats."""

    workflows_per_s: Figure | None
    calls_per_s: Figure | None


class PhaseFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One phase: its latency, its share (0 to 1) of the workflows' time, how often it failed."""

    latency_s: Distribution
    share: float | None
    failed: int


class TimeSpent(msgspec.Struct, frozen=True, kw_only=True):
    """Where the calls' time went: shares (0 to 1) of the summed call latency; they add up to 1."""

    permit_wait: float
    backoff: float
    failed_attempts: float
    to_first_token: float
    reasoning: float
    answer: float
    other: float


class TokenCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens as reported, summed over the cell; `wasted` is the output of failed attempts."""

    input: int
    output: int
    reasoning: int
    cached: int
    wasted: int


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """Everything known of one combination of settings."""

    id: str
    mode: str
    permits: int
    retry: str
    permit_scope: str
    repeats: int
    workflows: WorkflowCounts
    calls: CallCounts
    attempts: AttemptCounts
    makespan_s: Figure | None
    throughput: Throughput
    goodput_workflows_per_s: Figure | None
    success_rate: Figure | None
    speedup_over_sync: Figure | None
    scheduling_efficiency: Figure | None
    critical_path_bound_s: float | None
    workflow_latency_s: Distribution
    call_latency_s: Distribution
    ttft_s: Distribution
    time_to_first_answer_s: Distribution
    inter_token_s: Distribution
    permit_wait_s: Distribution
    client_wait_s: Distribution
    backoff_s: Distribution
    phases: dict[str, PhaseFigures]
    time_spent: TimeSpent | None
    tokens: TokenCounts
    cost_usd: float | None
    cost_per_successful_workflow_usd: float | None


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """Two percentiles of a quantity, without intervals."""

    p50: float
    p99: float


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What limited the measurement itself: `client`, `simulator` or `none`, and by what.

    `clock_disagreement_s`: client's first text minus the provider's first write, by attempt.
    None where there is nothing to compare with.
    """

    bottleneck: str
    because: tuple[str, ...]
    event_loop_lag_s: Spread | None
    client_cpu_share: float | None
    provider_lateness_s: Spread | None
    clock_disagreement_s: Spread | None


class Oracle(msgspec.Struct, frozen=True, kw_only=True):
    """The client's records held against the simulated provider's own log.

    `attempts` were joined by span id; `unmatched` stand on one side only. The mismatch counts say
    how many joined attempts differ in outcome or in a token count. `first_text_s` and
    `inter_token_s` are client minus provider: of the first text chunk, by attempt, and of the
    medians of the gaps between chunks, pooled.
    """

    attempts: int
    unmatched: int
    outcome_mismatches: int
    token_mismatches: int
    first_text_s: Spread | None
    inter_token_p50_s: float | None


class Recommendation(msgspec.Struct, frozen=True, kw_only=True):
    """The best measured cell under the objective, or why there is none yet."""

    cell: str | None
    objective: str
    because: tuple[str, ...]
    lead_over_next: Figure | None
    evidence: str
    more_workflows_needed: int | None


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """summary.json."""

    schema: int
    run_id: str
    scenario: str
    status: RunStatus
    simulated: bool
    time_scale: float
    cells: tuple[Cell, ...]
    verdict: Verdict
    oracle: Oracle | None
    recommendation: Recommendation
