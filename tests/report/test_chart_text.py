"""Charts on a terminal: which characters stand where, and that nothing is wider than it."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.analysis.model import Figure, Summary
from harness.analysis.selection import Dataset
from harness.cli.main import main
from harness.report.chart_text import bar_columns, chart_lines, panel_lines
from harness.report.charts.model import (
    Bar,
    ChartRow,
    Dot,
    Key,
    RowPanel,
    axis_from_zero,
)
from tests.analysis.played import Shape, make_records
from tests.cli.test_report import save
from tests.report.subjects import charts_of
from tests.report.summaries import make_summary

IDS = tuple(
    f"{mode}_{retry}_attempt"
    for retry in ("none", "full-jitter")
    for mode in ("sync_1", "async_2", "async_8")
)
SECONDS = axis_from_zero("seconds", 100)


@pytest.fixture(scope="module")
def data() -> Dataset:
    shape = Shape(failure_rate=0.2)
    return Dataset.of(make_records(IDS, 2, workflows=4, branches=3, shape=shape, time_scale=0.05))


@pytest.fixture(scope="module")
def summary() -> Summary:
    return make_summary(IDS, time_scale=0.05)


def test_each_column_of_a_bar_is_the_part_that_takes_most_of_it() -> None:
    bars = [Bar(0, 42, "pale"), Bar(42, 58, "blue"), Bar(58, 100, "green")]
    assert bar_columns(bars, SECONDS, 10) == [*["pale"] * 4, *["blue"] * 2, *["green"] * 4]
    assert bar_columns(bars, axis_from_zero("", 200), 10) == [
        *["pale"] * 2, "blue", *["green"] * 2, *[None] * 5,
    ]  # fmt: skip


def test_a_failed_attempt_is_seen_however_short_and_so_is_a_row() -> None:
    failed = [Bar(50, 50.1, "vermillion"), Bar(50.1, 100, "green")]
    assert bar_columns(failed, SECONDS, 10)[5] == "vermillion"
    assert bar_columns([Bar(0.3, 0.4, "green")], SECONDS, 10) == ["green", *[None] * 9]


def test_a_row_has_its_label_its_marks_and_what_is_beside() -> None:
    rows = (
        ChartRow("a", "10 s", bars=(Bar(0, 50, "green"),), mark="the best"),
        ChartRow("b ×", "5.00 s", dots=(Dot(80, "blue", "hollow"),),
                 interval=Figure(value=50, low=40, high=70)),
    )  # fmt: skip
    panel = RowPanel("", rows, SECONDS, 20)
    keys = (Key("green", "answer"), Key("pale", "permit wait"))
    axis, first, second, legend = (line.plain for line in panel_lines(panel, keys, 40))
    assert axis.split() == ["0", "20", "40", "60", "80", "100"]
    assert first == f"* a   {'█' * 14:<28}  10 s"
    assert second.startswith("  b ×")
    assert second.endswith(" 5.00 s")
    assert "──┃─────" in second
    assert "°" in second
    assert legend.strip() == "█ answer  * the best  seconds"


def test_no_line_of_any_chart_is_wider_than_the_terminal(summary: Summary, data: Dataset) -> None:
    for name, chart in charts_of(summary, data).items():
        if chart is None:
            continue
        lines = [line.plain for line in chart_lines(chart, summary)]
        assert lines[0] == chart.title
        assert max(map(len, lines)) <= 80, name
        assert all(line == line.rstrip() for line in lines)
        assert "Simulated at time scale 0.05: durations are in scenario seconds." in lines


def test_curves_are_shown_by_their_numbers(summary: Summary, data: Dataset) -> None:
    chart = charts_of(summary, data)["permits"]
    assert chart is not None
    said = "\n".join(line.plain for line in chart_lines(chart, summary))
    assert "goodput" in said
    assert "speed-up" in said
    for cell in summary.cells:
        assert said.count(f"{cell.mode} {cell.permits}" if cell.mode != "sync" else "sync · ") >= 1


def test_one_plot_is_printed_as_text_and_no_file_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(make_records(IDS, 1, time_scale=0.05), tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert main(["report", str(tmp_path), "--only", "time-spent", "--text"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("Where the calls' time went\n")
    assert "% of the calls' time" in said
    assert sorted(tmp_path.rglob("*")) == before


def test_text_without_a_plot_to_print_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(make_records(IDS[:2], 1), tmp_path)
    assert main(["report", str(tmp_path), "--text"]) == 2
    assert "--text: only together with --only NAME" in capsys.readouterr().err
