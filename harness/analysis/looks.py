"""When a run is looked at, and how much of the probability of error each look may spend.

A run with a fixed number of repeats is looked at once. A run that adds repeats until it is settled
is looked at after certain numbers of repeats, and each look spends a part of the probability of
error, in proportion to the square of its number of repeats. So early looks need strong evidence,
and most of the probability is left for the last look. The bounds hold at all looks together (alpha
spending: Lan and DeMets, Discrete sequential boundaries for clinical trials, Biometrika 70, 1983).
"""

from __future__ import annotations

import math
from itertools import accumulate, takewhile
from typing import NamedTuple

TAIL = 0.025
"""The probability outside a two-sided 95 % interval on each side."""

FEWEST_REPEATS = 3
"""The spread of two repeats has one degree of freedom, which is too little for a decision."""

_FIRST_LOOK = 4
_GROWTH = 1.7
_TUNE_GROWTH = 1.1

_TOGETHER = 1.09
"""What the parts of all looks add up to.

A later look contains the data of the earlier ones, so the looks err together more often than
independent ones, and the parts may add up to more than the whole. With these looks, sums of
independent repeats keep the probability of error for any limit of repeats and any probability of
at least 0.002 (computed by recursive integration: Armitage, McPherson and Rowe, Repeated
Significance Tests on Accumulating Data, Journal of the Royal Statistical Society A 132, 1969).
"""


class Looks(NamedTuple):
    """The numbers of repeats after which a run is looked at, in ascending order."""

    repeats: tuple[int, ...]

    def level(self, repeats: int) -> float:
        """Return the part of the probability of error that a look at so many repeats may spend.

        A look at another number, after an early end, takes the part of the next planned look.
        """
        planned = [count for count in self.repeats if count >= repeats] or self.repeats[-1:]
        return min(1.0, _TOGETHER * planned[0] ** 2 / sum(count**2 for count in self.repeats))


def one_look(repeats: int) -> Looks:
    """Return the look of a run with a fixed number of repeats."""
    return Looks((repeats,))


def growing_looks(most: int) -> Looks:
    """Return the looks of a run of at most `most` repeats, each about half as many again."""
    return _looks(most, _GROWTH)


def _looks(most: int, growth: float) -> Looks:
    counts = accumulate(range(128), lambda count, _: math.ceil(count * growth), initial=_FIRST_LOOK)
    return Looks((*takewhile(lambda count: count < most, counts), most))


def tune_looks(most: int) -> Looks:
    """Return the looks of a tune of at most `most` blocks: after nearly each one from the fourth.

    Its blocks are small, and often only the workflows of one setting are still to be proven.
    """
    return _looks(most, _TUNE_GROWTH)


def failure_free(asked: float, level: float = 1.0) -> int | None:
    """Return how many workflows without a failure prove a success rate of `asked`.

    None if no number does.
    """
    if asked <= 0:
        return 0
    return math.ceil(math.log(TAIL * level) / math.log(asked)) if asked < 1 else None


def first_proof(looks: Looks, asked: float, workflows: int) -> int | None:
    """Return the repeats of the first look that can prove a success rate; None if no look can.

    `workflows`: of a cell in each repeat.
    """
    for count in looks.repeats:
        needed = failure_free(asked, looks.level(count))
        if needed is not None and needed <= workflows * count:
            return count
    return None
