"""Curves over the number in flight: piecewise linear, and nowhere falling."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from harness.twin.observations import Floats, Integers

LADDER = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)
"""The numbers in flight at which a curve can have a knot."""
_BETWEEN = (3, 6, *((low + high) // 2 for low, high in pairwise(LADDER[3:])))
"""Further ones, for a curve that many attempts tell."""


def knots_up_to(most: int) -> Integers:
    """Return the knots of a curve over 1 to `most`; the last one is `most`."""
    return np.array([*(knot for knot in LADDER if knot < most), max(most, 1)], np.int64)


def fine_knots_up_to(most: int) -> Integers:
    """Return twice as many knots, but none more between the last two, which say what follows."""
    knots = knots_up_to(most)
    more = [knot for knot in _BETWEEN if len(knots) > 1 and knot < knots[-2]]
    return np.array(sorted({*knots.tolist(), *more}), np.int64)


def hats(knots: Integers, most: int) -> Floats:
    """Return the weight of each knot (columns) in the curve at 0 to `most` (rows)."""
    levels = np.arange(most + 1)
    return np.stack([np.interp(levels, knots, row) for row in np.eye(len(knots))], axis=1)


def fit_rising(
    made: Floats,
    wanted: Floats,
    knots: Integers,
    smoothing: float,
    other: Floats | None = None,
    *,
    is_convex: bool = False,
) -> tuple[Floats, Floats]:
    """Return the values at the knots, and the factors of the `other` columns, all at least 0.

    Least squares of `made @ values + other @ factors` against `wanted`. The values do not fall
    from knot to knot: their increases are what is fitted, without negative ones. With `is_convex`,
    what is fitted is how much steeper they become at each knot. `smoothing`: the weight of each
    knot's distance from the line through its neighbours.
    """
    from scipy.optimize import nnls  # slow import

    count = len(knots)
    more = np.zeros((len(made), 0)) if other is None else other
    columns = np.hstack([made, more, wanted[:, None]])
    reduced = np.asarray(np.linalg.qr(columns, mode="r"), np.float64)
    smooth = np.zeros((max(count - 2, 0), reduced.shape[1]))
    strength = smoothing * float(np.sqrt((made**2).sum() / count))
    for row in range(len(smooth)):
        left, middle, right = knots[row : row + 3]
        share = (middle - left) / (right - left)
        smooth[row, row : row + 3] = np.array([1 - share, -1, share]) * strength
    system = np.vstack([reduced, smooth])
    sums = np.eye(reduced.shape[1] - 1)
    if is_convex:
        sums[:count, 0] = 1
        sums[:count, 1:count] = np.maximum(knots[:, None] - knots[None, :-1], 0)
    else:
        sums[:count, :count] = np.tril(np.ones((count, count)))
    found, _ = nnls(system[:, :-1] @ sums, system[:, -1])
    return (sums @ found)[:count], found[count:]
