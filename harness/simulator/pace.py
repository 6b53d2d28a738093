"""The time per token with n concurrent requests, from a formula or from measured points."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias


class Speed(NamedTuple):
    """Nanoseconds per token with n requests: a + b n + c n^2, where n includes `background`."""

    a: float
    b: float
    c: float
    background: float

    def itl(self, decoding: int) -> float:
        """Return the nanoseconds between two tokens of a request while `decoding` are active."""
        n = decoding + self.background
        return self.a + self.b * n + self.c * n * n

    def slowest(self, at_once: int) -> float:
        """Return the maximum of `itl` for at most `at_once` active requests."""
        return self.itl(at_once)


class Measured:
    """Nanoseconds per token from points (n, nanoseconds), in ascending order; n with `background`.

    Between the points: a monotone cubic (PCHIP: Fritsch and Carlson, SIAM J. Numer. Anal. 17(2),
    1980), which does not overshoot. Before the first point: its value. After the last point: the
    straight line through the last two, but at least the last value.
    """

    def __init__(self, points: Sequence[tuple[float, float]], background: float) -> None:
        self._points = points
        self._background = background
        self._between = _monotone(points)

    def itl(self, decoding: int) -> float:
        """Return the nanoseconds between two tokens of a request while `decoding` are active."""
        return self._at(decoding + self._background)

    def slowest(self, at_once: int) -> float:
        """Return the maximum of `itl` for at most `at_once` active requests."""
        # Between two points, the curve stays between their values.
        return max(self.itl(at_once), *(itl for _, itl in self._points))

    def _at(self, n: float) -> float:
        (before, earlier), (end, last) = self._points[-2:]
        if n <= self._points[0][0]:
            return self._points[0][1]
        if n >= end:
            return last + max(0.0, (last - earlier) / (end - before)) * (n - end)
        return self._between(n)


Pace: TypeAlias = Speed | Measured
"""The decoding speed as a function of the concurrent requests."""


def _monotone(points: Sequence[tuple[float, float]]) -> Callable[[float], float]:
    from scipy.interpolate import PchipInterpolator  # slow import, rarely needed

    curve = PchipInterpolator([n for n, _ in points], [itl for _, itl in points])
    return lambda n: float(curve(n))
