"""How long a token takes beside n requests: from a formula, or from measured points."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol


class Pace(Protocol):
    """What says how fast tokens come."""

    def itl(self, decoding: int) -> float:
        """Return the nanoseconds between two tokens of one request when `decoding` are active."""

    def slowest(self, at_once: int) -> float:
        """Return the most that `itl` can be while no more than `at_once` are active."""


class Speed(NamedTuple):
    """Nanoseconds per token beside n requests: a + b n + c n^2, `background` always among n."""

    a: float
    b: float
    c: float
    background: float

    def itl(self, decoding: int) -> float:
        """Return the nanoseconds between two tokens of one request when `decoding` are active."""
        n = decoding + self.background
        return self.a + self.b * n + self.c * n * n

    def slowest(self, at_once: int) -> float:
        """Return the most that `itl` can be while no more than `at_once` are active."""
        return self.itl(at_once)


class Measured:
    """Nanoseconds per token from points (n, nanoseconds), n ascending, `background` among n.

    Between the points a monotone cubic (PCHIP: Fritsch and Carlson, SIAM J. Numer. Anal. 17(2),
    1980), which has no bumps that the points do not have; before the first point its value, beyond
    the last one the straight line through the last two, never below the last value.
    """

    def __init__(self, points: Sequence[tuple[float, float]], background: float) -> None:
        self._points = points
        self._background = background
        self._between = _monotone(points)
        self._known: dict[int, float] = {}

    def itl(self, decoding: int) -> float:
        """Return the nanoseconds between two tokens of one request when `decoding` are active."""
        known = self._known.get(decoding)
        if known is None:
            known = self._known[decoding] = self._at(decoding + self._background)
        return known

    def slowest(self, at_once: int) -> float:
        """Return the most that `itl` can be while no more than `at_once` are active."""
        # Between two points the curve lies between their values.
        return max(self.itl(at_once), *(itl for _, itl in self._points))

    def _at(self, n: float) -> float:
        (before, earlier), (end, last) = self._points[-2:]
        if n <= self._points[0][0]:
            return self._points[0][1]
        if n >= end:
            return last + max(0.0, (last - earlier) / (end - before)) * (n - end)
        return self._between(n)


def _monotone(points: Sequence[tuple[float, float]]) -> Callable[[float], float]:
    from scipy.interpolate import PchipInterpolator  # slow to import, and few profiles have points

    curve = PchipInterpolator([n for n, _ in points], [itl for _, itl in points])
    return lambda n: float(curve(n))
