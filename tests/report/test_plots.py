"""Charts drawn with matplotlib: the files, and that each mark stands where its value is."""

from __future__ import annotations

import warnings
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from harness.analysis.model import Summary
from harness.analysis.selection import Dataset
from harness.records.errors import StorageError
from harness.report.charts.catalogue import CHARTS
from harness.report.charts.model import (
    LOOKS,
    Chart,
    CurvePanel,
    Point,
    Reference,
    RowPanel,
    Series,
)
from harness.report.plots.draw import RC, draw_chart, save_plot
from harness.report.plots.panels import spread_apart
from harness.store.run_directory import Records
from tests.analysis.played import Shape, make_records
from tests.report.subjects import charts_of, draw_all
from tests.report.summaries import make_summary

pytestmark = pytest.mark.plots

IDS = (
    "sync_1_none_attempt", "async_2_none_attempt", "async_8_none_attempt",
    "sync_1_full-jitter_attempt", "async_2_full-jitter_attempt", "async_8_full-jitter_attempt",
)  # fmt: skip
SCALE = 0.05
NOTE = f"Simulated at time scale {SCALE:g}: durations are in scenario seconds."


@pytest.fixture(scope="module")
def records() -> Records:
    shape = Shape(failure_rate=0.2)
    return Dataset.of(make_records(IDS, 2, workflows=5, branches=3, shape=shape, time_scale=SCALE))


@pytest.fixture(scope="module")
def summary() -> Summary:
    return make_summary(IDS, time_scale=SCALE)


@pytest.fixture(autouse=True)
def style() -> Iterator[None]:
    with mpl.rc_context(RC):
        yield


def chart(summary: Summary, records: Records, name: str) -> Chart:
    found = charts_of(summary, records)[name]
    assert found is not None
    return found


def text_of(figure: Figure) -> str:
    return " ".join(" ".join(text.get_text().split()) for text in figure.texts)


# Files


@pytest.fixture(scope="module")
def written(
    summary: Summary, records: Records, tmp_path_factory: pytest.TempPathFactory
) -> list[Path]:
    return draw_all(summary, records, tmp_path_factory.mktemp("run"))


def test_every_chart_is_written_as_svg_and_png(written: list[Path]) -> None:
    assert [path.name for path in written] == [
        f"{chart.name}-simulated.{kind}"
        for chart in CHARTS
        for kind in ("svg", "png")
        if chart.name not in ("tuned-settings", "phases", "limits")
    ]
    for path in written:
        assert path.parent.name == "plots"
        if path.suffix == ".png":
            header = path.read_bytes()[:24]
            assert header[:8] == b"\x89PNG\r\n\x1a\n"
            assert int.from_bytes(header[16:20], "big") == 1350, "9 inches at 150 dots an inch"


def test_every_svg_keeps_its_text_and_says_that_it_was_simulated(
    summary: Summary, records: Records, written: list[Path]
) -> None:
    described = {name: one.alt for name, one in charts_of(summary, records).items() if one}
    for path in written:
        if path.suffix == ".svg":
            said = " ".join("".join(ET.parse(path).getroot().itertext()).split())
            assert NOTE in said, path.name
            assert "synthetic" in said
            assert " ".join(described[path.stem.removesuffix("-simulated")].split()) in said, (
                "for those who do not see it"
            )


def test_a_live_run_is_not_called_simulated(records: Records) -> None:
    live = make_summary(IDS, simulated=False, time_scale=1.0)
    for found in charts_of(live, records).values():
        if found is not None:
            assert "imulated" not in text_of(draw_chart(found, live))


def test_drawing_again_gives_the_same_bytes_whatever_matplotlib_is_set_to(
    summary: Summary, records: Records, written: list[Path], tmp_path: Path
) -> None:
    with mpl.rc_context({"font.size": 31.0, "svg.hashsalt": "other"}):
        again = draw_all(summary, records, tmp_path)
        assert mpl.rcParams["font.size"] == 31.0, "and it stays set to that"
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in written]


def test_a_chart_that_has_nothing_to_show_any_more_is_removed(
    records: Records, tmp_path: Path
) -> None:
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "permits-simulated.svg").write_text("from an earlier drawing")
    only_sync = make_summary([cell for cell in IDS if cell.startswith("sync")], time_scale=SCALE)
    names = {path.stem for path in draw_all(only_sync, records, tmp_path)}
    assert {name.removesuffix("-simulated") for name in names} == {
        "latency-throughput", "latency-ecdf", "time-spent", "timeline", "permit-lanes",
        "attempts-over-time", "repeats",
    }  # fmt: skip
    assert {path.stem for path in (tmp_path / "plots").iterdir()} == names


def test_a_directory_that_cannot_be_written_is_one_clear_error(
    summary: Summary, records: Records, tmp_path: Path
) -> None:
    (tmp_path / "plots").write_text("in the way")
    with pytest.raises(StorageError, match="plots: cannot be written"):
        draw_all(summary, records, tmp_path)


# Marks


@pytest.mark.parametrize(
    "name", ["latency-throughput", "time-spent", "timeline", "attempts-over-time"]
)
def test_a_bar_stands_where_its_values_are(summary: Summary, records: Records, name: str) -> None:
    found = chart(summary, records, name)
    for axes, panel in zip(draw_chart(found, summary).axes, found.panels, strict=True):
        assert isinstance(panel, RowPanel)
        drawn = sorted(
            (round(box[:, 0].min(), 9), round(box[:, 0].max(), 9), round(np.ptp(box[:, 1]), 9))
            for collection in axes.collections
            if isinstance(collection, PolyCollection)
            for box in (np.asarray(path.vertices) for path in collection.get_paths())
        )
        wanted = sorted(
            (round(bar.start, 9), round(bar.end, 9), round(0.78 * (bar.high - bar.low), 9))
            for row in panel.rows
            for bar in row.bars
        )
        assert np.array(drawn) == pytest.approx(np.array(wanted))
        assert axes.get_xlim() == (panel.axis.start, panel.axis.end)


def test_dots_and_intervals_stand_where_their_values_are(
    summary: Summary, records: Records
) -> None:
    found = chart(summary, records, "latency-throughput")
    axes, panel = draw_chart(found, summary).axes[0], found.panels[0]
    assert isinstance(panel, RowPanel)
    scattered = [c for c in axes.collections if str(c.get_label()).split()[0] in LOOKS | SHAPES]
    drawn = sorted(float(x) for c in scattered for x in np.asarray(c.get_offsets())[:, 0])
    assert drawn == pytest.approx(sorted(dot.value for row in panel.rows for dot in row.dots))
    assert [label.get_text() for label in axes.get_yticklabels()][::-1] == [
        row.label for row in panel.rows
    ]
    assert len(axes.containers) == len(panel.rows)


SHAPES: dict[str, Any] = dict.fromkeys(("filled", "hollow", "cross"))


@pytest.mark.parametrize("name", ["permits", "latency-ecdf"])
def test_a_curve_goes_through_its_points_and_has_its_name_at_its_end(
    summary: Summary, records: Records, name: str
) -> None:
    found = chart(summary, records, name)
    for axes, panel in zip(draw_chart(found, summary).axes, found.panels, strict=True):
        assert isinstance(panel, CurvePanel)
        lines = [np.asarray(line.get_xydata()) for line in axes.get_lines()]
        for series in panel.series:
            points = np.array([(point.x, point.y) for point in series.points])
            assert any(line.shape == points.shape and np.allclose(line, points) for line in lines)
        names = {text.get_text() for text in axes.texts}
        assert names == {*(one.name for one in panel.series), *(r.name for r in panel.references)}
        assert axes.get_xscale() == ("log" if panel.x.log else "linear")
        assert [tick.get_text() for tick in axes.get_xticklabels()] == [
            tick.text for tick in panel.x.ticks
        ]


def test_clouds_loose_points_intervals_of_both_axes_and_vertical_lines_are_drawn(
    summary: Summary, records: Records
) -> None:
    found = chart(summary, records, "permits")
    panel = found.panels[0]
    assert isinstance(panel, CurvePanel)
    middle = Point(4.0, 1.0, 0.5, 1.5, left=3.0, right=6.0)
    corners = (Point(2.0, 0.5), middle)
    series = (
        Series("dots", "blue", corners, "cloud"), Series("plain", "green", corners, "line"),
        Series("loose", "dark", (middle,), "loose"),
    )  # fmt: skip
    made = panel._replace(series=series, references=(), verticals=(Reference("cap", 5.0),))
    (axes,) = draw_chart(found._replace(panels=(made,)), summary).axes
    (dots,) = [one for one in axes.collections if one.get_label() == "dots"]
    assert np.asarray(dots.get_offsets()).tolist() == [[2.0, 0.5], [4.0, 1.0]]
    lines = {str(line.get_label()): np.asarray(line.get_xydata()) for line in axes.get_lines()}
    assert lines["plain"].tolist() == [[2.0, 0.5], [4.0, 1.0]]
    assert set(lines["cap"][:, 0]) == {5.0}
    (bars,) = axes.containers
    ends = [collection.get_segments()[0].tolist() for collection in bars[2]]
    assert ends == [[[3.0, 1.0], [6.0, 1.0]], [[4.0, 0.5], [4.0, 1.5]]]


def test_a_point_that_lost_work_is_hollow_and_a_knee_is_ringed(
    summary: Summary, records: Records
) -> None:
    found = chart(summary, records, "permits")
    panel = found.panels[0]
    assert isinstance(panel, CurvePanel)
    at = next(at for at, one in enumerate(panel.series) if one.shape == "marked")
    series = list(panel.series)
    points = series[at].points
    series[at] = series[at]._replace(points=(points[0]._replace(hollow=True), *points[1:]))
    lossy = found._replace(panels=(panel._replace(series=tuple(series)),))
    (axes,) = draw_chart(lossy, summary).axes
    faces = {line.get_markerfacecolor() for line in axes.get_lines()}
    assert "white" in faces
    rings = [line for line in axes.get_lines() if line.get_label() == "ring"]
    assert len(rings) == sum(point.ringed for one in series for point in one.points) > 0


def test_a_heat_map_has_every_text(summary: Summary, records: Records) -> None:
    goodput, lost = draw_chart(chart(summary, records, "heat-map"), summary).axes
    assert len(goodput.texts) == len(lost.texts) == 4
    assert [tick.get_text() for tick in goodput.get_yticklabels()] == ["none", "full-jitter"]
    assert [tick.get_text() for tick in goodput.get_xticklabels()] == ["2", "8"]


def test_every_colour_of_a_chart_is_in_its_key(summary: Summary, records: Records) -> None:
    for name in ("time-spent", "timeline", "attempts-over-time"):
        found = chart(summary, records, name)
        (legend,) = draw_chart(found, summary).legends
        assert [text.get_text() for text in legend.get_texts()] == [k.text for k in found.legend]
        looks = {bar.look for p in found.panels if isinstance(p, RowPanel)
                 for row in p.rows for bar in row.bars}  # fmt: skip
        assert looks <= {key.look for key in found.legend}


def test_many_rows_are_labelled_only_as_far_as_they_can_be_read() -> None:
    ids = ["async_64_none_attempt"]
    records = make_records(ids, 1, workflows=4, in_flight=4, branches=60)
    made = make_summary(ids)
    (axes,) = draw_chart(chart(made, records, "permit-lanes"), made).axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels[0] == "permit 64"
    assert len(labels) <= 64


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


def test_text_of_any_language_and_any_character_is_drawn_without_a_warning(
    summary: Summary, records: Records, tmp_path: Path
) -> None:
    topic = "海の波 🌊 $x$ \a\x1b[2J\0"
    workflows = [msgspec.structs.replace(one, topic=topic) for one in records.workflows]
    told = chart(summary, Dataset.of(records._replace(workflows=workflows)), "timeline")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        svg, _ = save_plot(told, "timeline", summary, tmp_path)
    ET.parse(svg)
    text = svg.read_text()
    assert "海の波 🌊 $x$" in text
    assert "\\x07" in text
