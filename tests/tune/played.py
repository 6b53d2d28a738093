"""The records of a tune that never happened: synthetic trials, and the decisions before them."""

from __future__ import annotations

from typing import Literal

from msgspec.structs import replace

from harness.analysis.selection import Dataset
from harness.records.tune_blocks import TuneBlock, TuneOutlook, TuneRuledOut
from harness.store.run_directory import Records
from tests.analysis.played import Shape, make_records

TRIED = tuple(f"async_{permits}_full-jitter_attempt" for permits in (2, 4, 8))
UNTRIED = ("async_2_none_attempt", "async_8_none_attempt", "async_16_none_attempt")
BEST = TRIED[1]
BLOCKS = (TRIED, (BEST, TRIED[2]), (BEST,))
"""The settings that each block tries."""


def outlook(cell: str, value: float, success: float = 1.0) -> TuneOutlook:
    return TuneOutlook(
        cell=cell, value=value, low=0.9 * value, high=1.1 * value, success=success,
        success_low=0.9 * success, success_high=success,
    )  # fmt: skip


def out(cell: str, because: Literal["slower", "slo", "same"], bound: float = 1.0) -> TuneRuledOut:
    return TuneRuledOut(cell=cell, because=because, bound=bound)


def decisions(records: Records) -> tuple[TuneBlock, ...]:
    """Return the decisions whose blocks the records have."""
    every = (*TRIED, *UNTRIED)
    early = (out(TRIED[0], "slower", 2.5), out(UNTRIED[2], "slo", 0.2), out(UNTRIED[0], "same"))
    first = tuple(outlook(name, 10.0 * (at + 1)) for at, name in enumerate(every))
    last = (outlook(BEST, 40.0), outlook(TRIED[2], 44.0), outlook(UNTRIED[1], 42.0))
    before = [sum(one.repeat < block for one in records.attempts) for block in range(4)]
    begin = TuneBlock(
        block=0, cells=BLOCKS[0], leading="", regret=1.0, open=every, ruled_out=(), outlooks=(),
        attempts=0, reason="few, more and the most permits",
    )  # fmt: skip
    second = TuneBlock(
        block=1, cells=BLOCKS[1], leading=BEST, regret=0.0, open=(TRIED[2], UNTRIED[1]),
        ruled_out=early, outlooks=first, attempts=before[1], reason="it leads",
    )  # fmt: skip
    third = TuneBlock(
        block=2, cells=BLOCKS[2], leading=BEST, regret=0.0, open=(UNTRIED[1],),
        ruled_out=(*early, out(TRIED[2], "slower", 1.01)), outlooks=last, attempts=before[2],
        reason="it leads",
    )  # fmt: skip
    end = replace(
        third, block=3, cells=(), ruled_out=(*early, out(TRIED[2], "slower", 1.02)),
        attempts=before[3], reason="", end="at the end of the test",
    )  # fmt: skip
    return begin, second, third, end


def tune_records(*, failure_rate: float = 0.0) -> Dataset:
    """Return the records of a tune: six settings, of which three were tried in three blocks."""
    shape = Shape(failure_rate=failure_rate)
    whole = make_records((*TRIED, *UNTRIED), len(BLOCKS), workflows=4, shape=shape)

    def ran(one: object) -> bool:
        return one.cell in BLOCKS[one.repeat]  # type: ignore[attr-defined]

    kept = whole._replace(
        run=replace(whole.run, tuned=True),
        attempts=list(filter(ran, whole.attempts)),
        calls=list(filter(ran, whole.calls)),
        workflows=list(filter(ran, whole.workflows)),
        trials=list(filter(ran, whole.trials)),
        provider=None,
    )
    return Dataset.of(kept._replace(tune=decisions(kept)))
