"""The records of the decisions of a tune: one line of tune.jsonl before each block of trials."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from harness.records.units import CountUnit, Index, OfField, Ratio, RealSeconds, ShareUnit

TRIALS_A_BLOCK = 4
"""The most settings of a block: the leading one, and those that may be better."""


class TuneOutlook(msgspec.Struct, frozen=True, kw_only=True):
    """What is expected of a setting, with 95 % intervals.

    `value`: of the objective, for the work of the run so far. It comes from a twin of the provider
    and from what was measured. `attempts`: of one trial at the twin; 0 without a twin.
    """

    cell: str
    value: OfField[float]
    low: OfField[float]
    high: OfField[float]
    success: ShareUnit[float]
    success_low: ShareUnit[float]
    success_high: ShareUnit[float]
    attempts: CountUnit[float] = 0.0


class TuneRuledOut(msgspec.Struct, frozen=True, kw_only=True):
    """A setting that needs no more trials, and why.

    `slower`: the lower bound of its objective is `bound` times that of the leading setting, so it
    is not better by more than the margin. `slo`: at most `bound` of its workflows succeed. `same`:
    no attempt failed with its other settings, so its policy makes no difference (`bound` is 1).
    """

    cell: str
    because: Literal["slower", "slo", "same"]
    bound: Ratio[float]


class TuneBlock(msgspec.Struct, frozen=True, kw_only=True):
    """One decision of a tune: the trials of the next block, or why there are none.

    `block`: the repeat. `cells`: its settings in their order; none at the end. `leading`: the
    setting that was expected to be the best then, empty at the beginning. `regret`: by how much
    another setting was expected to be better. `open`: the settings that may still be better by more
    than the margin. `attempts`: that the run had so far. `reason`: of the choice. `end`: why the
    tune ended, empty while it goes on. `rest_s`: left before each trial, so that a limit a minute
    recovers. `work`: of each block before it, over their mean, as the twin expects it: by that
    factor a setting takes longer there. Empty without a twin. `over_budget`: the tune ended because
    the next trial does not fit into the budget; a session with a larger budget decides anew.
    """

    block: Index[int]
    cells: tuple[str, ...]
    leading: str
    regret: ShareUnit[float]
    open: tuple[str, ...]
    ruled_out: tuple[TuneRuledOut, ...]
    outlooks: tuple[TuneOutlook, ...]
    attempts: CountUnit[int]
    reason: str
    end: str = ""
    rest_s: RealSeconds[float] = 0.0
    work: Ratio[tuple[float, ...]] = ()
    over_budget: bool = False


def valid_decisions(blocks: Iterable[TuneBlock]) -> tuple[TuneBlock, ...]:
    """Return the decisions without each end after which the tune went on with a larger budget."""
    valid: list[TuneBlock] = []
    for block in blocks:
        if valid and valid[-1].over_budget:
            valid.pop()
        valid.append(block)
    return tuple(valid)
