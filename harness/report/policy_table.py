"""What each retry policy cost and saved, and what there was to fail: for the terminal."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence

from harness.analysis.model import Cell, Summary
from harness.analysis.settings import BUILT_IN, identity
from harness.records.failures import FAILURES, is_failure
from harness.report.metric_columns import terminal_table
from harness.report.tables import Column
from harness.report.terminal_tables import WIDTH
from harness.report.wording import (
    MODE_NAMES,
    NONE,
    in_seconds,
    number,
    percent,
    short_count,
    value_of,
)

MOST_CLASSES = 8
"""So many failure classes are listed on the terminal, the most frequent first."""


def side_by_side(cells: Sequence[Cell]) -> list[Cell]:
    """Put cells that differ in their retry policy alone under one another."""
    retries = list(dict.fromkeys(cell.retry for cell in cells))
    others = list(dict.fromkeys(_other_settings(cell) for cell in cells))
    return sorted(
        cells,
        key=lambda cell: (
            MODE_NAMES.index(cell.mode),
            cell.permits,
            cell.permit_scope,
            others.index(_other_settings(cell)),
            retries.index(cell.retry),
        ),
    )


def _other_settings(cell: Cell) -> str:
    return identity(cell, BUILT_IN)


def seconds_a_call(cell: Cell, part: str, summary: Summary) -> float | None:
    """Return how many scenario seconds of `part` of its time a call has on average."""
    mean = value_of(in_seconds(cell.call_latency_s.mean, summary))
    if cell.time_spent is None or mean is None:
        return None
    share: float = getattr(cell.time_spent, part)
    return share * mean


def policy_columns(cells: Sequence[Cell], summary: Summary) -> list[Column]:
    """Return attempts, losses, waste, makespan, and what calls waited for, of each cell."""

    waits = [
        Column(
            f"s/call\n{head}", "", [number(seconds_a_call(cell, part, summary)) for cell in cells]
        )
        for part, head in (("permit_wait", "permit"), ("backoff", "backoff"))
    ]
    return [
        *terminal_table("policies", cells, summary),
        *(column for column in waits if any(value != NONE for value in column.values)),
    ]


def _share(value: float) -> str:
    return percent(value).replace("\u00a0", "")


def failure_lines(summary: Summary) -> Iterator[str]:
    """Yield a table of the failures that were seen, with advice; nothing when there were none."""
    total: Counter[str] = Counter()
    for cell in summary.cells:
        total.update(cell.attempts.by_outcome)
    attempts = total.total()
    seen = [(name, count) for name, count in total.most_common() if count and is_failure(name)]
    if not seen:
        return
    shown = seen[:MOST_CLASSES]
    longest = max(len("failed as"), *(len(name) for name, _ in shown))
    yield ""
    yield f"{'failed as':<{longest}}  times of all retry? advice"
    for name, count in shown:
        known = FAILURES[name]
        retry = "yes" if known.retryable else "no"
        head = (
            f"{name:<{longest}} {short_count(count):>6} {_share(count / attempts):>6} {retry:<6} "
        )
        yield from textwrap.wrap(
            head + known.advice, WIDTH, subsequent_indent=" " * len(head), break_on_hyphens=False,
            drop_whitespace=True,
        )  # fmt: skip
    if len(seen) > len(shown):
        rest = sum(count for _, count in seen[MOST_CLASSES:])
        yield f"and {rest} attempts of {len(seen) - len(shown)} rarer classes, see report.html"
