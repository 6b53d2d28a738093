"""What is collected and counted while a trial runs, in real time or in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

from harness.records.failures import is_failure
from harness.records.schema import (
    Attempt,
    Call,
    Record,
    Stop,
    Transcript,
    Workflow,
)

INTERRUPTED = Stop(by="interrupt", because="interrupted")


def is_recorded(stopped: Stop | None) -> bool:
    """Return whether a trial is recorded: not if its first answer made it pointless."""
    return stopped is None or stopped.by != "first_call"


class RecordCollector:
    """Collects the records of a trial, without transcripts, which can be large.

    `keeps`: whether records are kept; a gateway can have any number of them.
    """

    def __init__(self, *, keeps: bool = True) -> None:
        self._keeps = keeps
        self._span: tuple[int, int] | None = None
        self.attempts: list[Attempt] = []
        self.calls: list[Call] = []
        self.workflows: list[Workflow] = []

    def emit(self, record: Record) -> None:
        """Take one record."""
        if not self._keeps:
            if isinstance(record, Workflow):
                begin, end = self._span or (record.ready, record.done)
                self._span = min(begin, record.ready), max(end, record.done)
            return
        # The most frequent first.
        if isinstance(record, Attempt):
            self.attempts.append(record)
        elif isinstance(record, Call):
            self.calls.append(record)
        elif isinstance(record, Workflow):
            self.workflows.append(record)
        elif not isinstance(record, Transcript):
            assert_never(record)

    @property
    def span(self) -> tuple[int, int] | None:
        """When the first workflow was ready and the last one done; None if none has ended."""
        if not self.workflows:
            return self._span
        return (
            min(workflow.ready for workflow in self.workflows),
            max(workflow.done for workflow in self.workflows),
        )


@dataclass(slots=True)
class Tally:
    """Numbers of records that have ended, and the cost of the attempts in dollars."""

    attempts: int = 0
    failed: int = 0
    rate_limited: int = 0
    workflows: int = 0
    cost: float = 0.0

    def note(self, record: Record, cost: Callable[[Attempt], float] | None) -> None:
        """Count one record. `cost`: of an attempt; None if no price is known."""
        if isinstance(record, Attempt):
            self.attempts += 1
            self.failed += is_failure(record.outcome)
            self.rate_limited += record.status == 429
            if cost is not None:
                self.cost += cost(record)
        elif isinstance(record, Workflow):
            self.workflows += 1

    def add(self, other: Tally) -> None:
        """Add the numbers of another tally."""
        self.attempts += other.attempts
        self.failed += other.failed
        self.rate_limited += other.rate_limited
        self.workflows += other.workflows
        self.cost += other.cost
