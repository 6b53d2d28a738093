"""The log of the simulated provider, with which the client's records are compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from harness.records.clock import Anchor
from harness.records.schema import Tokens
from harness.records.units import (
    CountUnit,
    HttpStatus,
    Index,
    NanosecondBuckets,
    Nanoseconds,
    Ordinal,
    Seed,
    TimeScale,
)

SIMULATED_HEADER = "x-harness-simulated"
"""The header with which the simulated provider marks its responses; its value is `true`."""


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """One request as the simulated provider saw it: one line of provider.jsonl.

    Times are nanoseconds since the provider's own anchor, which is in the first line of the log.
    `scheduled`: when the model planned a write. `written`: when it was passed to the socket.
    `arrival`: the number of requests with this prompt in this trial, from 1. `active`: other
    requests in service at its arrival. `gaps`: histogram of the nanoseconds between written text
    chunks. `status`: None if no answer was begun. `fault`: the injected fault
    (`harness.config.faults`), or None.
    """

    trace_id: str | None
    span_id: str | None
    cell: str | None
    repeat: Index[int]
    arrival: Ordinal[int]
    streamed: bool
    arrived: Nanoseconds[int]
    first_scheduled: Nanoseconds[int | None]
    first_written: Nanoseconds[int | None]
    first_answer_written: Nanoseconds[int | None]
    last_scheduled: Nanoseconds[int | None]
    last_written: Nanoseconds[int | None]
    done: Nanoseconds[int]
    outcome: str
    status: HttpStatus[int | None]
    active: CountUnit[int]
    tokens: Tokens
    chunks: CountUnit[int]
    gaps: NanosecondBuckets[Mapping[int, int]]
    lateness: NanosecondBuckets[Mapping[int, int]]
    fault: str | None = None


class ProviderHead(msgspec.Struct, frozen=True, kw_only=True):
    """The first line of provider.jsonl: the provider's anchor, profile, seed and time scale."""

    anchor: Anchor
    profile: dict[str, Any]
    seed: Seed[int]
    time_scale: TimeScale[float]
