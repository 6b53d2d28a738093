"""The columns that name a cell on the terminal, and the heads of those that say where time went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from harness.report.terminal_tables import TextColumn
from harness.report.wording import shortened

LONGEST_RETRY = 12
"""A retry policy's name is cut to this length in the tables."""

PART_HEADS: Mapping[str, tuple[str, str]] = {
    "permit_wait": ("permit", "wait"),
    "client_wait": ("client", "wait"),
    "backoff": ("back-", "off"),
    "failed_attempts": ("failed", "att."),
    "to_first_token": ("first", "token"),
    "reasoning": ("reason-", "ing"),
    "answer": ("", "answer"),
    "other": ("", "other"),
}
"""The head of the column of each part of a call's time, in the order of `analysis.pieces.PARTS`."""


class Settings(Protocol):
    """Anything that says what a cell was run with."""

    @property
    def mode(self) -> str:
        """How calls were made."""
        ...

    @property
    def permits(self) -> int:
        """The size of its semaphore."""
        ...

    @property
    def retry(self) -> str:
        """The name of its retry policy."""
        ...

    @property
    def permit_scope(self) -> str:
        """What a permit is held for."""
        ...


def settings_columns(cells: Sequence[Settings]) -> list[TextColumn]:
    """Return the columns that tell the cells apart; the scope is one only where scopes differ."""
    names = shortened((cell.retry for cell in cells), LONGEST_RETRY)
    columns = [
        TextColumn(("", "mode"), [cell.mode for cell in cells], left=True),
        TextColumn(("per-", "mits"), [str(cell.permits) for cell in cells]),
        TextColumn(("", "retry"), [names[cell.retry] for cell in cells], left=True),
    ]
    if len({cell.permit_scope for cell in cells}) > 1:
        columns.append(TextColumn(("", "scope"), [cell.permit_scope for cell in cells], left=True))
    return columns
