from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.figure import Figure
from msgspec.structs import replace

from harness.analysis.cells import time_spent as shares_of
from harness.analysis.model import (
    AttemptCounts,
    Cell,
    Distribution,
    Summary,
    Throughput,
    TimeSpent,
    WorkflowCounts,
)
from harness.analysis.model import Figure as Estimate
from harness.analysis.selection import by_cell
from harness.analysis.summary import summarise
from harness.records.clock import SECOND
from harness.records.errors import StorageError
from harness.report.plots.draw import PLOTS, draw_all
from harness.report.plots.ecdf import latency_ecdf
from harness.report.plots.example_workflow import same_workflow_in_both
from harness.report.plots.permits import permits
from harness.report.plots.repeats import repeats
from harness.report.plots.style import PART_STYLES, RC, SERIES, axis_end, runs_out, spread_apart
from harness.report.plots.sync_async import sync_async
from harness.report.plots.time_spent import drawn_segments, time_spent_plot
from harness.report.plots.timeline import timeline
from harness.store.run_directory import Records
from tests.analysis.builders import make_attempt, make_call, make_run, make_trial
from tests.analysis.played import Shape, make_records
from tests.report.summaries import NOTHING, distribution, figure, make_cell, make_summary

IDS = (
    "sync_1_none_attempt", "async_2_none_attempt", "async_8_none_attempt",
    "sync_1_full-jitter_attempt", "async_2_full-jitter_attempt", "async_8_full-jitter_attempt",
)  # fmt: skip
SCALE = 0.05
NOTE = f"Simulated, time scale {SCALE:g}; seconds are scenario seconds."


@pytest.fixture(scope="module")
def records() -> Records:
    shape = Shape(failure_rate=0.2)
    return make_records(IDS, 2, workflows=5, branches=3, shape=shape, time_scale=SCALE)


@pytest.fixture(scope="module")
def summary() -> Summary:
    return make_summary(IDS, time_scale=SCALE)


@pytest.fixture(autouse=True)
def style() -> Iterator[None]:
    with mpl.rc_context(RC):
        yield


def bars(axes: Axes) -> dict[str, tuple[float, float]]:
    """Return where each labelled horizontal bar begins and how long it is."""
    return {
        str(container.get_label()): (patch.get_x(), patch.get_width())
        for container in axes.containers
        if isinstance(container, BarContainer)
        for patch in container.patches
    }


def intervals(axes: Axes) -> list[tuple[float, float, float, float]]:
    """Return (x0, y0, x1, y1) of each interval drawn."""
    return [
        (*segment[0], *segment[1])
        for container in axes.containers
        if isinstance(container, ErrorbarContainer)
        for collection in container.lines[2]
        for segment in collection.get_segments()
    ]


def text_of(figure: Figure) -> str:
    return " ".join(" ".join(text.get_text().split()) for text in figure.texts)


def drawn(figure: Figure | None) -> Figure:
    assert figure is not None
    return figure


# Files


@pytest.fixture(scope="module")
def written(
    summary: Summary, records: Records, tmp_path_factory: pytest.TempPathFactory
) -> list[Path]:
    return draw_all(summary, records, tmp_path_factory.mktemp("run"))


def test_every_plot_is_written_as_svg_and_png(written: list[Path]) -> None:
    names = [name for name, _ in PLOTS]
    assert [path.name for path in written] == [
        f"{name}.{kind}" for name in names for kind in ("svg", "png")
    ]
    for path in written:
        assert path.parent.name == "plots"
        if path.suffix == ".png":
            header = path.read_bytes()[:24]
            assert header[:8] == b"\x89PNG\r\n\x1a\n"
            assert int.from_bytes(header[16:20], "big") == 1350, "9 inches at 150 dots an inch"


def test_every_svg_keeps_its_text_and_says_that_it_was_simulated(written: list[Path]) -> None:
    for path in written:
        if path.suffix == ".svg":
            said = " ".join("".join(ET.parse(path).getroot().itertext()).split())
            assert NOTE in said, path.name
            assert "synthetic" in said


def test_a_live_run_is_not_called_simulated(records: Records) -> None:
    live = make_summary(IDS, simulated=False, time_scale=1.0)
    for plot in (sync_async(live, records), permits(live), time_spent_plot(live)):
        assert "imulated" not in text_of(drawn(plot))


def test_drawing_again_gives_the_same_bytes_whatever_matplotlib_is_set_to(
    summary: Summary, records: Records, written: list[Path], tmp_path: Path
) -> None:
    with mpl.rc_context({"font.size": 31.0, "svg.hashsalt": "other"}):
        again = draw_all(summary, records, tmp_path)
        assert mpl.rcParams["font.size"] == 31.0, "and it stays set to that"
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in written]


def test_a_plot_that_has_nothing_to_show_any_more_is_removed(
    records: Records, tmp_path: Path
) -> None:
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "permits.svg").write_text("from an earlier drawing")
    only_sync = make_summary([cell for cell in IDS if cell.startswith("sync")], time_scale=SCALE)
    names = {path.stem for path in draw_all(only_sync, records, tmp_path)}
    assert names == {
        "sync-async", "latency-ecdf", "time-spent", "timeline", "permit-lanes",
        "attempts-over-time", "repeats",
    }  # fmt: skip
    assert {path.stem for path in (tmp_path / "plots").iterdir()} == names


def test_a_directory_that_cannot_be_written_is_one_clear_error(
    summary: Summary, records: Records, tmp_path: Path
) -> None:
    (tmp_path / "plots").write_text("in the way")
    with pytest.raises(StorageError, match="plots: cannot be written"):
        draw_all(summary, records, tmp_path)


# Sync beside async


def test_each_dot_is_one_workflow_in_scenario_seconds(summary: Summary, records: Records) -> None:
    axes = drawn(sync_async(summary, records)).axes[0]
    dots = {str(dot.get_label()): np.asarray(dot.get_offsets())[:, 0] for dot in axes.collections}
    for cell in IDS:
        for outcome in ("ok", "degraded", "failed"):
            wanted = [
                (workflow.done - workflow.ready) / SECOND / SCALE
                for workflow in records.workflows
                if (workflow.cell, workflow.outcome) == (cell, outcome)
            ]
            seen = dots.get(f"{outcome} {cell}", np.array([]))
            assert sorted(seen) == pytest.approx(sorted(wanted))
    assert {label.split()[0] for label in dots} >= {"ok", "degraded"}, "the case is worth testing"


def test_medians_and_throughputs_are_those_of_the_summary(
    summary: Summary, records: Records
) -> None:
    latency, throughput = drawn(sync_async(summary, records)).axes
    order = [label.get_text() for label in latency.get_yticklabels()]
    assert order == [
        "sync · none", "async 2 · none", "async 8 · none",
        "sync · full-jitter", "async 2 · full-jitter", "async 8 · full-jitter",
    ]  # fmt: skip
    for row, cell in enumerate(summary.cells):
        median, rate = cell.workflow_latency_s.p50, cell.throughput.workflows_per_s
        assert median
        assert rate
        assert median.low
        assert median.high
        assert (row_of := [it for it in intervals(latency) if it[1] == row])
        assert row_of[0][::2] == pytest.approx((median.low / SCALE, median.high / SCALE))
        start, length = bars(throughput)[cell.id]
        assert start == 0
        assert length == pytest.approx(rate.value * 60 * SCALE)
        assert rate.low
        across = next(it for it in intervals(throughput) if it[1] == row)
        assert across[0] == pytest.approx(rate.low * 60 * SCALE)
    assert throughput.get_xlabel() == "workflows a minute"


def test_a_median_without_the_warm_up_is_said_to_be_one(records: Records) -> None:
    """The dots are all workflows."""
    for warm_up in (0, 5):
        cells = [make_cell(cell, warm_up=warm_up) for cell in IDS]
        said = text_of(drawn(sync_async(make_summary(cells), records)))
        assert ("The median leaves the warm-up out." in said) == bool(warm_up)


def test_the_title_names_the_recommended_cell_and_what_it_lost(records: Records) -> None:
    counts = WorkflowCounts(started=24, ok=19, degraded=3, failed=2)
    cells = [make_cell(IDS[0]), make_cell(IDS[1]), make_cell(IDS[2], workflows=counts)]
    said = text_of(drawn(sync_async(make_summary(cells), records)))
    assert "Async with 8 permits ran the workflows 8.00 times as fast as sync" in said
    assert "(19 of 24 workflows ok)" in said


def test_without_a_recommendation_the_title_prefers_success_to_speed(records: Records) -> None:
    counts = WorkflowCounts(started=24, ok=3, degraded=0, failed=21)
    cells = [make_cell(IDS[0]), make_cell(IDS[1]), make_cell(IDS[2], workflows=counts)]
    summary = make_summary(cells)
    nothing = summary.recommendation.__class__(
        cell=None, objective="makespan", because=(), lead_over_next=None,
        evidence="not enough", more_workflows_needed=None,
    )  # fmt: skip
    said = text_of(drawn(sync_async(make_summary(cells, recommendation=nothing), records)))
    assert said.startswith("Async with 2 permits ran the workflows 2.00 times")


def test_many_cells_are_cut_down_to_one_policy_and_the_plot_says_so() -> None:
    ids = [
        f"{mode}_{count}_{retry}_attempt"
        for retry in ("none", "full-jitter", "openai-sdk")
        for mode, counts in (("sync", [1]), ("async", [1, 2, 4, 8, 16, 32]))
        for count in counts
    ]
    records = make_records(ids, 1, workflows=1, in_flight=1, branches=1)
    figure = drawn(sync_async(make_summary(ids), records))
    assert len(figure.axes[0].get_yticklabels()) == 7
    assert "Of 21 cells, those with retry openai-sdk" in text_of(figure)


# Permits


def test_a_line_a_policy_holds_the_summary_s_values(summary: Summary) -> None:
    throughput, speedup, _ = drawn(permits(summary)).axes
    lines = {str(line.get_label()): line for line in throughput.get_lines()}
    by_id = {cell.id: cell for cell in summary.cells}
    for retry in ("none", "full-jitter"):
        cells = [by_id[f"async_{count}_{retry}_attempt"] for count in (2, 8)]
        wanted = [cell.throughput.workflows_per_s for cell in cells]
        assert lines[retry].get_ydata() == pytest.approx(
            [rate.value * 60 * SCALE for rate in wanted if rate]
        )
        assert np.log2(np.asarray(lines[retry].get_xdata())) == pytest.approx([1, 3], abs=0.1)
    across = sorted(it[1::2] for it in intervals(speedup))
    figures = sorted(
        (cell.speedup_over_sync.low, cell.speedup_over_sync.high)
        for cell in summary.cells
        if cell.speedup_over_sync and cell.speedup_over_sync.low and cell.speedup_over_sync.high
    )
    assert [value for pair in across for value in pair] == pytest.approx(
        [value for pair in figures for value in pair]
    )
    assert throughput.get_xscale() == "log"


def test_the_bound_is_what_the_makespan_would_give_at_the_critical_path(summary: Summary) -> None:
    throughput, speedup, _ = drawn(permits(summary)).axes
    bound = next(line for line in speedup.get_lines() if line.get_label() == "bound none")
    # Every synthetic critical path is .8 of its makespan, and the speed-up is the permit count.
    assert sorted(set(np.asarray(bound.get_ydata()).round(6))) == [2 / 0.8, 8 / 0.8]
    assert bound.get_linestyle() == "--"
    sync = next(line for line in throughput.get_lines() if line.get_label() == "sync")
    assert np.asarray(sync.get_ydata()) == pytest.approx(0.2 * 60 * SCALE)


def test_the_bars_of_latencies_are_not_said_to_go_over_repeats(summary: Summary) -> None:
    assert "of latencies over workflows, else over repeats" in text_of(drawn(permits(summary)))


def test_without_sync_there_is_no_speed_up_panel() -> None:
    cells = [make_cell(IDS[1], speedup_over_sync=None), make_cell(IDS[2], speedup_over_sync=None)]
    figure = drawn(permits(make_summary(cells)))
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "throughput", "workflow latency, median",
    ]  # fmt: skip


def test_one_permit_count_still_has_a_bound_to_see() -> None:
    axes = drawn(permits(make_summary([IDS[0], IDS[2]]))).axes[0]
    bound = next(line for line in axes.get_lines() if line.get_label() == "bound none")
    assert np.asarray(bound.get_xdata()).min() < 8 < np.asarray(bound.get_xdata()).max()


def test_threads_and_async_are_lines_of_their_own() -> None:
    ids = ["sync_1_none_attempt", "threads_4_none_attempt", "async_4_none_attempt"]
    axes = drawn(permits(make_summary(ids))).axes[0]
    assert {"threads", "async"} <= {str(line.get_label()) for line in axes.get_lines()}


# Where the time went


def test_the_parts_of_a_bar_are_the_summary_s_shares_and_fill_it(summary: Summary) -> None:
    axes = drawn(time_spent_plot(summary)).axes[0]
    found = bars(axes)
    for cell in summary.cells:
        assert cell.time_spent
        end = 0.0
        for part in PART_STYLES:
            start, length = found[f"{part} {cell.id}"]
            assert start == pytest.approx(end)
            assert length == pytest.approx(getattr(cell.time_spent, part) * 100)
            end = start + length
        assert end == pytest.approx(100)


def test_a_cell_without_calls_has_no_bar() -> None:
    empty = make_cell(IDS[1], time_spent=None, call_latency_s=NOTHING)
    axes = drawn(time_spent_plot(make_summary([make_cell(IDS[0]), empty]))).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["sync"]
    assert time_spent_plot(make_summary([empty])) is None


def test_time_that_a_hedge_took_over_is_not_called_lost_to_failures() -> None:
    counts = AttemptCounts(
        total=150, failed=0, by_outcome={"cancelled": 6, "ok": 144}, amplification=1.04
    )
    spent = TimeSpent(
        permit_wait=0.0, backoff=0.0, failed_attempts=0.2, to_first_token=0.5, reasoning=0.0,
        answer=0.3, other=0.0,
    )  # fmt: skip
    cell = make_cell(IDS[1], attempts=counts, time_spent=spent)
    said = text_of(drawn(time_spent_plot(make_summary([cell]))))
    assert "Hardly any of the calls' time was lost" in said
    assert "also those broken off because a hedge was faster" in said


# The timeline


def test_the_pieces_of_a_call_fill_it_without_gap_or_overlap(records: Records) -> None:
    attempts = {call.call_key: [] for call in records.calls}  # type: ignore[var-annotated]
    for attempt in records.attempts:
        attempts[attempt.call_key].append(attempt)
    parts = set()
    for call in records.calls:
        cut = drawn_segments(call, attempts[call.call_key])
        parts |= {piece.part for piece in cut}
        ends = [call.ready, *(piece.end for piece in cut)]
        assert [piece.start for piece in cut] == ends[:-1]
        assert ends[-1] == call.done
    assert parts == set(PART_STYLES)


def test_the_pieces_add_up_to_the_shares_of_the_summary(records: Records) -> None:
    for cell in by_cell(records):
        wanted = shares_of(cell.tried())
        assert wanted
        whole = sum(call.done - call.ready for call in cell.calls)
        spent = dict.fromkeys(PART_STYLES, 0)
        for call in cell.calls:
            of_call = [one for one in cell.attempts if one.call_key == call.call_key]
            for piece in drawn_segments(call, of_call):
                spent[piece.part] += piece.end - piece.start
        assert {part: time / whole for part, time in spent.items()} == pytest.approx(
            {part: getattr(wanted, part) for part in PART_STYLES}
        )


@pytest.mark.parametrize(
    ("fields", "parts"),
    [
        ({}, ["to_first_token", "reasoning", "answer", "other"]),
        ({"first_reasoning": None}, ["to_first_token", "answer", "other"]),
        ({"first_answer": None}, ["to_first_token", "reasoning", "other"]),
        ({"first_reasoning": None, "first_answer": None, "last_token": None}, ["other"]),
        ({"outcome": "rate_limited", "permit_granted": 5, "sent": 9},
         ["permit_wait", "other", "failed_attempts"]),
        ({"outcome": "cancelled", "sent": None}, ["other"]),
    ],
)  # fmt: skip
def test_an_attempt_is_cut_at_the_moments_it_reached(
    fields: dict[str, object], parts: list[str]
) -> None:
    attempt = make_attempt(**fields)
    cut = drawn_segments(make_call(), [attempt])
    assert [piece.part for piece in cut] == parts
    assert shares_of([(make_call(), [attempt])]), "the summary can be made of it"
    for part in PART_STYLES:
        length = sum(piece.end - piece.start for piece in cut if piece.part == part)
        wanted = getattr(shares_of([(make_call(), [attempt])]), part)
        assert length / SECOND == pytest.approx(wanted)


def test_a_permit_that_came_too_late_is_permit_wait() -> None:
    call = make_call(outcome="call_timeout", attempts=0)
    assert [piece.part for piece in drawn_segments(call, [])] == ["permit_wait"]


def test_the_timeline_shows_the_same_workflow_in_sync_and_in_async(
    summary: Summary, records: Records
) -> None:
    sync, run_async = same_workflow_in_both(summary, records)
    assert (sync.cell.id, run_async.cell.id) == (IDS[3], IDS[5]), "the recommended cell's policy"
    assert (sync.workflow.repeat, sync.workflow.workflow, sync.workflow.topic) == (
        run_async.workflow.repeat, run_async.workflow.workflow, run_async.workflow.topic,
    )  # fmt: skip
    figure = drawn(timeline(summary, records))
    assert [axes.get_title(loc="left").split(":")[0] for axes in figure.axes] == [
        "sync · full-jitter", "async 8 · full-jitter",
    ]  # fmt: skip
    for axes, seen in zip(figure.axes, (sync, run_async), strict=True):
        boxes = [
            (patch.get_x(), patch.get_width())
            for container in axes.containers
            for patch in container.patches  # type: ignore[attr-defined]
        ]
        wanted = [
            ((piece.start - seen.workflow.ready) / SECOND / SCALE,
             (piece.end - piece.start) / SECOND / SCALE)
            for call, attempts in seen.calls
            for piece in drawn_segments(call, attempts)
        ]  # fmt: skip
        assert np.array(sorted(boxes)) == pytest.approx(np.array(sorted(wanted)))
        done = next(line for line in axes.get_lines() if line.get_label() == "done")
        assert np.asarray(done.get_xdata())[0] == pytest.approx(
            (seen.workflow.done - seen.workflow.ready) / SECOND / SCALE
        )
    assert figure.axes[0].get_xlim() == figure.axes[1].get_xlim()


def test_the_workflow_looked_at_is_the_median_of_those_that_went_well() -> None:
    records = make_records(IDS[:3], 3, workflows=5, time_scale=SCALE)
    seen = same_workflow_in_both(make_summary(IDS[:3], time_scale=SCALE), records)[-1]
    took = sorted(w.done - w.ready for w in records.workflows if w.cell == IDS[2])
    assert seen.workflow.done - seen.workflow.ready == took[len(took) // 2]


def test_without_a_sync_cell_the_timeline_shows_async_alone(records: Records) -> None:
    summary = make_summary([IDS[1], IDS[2]], time_scale=SCALE)
    seen = same_workflow_in_both(summary, records)
    assert [one.cell.id for one in seen] == [IDS[2]]
    assert len(drawn(timeline(summary, records)).axes) == 1


def test_a_fan_out_of_many_branches_names_some_rows_and_always_the_last() -> None:
    ids = IDS[:2]
    records = make_records(ids, 1, workflows=1, branches=60)
    labels = [
        label.get_text()
        for label in drawn(timeline(make_summary(ids), records)).axes[1].get_yticklabels()
    ]
    assert len(labels) <= 24
    assert "synthesize" in labels


# Repeats


@pytest.mark.parametrize("makespans", [(430, 440), (970, 1030), (1300, 5100), (5, 450), (21, 22)])
def test_an_axis_of_makespans_has_two_numbers_to_read_it_by(makespans: tuple[int, int]) -> None:
    trials = [make_trial(repeat=at, end=seconds * SECOND) for at, seconds in enumerate(makespans)]
    whole = Records(make_run(repeats=2), [], [], [], trials, None)
    figure = drawn(repeats(summarise(whole), whole))
    (axes,) = figure.axes
    low, high = axes.get_xlim()
    ticks = [*axes.xaxis.get_ticklabels(), *axes.xaxis.get_ticklabels(minor=True)]
    read = [tick for tick in ticks if tick.get_text() and low <= tick.get_position()[0] <= high]
    assert len(read) >= 2


# Latency


def test_the_calls_are_those_of_the_summary_s_call_latency() -> None:
    """A call that nobody wanted any more is short, and no answer."""
    whole = make_records(IDS[:2], 2, branches=3)
    calls = [
        replace(call, outcome="cancelled") if call.branch == 1 else call for call in whole.calls
    ]
    records = whole._replace(calls=calls)
    counted = summarise(records)
    _, right = drawn(latency_ecdf(counted, records)).axes
    steps = {str(line.get_label()): len(np.asarray(line.get_ydata())) for line in right.get_lines()}
    assert steps == {cell.mode: cell.call_latency_s.n + 1 for cell in counted.cells}


# What can go wrong


def test_a_run_in_which_everything_failed_is_drawn_and_praises_nothing(tmp_path: Path) -> None:
    records = make_records(IDS[:3], 2, shape=Shape(failure_rate=1.0))
    summary = summarise(records)
    drawn_to = draw_all(summary, records, tmp_path)
    assert {path.stem for path in drawn_to} == {name for name, _ in PLOTS} - {"heat-map"}
    for plot in (sync_async(summary, records), permits(summary)):
        assert "no workflow ended ok" in text_of(drawn(plot))


def test_a_cell_that_lost_workflows_has_a_hollow_mark() -> None:
    counts = WorkflowCounts(started=24, ok=23, degraded=1, failed=0)
    figure = drawn(permits(make_summary([IDS[0], IDS[1], make_cell(IDS[2], workflows=counts)])))
    faces = {str(it.get_label()): it.get_markerfacecolor() for it in figure.axes[0].get_lines()}
    assert (faces["none at 2"], faces["none at 8"]) == (SERIES[0], "white")
    assert "Hollow: not every workflow ended ok" in text_of(figure)


def test_a_run_that_was_stopped_at_once_draws_nothing(records: Records, tmp_path: Path) -> None:
    stopped = records._replace(attempts=[], calls=[], workflows=[], trials=[])
    nothing = Throughput(workflows_per_s=None, calls_per_s=None)
    cells = [
        make_cell(
            cell, time_spent=None, throughput=nothing, goodput_workflows_per_s=None,
            workflow_latency_s=NOTHING,
        )
        for cell in IDS
    ]  # fmt: skip
    assert draw_all(make_summary(cells), stopped, tmp_path) == []


def test_an_interval_far_beyond_its_value_does_not_flatten_the_rest() -> None:
    wide = [Estimate(value=10, low=1, high=100), Estimate(value=5, low=4, high=6)]
    assert axis_end(wide) == 18
    assert runs_out(wide)
    tame = [figure(10.0), figure(5.0)]
    assert axis_end(tame) == pytest.approx(11)
    assert not runs_out(tame)


@given(
    st.lists(st.floats(min_value=0, max_value=1), min_size=1, max_size=12),
    st.floats(min_value=0.01, max_value=0.2),
)
def test_labels_at_line_ends_keep_their_order_and_do_not_overlap(
    wished: list[float], gap: float
) -> None:
    moved = spread_apart(wished, gap)
    order = sorted(range(len(wished)), key=lambda at: wished[at])
    places = [moved[at] for at in order]
    assert all(above - below >= gap - 1e-9 for below, above in pairwise(places))
    if all(above - below >= gap for below, above in pairwise(sorted(wished))):
        assert moved == pytest.approx(wished)


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_any_mix_of_missing_figures_can_be_drawn(data: st.DataObject) -> None:
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
    for plot in (sync_async(summary, records), permits(summary), time_spent_plot(summary)):
        assert plot is None or plot.axes
