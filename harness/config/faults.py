"""The faults of a simulated provider: the table of all faults, and their section in a file.

A fault has the name of the failure class that it causes (`harness.records.failures`) if no other
fault causes that class. If several faults cause it, or if it is a timeout of the client, the name
describes the behaviour of the provider.
"""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

from pydantic import Field, WithJsonSchema, field_validator, model_validator

from harness.config.tables import ConfigTable, Delay, Duration, SettingError, unknown

FaultPlace = Literal["connection", "instead", "silence", "text"]
"""Where a fault strikes: connections are prevented; another response replaces the completion; no
text ever comes; or the completion fails after a part of its text."""


class FaultKind(NamedTuple):
    """One fault.

    `outcome`: the failure class of the attempt. `does`: the behaviour of the provider. `status`: of
    a refusal, else None. `finish_reason`: the end of the text; None if it has no proper end.
    `streams_only`: strikes only streams. `holds`: stays in service until the client disconnects.
    """

    name: str
    outcome: str
    place: FaultPlace
    does: str
    status: int | None = None
    finish_reason: str | None = None
    streams_only: bool = False
    holds: bool = False


def _refusal(name: str, status: int) -> FaultKind:
    return FaultKind(name, name, "instead", f"answers {status} with an error object", status)


def _finish(reason: str, name: str) -> FaultKind:
    does = f"ends the text with finish_reason {reason}"
    return FaultKind(name, name, "text", does, finish_reason=reason)


_ROWS = [
    _refusal("bad_request", 400),
    _refusal("unauthorized", 401),
    _refusal("insufficient_balance", 402),
    _refusal("forbidden", 403),
    _refusal("not_found", 404),
    _refusal("request_timeout", 408),
    _refusal("conflict", 409),
    _refusal("unprocessable", 422),
    _refusal("rate_limited", 429),
    _refusal("server_error", 500),
    _refusal("bad_gateway", 502),
    _refusal("unavailable", 503),
    _refusal("gateway_timeout", 504),
    FaultKind("connect_failed", "connect_failed", "connection",
              "refuses connections and breaks off those there are"),
    FaultKind("connect_timeout", "connect_timeout", "connection",
              "lets nobody connect and breaks off the connections there are"),
    FaultKind("reset_before_head", "connection_lost", "instead",
              "resets the connection before any answer"),
    FaultKind("reset_in_body", "connection_lost", "text",
              "resets the connection in the middle of the body"),
    FaultKind("silent", "first_token_timeout", "silence", "says nothing at all", holds=True),
    FaultKind("keep_alive_only", "first_token_timeout", "silence",
              "sends keep-alives that never become text", holds=True),
    FaultKind("stall", "idle_timeout", "text",
              "falls silent in the middle of the reasoning, connection open",
              streams_only=True, holds=True),
    FaultKind("missing_done", "missing_done", "text",
              "ends the stream cleanly, without finish_reason and [DONE]", streams_only=True),
    FaultKind("malformed_stream", "malformed_stream", "text",
              "writes a line of plain text into the stream and ends it", streams_only=True),
    FaultKind("malformed_chunk", "malformed_stream", "text",
              "writes a chunk that is cut JSON into the stream", streams_only=True),
    FaultKind("error_in_stream", "error_in_stream", "text",
              "writes an error object into the stream", streams_only=True),
    FaultKind("error_in_body", "error_in_body", "instead", "answers 200 with an error object"),
    FaultKind("blank_body", "blank_body", "instead", "answers 200 with nothing in it"),
    FaultKind("not_json", "not_json", "instead", "answers 200 with a page of HTML"),
    FaultKind("malformed_json", "malformed_json", "instead", "answers 200 with JSON that is cut"),
    FaultKind("empty_choices", "empty_choices", "instead", "answers 200 without a choice"),
    FaultKind("empty_answer", "empty_answer", "text",
              "ends with finish_reason stop after the reasoning, without an answer",
              finish_reason="stop"),
    _finish("length", "truncated"),
    _finish("insufficient_system_resource", "insufficient_system_resource"),
    _finish("content_filter", "content_filter"),
]  # fmt: skip

KINDS: dict[str, FaultKind] = {row.name: row for row in _ROWS}
"""All faults by name."""


Stay = Annotated[Duration, Field(ge=0.001)]
"""A duration with a minimum, which limits the number of changes in a trial."""


class Burst(ConfigTable):
    """A two-state Markov chain in time.

    Both durations are exponentially distributed. The chain is stationary at the start of a trial.

    Example::

        [[endpoint.faults]]
        kind = "unavailable"
        burst = { on = "5s", off = "1m" }
    """

    on: Stay
    """How long the fault lasts, on average."""
    off: Stay
    """How long it is away, on average."""


class Outage(ConfigTable):
    """A time in which the fault strikes.

    Example::

        [[endpoint.faults]]
        kind = "unavailable"
        outage = { start = "5m", duration = "1m" }
    """

    start: Delay
    """When it begins, from a trial's first request on."""
    duration: Duration
    """How long it lasts."""
    every: Duration | None = None
    """After which time it comes again; once if absent."""

    @model_validator(mode="after")
    def _ends_before_the_next(self) -> Outage:
        if self.every is not None and self.every <= self.duration:
            raise SettingError(
                f"must be longer than duration = {self.duration:g} seconds, or the outage never "
                "ends",
                "every",
                value=self.every,
            )
        return self


class Fault(ConfigTable):
    """One fault, and when it strikes.

    Example::

        [[endpoint.faults]]
        kind = "rate_limited"
        probability = 0.1
        retry_after = "2s"
    """

    kind: Annotated[str, WithJsonSchema({"type": "string", "enum": list(KINDS)})]
    """What goes wrong; docs/provider.md lists the kinds."""
    probability: float | None = Field(default=None, gt=0, le=1)
    """Of each request, within `burst` or `outage` if there is one; 1 if these or `arrivals` are
    given alone.
    """
    burst: Burst | None = None
    """The fault comes and goes at random."""
    outage: Outage | None = None
    """The fault strikes at a given time."""
    arrivals: int | None = Field(default=None, ge=1)
    """Only the first requests with each prompt: how many."""
    phases: tuple[str, ...] | None = Field(default=None, min_length=1, strict=False)
    """The phases whose requests it can strike, by their settings; all requests if absent. A request
    without a phase is struck only then.
    """
    retry_after: Duration | None = None
    """The header of a refusal."""
    after: Delay = 0.0
    """The delay of a response that replaces a completion."""
    at: float | None = Field(default=None, gt=0, le=1)
    """The share of the tokens after which a text fails, 0.5 if absent; for `stall`, of the
    reasoning if there is any.
    """

    @property
    def row(self) -> FaultKind:
        """The fault in the table of all faults."""
        return KINDS[self.kind]

    @field_validator("kind")
    @classmethod
    def _kind_is_known(cls, kind: str) -> str:
        if kind not in KINDS:
            raise ValueError(unknown("fault", kind, KINDS))
        return kind

    @model_validator(mode="after")
    def _says_when(self) -> Fault:
        if self.burst is not None and self.outage is not None:
            raise SettingError(
                "cannot be combined with outage; write two [[faults]] tables", "burst"
            )
        timed = self.burst is not None or self.outage is not None
        if not timed and self.probability is None and self.arrivals is None:
            raise ValueError(
                "must say when; add probability = 0.1, or arrivals = 1, or a burst, or an outage"
            )
        if self.row.place == "connection":
            if not timed:
                raise SettingError(
                    "happens before there is a request; add a burst or an outage",
                    "kind",
                    value=self.kind,
                )
            for key in ("probability", "arrivals", "phases"):
                if getattr(self, key) is not None:
                    raise SettingError(
                        f"has no effect on {self.kind}, which happens before there is a request; "
                        "remove it",
                        key,
                    )
        return self

    @model_validator(mode="after")
    def _keys_mean_something(self) -> Fault:
        row, text = self.row, self.row.place == "text" and self.kind != "empty_answer"
        said_of = {
            "retry_after": (self.retry_after, row.status is not None, "refusals with a status"),
            "after": (self.after, row.place == "instead", "what comes instead of a completion"),
            "at": (self.at, text, "faults in the middle of a text"),
        }
        for key, (value, fits, what) in said_of.items():
            if value and not fits:
                raise SettingError(
                    f"applies only to {what}, and {self.kind} is not one; remove it", key
                )
        return self
