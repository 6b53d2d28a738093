"""Whether the first calls of trials are slow because the server or the connection was cold."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from harness.analysis.cells import MeasuredCell, count_words, reported
from harness.analysis.model import ColdStart, ColdTrialStart
from harness.analysis.selection import CellRecords
from harness.records.failures import is_failure
from harness.records.keys import WARM_UP
from harness.store.compact_records import ABSENT

FEWEST_TRIALS = 5
"""With fewer trials than this, first calls are not tested."""


class FirstCall(NamedTuple):
    """The time to first token of the first call of a trial, compared with later calls.

    `ratio`: over their median. `rank`: the share of them that were faster, ties counted by half.
    `later`: how many they are.
    """

    ratio: float
    rank: float
    later: int
    repeat: int = 0


def cold_start(cells: Sequence[CellRecords]) -> ColdStart:
    """Return what is known of the calls before trials, and of the first calls of trials.

    In virtual time nothing is cold, so first calls are not tested.
    """
    made, tokens, failed = 0, 0, Counter[str]()
    costs: list[float | None] = []
    for cell in cells:
        warm_up = cell.spent.take(cell.spent.where("phase", WARM_UP.__eq__))
        if not len(warm_up):
            continue
        made += len(warm_up)
        failed.update(count_words(warm_up, "outcome"))
        tokens += sum(int(reported(warm_up, name).sum()) for name in ("input", "output"))
        costs.append(MeasuredCell(cell).rules.cost(warm_up))
    known = [cost for cost in costs if cost is not None]
    real = [cell for cell in cells if not cell.run.virtual]
    found = [(cell.info.id, one) for cell in real for one in first_calls(cell)]
    first = [one for _, one in found]
    tested = len(first) >= FEWEST_TRIALS
    return ColdStart(
        warmup_calls=made,
        failed={name: count for name, count in sorted(failed.items()) if is_failure(name)},
        trials=len(first),
        ratio=float(np.median([one.ratio for one in first])) if tested else None,
        p=p_of_ranks(first) if tested else None,
        warmup_tokens=tokens,
        warmup_usd=math.fsum(known) if known and len(known) == len(costs) else None,
        starts=tuple(
            ColdTrialStart(cell=cell, repeat=o.repeat, ratio=o.ratio) for cell, o in found
        ),
    )


def first_calls(cell: CellRecords) -> Iterator[FirstCall]:
    """Yield the first call of each trial, compared with the later ones of the same phase."""
    attempts = cell.attempts
    sent, repeats = attempts.column("sent"), attempts.column("repeat")
    phases, first_text = attempts.column("phase"), attempts.column("first_text")
    known = (sent != ABSENT) & (first_text != ABSENT)
    for repeat in cell.trials:
        rows = np.flatnonzero(known & (repeats == repeat))
        if not len(rows):
            continue
        first = rows[np.argmin(sent[rows])]
        alike = rows[(phases[rows] == phases[first]) & (rows != first)]
        times = (first_text - sent)[alike]
        if not len(alike) or np.median(times) <= 0:
            continue
        mine = int(first_text[first] - sent[first])
        faster = float((times < mine).mean() + (times == mine).mean() / 2)
        yield FirstCall(mine / float(np.median(times)), faster, len(alike), repeat)


def p_of_ranks(first: Sequence[FirstCall]) -> float:
    """Return the one-sided p that first calls take no longer than later ones.

    Wilcoxon's rank test stratified by trial (van Elteren, On the Combination of Independent Two
    Sample Tests of Wilcoxon, Bulletin of the International Statistical Institute 37, 1960), here
    with a single value in the first sample: its rank is uniform.
    """
    variance = sum((one.later + 2) / (12 * one.later) for one in first)
    distance = sum(one.rank - 0.5 for one in first)
    return float(special.ndtr(-distance / math.sqrt(variance)))
