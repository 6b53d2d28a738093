"""What the model's own server says of its load, once a second during a trial."""

from __future__ import annotations

import msgspec

from harness.records.units import CountUnit, Index, Nanoseconds, ShareUnit


class ServerSample(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One reading of the server's metrics: one line of server_metrics.jsonl.

    `time`: nanoseconds since the run's anchor, when it was asked for. `took`: nanoseconds until it
    was read. `running`: requests that the server processes, `waiting`: requests in its queue,
    `kv_cache`: the used share of its KV cache, 0 to 1; None if it does not say. `problem`: why
    there is no reading, in one line.
    """

    cell: str
    repeat: Index[int]
    execution: Index[int]
    time: Nanoseconds[int]
    took: Nanoseconds[int]
    running: CountUnit[float | None] = None
    waiting: CountUnit[float | None] = None
    kv_cache: ShareUnit[float | None] = None
    problem: str | None = None
