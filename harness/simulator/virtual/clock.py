"""A clock that goes where it is put: integer nanoseconds, so that nothing is ever rounded away."""

from __future__ import annotations


class VirtualClock:
    """Virtual nanoseconds since the trial began."""

    __slots__ = ("_now",)

    def __init__(self) -> None:
        self._now = 0

    def now(self) -> int:
        """Return the time."""
        return self._now

    def go_to(self, moment: int) -> None:
        """Make it `moment`; a moment that has passed changes nothing."""
        if moment > self._now:
            self._now = moment
