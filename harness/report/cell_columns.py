"""The columns that name a cell on the terminal, and the heads of those that say where time went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.analysis.settings import CellSettings, swept_keys, varying
from harness.report.terminal_tables import TextColumn, wrapped
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


def settings_columns(cells: Sequence[CellSettings]) -> list[TextColumn]:
    """Return the columns that tell the cells apart.

    Mode, permits and retry are always shown, other settings only where they differ.
    """
    names = shortened((cell.retry for cell in cells), LONGEST_RETRY)
    columns = [
        TextColumn(("", "mode"), [cell.mode for cell in cells], left=True),
        TextColumn(("per-", "mits"), [str(cell.permits) for cell in cells]),
        TextColumn(("", "retry"), [names[cell.retry] for cell in cells], left=True),
    ]
    different = varying(cells)
    if "permit_scope" in different:
        columns.append(TextColumn(("", "scope"), [cell.permit_scope for cell in cells], left=True))
    for key in swept_keys(cells):
        if key.key in different:
            labels = [key.label(cell) for cell in cells]
            short = shortened(labels, LONGEST_RETRY)
            columns.append(TextColumn(_head(key.name), [short[one] for one in labels], left=True))
    return columns


def legend(cells: Sequence[CellSettings]) -> list[str]:
    """Return lines that say which value has which number, of values too long for a column."""
    said = [one for key in swept_keys(cells) if len(key.values) > 1 for one in key.legend()]
    return [line for one in said for line in wrapped(one)]


def _head(name: str) -> tuple[str, str]:
    """Break a name into the two lines of a head, at the last place where it can be broken."""
    at = max(name.rfind("_"), name.rfind("."), name.rfind("-")) + 1
    return (name[:at], name[at:]) if len(name) > LONGEST_RETRY else ("", name)
