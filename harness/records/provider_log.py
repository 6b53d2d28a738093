"""The simulated provider's own log: the oracle that the client's records are held against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from harness.records.clock import Anchor
from harness.records.schema import Tokens


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """One request as the simulated provider saw it: one line of provider.jsonl.

    Times are nanoseconds since the provider's own anchor, the log's first line. `scheduled` is
    when the model said that a write was due, `written` when it was handed to the socket.
    `arrival` counts the requests with this prompt in this trial, from 1. `active`: how many
    requests were being served when it came, itself not counted. `gaps`: histogram of the
    nanoseconds between written text chunks. `status` is None where no answer was begun. `fault`:
    which injected fault struck it (`harness.config.faults`), None for none.
    """

    trace_id: str | None
    span_id: str | None
    cell: str | None
    repeat: int
    arrival: int
    streamed: bool
    arrived: int
    first_scheduled: int | None
    first_written: int | None
    first_answer_written: int | None
    last_scheduled: int | None
    last_written: int | None
    done: int
    outcome: str
    status: int | None
    active: int
    tokens: Tokens
    chunks: int
    gaps: Mapping[int, int]
    lateness: Mapping[int, int]
    fault: str | None = None


class ProviderHead(msgspec.Struct, frozen=True, kw_only=True):
    """The first line of provider.jsonl: the provider's own anchor and what it simulated."""

    anchor: Anchor
    profile: dict[str, Any]
    seed: int
    time_scale: float
