"""Where the page draws bars and curves, in percent of a panel."""

from __future__ import annotations

from harness.report.charts.model import (
    Bar,
    ChartRow,
    CurvePanel,
    Point,
    Series,
    axis_from_zero,
)
from harness.report.html.draw import bar_paths, curve_paths

AXIS = axis_from_zero("", 200)


def test_bars_of_one_colour_are_one_path_and_stand_at_their_shares_of_axis_and_row() -> None:
    bars = (
        Bar(0, 50, "blue"), Bar(100, 200, "blue", low=0.25, high=0.5),
        Bar(50, 100, "blue", pale=True),
    )  # fmt: skip
    assert bar_paths(ChartRow("a", bars=bars), AXIS) == [
        ("blue", "M0 0h25v100h-25zM50 50h50v25h-50z"), ("blue light", "M25 0h25v100h-25z"),
    ]  # fmt: skip


def test_a_bar_without_a_length_is_seen() -> None:
    assert bar_paths(ChartRow("a", bars=(Bar(20, 20, "sky"),)), AXIS) == [
        ("sky", "M10 0h0.1v100h-0.1z")
    ]


def test_a_line_goes_from_point_to_point_and_steps_go_along_the_axes() -> None:
    points = (Point(0, 0), Point(100, 50, 25, 75), Point(200, 100, 75, 100))
    panel = CurvePanel("", AXIS, axis_from_zero("", 100), ())
    assert curve_paths(Series("a", "blue", points), panel) == [("marked", "M0 100L50 50L100 0")]
    band, steps = curve_paths(Series("a", "blue", points, "steps"), panel)
    assert steps == ("steps", "M0 100H50V50H100V0")
    assert band == ("band", "M50 75H100V25V0V25H50")


def test_a_cloud_is_one_path_of_dots_and_loose_points_have_no_line() -> None:
    points = (Point(0, 0), Point(100, 50))
    panel = CurvePanel("", AXIS, axis_from_zero("", 100), ())
    assert curve_paths(Series("a", "blue", points, "cloud"), panel) == [
        ("cloud", "M0 100h0M50 50h0")
    ]
    assert curve_paths(Series("a", "blue", points, "loose"), panel) == []
    assert curve_paths(Series("a", "blue", points, "line"), panel) == [("line", "M0 100L50 50")]
