"""Whether the provider changed while a tune ran: blocks of trials that contradict each other.

The trials before and after each block are compared, of each setting and of all settings together:
in the share of good workflows, in the objective, and in the share of requests that were answered
with 429. A provider has changed if they differ by far more than trials vary. Trials vary by what
those of the settings show, by what chance makes of so few workflows, and by about a tenth: few
trials do not show it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, assert_never

import numpy as np

from harness.analysis.cells import count_rows
from harness.analysis.decision import Contender
from harness.analysis.model import BlocksMean, TuneChange
from harness.analysis.selection import CellRecords
from harness.records.failures import is_failure

_LEVEL = 0.01
"""The probability of finding a change where there is none, for a whole tune."""
_USUAL = 0.1
"""What trials vary by: the standard deviation of a share, or of the logarithm of an objective. It
counts as `_FREEDOM` degrees of freedom, beside those of the trials."""
_FREEDOM = 8.0
_LEAST_RATIO, _LEAST_SHARE = 1.2, 0.2
"""Smaller differences do not matter, however clear they are."""
_MOST_DISTURBED = 0.05
"""Of more failures than this share that are no 429s, a trial is left out: outages come and go."""
_FEWEST_GOOD = 0.5
"""With fewer good workflows an objective is that of less work."""

Quantity = Literal["success", "objective", "refusals"]


class TrialValues(NamedTuple):
    """What one trial of a setting shows.

    `objective`: None if it has none. `latency_variance`: of the logarithms of the latencies of its
    good workflows. `refused`: of its `attempts`, those that were answered with 429.
    """

    objective: float | None
    latency_variance: float
    good: int
    tried: int
    refused: int
    attempts: int


def provider_change(
    cells: Mapping[str, CellRecords], contenders: Sequence[Contender]
) -> TuneChange | None:
    """Return how the provider changed during a tune; None if nothing shows that it did.

    `cells`: the records of the settings that were tried, by id. `contenders`: what their trials say
    of each, by block.
    """
    return change_between({one.name: _trials(cells[one.name], one) for one in contenders})


def _trials(cell: CellRecords, contender: Contender) -> dict[int, TrialValues]:
    """Return the values of the trials that ran to their end without an outage, by block."""
    attempts = cell.attempts
    repeat = attempts.column("repeat")
    made = count_rows(repeat)
    refused = attempts.where("outcome", "rate_limited".__eq__)
    disturbed = count_rows(repeat[attempts.where("outcome", is_failure) & ~refused])
    refusals = count_rows(repeat[refused])
    latencies: dict[int, list[float]] = {}
    for one in cell.workflows:
        if one.outcome == "ok" and one.done > one.ready:
            latencies.setdefault(one.repeat, []).append(math.log(one.done - one.ready))
    found = {}
    for trial in cell.whole_trials():
        at = trial.repeat
        count = made.get(at, 0)
        if count and disturbed.get(at, 0) <= _MOST_DISTURBED * count and contender.tried.get(at):
            known = latencies.get(at, [])
            found[at] = TrialValues(
                contender.objective.get(at), float(np.var(known)) if known else 0.0,
                contender.good[at], contender.tried[at], refusals.get(at, 0), count,
            )  # fmt: skip
    return found


class _Value(NamedTuple):
    """One trial: a share of `of`, or the logarithm of an objective; `variance`: by chance."""

    value: float
    of: int
    variance: float


class _Part(NamedTuple):
    """The trials of one setting, by block, on both sides of a boundary between two blocks."""

    cell: str
    before: Mapping[int, _Value]
    after: Mapping[int, _Value]

    @property
    def apart(self) -> float:
        """By how much the mean after the boundary is above the one before it."""
        return _mean(self.after) - _mean(self.before)


class _Comparison(NamedTuple):
    """Settings before and after a boundary; `chance`: that an unchanged provider differs so."""

    quantity: Quantity
    parts: tuple[_Part, ...]
    apart: float
    chance: float

    @property
    def matters(self) -> bool:
        """Whether the difference is large enough to be of interest."""
        least = math.log(_LEAST_RATIO) if self.quantity == "objective" else _LEAST_SHARE
        return abs(self.apart) >= least


def change_between(settings: Mapping[str, Mapping[int, TrialValues]]) -> TuneChange | None:
    """Return the clearest change; None without one.

    `settings`: the trials of each setting, by block. What people notice counts first: workflows
    that are lost, and the objective; refusals count where neither shows a change.
    """
    every = list(_comparisons(settings))
    clear = [one for one in every if one.matters and one.chance * len(every) < _LEVEL]
    if not clear:
        return None
    found = min(clear, key=lambda one: (one.quantity == "refusals", one.chance))
    alike = [part for part in found.parts if part.apart * found.apart > 0]
    shown = max(alike, key=lambda part: abs(part.apart) / math.sqrt(_share_of_variance([part])))
    return TuneChange(
        cell=shown.cell,
        quantity=found.quantity,
        before=_told(shown.before, found.quantity),
        after=_told(shown.after, found.quantity),
        alike=tuple(part.cell for part in alike if part is not shown),
    )


def _comparisons(settings: Mapping[str, Mapping[int, TrialValues]]) -> Iterator[_Comparison]:
    """Yield every comparison: of each setting, and of all settings on both sides of a boundary."""
    blocks = sorted({at for trials in settings.values() for at in trials})
    quantities: tuple[Quantity, ...] = ("success", "objective", "refusals")
    for quantity in quantities:
        known = {cell: _values(trials, quantity) for cell, trials in settings.items()}
        done: set[tuple[str, int]] = set()
        for boundary in blocks[1:]:
            every = [_divided(cell, values, boundary) for cell, values in known.items()]
            usual = max(_USUAL**2, _variance_within(every))
            parts = [part for part in every if part.before and part.after]
            for part in parts:
                if (part.cell, len(part.before)) not in done:
                    done.add((part.cell, len(part.before)))
                    yield _compared(quantity, (part,), usual)
            if len(parts) > 1:
                yield _compared(quantity, tuple(parts), usual)


def _values(trials: Mapping[int, TrialValues], quantity: Quantity) -> dict[int, _Value]:
    """Return the values of the trials that have one, by block."""
    match quantity:
        case "success":
            return {at: _Value(one.good / one.tried, one.tried, 0.0) for at, one in trials.items()}
        case "refusals":
            return {
                at: _Value(one.refused / one.attempts, one.attempts, 0.0)
                for at, one in trials.items()
            }
        case "objective":
            return {
                at: _Value(math.log(one.objective), one.good, one.latency_variance / one.good)
                for at, one in trials.items()
                if one.objective is not None and one.good >= _FEWEST_GOOD * one.tried
            }
        case _:
            assert_never(quantity)


def _divided(cell: str, values: Mapping[int, _Value], boundary: int) -> _Part:
    before = {at: value for at, value in sorted(values.items()) if at < boundary}
    after = {at: value for at, value in sorted(values.items()) if at >= boundary}
    return _Part(cell, before, after)


def _variance_within(parts: Sequence[_Part]) -> float:
    """Return what trials of one setting vary by on one side, with the usual variance."""
    sides = _sides(parts)
    squares, freedom = _squares(sides)
    return (_FREEDOM * _USUAL**2 + squares) / (_FREEDOM + freedom)


def _sides(parts: Sequence[_Part]) -> list[Mapping[int, _Value]]:
    return [side for part in parts for side in (part.before, part.after) if side]


def _squares(sides: Sequence[Mapping[int, _Value]]) -> tuple[float, int]:
    """Return the squared distances from the mean of each side, and their degrees of freedom."""
    squares = sum((one.value - _mean(side)) ** 2 for side in sides for one in side.values())
    return squares, sum(len(side) - 1 for side in sides)


def _compared(quantity: Quantity, parts: tuple[_Part, ...], usual: float) -> _Comparison:
    """Compare settings before and after a boundary. `usual`: the variance of trials."""
    from scipy.special import stdtr  # slow import

    sides = _sides(parts)
    squares, own = _squares(sides)
    freedom = _FREEDOM + own
    by_lengths = _average([one.variance for side in sides for one in side.values()])
    varies = (_FREEDOM * max(usual, by_lengths) + squares) / freedom
    variance = varies * _share_of_variance(parts)
    if quantity != "objective":
        variance += sum(map(_drawn, parts)) / len(parts) ** 2
    apart = _average([part.apart for part in parts])
    chance = 2 * float(stdtr(freedom, -abs(apart) / math.sqrt(variance)))
    return _Comparison(quantity, parts, apart, chance)


def _share_of_variance(parts: Sequence[_Part]) -> float:
    """Return the variance of the mean difference of some settings, that of a trial being 1.

    All trials of a block are taken to vary alike: a simulated provider has the same draws in them,
    and a real one the same hour.
    """
    weights: dict[int, float] = defaultdict(float)
    for part in parts:
        for side in (part.before, part.after):
            for at in side:
                weights[at] += 1 / len(side) / len(parts)
    return sum(weight**2 for weight in weights.values())


def _drawn(part: _Part) -> float:
    """Return the variance that a difference of two shares has because they are of few."""
    good, of = [[pick(side) for side in (part.before, part.after)] for pick in (_counted, _of)]
    share = sum(good) / sum(of)
    return share * (1 - share) * sum(1 / each for each in of)


def _counted(side: Mapping[int, _Value]) -> float:
    return sum(one.value * one.of for one in side.values())


def _of(side: Mapping[int, _Value]) -> int:
    return sum(one.of for one in side.values())


def _mean(side: Mapping[int, _Value]) -> float:
    return _average([one.value for one in side.values()])


def _average(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _told(side: Mapping[int, _Value], quantity: Quantity) -> BlocksMean:
    is_share = quantity != "objective"
    value = _counted(side) / _of(side) if is_share else math.exp(_mean(side))
    return BlocksMean(blocks=tuple(side), value=value, of=_of(side))
