"""The charts of a twin: each fitted curve over the attempts that it was fitted to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from harness.report.charts.model import (
    Axis,
    Chart,
    CurvePanel,
    Key,
    Point,
    Reference,
    Series,
    Tick,
    axis_from_zero,
    legible,
    log_axis,
    round_ticks,
    scattered,
)
from harness.report.tables import Column, Table
from harness.report.wording import counted, sentence, whole_number
from harness.twin.twin_curves import FittedCurve, LengthCounts, LimitCounts, Places, TwinCurves

MOST_LENGTHS = 10
"""The most panels of lengths."""
_FAR = 0.005
"""The share of the points at either end of an axis that may lie beyond it."""
_WIDE = 24
"""A range up to a larger number in flight has a logarithmic axis."""
_BETWEEN = 8
"""Points of a straight piece of a curve on a logarithmic axis."""
_GAP = 10.0
"""Percent of an axis between the texts of ticks, also on a narrow screen."""
_WITHOUT = "The fitted cost of contexts and prompts is taken off the points and is not in the line."
_LEGEND = (
    Key("blue", "attempts"),
    Key("vermillion", "fitted", line="line"),
    Key("vermillion", "continued, not measured", line="dashed"),
)


def pace_chart(curves: TwinCurves) -> Chart:
    """Return the time per token against the number of attempts that decode."""
    pace = _scaled(curves.pace, 1000)
    panel, notes = _fitted_panel(pace, "", "attempts that decode at once", "ms a token")
    return Chart(
        "Time per token by the number of attempts that decode",
        "",
        "Milliseconds per token of each attempt, over the mean number of attempts that decoded "
        "at the same time, with the fitted line.",
        (
            _drawn(pace, "its mean number in flight and its mean time per token"),
            *[_WITHOUT] * any(part.name == "prompts" for part in curves.parts),
            *notes,
        ),
        (panel,),
        (*_LEGEND, Key("vermillion", "knots", marker=True)),
        Table(
            "pace",
            "The fitted time per token at the knots",
            (
                Column("decoding", "decoding", [x for x, _ in pace.knots]),
                Column("ms a token", "ms_a_token", [y for _, y in pace.knots]),
            ),
        ),
    )


def ttft_chart(curves: TwinCurves) -> Chart | None:
    """Return the time to first token against requests that wait and input tokens.

    None if responses came as a whole.
    """
    waiting, inputs = curves.ttft_waiting, curves.ttft_input
    if waiting is None or inputs is None:
        return None
    loads, load_notes = _fitted_panel(
        waiting, "by load", "requests that wait for their first token", "seconds", counts=True,
        log=True,
    )  # fmt: skip
    prompts, prompt_notes = _fitted_panel(
        inputs, "by prompt", "input tokens", "seconds", log=True, by_number=False
    )
    notes = [
        _drawn(waiting, "its time to first token, the request itself counted among those that wait")
    ]
    notes.append(
        "The line is the median: by load with the median prompt, by prompt with the median load."
    )
    if curves.slots is not None:
        notes.append(
            f"Points include the time in the queue for one of {curves.slots} slots; the line is "
            "that of a request that has a slot."
        )
    return Chart(
        "Time to first token by load and by prompt",
        "",
        "Seconds to the first token of each attempt, over the number of requests that wait and "
        "over input tokens, with the fitted median.",
        (*notes, *load_notes, *prompt_notes),
        (loads, prompts),
        _LEGEND,
        Table(
            "ttft",
            "The fitted median of the time to first token, by load",
            (
                Column("waiting", "waiting", [x for x, _ in waiting.knots]),
                Column("median s", "median_s", [y for _, y in waiting.knots]),
            ),
        ),
        across=2,
    )


def length_chart(curves: TwinCurves) -> Chart | None:
    """Return the lengths by setting; None if none were fitted."""
    shown = curves.lengths[:MOST_LENGTHS]
    if not shown:
        return None
    is_cut = any(sum(one.cut) for one in shown)
    left_out = len(curves.lengths) - len(shown)
    return Chart(
        "Lengths of reasoning and answers by setting",
        "",
        "Tokens of reasoning and answers by the setting of the phase: how many there were of each "
        "length, and the fitted log-normal.",
        (
            "The same answer in several settings counts once.",
            *["Cut by max_tokens: at least so long. The fit takes that into account."] * is_cut,
            *([f"Not shown: {left_out} more; they are in the table."] if left_out else []),
        ),
        tuple(map(_length_panel, shown)),
        (
            Key("blue", "measured"),
            *[Key("orange", "cut by max_tokens")] * is_cut,
            Key("vermillion", "fitted log-normal", line="line"),
        ),
        Table(
            "lengths",
            "Lengths in tokens",
            (
                Column("setting", "setting", [one.setting for one in curves.lengths]),
                Column("part", "part", [one.part for one in curves.lengths]),
                Column("median", "median", [one.median for one in curves.lengths]),
                Column("sigma", "sigma", [one.sigma for one in curves.lengths]),
                Column("count", "count", [sum(one.counts) for one in curves.lengths]),
                Column("cut", "cut", [sum(one.cut) for one in curves.lengths]),
            ),
        ),
        across=2,
    )


def limit_chart(curves: TwinCurves) -> Chart:
    """Return admissions and refusals by the number that was in service."""
    limits = curves.limits
    has_cap = any(one.cap is not None for one in limits)
    rows = [(one, level) for one in limits for level in range(len(one.admitted))]
    return Chart(
        "Admissions and refusals by the number in service",
        "",
        "Requests that were admitted or refused, by the number in service when they came.",
        ("Dotted: from the cap on, requests are refused.",) * has_cap,
        tuple(map(_limit_panel, limits)),
        (
            Key("blue", "admitted"),
            Key("vermillion", "refused with 429"),
            *[Key("dark", "cap", line="reference")] * has_cap,
        ),
        Table(
            "limits",
            "Requests by the number in service when they came",
            (
                Column("in service", "in_service", [level for _, level in rows]),
                Column("when", "when", [_period(one) or None for one, _ in rows]),
                Column("admitted", "admitted", [one.admitted[level] for one, level in rows]),
                Column("refused", "refused", [one.refused[level] for one, level in rows]),
            ),
        ),
        across=len(limits),
    )


def _scaled(curve: FittedCurve, by: float) -> FittedCurve:
    def scaled(places: Places) -> Places:
        return tuple((x, y * by) for x, y in places)

    return FittedCurve(
        scaled(curve.measured), curve.attempts, scaled(curve.knots), scaled(curve.beyond)
    )


def _drawn(curve: FittedCurve, what: str) -> str:
    count = len(curve.measured)
    if count == curve.attempts:
        return f"Points: {count:,} attempts, each with {what}."
    return (
        f"Points: {count:,} of {curve.attempts:,} attempts, taken evenly along the axis, each with "
        f"{what}."
    )


def _fitted_panel(
    curve: FittedCurve, title: str, x_label: str, y_label: str, *, counts: bool = False,
    log: bool = False, by_number: bool = True,
) -> tuple[CurvePanel, list[str]]:  # fmt: skip
    """Return a panel and its notes.

    `counts`: x is a whole number, so points are spread around it. `log`: the y axis is logarithmic.
    `by_number`: x is a number of requests, so knots have markers.
    """
    y, far = _y_axis(curve, y_label, log=log)
    name = sentence(title or "all attempts")
    notes = [f"{name}: {counted(far, 'point')} beyond the axis, drawn at its edge."] if far else []
    points = curve.measured
    x = _x_axis(curve, x_label) if by_number else axis_from_zero(x_label, curve.beyond[-1][0])
    if counts:
        points = tuple(
            (at + 0.6 * scattered(number), value) for number, (at, value) in enumerate(points)
        )
        notes.append(f"{name}: points of one number are spread sideways.")
    cloud = Series("attempts", "blue", _points(points), "cloud")
    fitted = Series("fitted", "vermillion", _points(_along(curve.knots, x, y)), "line")
    beyond = Series("continued", "vermillion", _points(_along(curve.beyond, x, y)), "dashed")
    knots = Series("knots", "vermillion", _points(curve.knots), "loose")
    series = (cloud, fitted, beyond, *([knots] * by_number))
    return CurvePanel(title, x, y, series), notes


def _points(places: Places) -> tuple[Point, ...]:
    return tuple(Point(x, y) for x, y in places)


def _x_axis(curve: FittedCurve, label: str) -> Axis:
    end = curve.beyond[-1][0]
    if end > _WIDE:
        ticks = [2**power for power in range(int(math.log2(end)) + 1)]
        return Axis(label, 0.8, end, tuple(Tick(at, str(at)) for at in ticks), log=True)
    return axis_from_zero(label, end)


def _y_axis(curve: FittedCurve, label: str, *, log: bool) -> tuple[Axis, int]:
    """Return the axis, and how many points are beyond it."""
    values = sorted(y for _, y in curve.measured)
    fitted = [y for _, y in (*curve.knots, *curve.beyond)]
    few = math.floor(_FAR * len(values))
    high = max([*values[: len(values) - few][-1:], *fitted])
    if not log:
        axis = axis_from_zero(label, 1.1 * high)
        return axis, sum(value > axis.end for value in values)
    low = min([*values[few:][:1], *fitted])
    axis = log_axis(label, low, high)
    return axis, sum(not axis.start <= value <= axis.end for value in values)


def _along(places: Places, x: Axis, y: Axis) -> Places:
    """Insert points into straight pieces that are no straight lines on these axes."""
    if not (x.log or y.log):
        return places
    found = [places[0]]
    for (left, low), (right, high) in pairwise(places):
        for step in range(1, _BETWEEN + 1):
            share = step / _BETWEEN
            found.append((left + share * (right - left), low + share * (high - low)))
    return tuple(found)


def _length_panel(lengths: LengthCounts) -> CurvePanel:
    edges, counts = lengths.edges, lengths.counts
    middles = [math.sqrt(low * high) for low, high in pairwise(edges)]
    fitted = tuple(Point(x, y) for x, y in zip(middles, lengths.expected, strict=True))
    series = [Series("measured", "blue", _bins(edges, counts), "steps")]
    if sum(lengths.cut):
        series.append(Series("cut by max_tokens", "orange", _bins(edges, lengths.cut), "steps"))
    series.append(Series("fitted", "vermillion", fitted, "line"))
    axis = log_axis("tokens", edges[0], edges[-1])
    return CurvePanel(
        f"{lengths.setting}: {lengths.part}",
        axis._replace(ticks=legible(axis.ticks, axis, _GAP)),
        axis_from_zero("answers", 1.08 * max(*counts, *lengths.expected)),
        tuple(series),
    )


def _bins(edges: Sequence[float], counts: Sequence[int]) -> tuple[Point, ...]:
    """Return the steps of a histogram, shaded down to 0."""
    steps = [(edges[0], 0), *zip(edges[:-1], counts, strict=True), (edges[-1], 0)]
    return tuple(Point(x, count, 0, count) for x, count in steps)


def _limit_panel(limit: LimitCounts) -> CurvePanel:
    most = len(limit.admitted)
    edges = [level - 0.5 for level in range(most + 1)]
    every = round_ticks(0, most - 1)
    ticks = tuple(tick for tick in every if tick.value == int(tick.value))
    series = (
        Series("admitted", "blue", _bins(edges, limit.admitted), "steps"),
        Series("refused with 429", "vermillion", _bins(edges, limit.refused), "steps"),
    )
    cap = () if limit.cap is None else (Reference(f"cap {limit.cap}", limit.cap - 0.5),)
    highest = max(1, *limit.admitted, *limit.refused)
    title = ", ".join([*filter(None, [_period(limit)]), _cap_words(limit)])
    return CurvePanel(
        title,
        Axis("in service when the request came", edges[0], edges[-1], ticks),
        axis_from_zero("requests", 1.08 * highest),
        series,
        verticals=cap,
    )


def _cap_words(limit: LimitCounts) -> str:
    return "no cap met" if limit.cap is None else f"cap {whole_number(limit.cap)}"


def _period(limit: LimitCounts) -> str:
    if limit.start is not None:
        return f"from {limit.start:g} s on"
    return "" if limit.end is None else f"before {limit.end:g} s"
