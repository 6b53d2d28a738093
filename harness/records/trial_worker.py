"""The machines that ran a trial together, and how their clocks differ."""

from __future__ import annotations

import msgspec

from harness.records.units import CountUnit, Index, Nanoseconds


class TrialWorker(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A worker of a Dask cluster with a share of a trial: one line of workers.jsonl.

    `rank`: its share, from 0, of `of`. `worker`: its address in the cluster. `host`: the name of
    its machine. `clock_offset`: nanoseconds by which its clock is ahead of the run's, measured
    before the trial; the times of its records are corrected by it. `clock_uncertainty`: the most by
    which that can be wrong: half of the shortest of `round_trips`.
    """

    cell: str
    repeat: Index[int]
    execution: Index[int]
    rank: Index[int]
    of: CountUnit[int]
    worker: str
    host: str
    clock_offset: Nanoseconds[int]
    clock_uncertainty: Nanoseconds[int]
    round_trips: CountUnit[int]
