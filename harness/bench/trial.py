"""What one trial leaves behind, whatever the time it ran in."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from harness.config.prices import Price, cost_usd
from harness.records.failures import is_failure
from harness.records.schema import Attempt, Call, Record, Workflow


class RecordCollector:
    """Takes the records of one trial as they end: to `keep` at once, and kept itself."""

    def __init__(self, keep: Callable[[Record], None]) -> None:
        self._keep = keep
        self.attempts: list[Attempt] = []
        self.calls: list[Call] = []
        self.workflows: list[Workflow] = []

    def emit(self, record: Record) -> None:
        """Take one record."""
        self._keep(record)
        if isinstance(record, Attempt):
            self.attempts.append(record)
        elif isinstance(record, Call):
            self.calls.append(record)
        elif isinstance(record, Workflow):
            self.workflows.append(record)


class Tally(NamedTuple):
    """How many records of each kind there were, and what the attempts cost in dollars."""

    attempts: int = 0
    failed: int = 0
    rate_limited: int = 0
    workflows: int = 0
    cost: float = 0.0


class Tallying:
    """Counts records. `price` is None where nothing is known of it; `unix_ns`: when it was."""

    def __init__(self, price: Price | None, unix_ns: int) -> None:
        self._price = price
        self._unix_ns = unix_ns
        self._attempts = 0
        self._failed = 0
        self._rate_limited = 0
        self._workflows = 0
        self._cost = 0.0

    def note(self, record: Record) -> None:
        """Count one record."""
        if isinstance(record, Attempt):
            self._attempts += 1
            self._failed += is_failure(record.outcome)
            self._rate_limited += record.status == 429
            if self._price is not None:
                self._cost += cost_usd(self._price, record.tokens, self._unix_ns)
        elif isinstance(record, Workflow):
            self._workflows += 1

    def take(self) -> Tally:
        """Return what has been counted since the last time."""
        tally = Tally(self._attempts, self._failed, self._rate_limited, self._workflows, self._cost)
        self._attempts = self._failed = self._rate_limited = self._workflows = 0
        self._cost = 0.0
        return tally
