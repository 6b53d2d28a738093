"""How many repeats would prove what a run could not prove, if the cells go on as they did.

The number is checked with the looks of the run that is proposed, and with the rules that this run
would be judged by: the same counts of failures in proportion, the same spread of the objective.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import numpy as np

from harness.analysis.decision import (
    Contender,
    Judgement,
    Rules,
    ShareCounts,
    design_effects,
    share_proofs,
)
from harness.analysis.looks import FEWEST_REPEATS, Looks, growing_looks
from harness.analysis.model import SettlesWith
from harness.analysis.proofs import Proof, leads

MOST_PROPOSED_REPEATS = 1000
"""The most repeats that are proposed."""


class RunState(NamedTuple):
    """How far a run came: `repeats` of each cell, and whether it `can_go_on` to its last look."""

    repeats: int
    can_go_on: bool


def settles_with(
    contenders: Mapping[str, Contender], rules: Rules, found: Judgement, state: RunState
) -> SettlesWith:
    """Return what would prove what is missing: the rest of the run, or a run with more repeats."""
    assert found.candidate is not None, "there is a candidate"
    mine = contenders[found.candidate]
    is_kept = found.proofs[mine.name] == "proven"
    shares = _Shares(contenders, rules, mine.name)
    would_lead = _Lead(contenders, rules, found, mine)
    each = _workflows_a_repeat(mine)

    def proves(repeats: int, looks: Looks) -> bool:
        level = looks.level(repeats)
        proofs = shares.proofs(repeats, level)
        return proofs[mine.name] == "proven" and would_lead.is_proven(repeats, level, proofs)

    missing: Literal["slo", "lead", "both"] = "lead" if is_kept else "slo"
    if not is_kept and not found.settled:
        missing = "both"
    if state.can_go_on:
        later = (count for count in rules.looks.repeats if count > state.repeats)
        repeats = next((count for count in later if proves(count, rules.looks)), None)
        if repeats is not None:
            return SettlesWith(
                missing=missing,
                max_repeats=repeats,
                workflows=repeats * each,
                by_resuming=True,
                at_least=not would_lead.is_known,
            )
    repeats = _least(lambda count: proves(count, growing_looks(count)), state.repeats)
    return SettlesWith(
        missing=missing,
        max_repeats=repeats,
        workflows=None if repeats is None else repeats * each,
        at_least=not would_lead.is_known,
    )


def _least(is_enough: Callable[[int], bool], fewer: int) -> int | None:
    """Return about the least number above `fewer` that is enough, at most `MOST_REPEATS`.

    It is enough, but a smaller number can be too: one that is little above an early look pays for
    that look too.
    """
    low, high = max(fewer, FEWEST_REPEATS - 1), MOST_PROPOSED_REPEATS
    if low >= high or not is_enough(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


def _workflows_a_repeat(cell: Contender) -> int:
    return max(1, round(sum(cell.tried.values()) / max(1, len(cell.tried))))


class _Shares:
    """What would be proven of the success rates, if as many workflows fail in proportion."""

    def __init__(self, contenders: Mapping[str, Contender], rules: Rules, mine: str) -> None:
        effects = design_effects(list(contenders.values()))
        self._rules, self._mine = rules, mine
        self._cells = {name: (one, effects[name]) for name, one in contenders.items()}

    def proofs(self, repeats: int, level: float) -> dict[str, Proof]:
        """Return what would be proven of each cell after so many repeats."""
        counts = {
            name: self._counts(one, effect, repeats) for name, (one, effect) in self._cells.items()
        }
        return share_proofs(counts, self._rules, level)

    def _counts(self, one: Contender, effect: float, repeats: int) -> ShareCounts:
        """Return the counts after so many repeats, rounded against the cell that is proven."""
        tried = repeats * _workflows_a_repeat(one)
        failed = (1 - one.share) * tried
        rounded = math.ceil(failed - 1e-9) if one.name == self._mine else math.floor(failed + 1e-9)
        return ShareCounts(tried - rounded, tried, effect)


class _Lead:
    """Whether a cell's lead would be proven, if its advantages keep their mean and spread."""

    def __init__(
        self, contenders: Mapping[str, Contender], rules: Rules, found: Judgement, mine: Contender
    ) -> None:
        rivals = [
            one
            for name, one in contenders.items()
            if name != mine.name and one.objective and one.share and found.proofs[name] != "broken"
        ]
        logs = {one.name: _advantages(one, mine) for one in rivals}
        self._logs = {name: values for name, values in logs.items() if len(values) >= 2}
        self.is_known = all(len(values) >= FEWEST_REPEATS for values in logs.values())
        # Cells with the same values are one comparison, as in `decision.Advantages`.
        self._kinds = len({tuple(sorted(one.objective.items())) for one in (mine, *rivals)}) - 1
        self._margin = rules.margin

    def is_proven(self, repeats: int, level: float, proofs: Mapping[str, Proof]) -> bool:
        """Return whether no cell that may keep the SLO then is better by more than the margin."""
        part = level / max(1, self._kinds)
        return repeats >= FEWEST_REPEATS and all(
            leads(values, repeats, self._margin, part)
            for name, values in self._logs.items()
            if proofs[name] != "broken"
        )


def _advantages(other: Contender, mine: Contender) -> list[float]:
    """Return the logarithms of how much better another cell was, by repeat."""
    common = sorted(mine.objective.keys() & other.objective.keys())
    return [float(np.log(mine.objective[at] / other.objective[at])) for at in common]
