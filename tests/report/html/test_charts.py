"""Where the marks of the figures stand, against the numbers that they stand for."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.analysis.model import Figure, Summary
from harness.records.clock import SECOND
from harness.report.html.chart_model import (
    Bar,
    Chart,
    Interval,
    RowChart,
    Scale,
    extremes,
    interval,
    ticks,
)
from harness.report.html.comparison import BINS, latency_chart, throughput_chart
from harness.report.html.permits import Panel, permits_chart
from harness.report.tables import subject
from harness.report.html.time_charts import phase_chart, time_spent_chart, timeline_chart
from harness.report.plots.style import PART_STYLES
from harness.report.wording import in_seconds
from tests.report.html.reports import Report, playable, report_of
from tests.report.summaries import figure, make_cell, make_summary

PERMITS = ("sync_1_none_attempt", *(f"async_{count}_none_attempt" for count in (2, 4, 16)))


@pytest.fixture(scope="module")
def played() -> Report:
    return report_of(playable())


def drawn(chart: Chart | None) -> Chart:
    assert chart is not None
    return chart


def rows(chart: Chart | None) -> RowChart:
    (panel,) = drawn(chart).panels
    assert isinstance(panel, RowChart)
    return panel


def panel_of(summary: Summary, title: str) -> Panel:
    for panel in drawn(permits_chart(subject(summary))).panels:
        assert isinstance(panel, Panel)
        if panel.title == title:
            return panel
    raise AssertionError(title)


@given(st.floats(min_value=1e-4, max_value=1e7))
def test_ticks_are_round_equally_far_apart_and_reach_across_most_of_the_axis(end: float) -> None:
    found = ticks(Scale(end))
    assert 2 <= len(found) <= 6
    assert found[0] == (0.0, "0")
    steps = [after.at - before.at for before, after in itertools.pairwise(found)]
    assert max(steps) - min(steps) < 0.01
    assert found[-1].at > 60
    assert found[1].text.strip("0.")[0] in "125"
    for tick in found:
        assert float(tick.text) == pytest.approx(tick.at * end / 100, rel=1e-3, abs=1e-12)


def test_an_interval_stands_where_its_numbers_are_and_ends_at_the_axis() -> None:
    whole = Figure(value=5.0, low=2.5, high=7.5)
    assert interval(whole, Scale(10.0)) == Interval(50.0, 25.0, 75.0, cut=False)
    long = Figure(value=5.0, low=2.5, high=70.0)
    assert interval(long, Scale(10.0)) == Interval(50.0, 25.0, 100.0, cut=True)
    assert interval(Figure(value=5.0), Scale(10.0)) == Interval(50.0, None, None, cut=False)


def test_words_name_the_cells_of_the_smallest_and_the_largest_value() -> None:
    assert extremes(["a", "b", "c"], [2.0, None, 1.0], "s") == "From 1.00 s (c) to 2.00 s (a)."
    assert extremes(["a"], [2.0], "s") == "a: 2.00 s."
    assert extremes(["a"], [None], "s") == "No value is known."


def test_a_dot_stands_at_its_workflows_latency(played: Report) -> None:
    panel = rows(latency_chart(subject(played.summary), played.records))
    unit = SECOND * played.summary.time_scale
    seconds = [(one.done - one.ready) / unit for one in played.records.workflows]
    places = sorted(dot.x for line in panel.lines for dot in line.dots)
    longest = max(seconds)
    assert places == pytest.approx([100 * at / longest / 1.02 for at in sorted(seconds)], abs=0.01)


def test_the_outcomes_of_the_dots_are_those_of_the_workflows(played: Report) -> None:
    panel = rows(latency_chart(subject(played.summary), played.records))
    for line, cell in zip(panel.lines, subject(played.summary).cells, strict=True):
        outcomes = [one.outcome for one in played.records.workflows if one.cell == cell.id]
        assert sorted(dot.outcome for dot in line.dots) == sorted(outcomes)


def test_a_histogram_is_as_high_as_its_bins_are_full() -> None:
    report = report_of(playable(cells=["async_2_none_attempt"], repeats=3, workflows=30))
    about = subject(report.summary)
    chart = drawn(latency_chart(about, report.records))
    (line,) = rows(chart).lines
    (bins,) = chart.more
    counts: dict[float, int] = {}
    values = {column.key: column.values for column in bins.columns}
    starts, numbers = values[about.seconds("from")], values["workflows"]
    for start, count in zip(starts, numbers, strict=True):
        assert isinstance(start, float)
        assert isinstance(count, int)
        counts[start] = counts.get(start, 0) + count
    every = [bar for bar in line.bars if bar.look == "async"]
    most = max(counts.values())
    assert [bar.height for bar in every] == [
        pytest.approx(count / most, abs=0.001) for _, count in sorted(counts.items())
    ]
    assert all(bar.width == pytest.approx(100 / BINS, abs=0.001) for bar in every)


def test_the_solid_part_of_a_throughput_bar_is_goodput() -> None:
    cells = [
        make_cell("sync_1_none_attempt"),
        make_cell("async_2_none_attempt", goodput_workflows_per_s=figure(0.1)),
    ]
    panel = rows(throughput_chart(subject(make_summary(cells))))
    every, good = panel.lines[1].bars
    assert (every.look, good.look) == ("async pale", "async")
    assert good.width / every.width == pytest.approx(0.1 / 0.4, abs=0.001)
    assert panel.lines[1].interval is not None
    assert panel.lines[1].interval.x == every.width


def test_more_permits_stand_further_right_and_faster_cells_higher() -> None:
    panel = panel_of(make_summary(PERMITS), "speed-up over sync")
    (series,) = panel.series
    assert [point.x for point in series.points] == sorted(point.x for point in series.points)
    heights = [point.y for point in series.points]
    assert heights == sorted(heights, reverse=True)
    for point in series.points:
        assert point.low is not None
        assert point.high is not None
        assert point.high < point.y < point.low, "pixels count from above"
    assert [tick.text for tick in panel.x_ticks] == ["2", "4", "16"]
    spaces = [after.at - before.at for before, after in itertools.pairwise(panel.x_ticks)]
    assert spaces[1] == pytest.approx(2 * spaces[0], abs=0.01), "the axis is logarithmic"


def test_the_bound_stands_over_the_points_by_makespan_over_bound() -> None:
    panel = panel_of(make_summary(PERMITS), "speed-up over sync")
    (series,) = panel.series
    zero = next(tick.at for tick in panel.y_ticks if tick.text == "0")
    for point, stroke in zip(series.points[:-1], series.bound[1:], strict=False):
        assert (zero - stroke.y1) / (zero - point.y) == pytest.approx(1 / 0.8, rel=0.02)


def test_a_reference_line_stands_where_sync_is() -> None:
    panel = panel_of(make_summary(PERMITS[:3]), "speed-up over sync")
    (sync,) = panel.references
    at = {tick.text: tick.at for tick in panel.y_ticks}
    assert sync == pytest.approx((at["0"] + at["2"]) / 2, abs=0.1), "1 is half of 2"


def test_a_cell_that_lost_workflows_is_hollow() -> None:
    lossy = make_cell("async_4_none_attempt")
    lost = type(lossy.workflows)(started=24, ok=20, degraded=4, failed=0)
    cells = [make_cell(PERMITS[0]), make_cell(PERMITS[1])]
    cells.append(make_cell("async_4_none_attempt", workflows=lost))
    (series,) = panel_of(make_summary(cells), "throughput").series
    assert [point.lossy for point in series.points] == [False, True]


def test_one_permit_count_makes_no_curve() -> None:
    assert permits_chart(subject(make_summary(PERMITS[:2]))) is None


def test_ticks_that_would_touch_are_left_out_but_never_the_last() -> None:
    counts = (1, 2, *range(40, 65))
    cells = ("sync_1_none_attempt", *(f"async_{count}_none_attempt" for count in counts))
    panel = panel_of(make_summary(cells), "throughput")
    assert panel.x_ticks[-1].text == "64"
    spaces = [after.at - before.at for before, after in itertools.pairwise(panel.x_ticks)]
    assert min(spaces) >= 6


def test_the_parts_of_a_calls_time_fill_the_bar_from_end_to_end() -> None:
    summary = make_summary(["async_2_none_attempt"])
    (line,) = rows(time_spent_chart(subject(summary))).lines
    assert [bar.look for bar in line.bars] == [f"part-{part}" for part in PART_STYLES]
    _touch(line.bars)
    assert line.bars[-1].x + line.bars[-1].width == pytest.approx(100, abs=0.01)
    assert [bar.text for bar in line.bars] == ["25", "", "", "10", "35", "20", ""]


def test_a_phase_bar_is_as_long_as_the_mean_workflow(played: Report) -> None:
    about = subject(played.summary)
    panel = rows(phase_chart(about))
    means = [in_seconds(cell.workflow_latency_s.mean, played.summary) for cell in about.cells]
    longest = max(mean.value for mean in means if mean)
    for line, mean, cell in zip(panel.lines, means, about.cells, strict=True):
        assert mean is not None
        covered = sum(phase.share or 0 for phase in cell.phases.values())
        end = line.bars[-1].x + line.bars[-1].width
        assert end == pytest.approx(100 * covered * mean.value / longest / 1.02, abs=0.05)
        _touch(line.bars)


def _touch(bars: tuple[Bar, ...]) -> None:
    for before, after in itertools.pairwise(bars):
        assert before.x + before.width == pytest.approx(after.x, abs=0.002)


def test_the_timeline_has_sync_above_async_and_every_call_once(played: Report) -> None:
    chart = drawn(timeline_chart(subject(played.summary), played.records))
    titles = []
    for panel in chart.panels:
        assert isinstance(panel, RowChart)
        titles.append(panel.title)
        names = [line.label for line in panel.lines]
        assert len(names) == len(set(names))
        assert names[0] == "decompose"
        for line in panel.lines:
            assert all(bar.x + bar.width <= 100 for bar in line.bars)
    assert titles[0].startswith("sync")
    assert titles[1].startswith("async")
