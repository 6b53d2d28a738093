"""The content of summary.json: the figures of a run, each with its interval.

Durations end in `_s` and are real seconds; views divide them by `time_scale` to get scenario
seconds. A percentile or bound is None if the sample is too small for it.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from harness.analysis.question import Question
from harness.records.schema import CellInfo, MarkedAnswers, RunStatus, Stop
from harness.records.units import (
    CountUnit,
    Index,
    OfField,
    PerRealSecond,
    Probability,
    ProcessorSeconds,
    Ratio,
    RealSeconds,
    RealSecondsPerToken,
    SchemaVersion,
    ShareUnit,
    TimeScale,
    TokenCount,
    TokensPerRealSecond,
    UsdUnit,
)

SUMMARY_SCHEMA = 2
"""The schema of summary.json and of the JSON of `harness compare`; records have their own."""


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """A number and its 95 % interval; the bounds are None if there is no interval.

    Except for shares and means of a distribution, the geometric mean of the values of the repeats.
    See `statistics`.
    """

    value: OfField[float]
    low: OfField[float | None] = None
    high: OfField[float | None] = None


class Distribution(msgspec.Struct, frozen=True, kw_only=True):
    """How a quantity is spread over `n` observations.

    `mean` is the arithmetic mean of all. The percentiles are those of the repeats, averaged. A
    percentile is None below 6, 72 and 368 observations in all, or 1, 13 and 67 in each repeat.
    """

    n: CountUnit[int]
    mean: OfField[Figure | None]
    p50: OfField[Figure | None]
    p95: OfField[Figure | None]
    p99: OfField[Figure | None]


class WorkflowCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How the workflows of a cell ended; `started` includes interrupted ones."""

    started: CountUnit[int]
    ok: CountUnit[int]
    degraded: CountUnit[int]
    failed: CountUnit[int]


class CallCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How the calls of a cell ended.

    `cancelled`: the workflow had enough results without them or had failed. Calls that were
    cancelled before they began are not among the `started`.
    """

    started: CountUnit[int]
    succeeded: CountUnit[int]
    failed: CountUnit[int]
    cancelled: CountUnit[int] = 0


class AttemptCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How the attempts of a cell ended, `ok` included; `amplification` is attempts over calls.

    `failed` excludes cancelled attempts. `anomalies`: the number of attempts with each anomaly.
    """

    total: CountUnit[int]
    failed: CountUnit[int]
    by_outcome: CountUnit[dict[str, int]]
    amplification: Ratio[float | None]
    anomalies: CountUnit[dict[str, int]] = {}


class Throughput(msgspec.Struct, frozen=True, kw_only=True):
    """Ended per second of makespan, whether or not they succeeded, over repeats."""

    workflows_per_s: PerRealSecond[Figure | None]
    calls_per_s: PerRealSecond[Figure | None]


class OutputRates(msgspec.Struct, frozen=True, kw_only=True):
    """Output tokens per second: of makespan, and of the time with all permits in use."""

    all: TokensPerRealSecond[Figure | None]
    while_full: TokensPerRealSecond[Figure | None]


class PhaseFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One phase: its latency, its share (0 to 1) of the workflows' time, how often it failed.

    `share` is None for a phase that is nested in others: its time is part of theirs.
    """

    latency_s: RealSeconds[Distribution]
    share: ShareUnit[float | None]
    failed: CountUnit[int]


class TimeSpent(msgspec.Struct, frozen=True, kw_only=True):
    """Where the calls' time went: shares (0 to 1) of the summed call latency; they add up to 1."""

    permit_wait: ShareUnit[float]
    backoff: ShareUnit[float]
    failed_attempts: ShareUnit[float]
    to_first_token: ShareUnit[float]
    reasoning: ShareUnit[float]
    answer: ShareUnit[float]
    other: ShareUnit[float]


class TokenCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens as reported, over all attempts of the cell, abandoned ones included.

    `wasted`: input and output of failed attempts. The output of an interrupted response is
    estimated from its chunks (`analysis.token_estimates`). `unreported`: the number of complete
    responses without usage, whose tokens are not counted.
    """

    input: TokenCount[int]
    output: TokenCount[int]
    reasoning: TokenCount[int]
    cached: TokenCount[int]
    wasted: TokenCount[int]
    unreported: CountUnit[int] = 0


class Lateness(msgspec.Struct, frozen=True, kw_only=True):
    """How much later than planned workflows arrived, over all repeats; None without an open loop.

    `max`: of the latest one.
    """

    p50: OfField[float | None] = None
    p99: OfField[float | None] = None
    max: OfField[float | None] = None


NO_ARRIVALS = Lateness()
"""There was no open loop. As a default it is left out of summary.json only if it is this object."""


class Cell(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The metrics of one combination of settings.

    `settings`: the values of all swept keys beyond mode, permits, retry and permit_scope.
    `limiter`: the name of a limit that adapts, whose highest value is `permits`; empty for a fixed
    number.
    Only workflows that ended count, each in its highest execution; failed ones and their calls
    are in every distribution. Makespan and what depends on it need uninterrupted trials.
    `success_latency_p50_s` is the median of the workflows that succeeded, a geometric mean over the
    repeats that have one; it has bounds only where all succeeded.
    `warm_up`: the number of workflows of an open loop that MSER-5 excluded from the distributions
    and from `time_spent`; 0 for a closed loop.
    Of an open loop, over all workflows of uninterrupted trials: `configured_workflows_per_s` is
    `load.arrivals.per_second`, `planned_workflows_per_s` the same or that of the schedule as drawn
    (Poisson), `offered_workflows_per_s` that of the workflows that arrived; see
    `analysis.offered_load`.
    `speedup_over_sync` is 1 without bounds for sync itself, None without a sync cell; views leave
    it out where one of the two lost too much work.
    `critical_path_bound_s` is the geometric mean over repeats. `calls_lost` is the share (0 to 1)
    of calls that failed. `bursts`: of failures, None where there can be none; below 10 no figure
    has bounds. `cost_usd` is of every attempt, abandoned ones included, `wasted_usd` of those whose
    response was not used: failed ones, and the later of two hedged ones. Both are also given for
    each workflow that ended. The cost of a success is of the attempts that count. None without a
    price.
    `client_cpu_per_attempt_s`: of the client's process, over all attempts of a trial; None in
    virtual time.
    `slo`: whether the success rate is proven to meet the SLO, or not to (see `proofs`).
    `late`: the number of successes that took longer than `slo.workflow_latency`.
    `dropped_after`: the repeats after which a look dropped the cell, so that it ran no further.
    """

    id: str
    mode: str
    permits: CountUnit[int]
    retry: str
    permit_scope: str
    limiter: str = ""
    repeats: CountUnit[int]
    workflows: WorkflowCounts
    warm_up: CountUnit[int]
    calls: CallCounts
    calls_lost: ShareUnit[Figure | None]
    attempts: AttemptCounts
    bursts: CountUnit[int | None] = None
    makespan_s: RealSeconds[Figure | None]
    throughput: Throughput
    goodput_workflows_per_s: PerRealSecond[Figure | None]
    configured_workflows_per_s: PerRealSecond[float | None] = None
    planned_workflows_per_s: PerRealSecond[Figure | None] = None
    offered_workflows_per_s: PerRealSecond[Figure | None] = None
    offered_over_planned: Ratio[Figure | None] = None
    arrival_lateness_s: RealSeconds[Lateness] = NO_ARRIVALS
    success_rate: ShareUnit[Figure | None]
    speedup_over_sync: Ratio[Figure | None]
    scheduling_efficiency: Ratio[Figure | None]
    critical_path_bound_s: RealSeconds[float | None]
    output_tokens_per_s: OutputRates
    makespan_per_token_s: RealSecondsPerToken[Figure | None]
    speedup_per_token: Ratio[Figure | None]
    workflow_latency_s: RealSeconds[Distribution]
    success_latency_p50_s: RealSeconds[Figure | None] = None
    call_latency_s: RealSeconds[Distribution]
    ttft_s: RealSeconds[Distribution]
    time_to_first_answer_s: RealSeconds[Distribution]
    inter_token_s: RealSeconds[Distribution]
    chunk_gap_s: RealSeconds[Distribution]
    permit_wait_s: RealSeconds[Distribution]
    client_wait_s: RealSeconds[Distribution]
    client_cpu_per_attempt_s: ProcessorSeconds[Figure | None] = None
    backoff_s: RealSeconds[Distribution]
    phases: dict[str, PhaseFigures]
    time_spent: TimeSpent | None
    tokens: TokenCounts
    cost_usd: UsdUnit[float | None]
    wasted_usd: UsdUnit[float | None]
    cost_per_workflow_usd: UsdUnit[float | None] = None
    wasted_per_workflow_usd: UsdUnit[float | None] = None
    cost_per_successful_workflow_usd: UsdUnit[float | None]
    settings: dict[str, Any] = msgspec.field(default_factory=dict)
    slo: Literal["proven", "open", "broken"] = "open"
    late: CountUnit[int] = 0
    dropped_after: CountUnit[int | None] = None


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """Two percentiles of a quantity, without intervals."""

    p50: OfField[float]
    p99: OfField[float]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What limited the measurement: `client`, `simulator` or `none`, and why.

    Lag (of timers, corrected for those that a blocked client did not set), processor share and
    lateness are those of the cell where they are worst.
    `clock_disagreement_s`: client's first text minus the provider's first write, by attempt.
    None without data. `limited_cells`: those in which something exceeded its limit. `arrivals`:
    where the load of an open loop was not the planned one, and the way out, in a sentence; empty
    if it was.
    """

    bottleneck: str
    because: tuple[str, ...]
    event_loop_lag_s: RealSeconds[Spread | None] = None
    client_cpu_share: ShareUnit[float | None] = None
    provider_lateness_s: RealSeconds[Spread | None] = None
    clock_disagreement_s: RealSeconds[Spread | None] = None
    limited_cells: tuple[str, ...] = ()
    arrivals: str = ""


class Oracle(msgspec.Struct, frozen=True, kw_only=True):
    """The client's records checked against the log of the simulated provider.

    `attempts` were joined by span id; `unmatched` are on one side only. The mismatch counts say
    how many joined attempts differ in outcome or in a token count. `first_text_s` and
    `inter_token_s` are client minus provider: of the first text chunk, by attempt, and of the
    medians of the gaps between chunks, pooled.
    """

    attempts: CountUnit[int]
    unmatched: CountUnit[int]
    outcome_mismatches: CountUnit[int]
    token_mismatches: CountUnit[int]
    first_text_s: RealSeconds[Spread | None]
    inter_token_p50_s: RealSeconds[float | None]


class SettlesWith(msgspec.Struct, frozen=True, kw_only=True):
    """What would prove what is missing, if the cells go on as they did.

    `missing`: the proof of the success rate (`slo`), of the lead, or both. `max_repeats`: the
    `sweep.max_repeats` of a new run with `sweep.repeats = "auto"` that would prove it, `workflows`:
    of each cell in so many repeats; None if no practical number suffices. `by_resuming`: the rest
    of this run would prove it, at the latest after `max_repeats`. `at_least`: fewer than three
    repeats have an objective, so its spread is not known, and it can take more.
    """

    missing: Literal["slo", "lead", "both"]
    max_repeats: CountUnit[int | None]
    workflows: CountUnit[int | None]
    by_resuming: bool = False
    at_least: bool = False


Preference = Literal[
    "safety", "proof", "losses", "attempts", "refusals", "permits", "simplicity", "objective"
]
"""Why a cell is preferred to one whose objective is equal within the margin. `safety`: the policies
had nothing to do, and its policy is safer. `proof`: the other lacks one of the proofs. `losses`: it
loses fewer workflows. `attempts`, `refusals`, `permits`: it has fewer. `simplicity`: its policy is
simpler. `objective`: none of these, and it was slightly better."""


class Rival(msgspec.Struct, frozen=True, kw_only=True):
    """Another cell that may meet the SLO, beside the candidate.

    `ratio`: its objective over the candidate's, paired by repeat. `place`: `equal` if that is
    within the margin, else `behind` the candidate or `ahead` of it. `preferred_by`: why the
    candidate was chosen and not this `equal` cell.
    """

    cell: str
    ratio: Ratio[Figure]
    place: Literal["equal", "behind", "ahead"]
    preferred_by: Preference | None = None


class Requirement(msgspec.Struct, frozen=True, kw_only=True):
    """What a cell has to keep: the SLO of the scenario.

    `success_rate`: None without one; a cell then has to keep as large a share as the best cell,
    within `success_margin`. `workflow_latency_s`: a success takes no longer, None for no limit.
    """

    success_rate: ShareUnit[float | None] = None
    success_margin: ShareUnit[float] = 0.05
    workflow_latency_s: RealSeconds[float | None] = None


class Recommendation(msgspec.Struct, frozen=True, kw_only=True):
    """Which cell to use, and what is proven.

    `state`: `proven` if `cell` is proven to meet the SLO and no other cell that may meet it is
    better by more than the margin; `leading` if one of these proofs is missing for the `candidate`;
    `open` if both are, or if there is no candidate. `lead_over_next`: the objective of the closest
    other cell over the candidate's, paired by repeat. `rivals`: the other cells that may meet the
    SLO, the nearest first. `retry_exercised`: whether an attempt failed, or was repeated, with the
    candidate's settings under any retry policy. `code`: Python lines that give a program
    the candidate's settings.
    """

    state: Literal["proven", "leading", "open"]
    cell: str | None = None
    candidate: str | None = None
    objective: str
    because: tuple[str, ...]
    lead_over_next: Ratio[Figure | None] = None
    rivals: tuple[Rival, ...] = ()
    settles_with: SettlesWith | None = None
    retry_exercised: bool = False
    code: tuple[str, ...] = ()


class ColdTrialStart(msgspec.Struct, frozen=True, kw_only=True):
    """The first call of a trial.

    `ratio`: its time to first token over the median of the later calls of its phase.
    """

    cell: str
    repeat: Index[int]
    ratio: Ratio[float]


class ColdStart(msgspec.Struct, frozen=True, kw_only=True):
    """The calls before the trials, and the first calls of the trials.

    `warmup_calls`: how many attempts were made before trials, outside the statistics; `failed`: how
    many of them failed, by outcome. `warmup_tokens`: their input and output; `warmup_usd`: what
    they cost, None without a price. `ratio`: the median of the ratios in `starts`, one of each of
    the `trials`. `p`: one-sided, that first calls take no longer. None with too few trials. In
    virtual time nothing is cold, so no trial is tested.
    """

    warmup_calls: CountUnit[int]
    failed: CountUnit[dict[str, int]]
    trials: CountUnit[int]
    ratio: Ratio[float | None]
    p: Probability[float | None]
    warmup_tokens: TokenCount[int] = 0
    warmup_usd: UsdUnit[float | None] = None
    starts: tuple[ColdTrialStart, ...] = ()


class WorkflowFailure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why workflows were lost in `phase` although no attempt of a failed call failed.

    `outcome`: of the call that failed; None if every call succeeded, so that the workflow could not
    use an answer. `error`: the most frequent text among the `workflows`. `in_program`: the workflow
    is a program of the user, whose own reason it is.
    """

    phase: str
    outcome: str | None
    error: str
    workflows: CountUnit[int]
    in_program: bool = False


class PhaseReasoning(msgspec.Struct, frozen=True, kw_only=True):
    """The reasoning in the responses of one phase, over all cells; `responses`: how many ended.

    `share_of_tokens`: of the output tokens of successful responses that report their reasoning.
    `share_of_seconds`: of their time from the request to the end, from the first reasoning to the
    first answer text. `truncated`: how many responses ended by their length before any answer text.
    `sufficient_tokens`: the `max_tokens` that 99 % of the responses needed at most; None if more
    than 1 % were truncated, which need more than was seen.
    """

    phase: str
    responses: CountUnit[int]
    share_of_tokens: ShareUnit[float | None]
    share_of_seconds: ShareUnit[float | None]
    truncated: CountUnit[int]
    sufficient_tokens: TokenCount[int | None]


class TunedSetting(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A setting that a tune could choose, and what is known of it at the end.

    `against`: its objective in its `trials` over the candidate's, paired by block; None if they
    have no block in common. `measured`: its objective for the work of all blocks, in scenario
    seconds or USD: `against` times the candidate's, or else corrected by the work that a twin
    expects of its blocks (`TuneBlock.work`). `expected`: the same by the last forecast, corrected
    by what was measured. `success`: the success rate, expected in the same way. `ruled_out`: why it
    needs no more trials, with its `bound` (see `TuneRuledOut`; `dropped`: by its own trials, at a
    look). `since`: the block from which on that was so.
    """

    info: CellInfo
    trials: CountUnit[int] = 0
    measured: OfField[Figure | None] = None
    expected: OfField[Figure | None] = None
    success: ShareUnit[Figure | None] = None
    against: Ratio[Figure | None] = None
    ruled_out: Literal["slower", "slo", "same", "dropped"] | None = None
    bound: Ratio[float | None] = None
    since: Index[int | None] = None


class TuneStep(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A block of a tune. `cells`: the settings that it tried.

    `left`: how many settings were not ruled out when it was decided. `attempts`: that it took.
    `reason`: of the choice; `end`: why the tune ended instead, empty for a block of trials.
    """

    block: Index[int]
    cells: tuple[str, ...] = ()
    left: CountUnit[int]
    attempts: CountUnit[int] = 0
    reason: str = ""
    end: str = ""


class BlocksMean(msgspec.Struct, frozen=True, kw_only=True):
    """What the trials of a setting show in some `blocks` of a tune.

    `value`: the share of good workflows, or of requests that were answered with 429, `of` so many;
    or the geometric mean of the objective, in scenario seconds or USD.
    """

    blocks: Index[tuple[int, ...]]
    value: OfField[float]
    of: CountUnit[int]


class TuneChange(msgspec.Struct, frozen=True, kw_only=True):
    """How a provider changed while a tune ran: a setting that differs between blocks.

    `before` and `after` differ by far more than trials vary. The change is between them. `alike`:
    other settings that changed in the same direction.
    """

    cell: str
    quantity: Literal["success", "objective", "refusals"]
    before: BlocksMean
    after: BlocksMean
    alike: tuple[str, ...]


class TuneSummary(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a tune did, and what it cost.

    `settings`: all that it could choose. `steps`: its decisions in order. `attempts`: of the whole
    run. `grid_attempts`: about how many a run of all settings with `grid_repeats` repeats each
    would take: as the trials that were measured took, and as a twin expects the others to take.
    `changed`: how the provider changed meanwhile, None if nothing shows that it did.
    """

    settings: tuple[TunedSetting, ...]
    steps: tuple[TuneStep, ...]
    attempts: CountUnit[int]
    grid_repeats: CountUnit[int]
    grid_attempts: CountUnit[int]
    changed: TuneChange | None = None


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """summary.json. `virtual`: no figure depends on the speed of the machine.

    `question`: what the run answers. `hedged`: the retry policies that send second requests.
    `planned_workflows`: of the whole run; None where repeats are added until the recommendation is
    settled. `workflow_failures`: what failed attempts do not explain, by frequency.
    `endpoint_keys`: the keys that `[endpoint]` has, so that advice names no others. `stopped`: why
    the run is partial. `margin`: by how much a better objective does not matter, as a share.
    `marked_answers`: as in `Run`. `slo`: what the cells have to keep. `lacking`: the records that
    the run should have and has not, in sentences; nothing is proven then. `reasoning`: of each
    phase whose responses had some. `unverified_tls`: no certificate of an endpoint was checked.
    `server_said`: the most frequent message of refusals, by outcome. `answered_by`: the responses
    by the model that they name, for each requested model with several. `tune`: of a tune, what it
    did and what it cost. `clients`: the different values of `endpoint.client`. `runs_commands`: a
    workflow was a process of a command. `serves_requests`: a workflow was a request to a gateway.
    `unpriced`: the models that may cost money and have no price.
    """

    schema: SchemaVersion[int]
    run_id: str
    scenario: str
    status: RunStatus
    simulated: bool
    time_scale: TimeScale[float]
    cells: tuple[Cell, ...]
    verdict: Verdict
    oracle: Oracle | None
    recommendation: Recommendation
    virtual: bool = False
    marked_answers: MarkedAnswers = "none"
    cold_start: ColdStart | None = None
    question: Question = "permits"
    hedged: tuple[str, ...] = ()
    planned_workflows: CountUnit[int | None] = None
    workflow_failures: tuple[WorkflowFailure, ...] = ()
    endpoint_keys: tuple[str, ...] = ()
    own_retries: CountUnit[int] = 0
    stopped: Stop | None = None
    margin: ShareUnit[float] = 0.02
    slo: Requirement = Requirement()
    lacking: tuple[str, ...] = ()
    reasoning: tuple[PhaseReasoning, ...] = ()
    unverified_tls: bool = False
    server_said: dict[str, str] = {}
    answered_by: CountUnit[dict[str, dict[str, int]]] = {}
    tune: TuneSummary | None = None
    clients: tuple[str, ...] = ("openai",)
    runs_commands: bool = False
    serves_requests: bool = False
    unpriced: tuple[str, ...] = ()

    @property
    def has_simulator(self) -> bool:
        """Whether the run has a simulated provider of its own, whose settings are known."""
        return self.simulated and self.marked_answers == "none"
