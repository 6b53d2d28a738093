"""Leaves a real endpoint alone between two trials, so that one does not affect the next."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass
class EndpointRest:
    """When the last trial ended, in seconds of the monotonic clock; None before the first one."""

    ended: float | None = None

    def wait(self, rest_s: float) -> None:
        """Wait until the last trial ended so many seconds ago; not before the first trial."""
        if self.ended is not None and rest_s > 0:
            time.sleep(max(0.0, self.ended + rest_s - time.monotonic()))

    def begin(self) -> None:
        """Say that a trial has ended, and a rest begins."""
        self.ended = time.monotonic()
