"""The records of a run. Everything that the harness shows is made from them.

Times are integers: nanoseconds since the run's anchor, None if the moment was not reached. An
attempt is one HTTP request. A call is one question to the model, with all its attempts. A workflow
is one topic from the first call to the result. Each record is one JSON line, without the fields
that have their default (`omit_defaults`). Lines of schema 1 have all fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, final

import msgspec

from harness.records.clock import Anchor
from harness.records.histogram import Histogram
from harness.records.keys import CallRecord, WorkflowRecord
from harness.records.settings import with_settings
from harness.records.timer_lag import LateTimer
from harness.records.units import (
    CountUnit,
    ExitStatus,
    HttpStatus,
    Index,
    NanosecondBuckets,
    Nanoseconds,
    NanoUsd,
    Ordinal,
    Rank,
    SchemaVersion,
    Seed,
    TimeScale,
    TokenCount,
)

SCHEMA = 2
"""The schema of the record files that this version writes, and the highest that it reads."""

WorkflowOutcome = Literal["ok", "degraded", "failed", "cancelled"]
RunStatus = Literal["running", "complete", "partial"]
RecordsKept = Literal["full", "summary"]
"""What a run keeps of its records: all, or only what its statistics need."""
MarkedAnswers = Literal["none", "some", "all"]
"""How many answers of an endpoint that was taken for a real one have the mark of the simulator."""
WaitSource = Literal["policy", "retry_after", "rate_limit_reset", "breaker"]
"""What determined a wait of a call: its retry policy, the server with Retry-After or with the reset
of a limit, or an open circuit breaker."""


class Tokens(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Token counts as the provider reported them; None if it did not.

    `cached` is the part of `input` read from a prompt cache, `reasoning` the part of `output`.
    """

    input: TokenCount[int | None] = None
    cached: TokenCount[int | None] = None
    output: TokenCount[int | None] = None
    reasoning: TokenCount[int | None] = None

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(
            input=_add(self.input, other.input),
            cached=_add(self.cached, other.cached),
            output=_add(self.output, other.output),
            reasoning=_add(self.reasoning, other.reasoning),
        )


NO_TOKENS = Tokens()
"""No token count was reported. As a default it is left out of a line only if it is this object."""


def _add(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else one + other


class Decision(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The decision of the policy about a failure: either when to try again, or why not.

    `retry_in`: nanoseconds until the next attempt; `source`: what determined them. `give_up`: the
    reason why the call fails. Make one with `retry_in()` or `give_up()`.
    """

    retry_in: Nanoseconds[int | None] = None
    source: WaitSource | None = None
    give_up: str | None = None


def retry_in(wait: int, source: WaitSource) -> Decision:
    """Return the decision to try again after `wait` nanoseconds."""
    return Decision(retry_in=wait, source=source)


def give_up(reason: str) -> Decision:
    """Return the decision to let the call fail."""
    return Decision(give_up=reason)


@final
class Attempt(CallRecord, frozen=True, omit_defaults=True):
    """One HTTP request: one line of attempts.jsonl.

    `ready`: when the call could have sent it (call ready, or end of backoff). `permit_requested`,
    `permit_granted`: equal to `ready` if the call already holds a permit. A wait for room in the
    budget ends at `permit_granted`, so it is part of the permit wait. `sent`: when the
    request's bytes were sent. `headers`: when the status line and headers were read.
    `first_reasoning`, `first_answer`: the first chunk with such text; a part of a tool call is text
    of the answer. `last_token`: the last chunk with either. `done`: when the body was closed or the
    failure was known. `retry_after`: in
    nanoseconds, as received. `gaps`: histogram of the nanoseconds between arrivals of text chunks.
    `decision`: of the policy, after a failure. `response_id`, `response_model`: as in the body, or
    None. `hedge`: it was sent while the previous attempt was waiting for its first token.
    `marked_simulated`: the response has the header with which the simulated provider marks its
    responses (`SIMULATED_HEADER`); always false in virtual time, which has no responses.
    `first_chunk`: the first chunk of a stream, which often has no text. None for a response that
    was not streamed, and in records of earlier versions.
    `anomalies`: what of the response deviates from the protocol; see docs/endpoints.md.
    `error_body`: the beginning of the body of a refusal. `location`: the header of a redirect.
    `rate_limit_reset`: nanoseconds until a limit is reset, where a refusal says that in other
    headers than Retry-After.
    """

    attempt: Ordinal[int]
    ready: Nanoseconds[int]
    permit_requested: Nanoseconds[int]
    permit_granted: Nanoseconds[int]
    done: Nanoseconds[int]
    outcome: str
    sent: Nanoseconds[int | None] = None
    headers: Nanoseconds[int | None] = None
    first_reasoning: Nanoseconds[int | None] = None
    first_answer: Nanoseconds[int | None] = None
    last_token: Nanoseconds[int | None] = None
    status: HttpStatus[int | None] = None
    retry_after: Nanoseconds[int | None] = None
    request_id: str | None = None
    finish_reason: str | None = None
    tokens: Tokens = NO_TOKENS
    chunks: CountUnit[int] = 0
    gaps: NanosecondBuckets[Mapping[int, int]] = msgspec.field(default_factory=dict)
    decision: Decision | None = None
    response_id: str | None = None
    response_model: str | None = None
    hedge: bool = False
    marked_simulated: bool = False
    anomalies: tuple[str, ...] = ()
    first_chunk: Nanoseconds[int | None] = None
    error_body: str | None = None
    location: str | None = None
    rate_limit_reset: Nanoseconds[int | None] = None

    @property
    def first_text(self) -> int | None:
        """When the first chunk with reasoning or answer text arrived."""
        reasoning, answer = self.first_reasoning, self.first_answer
        if reasoning is None or answer is None:
            return answer if reasoning is None else reasoning
        return min(reasoning, answer)

    @property
    def permit_wait(self) -> int:
        """Nanoseconds spent waiting for a permit."""
        return self.permit_granted - self.permit_requested

    @property
    def client_wait(self) -> int | None:
        """Nanoseconds between the permit and sending the request."""
        return None if self.sent is None else self.sent - self.permit_granted

    @property
    def time_to_first_chunk(self) -> int | None:
        """Nanoseconds from sending the request to the first chunk of a stream, text or not."""
        first = self.first_chunk
        return None if self.sent is None or first is None else first - self.sent

    @property
    def ttft(self) -> int | None:
        """Time to first token: nanoseconds from sending the request to the first text."""
        first = self.first_text
        return None if self.sent is None or first is None else first - self.sent


class Backoff(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One wait before an attempt: `planned` nanoseconds, from `start` to `end`.

    If a breaker parked the call (source `breaker`), `planned` is the time until the next probe, and
    0 while a probe is in flight.
    """

    start: Nanoseconds[int]
    end: Nanoseconds[int]
    planned: Nanoseconds[int]
    source: WaitSource


@final
class Call(CallRecord, frozen=True, omit_defaults=True):
    """One question to the model with all its attempts: one line of calls.jsonl.

    `tokens`: of the successful attempt. `wasted_tokens`: of all other attempts. `traceparent`: the
    trace context that the program has sent with its request (W3C Trace Context), None without one.
    """

    ready: Nanoseconds[int]
    done: Nanoseconds[int]
    outcome: str
    attempts: CountUnit[int]
    backoffs: tuple[Backoff, ...] = ()
    tokens: Tokens | None = None
    wasted_tokens: Tokens | None = None
    traceparent: str | None = None


class Phase(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One occurrence of a phase; a fan-out with some failed branches is degraded.

    A name may occur several times in a workflow. `parent`, `branch`: a nested phase ran in this
    branch of the phase at this index of `Workflow.phases`; None for a phase that is not nested.
    A call belongs to the occurrence of its phase whose time holds the call's `ready`.
    """

    name: str
    start: Nanoseconds[int]
    end: Nanoseconds[int]
    outcome: WorkflowOutcome
    parent: Index[int | None] = None
    branch: Index[int | None] = None


class Branches(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The number of branches of a workflow, and of those that succeeded."""

    total: CountUnit[int]
    ok: CountUnit[int]


@final
class Workflow(WorkflowRecord, frozen=True, kw_only=True, omit_defaults=True):
    """One topic from the first call to the result: one line of workflows.jsonl.

    `ready`: when its slot was free, or when it was due in an open loop. `started`: when its program
    began. `own_code`: how long the code of a user's program ran between its calls, summed over its
    branches. `own_retries`: the calls that are retries of the program's own client. `ok`: the
    program's judgement of its result, None without one; true for one that has had enough of the
    branches of a gather. `exit_code`: of the process of a command; negative for the signal that
    ended it, None without a process. `stderr`: the last lines that it has written there.
    """

    topic: str
    ready: Nanoseconds[int]
    started: Nanoseconds[int]
    done: Nanoseconds[int]
    outcome: WorkflowOutcome
    phases: tuple[Phase, ...] = ()
    branches: Branches
    error: str | None = None
    own_code: Nanoseconds[int] = 0
    own_retries: CountUnit[int] = 0
    ok: bool | None = None
    exit_code: ExitStatus[int | None] = None
    stderr: str | None = None


class Said(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One message of a prompt; `reasoning`: that of an earlier answer, in a field of its own."""

    role: str
    content: str
    reasoning: str = ""


@final
class Transcript(CallRecord, frozen=True, kw_only=True, omit_defaults=True):
    """The texts of one call: one line of transcripts.jsonl, if the scenario keeps transcripts.

    `messages`: the prompt. `reasoning`, `answer`: the texts of the last attempt, incomplete if that
    attempt failed.
    """

    outcome: str
    messages: tuple[Said, ...]
    reasoning: str
    answer: str


Record = Attempt | Call | Workflow | Transcript


class LimitChange(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The most permits in use from a time on, as a limit that adapts has set it.

    `at`: since the anchor of the run. `limit`: from then on.
    """

    at: Nanoseconds[int]
    limit: CountUnit[int]


class Trial(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One (cell, repeat): one line of trials.jsonl, written at the end of the trial.

    `start`, `end`: first workflow ready, last workflow done. `cpu`: nanoseconds of processor time
    of the client's process. `loop_lag`: histogram of the nanoseconds by which timers ran late, of
    the event loop or of a thread, as read; see `records.timer_lag`. `late_timers`: those that were
    late by 1 ms or more; in sync, each first text, due when it arrived; None in runs of earlier
    versions. `recording`: the part of `cpu` for writing records, 0 if not measured. `limits`: of a
    cell whose permits adapt, the limit at the start and after each change; empty for a fixed
    number. `processes`: how many ran the trial together; `cpu` and `recording` are their sums.
    """

    cell: str
    repeat: Index[int]
    execution: Index[int]
    start: Nanoseconds[int]
    end: Nanoseconds[int]
    cpu: Nanoseconds[int] = 0
    loop_lag: NanosecondBuckets[Histogram] = {}
    late_timers: tuple[LateTimer, ...] | None = None
    interrupted: bool = False
    recording: Nanoseconds[int] = 0
    limits: tuple[LimitChange, ...] = ()
    processes: CountUnit[int] = 1


class PhaseInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a workflow kind declares of one phase.

    `setting`: the name under which a scenario has settings of the phase's calls. `operation`: the
    GenAI operation that the phase as a whole is, such as `plan`. `max_tokens`: of
    each call, None for no limit; in `Run.phases`, None also if it differs between cells, whose
    scenarios have it then. `json`: the calls ask for a JSON object. `branch_span`: the name of the
    spans of the phase's branches.
    """

    name: str
    setting: str
    max_tokens: TokenCount[int | None] = None
    json: bool = False
    branch_span: str = "branch"
    operation: str | None = None


class PolicyCode(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Python with which a program retries as a policy does.

    `policy`: its layers, outermost first, each as an expression; `imports`: further modules that
    they need. `plain`: code without the harness can do the same, as far as the package shows the
    failures; the next fields say how. `attempts`: of a call at most. `modules`: what the lines
    import. `before`: lines before the first attempt. `pause`: lines that set `pause`, the seconds
    before the next attempt, before attempt number `attempt`; none where the program does not retry
    by itself. `max_retries`: of the openai package's client. `limit`: an expression that makes the
    limit that adapts, empty for a fixed number of permits. `hedges`: the policy can send a second
    attempt while the first one runs. `safety` and `simplicity`: the ranks of the policy among
    others, less is better.
    """

    policy: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()
    plain: bool = False
    attempts: CountUnit[int] = 1
    modules: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    pause: tuple[str, ...] = ()
    max_retries: CountUnit[int] = 0
    limit: str = ""
    hedges: bool = False
    safety: Rank[tuple[int, ...]] = ()
    simplicity: Rank[tuple[int, ...]] = ()


class CellInfo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One combination of the swept settings.

    `permits`: the most attempts in flight; of a limit that adapts, its highest value. `limiter`:
    the name of that limit, empty for a fixed number. `settings`: the values of all other swept
    scenario keys, by dotted key.
    """

    id: str
    mode: str
    permits: CountUnit[int]
    retry: str
    permit_scope: str
    settings: dict[str, Any] = msgspec.field(default_factory=dict)
    limiter: str = ""


class Stop(msgspec.Struct, frozen=True, kw_only=True):
    """Why a run ended early: Ctrl-C, a budget, a first answer after which no call can succeed, or a
    process of the run that died.

    `because`: the reason in one line.
    """

    by: Literal["interrupt", "budget", "first_call", "lost_process"]
    because: str


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One resumed session. Its records have this `execution`.

    `anchor`: the run's zero on the monotonic clock of this session. `away`: nanoseconds between the
    last record of the previous session and this session.
    """

    execution: Index[int]
    anchor: Anchor
    away: Nanoseconds[int]


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """The amounts that the budget has allowed, reservations included: a line of spending.jsonl.

    Each line is written before its attempt is sent, so the last line covers the attempts that were
    in flight when a run was killed.
    """

    attempts: CountUnit[int]
    tokens: TokenCount[int]
    nano_usd: NanoUsd[int]


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """run.json: what was run, where, and its status.

    `scenario`: the resolved scenario. `profile`: of the simulated provider, None for a real
    endpoint. Durations in both are in scenario seconds. `order`: the cells of each repeat in the
    order in which they ran. With `sweep.repeats = "auto"`, `repeats` and `order` hold the most that
    there can be; the trials say what was run. `price`: of tokens (`config.prices.Price`), None if
    unknown.
    `stopped`: why a partial run is partial. `resumed`: its resumed sessions. `virtual`: time was
    virtual, and every trial began at 0. `phases`: declared by the workflow kind, in order. `code`:
    code that retries like each cell, by the cell's id. `endpoint`: names the endpoints. These three
    are empty in runs of earlier versions. `profiles`, `prices`: by cell id, of the cells in which a
    swept key changes them. `marked_answers`: of an endpoint that the harness does not simulate; if
    any answer is marked, `simulated` is true from then on. `tuned`: the trials were chosen while
    the run went on; tune.jsonl says how. Then `cells` are all settings that could be chosen.
    `twin`: the profile of the twin that a tune started from, None without one. `processes`: how
    many run each trial together, at most, as `--processes` says. `on_cluster`: they are workers of
    a Dask cluster, each with a fixed share of permits and budget and a policy of its own.
    """

    schema: SchemaVersion[int]
    run_id: str
    name: str
    status: RunStatus
    anchor: Anchor
    seed: Seed[int]
    simulated: bool
    time_scale: TimeScale[float]
    cells: tuple[CellInfo, ...]
    repeats: CountUnit[int]
    order: tuple[tuple[str, ...], ...]
    scenario: dict[str, Any]
    profile: dict[str, Any] | None
    versions: dict[str, str]
    host: dict[str, Any]
    price: dict[str, Any] | None = None
    stopped: Stop | None = None
    resumed: tuple[Session, ...] = ()
    virtual: bool = False
    phases: tuple[PhaseInfo, ...] = ()
    code: dict[str, PolicyCode] = {}
    endpoint: str = ""
    profiles: dict[str, dict[str, Any]] = {}
    prices: dict[str, dict[str, Any] | None] = {}
    marked_answers: MarkedAnswers = "none"
    tuned: bool = False
    twin: dict[str, Any] | None = None
    processes: CountUnit[int] = 1
    on_cluster: bool = False

    def cell_scenario(self, cell: CellInfo) -> dict[str, Any]:
        """Return the scenario of one cell: the run's, with the cell's values of the swept keys."""
        return with_settings(self.scenario, cell.settings)

    @property
    def has_simulator(self) -> bool:
        """Whether the run has a simulated provider of its own, whose settings are known."""
        return self.simulated and self.marked_answers == "none"

    @property
    def serves_requests(self) -> bool:
        """Whether the workflows are the requests that a gateway got, however many there were."""
        return bool(self.scenario["workflow"].get("kind") == "gateway")

    def is_open_loop(self, cell: CellInfo) -> bool:
        """Return whether the workflows of a cell start at given times, whatever else is running."""
        return self.cell_scenario(cell)["load"].get("arrivals") is not None

    def cell_profile(self, cell: str) -> dict[str, Any] | None:
        """Return what the simulated provider simulates in a cell."""
        return self.profiles.get(cell, self.profile)

    def cell_price(self, cell: str) -> dict[str, Any] | None:
        """Return what tokens cost in a cell, None where that is not known."""
        return self.prices.get(cell, self.price)

    @property
    def records_kept(self) -> RecordsKept:
        """What the run keeps of its records."""
        kept: RecordsKept = self.scenario.get("records", "full")
        return kept

    @property
    def execution(self) -> int:
        """The execution of this session: 0 in the first one."""
        return self.resumed[-1].execution if self.resumed else 0

    @property
    def away(self) -> int:
        """Nanoseconds between all sessions, in which nothing ran."""
        return sum(session.away for session in self.resumed)

    @property
    def zero(self) -> Anchor:
        """The run's anchor on the monotonic clock of this session."""
        return self.resumed[-1].anchor if self.resumed else self.anchor
