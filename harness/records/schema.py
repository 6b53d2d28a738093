"""The facts of a run. Everything else the harness shows is made from these.

Times are integers: nanoseconds since the run's anchor, None when that moment was not reached.
One attempt is one HTTP request; one call is one question to the model, with all its attempts;
one workflow is one topic, decomposed, researched and synthesized. Each is one JSON line.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from harness.records.clock import Anchor
from harness.records.histogram import Histogram
from harness.records.keys import CallKey

SCHEMA = 1

WorkflowOutcome = Literal["ok", "degraded", "failed", "cancelled"]
RunStatus = Literal["running", "complete", "partial"]
WaitSource = Literal["policy", "retry_after", "breaker"]
"""Who chose how long a call waits: its retry policy, the server, or an open circuit breaker."""
PHASES = ("decompose", "fan_out", "synthesize")


class Tokens(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False, gc=False):
    """Token counts as the provider reported them; None where it did not.

    `cached` is the part of `input` read from a prompt cache, `reasoning` the part of `output`.
    """

    input: int | None = None
    cached: int | None = None
    output: int | None = None
    reasoning: int | None = None

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(
            input=_add(self.input, other.input),
            cached=_add(self.cached, other.cached),
            output=_add(self.output, other.output),
            reasoning=_add(self.reasoning, other.reasoning),
        )


def _add(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else one + other


class Decision(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What the policy said to a failure: either when to try again or why not.

    `retry_in`: nanoseconds until the next attempt, `source` who chose them. `give_up`: the reason
    to let the call fail. Make one with `retry_in` or `give_up`; a line holds only what is said.
    """

    retry_in: int | None = None
    source: WaitSource | None = None
    give_up: str | None = None


def retry_in(wait: int, source: WaitSource) -> Decision:
    """Return the decision to try again after `wait` nanoseconds."""
    return Decision(retry_in=wait, source=source)


def give_up(reason: str) -> Decision:
    """Return the decision to let the call fail."""
    return Decision(give_up=reason)


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One HTTP request: one line of attempts.jsonl.

    `ready`: the call could have sent it (call ready, or end of backoff). `permit_requested`,
    `permit_granted`: equal to `ready` when the call holds a permit already. `sent`: the request's
    bytes go out. `headers`: status line and headers read. `first_reasoning`, `first_answer`: first
    chunk with such text; `last_token`: last with either. `done`: body closed or failure known.
    `retry_after` in nanoseconds, as received. `gaps`: histogram of the nanoseconds between the
    arrivals of text chunks. `decision`: what the policy said to a failure. `response_id`,
    `response_model`: what the body calls itself and the model that it names, None without.
    `hedge`: it was sent while the attempt before it still waited for its first token.
    """

    cell: str
    repeat: int
    workflow: int
    execution: int
    phase: str
    branch: int | None
    call: int
    attempt: int
    ready: int
    permit_requested: int
    permit_granted: int
    sent: int | None
    headers: int | None
    first_reasoning: int | None
    first_answer: int | None
    last_token: int | None
    done: int
    outcome: str
    status: int | None
    retry_after: int | None
    request_id: str | None
    finish_reason: str | None
    tokens: Tokens
    chunks: int
    gaps: Mapping[int, int]
    decision: Decision | None
    response_id: str | None = None
    response_model: str | None = None
    hedge: bool = False

    @property
    def call_key(self) -> CallKey:
        """The call that this attempt belongs to."""
        return CallKey(
            self.cell, self.repeat, self.workflow, self.execution,
            self.phase, self.branch, self.call,
        )  # fmt: skip

    @property
    def first_text(self) -> int | None:
        """The first chunk with reasoning or answer text."""
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
        """Nanoseconds between the permit and the request's bytes going out."""
        return None if self.sent is None else self.sent - self.permit_granted

    @property
    def ttft(self) -> int | None:
        """Time to first token: nanoseconds from the request going out to the first text."""
        first = self.first_text
        return None if self.sent is None or first is None else first - self.sent

    @property
    def service_time(self) -> int | None:
        """Nanoseconds from the request going out to the end of the response."""
        return None if self.sent is None else self.done - self.sent


class Backoff(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One wait before an attempt: `planned` nanoseconds, waited from `start` to `end`.

    Of a call that a breaker parked (source `breaker`), `planned` is what was left until its next
    probe, 0 while one was on its way.
    """

    start: int
    end: int
    planned: int
    source: WaitSource


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One question to the model with all its attempts: one line of calls.jsonl.

    `tokens` are those of the successful attempt, `wasted_tokens` those of all others.
    """

    cell: str
    repeat: int
    workflow: int
    execution: int
    phase: str
    branch: int | None
    call: int
    ready: int
    done: int
    outcome: str
    attempts: int
    backoffs: tuple[Backoff, ...]
    tokens: Tokens | None
    wasted_tokens: Tokens | None

    @property
    def call_key(self) -> CallKey:
        """The logical key of this call."""
        return CallKey(
            self.cell, self.repeat, self.workflow, self.execution,
            self.phase, self.branch, self.call,
        )  # fmt: skip


class Phase(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One occurrence of a phase; a fan-out with some failed branches is degraded.

    A name may occur several times in a workflow. `parent`, `branch`: a nested phase ran in this
    branch of the phase at this index of `Workflow.phases`; None for a phase that is not nested.
    A call belongs to the occurrence of its phase whose time holds the call's `ready`.
    """

    name: str
    start: int
    end: int
    outcome: WorkflowOutcome
    parent: int | None = None
    branch: int | None = None


class Branches(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How many branches the fan-out had and how many of them succeeded."""

    total: int
    ok: int


class Workflow(msgspec.Struct, frozen=True, kw_only=True):
    """One topic from question to report: one line of workflows.jsonl.

    `ready`: when its in-flight slot was free. `started`: when its program began.
    """

    cell: str
    repeat: int
    workflow: int
    execution: int
    topic: str
    ready: int
    started: int
    done: int
    outcome: WorkflowOutcome
    phases: tuple[Phase, ...]
    branches: Branches
    error: str | None


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """One message that went to the model."""

    role: str
    content: str


class Transcript(msgspec.Struct, frozen=True, kw_only=True):
    """What one call asked and was told: one line of transcripts.jsonl, when the scenario asks.

    `messages` is the prompt. `reasoning` and `answer` are the two texts of the call's last
    attempt, always apart, and cut off where that attempt failed.
    """

    cell: str
    repeat: int
    workflow: int
    execution: int
    phase: str
    branch: int | None
    call: int
    outcome: str
    messages: tuple[Said, ...]
    reasoning: str
    answer: str


Record = Attempt | Call | Workflow | Transcript


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One (cell, repeat): one line of trials.jsonl, written when the trial has ended.

    `start`, `end`: first workflow ready, last workflow done. `cpu`: nanoseconds of processor time
    this process used meanwhile. `loop_lag`: histogram of how many nanoseconds late the event loop
    ran a timer (empty where there is no loop). `recording`: nanoseconds of processor time that
    writing the records down took of that, 0 where it was not measured.
    """

    cell: str
    repeat: int
    execution: int
    start: int
    end: int
    cpu: int
    loop_lag: Histogram
    interrupted: bool = False
    recording: int = 0


class PhaseInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a workflow kind declares of one phase.

    `setting`: the name under which a scenario has settings of the phase's calls. `max_tokens`: of
    each call, None for no limit. `json`: the calls ask for a JSON object.
    """

    name: str
    setting: str
    max_tokens: int | None = None
    json: bool = False


class PolicyCode(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Lines of Python with which a program retries as a policy does.

    `attempts`: of a call at most. `modules`: what the lines import. `before`: lines before the
    first attempt. `pause`: lines that set `pause`, the seconds before the next attempt, before
    attempt number `attempt`; none where the program does not retry by itself. `hint`: lines that
    change it after the failure `error`, whose Retry-After header is `asked`. `max_retries`: of the
    openai package's client. `notes`: what the policy does and the lines do not.
    """

    attempts: int = 1
    modules: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    pause: tuple[str, ...] = ()
    hint: tuple[str, ...] = ("pause = float(asked if asked.isdigit() else 0) or pause",)
    max_retries: int = 0
    notes: tuple[str, ...] = ()


class CellInfo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One combination of the swept settings.

    `settings`: the values of all other swept scenario keys, by dotted key.
    """

    id: str
    mode: str
    permits: int
    retry: str
    permit_scope: str
    settings: dict[str, Any] = msgspec.field(default_factory=dict)


class Stop(msgspec.Struct, frozen=True, kw_only=True):
    """What ended a run early: Ctrl-C, a budget, or a hopeless answer to its first call.

    `because` says in one line how it came.
    """

    by: Literal["interrupt", "budget", "first_call"]
    because: str


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One time that a run was gone on with; what it did is of this `execution`.

    `anchor`: the run's own zero on the monotonic clock of this session. `away`: nanoseconds since
    the last record, in which nothing ran.
    """

    execution: int
    anchor: Anchor
    away: int


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """All that the budget had let go out so far, worst cases included: one line of spending.jsonl.

    A line is written before its attempt goes out, so the last one covers whatever was in flight
    when the run was killed.
    """

    attempts: int
    tokens: int
    nano_usd: int


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """run.json: what was run, where, and how far it came.

    `scenario` is the resolved scenario, `profile` the simulated provider's, None against a live
    endpoint. `order`: the cells of each repeat in the order they ran. Durations in both are in
    scenario seconds. `price`: what tokens cost in this run (`bench.prices.Price`), None where that
    is not known. `stopped`: why a partial run is partial. `resumed`: each time it was gone on with.
    `virtual`: its time was virtual, and every trial began at 0 of its own. `phases`: what the
    workflow kind declares, in order; empty in runs of earlier versions. `code`: code that retries
    like each cell, by the cell's id; empty in runs of earlier versions.
    """

    schema: int
    run_id: str
    name: str
    status: RunStatus
    anchor: Anchor
    seed: int
    simulated: bool
    time_scale: float
    cells: tuple[CellInfo, ...]
    repeats: int
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

    @property
    def execution(self) -> int:
        """What is done in this session is of this execution: 0 in the first."""
        return self.resumed[-1].execution if self.resumed else 0

    @property
    def away(self) -> int:
        """Nanoseconds between sessions, in which nothing ran."""
        return sum(session.away for session in self.resumed)

    @property
    def zero(self) -> Anchor:
        """The run's anchor on the monotonic clock of this session."""
        return self.resumed[-1].anchor if self.resumed else self.anchor
