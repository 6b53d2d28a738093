"""What charts hold: values, order and labels, against the numbers that they stand for."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from harness.analysis.model import (
    AttemptCounts,
    Cell,
    Distribution,
    Figure,
    Summary,
    Throughput,
    TimeSpent,
    WorkflowCounts,
)
from harness.analysis.selection import Dataset
from harness.analysis.summary import summarise
from harness.records.clock import SECOND
from harness.report.charts.attempts import attempts_over_time, outages_until, seen_over_time
from harness.report.charts.catalogue import CHARTS
from harness.report.charts.cells import (
    LATENCY_BINS,
    latency_throughput,
    phases,
    repeats,
    time_chart,
)
from harness.report.charts.ecdf import band, latency_ecdf
from harness.report.charts.model import (
    CANCELLED_LOOK,
    MODE_LOOKS,
    PART_LOOKS,
    Axis,
    Bar,
    Chart,
    CurvePanel,
    HeatPanel,
    Key,
    RowPanel,
    Series,
    axis_end,
    axis_from_zero,
    cut_off_note,
    extremes,
    legible,
    log_axis,
    round_ticks,
)
from harness.report.charts.permit_lanes import permit_lanes
from harness.report.charts.permits import curves_of, heat_map, knee, permits
from harness.report.charts.timeline import MOST_ROWS, same_workflow_in_both, timeline
from harness.report.waterfall import Waterfalls
from harness.report.wording import in_seconds
from harness.store.run_directory import Records
from tests.analysis.builders import make_run, make_trial
from tests.analysis.played import Shape, make_records
from tests.report.subjects import about, charts_of
from tests.report.summaries import NOTHING, distribution, figure, make_cell, make_summary

IDS = (
    "sync_1_none_attempt", "async_2_none_attempt", "async_8_none_attempt",
    "sync_1_full-jitter_attempt", "async_2_full-jitter_attempt", "async_8_full-jitter_attempt",
)  # fmt: skip
PERMITS = ("sync_1_none_attempt", *(f"async_{count}_none_attempt" for count in (2, 4, 16)))
SCALE = 0.05


class Played(NamedTuple):
    summary: Summary
    data: Dataset

    def chart(self, make: Any) -> Chart:
        return drawn(make(about(self.summary, self.data)))


@pytest.fixture(scope="module")
def played() -> Played:
    """Return a run with failures, and the summary that was made of it."""
    return play(make_records(IDS, 3, workflows=5, branches=3, shape=Shape(failure_rate=0.2),
                             time_scale=SCALE))  # fmt: skip


@pytest.fixture(scope="module")
def made(played: Played) -> Played:
    """Return the same run with a summary of plain numbers."""
    return Played(make_summary(IDS, time_scale=SCALE), played.data)


def play(records: Records) -> Played:
    data = Dataset.of(records)
    return Played(summarise(data), data)


def drawn(chart: Chart | None) -> Chart:
    assert chart is not None
    return chart


def of_summary(make: Any, summary: Summary) -> Chart:
    """Return a chart that needs no record."""
    return drawn(make(about(summary)))


def rows(chart: Chart, at: int = 0) -> RowPanel:
    panel = chart.panels[at]
    assert isinstance(panel, RowPanel)
    return panel


def curves(chart: Chart, title: str) -> CurvePanel:
    for panel in chart.panels:
        assert isinstance(panel, CurvePanel)
        if panel.title.startswith(title):
            return panel
    raise AssertionError(title)


def marked(panel: CurvePanel) -> list[Series]:
    return [series for series in panel.series if series.shape == "marked"]


# Axes


@given(st.floats(min_value=1e-4, max_value=1e7))
def test_ticks_are_round_equally_far_apart_and_reach_across_most_of_the_axis(end: float) -> None:
    axis = axis_from_zero("", end)
    assert 2 <= len(axis.ticks) <= 6
    assert axis.ticks[0] == (0.0, "0")
    places = [axis.place(tick.value) for tick in axis.ticks]
    steps = [after - before for before, after in itertools.pairwise(places)]
    assert max(steps) - min(steps) < 0.01
    assert places[-1] > 60
    assert axis.ticks[1].text.strip("0.")[0] in "125"
    for tick in axis.ticks:
        assert float(tick.text) == pytest.approx(tick.value, rel=1e-3, abs=1e-12)


@given(st.floats(min_value=1e-3, max_value=1e6), st.floats(min_value=1.0, max_value=1e5))
def test_a_logarithmic_axis_holds_its_values_and_has_two_numbers_to_read_it_by(
    low: float, ratio: float
) -> None:
    axis = log_axis("", low, low * ratio)
    assert axis.start < low <= low * ratio < axis.end
    assert 2 <= len(axis.ticks) <= 12
    assert all(axis.start <= tick.value <= axis.end * (1 + 1e-9) for tick in axis.ticks)
    assert len({tick.text for tick in axis.ticks}) == len(axis.ticks)


def test_a_logarithmic_axis_places_equal_ratios_equally_far_apart() -> None:
    axis = Axis("", 1, 16, (), log=True)
    assert [axis.place(value) for value in (0.5, 1, 2, 4, 16, 99)] == [0, 0, 25, 50, 100, 100]


def test_an_axis_on_which_nothing_took_time_has_one_tick() -> None:
    assert round_ticks(0.0, 0.0) == ((0.0, "0"),)
    assert axis_from_zero("", 0.0).place(5) == 0


def test_ticks_that_would_touch_are_left_out_but_never_the_last() -> None:
    axis = axis_from_zero("", 100)
    kept = legible([*axis.ticks, axis.ticks[-1]._replace(value=97.0)], axis)
    assert [tick.value for tick in kept] == [0, 20, 40, 60, 80, 97]


def test_an_interval_far_beyond_its_value_does_not_flatten_the_rest() -> None:
    wide = [Figure(value=10, low=1, high=100), Figure(value=5, low=4, high=6)]
    assert axis_end(wide) == 18
    assert cut_off_note(wide)
    tame = [figure(10.0), figure(5.0)]
    assert axis_end(tame) == pytest.approx(11)
    assert not cut_off_note(tame)


def test_words_name_the_cells_of_the_smallest_and_the_largest_value() -> None:
    assert extremes(["a", "b", "c"], [2.0, None, 1.0], "s") == "From 1.00 s (c) to 2.00 s (a)."
    assert extremes(["a"], [2.0], "s") == "a: 2.00 s."
    assert extremes(["a"], [None], "s") == "No value is known."


# Sync beside async


def test_each_dot_is_one_workflow_in_scenario_seconds(played: Played) -> None:
    panel = rows(played.chart(latency_throughput))
    shapes = {"ok": "filled", "degraded": "hollow", "failed": "cross"}
    cells = about(played.summary).cells
    for row, cell in zip(panel.rows, cells, strict=True):
        wanted = sorted(
            ((one.done - one.ready) / SECOND / SCALE, shapes[one.outcome])
            for one in played.data.workflows
            if one.cell == cell.id
        )
        seen = sorted((dot.value, dot.shape) for dot in row.dots)
        assert [shape for _, shape in seen] == [shape for _, shape in wanted]
        assert [at for at, _ in seen] == pytest.approx([at for at, _ in wanted])
        assert {dot.look for dot in row.dots} <= {MODE_LOOKS[cell.mode], "vermillion"}
    shown = Counter(dot.shape for row in panel.rows for dot in row.dots)
    assert shown["filled"]
    assert shown["hollow"], "the case is worth testing"


def test_medians_and_throughputs_are_those_of_the_summary(made: Played) -> None:
    chart = made.chart(latency_throughput)
    assert [row.label for row in rows(chart).rows] == [
        "sync · none", "async 2 · none", "async 8 · none",
        "sync · full-jitter", "async 2 · full-jitter", "async 8 · full-jitter",
    ]  # fmt: skip
    throughput = rows(chart, 1)
    for latency, rate, cell in zip(
        rows(chart).rows, throughput.rows, made.summary.cells, strict=True
    ):
        assert latency.interval == in_seconds(cell.success_latency_p50_s, made.summary)
        (bar,) = rate.bars
        wanted = cell.throughput.workflows_per_s
        assert wanted
        assert bar.start == 0
        assert bar.end == pytest.approx(wanted.value * 60 * SCALE)
        assert rate.interval
        assert rate.interval.value == bar.end
    assert throughput.axis.label == "workflows a minute"
    assert [bool(row.mark) for row in rows(chart).rows] == [False] * 5 + [True]


def test_the_solid_part_of_a_throughput_bar_is_goodput(played: Played) -> None:
    cells = [make_cell(IDS[0]), make_cell(IDS[1], goodput_workflows_per_s=figure(0.1))]
    chart = drawn(latency_throughput(about(make_summary(cells), played.data)))
    good, rest = rows(chart, 1).rows[1].bars
    assert (good.pale, rest.pale) == (False, True)
    assert good.end == rest.start
    assert good.end / rest.end == pytest.approx(0.1 / 0.4)


def test_a_median_without_the_warm_up_is_said_to_be_one(played: Played) -> None:
    """The dots are all workflows."""
    for warm_up in (0, 5):
        summary = make_summary([make_cell(cell, warm_up=warm_up) for cell in IDS])
        said = drawn(latency_throughput(about(summary, played.data))).notes
        assert ("The median excludes the warm-up." in said) == bool(warm_up)


def test_the_finding_names_the_recommended_cell_and_what_it_lost(played: Played) -> None:
    counts = WorkflowCounts(started=24, ok=19, degraded=3, failed=2)
    cells = [make_cell(IDS[0]), make_cell(IDS[1]), make_cell(IDS[2], workflows=counts)]
    said = drawn(latency_throughput(about(make_summary(cells), played.data))).finding
    assert said == (
        "Async with 8 permits ran the workflows 8.00 times as fast as sync (19 of 24 workflows ok)"
    )


def test_without_a_recommendation_the_finding_prefers_success_to_speed(played: Played) -> None:
    counts = WorkflowCounts(started=24, ok=3, degraded=0, failed=21)
    cells = [make_cell(IDS[0]), make_cell(IDS[1]), make_cell(IDS[2], workflows=counts)]
    summary = make_summary(cells)
    nothing = replace(summary.recommendation, cell=None, candidate=None)
    undecided = about(replace(summary, recommendation=nothing), played.data)
    said = drawn(latency_throughput(undecided)).finding
    assert said.startswith("Async with 2 permits ran the workflows 2.00 times")


def test_many_cells_are_all_shown_and_named() -> None:
    ids = [
        f"{mode}_{count}_{retry}_attempt"
        for retry in ("none", "full-jitter", "openai-sdk")
        for mode, counts in (("sync", [1]), ("async", [1, 2, 4, 8, 16, 32]))
        for count in counts
    ]
    data = Dataset.of(make_records(ids, 1, workflows=1, in_flight=1, branches=1))
    labels = [
        row.label for row in rows(Played(make_summary(ids), data).chart(latency_throughput)).rows
    ]
    assert len(set(labels)) == 21


def test_a_histogram_is_as_high_as_its_bins_are_full() -> None:
    many = play(make_records(
        ["async_2_none_attempt"], 3, workflows=30, shape=Shape(failure_rate=0.15), time_scale=SCALE
    ))  # fmt: skip
    chart = many.chart(latency_throughput)
    (row,) = rows(chart).rows
    assert not row.dots
    (bins,) = chart.more
    values = {column.key: column.values for column in bins.columns}
    counts: Counter[Any] = Counter()
    lost: Counter[Any] = Counter()
    for start, outcome, count in zip(
        values[about(many.summary).seconds("from")], values["outcome"], values["workflows"],
        strict=True,
    ):  # fmt: skip
        assert isinstance(count, int)
        counts[start] += count
        lost[start] += count if outcome != "ok" else 0
    most = max(counts.values())
    tops: dict[float, float] = {}
    for bar in row.bars:
        tops[bar.start] = max(tops.get(bar.start, 0), bar.high)
        assert bar.end - bar.start == pytest.approx(rows(chart).axis.end / LATENCY_BINS)
        if bar.look == "vermillion":
            assert (bar.low, bar.high) == (0, lost[bar.start] / most)
    assert tops == {start: count / most for start, count in counts.items()}


# Repeats, phases and time spent


@pytest.mark.parametrize("makespans", [(430, 440), (970, 1030), (1300, 5100), (5, 450), (21, 22)])
def test_makespans_stand_on_an_axis_that_holds_them(makespans: tuple[int, int]) -> None:
    trials = [make_trial(repeat=at, end=seconds * SECOND) for at, seconds in enumerate(makespans)]
    chart = play(Records(make_run(repeats=2), [], [], [], trials, None)).chart(repeats)
    (row,) = rows(chart).rows
    assert [dot.value for dot in row.dots] == list(makespans)
    axis = rows(chart).axis
    assert row.interval
    assert row.interval.low
    assert row.interval.high
    assert axis.start < row.interval.low < row.interval.high < axis.end
    ratio = max(makespans) / min(makespans)
    assert chart.finding.startswith(
        f"Repeats of one setting differ by a factor of {ratio:.3g}"[:48]
    )


def test_every_whole_trial_is_a_dot(played: Played) -> None:
    shown = [dot for row in rows(played.chart(repeats)).rows for dot in row.dots]
    assert len(shown) == len(played.data.trials)
    nothing = Dataset.of(played.data._replace(trials=[]))
    assert repeats(about(played.summary, nothing)) is None


def test_a_phase_bar_is_as_long_as_the_mean_workflow(played: Played) -> None:
    panel = rows(played.chart(phases))
    cells = about(played.summary).cells
    for row, cell in zip(panel.rows, cells, strict=True):
        mean = in_seconds(cell.workflow_latency_s.mean, played.summary)
        assert mean is not None
        covered = sum(phase.share or 0 for phase in cell.phases.values())
        assert row.bars[-1].end == pytest.approx(covered * mean.value)
        _touch(row.bars)


def test_phases_of_any_name_are_shown_in_their_order(played: Played) -> None:
    cells = [
        replace(cell, phases={"plan": cell.phases["decompose"], "act": cell.phases["fan_out"]})
        for cell in played.summary.cells
    ]
    chart = of_summary(phases, replace(played.summary, cells=tuple(cells)))
    assert [key.text for key in chart.legend] == ["plan", "act"]


def test_the_parts_of_a_calls_time_fill_the_bar_from_end_to_end(made: Played) -> None:
    for row in rows(made.chart(time_chart)).rows:
        assert [bar.look for bar in row.bars] == [look for _, look in PART_LOOKS.values()]
        _touch(row.bars)
        assert row.bars[-1].end == pytest.approx(100)
        assert [bar.text for bar in row.bars] == ["25", "", "", "10", "35", "20", ""]


def _touch(bars: tuple[Bar, ...]) -> None:
    assert bars[0].start == 0
    for before, after in itertools.pairwise(bars):
        assert before.end == pytest.approx(after.start)


def test_a_cell_without_calls_has_no_bar() -> None:
    empty = make_cell(IDS[1], time_spent=None, call_latency_s=NOTHING)
    chart = of_summary(time_chart, make_summary([make_cell(IDS[0]), empty]))
    assert [row.label for row in rows(chart).rows] == ["sync"]
    assert time_chart(about(make_summary([empty]))) is None


def test_time_that_a_hedge_took_over_is_not_called_lost_to_failures() -> None:
    counts = AttemptCounts(
        total=150, failed=0, by_outcome={"cancelled": 6, "ok": 144}, amplification=1.04
    )
    spent = TimeSpent(
        permit_wait=0.0, backoff=0.0, failed_attempts=0.2, to_first_token=0.5, reasoning=0.0,
        answer=0.3, other=0.0,
    )  # fmt: skip
    cell = make_cell(IDS[1], attempts=counts, time_spent=spent)
    chart = of_summary(time_chart, make_summary([cell]))
    assert "Less than 1 % of the calls' time" in chart.finding
    assert "cancelled because a hedge was faster" in " ".join(chart.notes)
    looks = {bar.look for row in rows(chart).rows for bar in row.bars}
    assert "vermillion" not in looks
    assert CANCELLED_LOOK in looks
    assert Key(CANCELLED_LOOK, "cancelled attempts") in chart.legend


# Permits


def test_a_curve_a_policy_holds_the_summary_s_values(made: Played) -> None:
    chart = made.chart(permits)
    by_id = {cell.id: cell for cell in made.summary.cells}
    series = {one.name: one for one in marked(curves(chart, "throughput"))}
    for retry in ("none", "full-jitter"):
        wanted = [by_id[f"async_{count}_{retry}_attempt"].throughput for count in (2, 8)]
        assert [point.y for point in series[retry].points] == pytest.approx(
            [rate.workflows_per_s.value * 60 * SCALE for rate in wanted if rate.workflows_per_s]
        )
        assert [point.x for point in series[retry].points] == pytest.approx([2, 8], rel=0.05)
    points = [point for one in marked(curves(chart, "speed-up")) for point in one.points]
    figures = [by_id[cell].speedup_over_sync for cell in (IDS[1], IDS[2], IDS[4], IDS[5])]
    assert [(point.y, point.low, point.high) for point in points] == [
        (one.value, one.low, one.high) for one in figures if one
    ]


def test_the_permits_of_an_axis_stand_at_equal_distances_when_they_double() -> None:
    axis = curves(of_summary(permits, make_summary(PERMITS)), "throughput").x
    assert [tick.text for tick in axis.ticks] == ["2", "4", "16"]
    places = [axis.place(tick.value) for tick in axis.ticks]
    assert places[2] - places[1] == pytest.approx(2 * (places[1] - places[0]), abs=0.01)


def test_the_bound_is_what_the_makespan_would_give_at_the_critical_path(made: Played) -> None:
    chart = made.chart(permits)
    bounds = [one for one in curves(chart, "speed-up").series if one.shape == "dashed"]
    # Every synthetic critical path is .8 of its makespan, and the speed-up is the permit count.
    for bound in bounds:
        assert sorted({round(point.y, 6) for point in bound.points}) == [2 / 0.8, 8 / 0.8]
    (sync,) = curves(chart, "throughput").references
    assert sync.name == "sync"
    assert sync.value == pytest.approx(0.2 * 60 * SCALE)


def test_one_permit_count_still_has_a_bound_to_see() -> None:
    panel = curves(of_summary(permits, make_summary([IDS[0], IDS[2]])), "throughput")
    (bound,) = (one for one in panel.series if one.shape == "dashed")
    assert bound.points[0].x < 8 < bound.points[-1].x


def test_without_sync_there_is_no_speed_up_panel() -> None:
    cells = [make_cell(IDS[1], speedup_over_sync=None), make_cell(IDS[2], speedup_over_sync=None)]
    chart = of_summary(permits, make_summary(cells))
    assert [panel.title for panel in chart.panels] == [
        "throughput of workflows that succeeded (goodput)",
        "median latency of workflows that succeeded",
    ]


def test_threads_and_async_are_curves_of_their_own() -> None:
    ids = ["sync_1_none_attempt", "threads_4_none_attempt", "async_4_none_attempt"]
    chart = of_summary(permits, make_summary(ids))
    assert [key.text for key in chart.legend] == ["threads", "async"]


def test_a_cell_that_lost_workflows_is_hollow() -> None:
    counts = WorkflowCounts(started=24, ok=23, degraded=1, failed=0)
    chart = of_summary(permits, make_summary([*IDS[:2], make_cell(IDS[2], workflows=counts)]))
    (series,) = marked(curves(chart, "throughput"))
    assert [point.hollow for point in series.points] == [False, True]
    assert "Hollow: some workflows did not end ok" in " ".join(chart.notes)


def losing(cell: str, **fields: Any) -> Cell:
    """Return a fast cell that loses most of its workflows."""
    counts = WorkflowCounts(started=24, ok=3, degraded=0, failed=21)
    return make_cell(
        cell, workflows=counts, success_rate=Figure(value=0.125), slo="broken",
        goodput_workflows_per_s=figure(0.05), **fields,
    )  # fmt: skip


def test_the_line_is_goodput_and_lost_work_is_a_lighter_bar_above_it() -> None:
    summary = make_summary([IDS[0], IDS[1], losing(IDS[2])], time_scale=SCALE)
    panel = curves(of_summary(permits, summary), "throughput")
    (series,) = marked(panel)
    kept, lossy = series.points
    assert kept.lost is None
    assert lossy.y == pytest.approx(0.05 * 60 * SCALE)
    assert lossy.lost == pytest.approx(1.6 * 60 * SCALE), "all that ended"
    assert panel.y.end >= 1.8 * kept.y


def test_latencies_of_cells_that_lost_too_much_are_left_out_and_named() -> None:
    chart = of_summary(permits, make_summary([IDS[0], IDS[1], losing(IDS[2])]))
    for title in ("median latency", "speed-up"):
        (series,) = marked(curves(chart, title))
        assert len(series.points) == 1
    assert "lost too many workflows have no latency and no speed-up: async 8." in " ".join(
        chart.notes
    )


@pytest.mark.parametrize("has_lost", [True, False])
def test_marks_of_lost_work_are_explained_where_there_is_some(
    has_lost: bool, played: Played
) -> None:
    cells = [losing(IDS[2]) if has_lost and one == IDS[2] else one for one in IDS]
    subject = about(make_summary(cells), played.data)
    notes = " ".join(drawn(latency_throughput(subject)).notes)
    curves = " ".join(drawn(latency_ecdf(subject)).notes)
    assert ("degraded" in notes) == has_lost
    assert ("lost work" in notes) == has_lost
    assert ("lost too many workflows have no median: async 8 · none." in notes) == has_lost
    assert ("lost too many workflows have no curve: async 8 · none." in curves) == has_lost


def test_cells_that_were_dropped_are_marked(played: Played) -> None:
    summary = make_summary([IDS[0], make_cell(IDS[1], dropped_after=3), IDS[2]])
    said = " ".join(of_summary(permits, summary).notes)
    assert "Dropped before the end, so with wider intervals: async 2 after 3 repeats." in said
    labels = [
        row.label for row in rows(drawn(latency_throughput(about(summary, played.data)))).rows
    ]
    assert labels == ["sync", "async 2 (dropped after 3 repeats)", "async 8"]


def test_the_bars_of_all_quantities_are_said_to_go_over_repeats(made: Played) -> None:
    said = " ".join(made.chart(permits).notes)
    assert "Bars: 95\u00a0% intervals over repeats." in said


def test_the_knee_is_the_fewest_permits_with_almost_all_of_the_throughput() -> None:
    rates = {2: 1.0, 4: 1.95, 8: 2.0, 16: 1.2}
    cells = [
        make_cell(
            f"async_{count}_none_attempt",
            goodput_workflows_per_s=figure(rate),
            throughput=Throughput(workflows_per_s=figure(3 * count), calls_per_s=None),
        )
        for count, rate in rates.items()
    ]
    summary = make_summary(cells)
    (curve,) = curves_of(summary)
    found = knee(curve)
    assert found is not None
    assert found.permits == 4
    chart = of_summary(permits, summary)
    (series,) = marked(curves(chart, "throughput"))
    assert [point.ringed for point in series.points] == [False, True, False, False]
    assert "none 4." in " ".join(chart.notes)


def test_the_heat_map_has_every_pair_of_permits_and_policy(played: Played) -> None:
    goodput, lost = played.chart(heat_map).panels
    assert isinstance(goodput, HeatPanel)
    assert isinstance(lost, HeatPanel)
    assert goodput.columns == ("2", "8")
    assert [label for label, _ in goodput.rows] == ["none", "full-jitter"]
    framed = [cell for _, cells in goodput.rows for cell in cells if cell.framed]
    assert len(framed) == 1
    assert {cell.text for cell in lost.rows[1][1]} == {"0\u00a0%"}
    assert max(cell.strength for _, cells in goodput.rows for cell in cells) == 1


def test_nothing_crossed_gives_no_heat_map() -> None:
    assert heat_map(about(make_summary(IDS[:3]))) is None


# Over time


def test_attempts_over_time_show_every_policy_at_the_same_permits(played: Played) -> None:
    seen = seen_over_time(about(played.summary, played.data))
    assert [one.cell.id for one in seen] == ["async_8_none_attempt", "async_8_full-jitter_attempt"]
    panel = rows(played.chart(attempts_over_time))
    most = max(int(one.flow.every.max()) for one in seen)
    for one, row in zip(seen, panel.rows, strict=True):
        mine = [a for a in played.data.attempts if (a.cell, a.repeat) == (one.cell.id, one.repeat)]
        heights = sum(bar.high - bar.low for bar in row.bars)
        assert heights * most == pytest.approx(len(mine))
        assert row.beside == f"{one.flow.failed} of {len(mine)}"


def test_the_provider_s_outages_are_shaded_where_they_were(played: Played) -> None:
    outage = {"start": 2.0, "duration": 1.0, "every": 10.0}
    profile = {"faults": [{"outage": outage}, {"outage": None}]}
    run = msgspec.structs.replace(played.data.run, profile=profile)
    known = Played(played.summary, Dataset.of(played.data._replace(run=run)))
    assert outages_until(known.data.run.profile, 12.5) == [(2.0, 3.0), (12.0, 12.5)]
    assert outages_until(played.data.run.profile, 12.5) == []
    chart = known.chart(attempts_over_time)
    assert chart.legend[-1].text == "provider outage"
    for row in rows(chart).rows:
        assert row.bars[0] == Bar(2.0, 3.0, "outage"), "it lies behind the attempts"


def test_where_nothing_failed_there_is_nothing_over_time_to_show() -> None:
    whole = play(make_records(IDS[:2], 1))
    assert attempts_over_time(about(whole.summary, whole.data)) is None


def test_permit_lanes_hold_what_the_attempts_did_not_wait_for(played: Played) -> None:
    chart = played.chart(permit_lanes)
    for row in rows(chart).rows:
        for before, after in itertools.pairwise(row.bars):
            assert before.end <= after.start + 1e-9
    (held,) = (column for column in chart.table.columns if column.head == "held s")
    lengths = [sum(bar.end - bar.start for bar in row.bars) for row in rows(chart).rows]
    assert list(held.values) == pytest.approx(lengths)
    nothing = Dataset.of(played.data._replace(trials=[]))
    assert permit_lanes(about(played.summary, nothing)) is None


# Latency


def test_the_ecdf_reaches_one_at_the_longest_latency(played: Played) -> None:
    for panel in played.chart(latency_ecdf).panels:
        assert isinstance(panel, CurvePanel)
        for series in panel.series:
            assert series.points[0][:2] == (0, 0)
            assert series.points[-1].y == 1
            assert series.points[-1].x <= panel.x.end
    assert band(100) == pytest.approx(0.1358, abs=1e-4)


def test_the_calls_are_those_of_the_summary_s_call_latency() -> None:
    """A call that nobody wanted any more is short, and no answer."""
    whole = make_records(IDS[:2], 2, branches=3)
    calls = [
        replace(call, outcome="cancelled") if call.branch == 1 else call for call in whole.calls
    ]
    counted = play(whole._replace(calls=calls))
    panel = curves(counted.chart(latency_ecdf), "call latency")
    assert [len(series.points) for series in panel.series] == [
        cell.call_latency_s.n + 1 for cell in counted.summary.cells
    ]


def test_the_ecdf_has_every_policy_that_kept_enough_where_policies_are_compared(
    made: Played,
) -> None:
    policies = ["none", "full-jitter"]
    panel = curves(made.chart(latency_ecdf), "workflow latency")
    assert {one.name.split(" · ")[1] for one in panel.series} == set(policies)
    assert len({one.look for one in panel.series}) == 2
    cells = [make_cell(name) if "none" in name else losing(name) for name in IDS]
    chart = drawn(latency_ecdf(about(make_summary(cells), made.data)))
    names = [one.name for one in curves(chart, "workflow latency").series]
    assert names
    assert all("none" in name for name in names)
    assert "async 8 · full-jitter" in " ".join(chart.notes)


# The timeline


def test_the_timeline_shows_the_same_workflow_in_sync_and_in_async(made: Played) -> None:
    sync, run_async = same_workflow_in_both(made.summary, made.data)
    assert (sync.cell.id, run_async.cell.id) == (IDS[3], IDS[5]), "the recommended cell's policy"
    assert (sync.workflow.repeat, sync.workflow.workflow, sync.workflow.topic) == (
        run_async.workflow.repeat, run_async.workflow.workflow, run_async.workflow.topic,
    )  # fmt: skip
    chart = made.chart(timeline)
    assert [panel.title.split(":")[0] for panel in chart.panels] == [
        "sync · full-jitter", "async 8 · full-jitter",
    ]  # fmt: skip
    for at, seen in enumerate((sync, run_async)):
        panel = rows(chart, at)
        shown = [bar for row in panel.rows for bar in row.bars if bar.look != "path"]
        waterfall = Waterfalls(made.data).of(seen.workflow)
        pieces = [piece for row in waterfall.rows for piece in row.pieces]
        assert [at for bar in shown for at in (bar.start, bar.end)] == pytest.approx(
            [at / SECOND / SCALE for piece in pieces for at in (piece.start, piece.end)]
        )
        path = [bar for row in panel.rows for bar in row.bars if bar.look == "path"]
        assert sum(bar.end - bar.start for bar in path) == pytest.approx(
            waterfall.path.latency / SECOND / SCALE
        )
        assert len({row.label for row in panel.rows}) == len(panel.rows)
    assert rows(chart, 0).axis == rows(chart, 1).axis


def test_a_row_says_in_words_what_it_shows(made: Played) -> None:
    for at in (0, 1):
        for row in rows(made.chart(timeline), at).rows:
            assert row.words.startswith(f"{row.label.removesuffix(' ×').strip()}: {row.beside}, ")
            assert ("on the critical path" in row.words) == bool(row.mark)


def test_the_workflow_looked_at_is_the_median_of_those_that_went_well() -> None:
    data = Dataset.of(make_records(IDS[:3], 3, workflows=5, time_scale=SCALE))
    seen = same_workflow_in_both(make_summary(IDS[:3], time_scale=SCALE), data)[-1]
    took = sorted(w.done - w.ready for w in data.workflows if w.cell == IDS[2])
    assert seen.workflow.done - seen.workflow.ready == took[len(took) // 2]


def test_without_a_sync_cell_the_timeline_shows_async_alone(played: Played) -> None:
    alone = Played(make_summary([IDS[1], IDS[2]], time_scale=SCALE), played.data)
    seen = same_workflow_in_both(alone.summary, alone.data)
    assert [one.cell.id for one in seen] == [IDS[2]]
    assert len(alone.chart(timeline).panels) == 1


def test_a_fan_out_of_many_branches_shows_the_telling_rows_and_counts_the_rest() -> None:
    data = Dataset.of(make_records(IDS[:2], 1, workflows=1, branches=60))
    chart = Played(make_summary(IDS[:2]), data).chart(timeline)
    labels = [row.label for row in rows(chart, 1).rows]
    assert len(labels) == MOST_ROWS
    assert labels[-1] == "synthesize"
    assert f"{62 - MOST_ROWS} more calls: harness trace RUN" in " ".join(chart.notes)


# What can go wrong


def test_a_run_in_which_everything_failed_praises_nothing() -> None:
    hopeless = play(make_records(IDS[:3], 2, shape=Shape(failure_rate=1.0)))
    found = charts_of(*hopeless)
    assert [name for name, chart in found.items() if chart is None] == [
        "tuned-settings", "latency-ecdf", "limits", "heat-map"
    ]  # fmt: skip
    for name in ("latency-throughput", "permits"):
        assert "no workflow ended ok" in drawn(found[name]).finding


def test_a_run_that_was_stopped_at_once_has_no_chart() -> None:
    nothing = Throughput(workflows_per_s=None, calls_per_s=None)
    cells = [
        make_cell(
            cell, time_spent=None, throughput=nothing, goodput_workflows_per_s=None,
            workflow_latency_s=NOTHING,
        )
        for cell in IDS
    ]  # fmt: skip
    stopped = Dataset(make_run(IDS), [], [], [], [], None)
    assert not any(charts_of(make_summary(cells), stopped).values())


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_any_mix_of_missing_figures_makes_a_chart(data: st.DataObject) -> None:
    maybe = st.none() | st.floats(min_value=1e-3, max_value=1e3).map(figure)

    def any_cell(cell: str) -> Cell:
        p50 = data.draw(st.none() | st.floats(min_value=1e-3, max_value=1e3))
        latency: Distribution = NOTHING if p50 is None else distribution(p50)
        return make_cell(
            cell, makespan_s=data.draw(maybe), workflow_latency_s=latency, call_latency_s=latency,
            speedup_over_sync=data.draw(maybe),
            critical_path_bound_s=data.draw(st.sampled_from([None, 0.0, 0.01, 9.0])),
            throughput=Throughput(workflows_per_s=data.draw(maybe), calls_per_s=None),
            time_spent=data.draw(st.sampled_from([None, make_cell().time_spent])),
        )  # fmt: skip

    summary = make_summary([any_cell(cell) for cell in IDS[:3]])
    records = make_records(IDS[:3], 1, workflows=1, branches=1)
    for chart in charts_of(summary, records).values():
        assert chart is None or chart.panels


def test_notes_over_permits_name_only_what_is_drawn() -> None:
    ids = ["async_2_none_attempt", "async_8_none_attempt"]
    lines = " ".join(of_summary(permits, make_summary(ids)).notes)
    assert "Dotted" not in lines
    assert "Dashed" in lines
    hopeless = [
        make_cell(
            cell, goodput_workflows_per_s=Figure(value=0.0), success_rate=Figure(value=0.0),
            speedup_over_sync=None, success_latency_p50_s=None,
        )
        for cell in ids
    ]  # fmt: skip
    lines = " ".join(of_summary(permits, make_summary(hopeless)).notes)
    assert not any(word in lines for word in ("Bars", "Dotted", "Dashed"))
    assert "Dotted: sync." in " ".join(of_summary(permits, make_summary(IDS)).notes)
    serial = [
        name.replace("sync_", "serial_", 1) if name.startswith("sync_") else name for name in IDS
    ]
    assert "Dotted: serial." in " ".join(of_summary(permits, make_summary(serial)).notes)


def test_no_chart_is_named_after_a_mode() -> None:
    assert not any("sync" in chart.name or "threads" in chart.name for chart in CHARTS)


def test_whole_numbers_are_shown_whole_and_repeats_from_one(played: Played) -> None:
    (every,) = played.chart(latency_throughput).more
    columns = {column.head: column for column in every.shown}
    assert columns["repeat"].shown(columns["repeat"].values[0]).text == "1"
    assert "repeat" in every.csv(simulated=False).splitlines()[0].split(",")
