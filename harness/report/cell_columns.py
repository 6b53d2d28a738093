"""The columns that name a cell on the terminal, and the heads of those that say where time went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.analysis.settings import CellSettings, swept_keys, varying
from harness.report.tables import Column
from harness.report.terminal_tables import wrapped
from harness.report.wording import shortened

LONGEST_RETRY = 12
"""A retry policy's name is cut to this length in the tables."""

PART_HEADS: Mapping[str, str] = {
    "permit_wait": "permit\nwait",
    "client_wait": "client\nwait",
    "backoff": "back-\noff",
    "failed_attempts": "failed\natt.",
    "to_first_token": "first\ntoken",
    "reasoning": "reason-\ning",
    "answer": "answer",
    "other": "other",
}
"""The head of the column of each part of a call's time, in the order of `call_segments.PARTS`."""


def settings_columns(cells: Sequence[CellSettings]) -> list[Column]:
    """Return the columns that tell the cells apart.

    Mode, permits and retry are always shown, other settings only where they differ.
    """
    names = shortened((cell.retry for cell in cells), LONGEST_RETRY)
    columns = [
        Column("mode", "", [cell.mode for cell in cells], left=True),
        Column("per-\nmits", "", [str(cell.permits) for cell in cells]),
        Column("retry", "", [names[cell.retry] for cell in cells], left=True),
    ]
    different = varying(cells)
    if "permit_scope" in different:
        columns.append(Column("scope", "", [cell.permit_scope for cell in cells], left=True))
    for key in swept_keys(cells):
        if key.key in different:
            labels = [key.label(cell) for cell in cells]
            short = shortened(labels, LONGEST_RETRY)
            columns.append(Column(_head(key.name), "", [short[one] for one in labels], left=True))
    return columns


def legend(cells: Sequence[CellSettings]) -> list[str]:
    """Return lines that say which value has which number, of values too long for a column."""
    said = [one for key in swept_keys(cells) if len(key.values) > 1 for one in key.legend()]
    return [line for one in said for line in wrapped(one)]


def _head(name: str) -> str:
    """Break a name into the two lines of a head, at the last place where it can be broken."""
    at = max(name.rfind("_"), name.rfind("."), name.rfind("-")) + 1
    return f"{name[:at]}\n{name[at:]}" if len(name) > LONGEST_RETRY else name
