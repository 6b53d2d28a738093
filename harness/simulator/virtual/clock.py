"""A clock that is set by its user, in integer nanoseconds, without rounding errors."""

from __future__ import annotations

from harness.records.clock import SECOND
from harness.records.errors import HarnessError


class DeadlockError(HarnessError):
    """Every task waits, and no event can end a wait. `now`: the virtual time."""

    def __init__(self, now: int, why: str) -> None:
        super().__init__(f"deadlock after {now / SECOND:g} virtual seconds: {why}")


class VirtualClock:
    """Virtual nanoseconds since the start of the trial. `time`: the current time."""

    __slots__ = ("time",)

    def __init__(self) -> None:
        self.time = 0

    def now(self) -> int:
        """Return the time."""
        return self.time

    def go_to(self, moment: int) -> None:
        """Set the clock to `moment`; do nothing if `moment` is in the past."""
        if moment > self.time:
            self.time = moment
