"""A setting that lost its work looks fast, so no view shows its speed-up."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from harness.analysis.model import Figure, WorkflowCounts
from harness.report.charts.permits import permits
from harness.report.columns import comparison_tables
from harness.report.first_screen import first_screen
from harness.report.terminal import render_summary
from tests.report.subjects import about
from tests.report.summaries import make_cell, make_summary

SYNC, FEW, MANY = "sync_1_none_attempt", "async_2_none_attempt", "async_8_none_attempt"
SPEEDS = {SYNC: 1.0, FEW: 876.0, MANY: 987.0}
NOTHING_KEPT = {
    "workflows": WorkflowCounts(started=24, ok=0, degraded=0, failed=24),
    "success_rate": Figure(value=0.0),
}


@pytest.mark.parametrize(
    ("lost", "fair"),
    [((), [SYNC, FEW, MANY]), ((MANY,), [SYNC, FEW]), ((SYNC,), []), ((SYNC, FEW, MANY), [])],
)
def test_lost_work_has_no_speed_up_in_any_view(lost: Sequence[str], fair: list[str]) -> None:
    cells = [
        make_cell(
            cell,
            speedup_over_sync=Figure(value=speed),
            speedup_per_token=Figure(value=speed),
            **(NOTHING_KEPT if cell in lost else {}),
        )
        for cell, speed in SPEEDS.items()
    ]
    summary = make_summary(cells)
    file = io.StringIO()
    render_summary(summary, Path("results/lost"), Console(file=file, width=120))
    screen = "\n".join(map(str, first_screen(summary, Path("results/lost"), 120)))
    chart, of = permits(about(summary)), about(summary)
    tables = [*comparison_tables(of), *([chart.table] if chart else [])]
    columns = [column for table in tables for column in table.columns if "speedup" in column.key]
    assert len(columns) >= 2
    for column in columns:
        seen = [cell for cell, value in zip(SPEEDS, column.values, strict=True) if value]
        assert seen == fair
    for cell in (FEW, MANY):
        assert (f"{SPEEDS[cell]:.0f}" in file.getvalue()) == (cell in fair)
        assert (f"{SPEEDS[cell]:.0f}" in screen) == (cell in fair)
    assert ("speed-up: too much work was lost" in file.getvalue()) == bool(lost)
