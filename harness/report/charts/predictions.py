"""The charts of a prediction: metrics over permits, and predicted against measured values."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from typing import NamedTuple

from harness.analysis.model import Figure
from harness.records.schema import CellInfo
from harness.records.settings import one_at_a_time
from harness.report.charts.model import (
    SERIES,
    Axis,
    Chart,
    CurvePanel,
    Key,
    Point,
    Series,
    Tick,
    axis_end,
    axis_from_zero,
    cut_off_note,
    legible,
    log_axis,
)
from harness.report.charts.permit_lines import (
    LIMITS_NOTE,
    TICK_GAP,
    PermitPlaces,
    aside_of,
    lines_by_permits,
    permit_places,
)
from harness.report.prediction_text import (
    METRIC_HEADS,
    METRIC_WORDS,
    SHARE_METRICS,
    predicted_objective,
)
from harness.report.tables import Column, Table
from harness.report.wording import in_reading_order, number, percent
from harness.twin.prediction import (
    CheckedPrediction,
    CheckedValue,
    MeasuredMean,
    MeasuredMeans,
    PredictedCell,
    PredictedValue,
    Prediction,
)

_SIDE = ("ttft_p50", "success_rate")
"""The metrics that are drawn beside the objective."""


class PredictedLine(NamedTuple):
    """Settings that differ only in permits, by their permits; `measured`: those of the run."""

    name: str
    predicted: tuple[PredictedCell, ...]
    measured: tuple[CellInfo, ...]

    @property
    def cells(self) -> list[CellInfo]:
        """Every setting, predicted or measured."""
        return [*(one.info for one in self.predicted), *self.measured]


def predicted_lines(prediction: Prediction, measured: MeasuredMeans) -> list[PredictedLine]:
    """Group the settings into lines, named by the settings that vary.

    What was measured belongs to the line of its policy; without a predicted setting there is none.
    One call at a time is at 1 permit of the line with the same policy, unless modes differ.
    """
    has_mean = {cell for means in measured.values() for cell in means}
    by_id = {cell.info.id: cell for cell in prediction.cells}
    return [
        PredictedLine(
            name,
            tuple(by_id[info.id] for info in group if info.id in by_id),
            tuple(info for info in group if info.id in has_mean),
        )
        for name, group in lines_by_permits(_every_setting(prediction, has_mean), by_id)
    ]


def _every_setting(prediction: Prediction, measured: Container[str]) -> list[CellInfo]:
    """Return the settings that are predicted, and those of the run that have a mean."""
    infos = {cell.info.id: cell.info for cell in prediction.cells}
    for info in prediction.measured:
        if info.id in measured:
            infos.setdefault(info.id, info)
    return in_reading_order(infos.values())


def prediction_charts(
    prediction: Prediction, measured: MeasuredMeans, labels: Mapping[str, str], *, changed: bool
) -> Iterator[tuple[str, Chart]]:
    """Yield the charts with their names: the objective, then time to first token and success.

    `measured`: what the run measured. `labels`: the name of each setting by its id. `changed`:
    whether more than the swept settings differ from the run.
    """
    lines = predicted_lines(prediction, measured)
    shown, left_out = lines[: len(SERIES)], len(lines) - len(SERIES)
    main = predicted_objective(prediction)
    known = {name for cell in prediction.cells for name in cell.values}
    side = [name for name in _SIDE if name != main and name in known]
    for name, metrics, title in (
        ("objective", [main], f"Predicted {METRIC_WORDS[main]} by permits"),
        (
            "side-metrics",
            side,
            f"Predicted {' and '.join(METRIC_WORDS[one] for one in side)} by permits",
        ),
    ):
        if not metrics or not known:
            continue
        panels = tuple(_panel(metric, shown, measured, metrics) for metric in metrics)
        notes = [
            _marks(panels, changed=changed),
            *cut_off_note(_figures(metrics[0], shown, measured)),
        ]
        if any(info.limiter for line in shown for info in line.cells):
            notes.append(LIMITS_NOTE)
        if any(one_at_a_time(info.mode) for line in shown for info in line.cells):
            notes.append("One call at a time is drawn at 1 permit.")
        if left_out > 0:
            notes.append(f"Not drawn: {left_out} more lines; their settings are in the tables.")
        yield (
            name,
            Chart(
                title,
                "",
                f"{title}, with intervals, and what the run measured.",
                tuple(notes),
                panels,
                tuple(_keys(shown, panels)),
                _numbers(name, metrics, lines, measured, labels),
                across=len(metrics),
            ),
        )


def agreement_chart(
    check: CheckedPrediction, measured: MeasuredMeans, labels: Mapping[str, str]
) -> Chart | None:
    """Return predicted against measured values; None if nothing can be compared.

    `measured`: of the run that was predicted.
    """
    if not check.values:
        return None
    names = [one.metric for one in check.metrics]
    panels = tuple(_agreement_panel(name, check, measured.get(name, {})) for name in names)
    hollow = any(one.beyond for one in check.values)
    missed = any(not one.is_covered for one in check.values)
    title = "Predicted against measured values"
    return Chart(
        title,
        "",
        f"{title} of each setting, one panel a metric; equal values are on the diagonal.",
        (
            "Vertical: the 95\u00a0% interval of the predicted mean over many runs. Horizontal: "
            "that of the measured mean, over repeats. Whether a value is as expected allows for "
            "both.",
            *["Hollow: extrapolations."] * hollow,
        ),
        panels,
        (
            Key("blue", "measured as expected", marker=True),
            *[Key("vermillion", "measured outside the expected interval", marker=True)] * missed,
            Key("dark", "equal", line="dashed"),
        ),
        Table(
            "agreement",
            "Predicted and measured values",
            (
                Column("setting", "setting", [
                    labels[one.cell] + "*" * bool(one.beyond) for one in check.values
                ]),
                Column("metric", "metric", [METRIC_WORDS[one.metric] for one in check.values]),
                Column("predicted", "predicted", [one.predicted for one in check.values]),
                Column("expected\nin this run", "expected", [
                    f"{number(one.low)} to {number(one.high)}" for one in check.values
                ]),
                Column("measured", "measured", [
                    _figure(measured.get(one.metric, {}).get(one.cell)) or one.measured
                    for one in check.values
                ]),
                Column("error", "error", [one.error for one in check.values], signed_percent),
                Column("in the\ninterval", "covered", [
                    "yes" if one.is_covered else "NO" for one in check.values
                ]),
            ),
        ),
        across=2,
    )  # fmt: skip


def predicted_columns(cells: Sequence[PredictedCell], metrics: Sequence[str]) -> Iterator[Column]:
    """Yield a column for each metric that any of the settings has."""
    for name in metrics:
        if any(name in cell.values for cell in cells):
            values = [_figure(cell.values.get(name)) for cell in cells]
            show = percent if name in SHARE_METRICS else number
            yield Column("\n".join(METRIC_HEADS[name]), f"predicted_{name}", values, show)


def signed_percent(share: float) -> str:
    """Write an error (0.012) with its sign, `+1.2 %`."""
    text = f"{share:+.1%}".replace("%", "\u00a0%").replace("-", "−")
    return text[1:] if text[1:].startswith("0.0\u00a0") else text


def _figure(value: PredictedValue | MeasuredMean | None) -> Figure | None:
    return None if value is None else Figure(value=value.value, low=value.low, high=value.high)


def _figures(metric: str, lines: Sequence[PredictedLine], measured: MeasuredMeans) -> list[Figure]:
    """Return every predicted and measured value of a metric that is drawn."""
    means = measured.get(metric, {})
    found = [_figure(cell.values.get(metric)) for line in lines for cell in line.predicted]
    found += [_figure(means.get(info.id)) for line in lines for info in line.measured]
    return [one for one in found if one is not None]


def _panel(
    metric: str, lines: Sequence[PredictedLine], measured: MeasuredMeans, metrics: Sequence[str]
) -> CurvePanel:
    series: list[Series] = []
    places = permit_places(info for line in lines for info in line.cells)
    for at, line in enumerate(lines):
        aside = aside_of(at, len(lines))
        series += _line(metric, line, SERIES[at], (places, aside), measured.get(metric, {}))
    if metric in SHARE_METRICS:
        y = Axis("predicted share of workflows", 0, 1.04, tuple(
            Tick(share, percent(share)) for share in (0, 0.25, 0.5, 0.75, 1)
        ))  # fmt: skip
    else:
        end = 1.06 * axis_end(_figures(metric, lines, measured))
        y = axis_from_zero(f"predicted {' '.join(METRIC_HEADS[metric])}", end)
    title = METRIC_WORDS[metric] if len(metrics) > 1 else ""
    return CurvePanel(title, places.axis, y, tuple(series), verticals=places.edge)


def _line(
    metric: str, line: PredictedLine, look: str, where: tuple[PermitPlaces, float],
    measured: Mapping[str, MeasuredMean],
) -> Iterator[Series]:  # fmt: skip
    """Yield the line of the predicted settings, its ends beyond the run, and what was measured.

    Limits that adapt have a short line each. `where`: the places of settings, and how far aside
    this line is.
    """
    places, aside = where
    known = [cell for cell in line.predicted if metric in cell.values]
    for cell in known:
        if cell.info.limiter:
            point = _point(cell, metric, places.of(cell.info) * aside)
            short = tuple(Point(place, point.y) for place in places.across(cell.info))
            name = "beyond the run" if point.hollow else line.name
            yield Series(name, look, short, "dashed" if point.hollow else "line")
            yield Series(name, look, (point,), "loose")
    points = [
        _point(cell, metric, places.of(cell.info) * aside)
        for cell in known
        if not cell.info.limiter
    ]
    inside = [point for point in points if not point.hollow]
    if inside:
        yield Series(line.name, look, tuple(inside))
    below = [at for at, point in enumerate(points) if point.hollow and point.x < _first(inside)]
    above = [at for at, point in enumerate(points) if point.hollow and at not in below]
    for ends in (below, above):
        if ends:
            low, high = max(ends[0] - (ends is above), 0), ends[-1] + 1 + (ends is below)
            yield Series("beyond the run", look, tuple(points[low:high]), "dashed")
            outer = tuple(points[at] for at in ends)
            yield Series("beyond the run", look, outer, "loose")
    means = [(info, measured[info.id]) for info in line.measured if info.id in measured]
    if means:
        yield Series("measured", "dark", tuple(
            Point(places.of(info) * aside, mean.value) for info, mean in means
        ), "loose")  # fmt: skip


def _first(points: Sequence[Point]) -> float:
    return min((point.x for point in points), default=float("-inf"))


def _point(cell: PredictedCell, metric: str, place: float) -> Point:
    value = cell.values[metric]
    return Point(place, value.value, value.low, value.high, hollow=bool(cell.beyond))


def _marks(panels: Sequence[CurvePanel], *, changed: bool) -> str:
    """Return what the marks are."""
    every = [one for panel in panels for one in panel.series]
    text = "Points and lines are predicted, with 95\u00a0% intervals of the mean over many runs."
    if any(one.shape == "dashed" for one in every):
        text += " Hollow and dashed: extrapolations beyond the permits of the run."
    if any(one.look == "dark" for one in every):
        text += f" Crosses: means that a run measured{', without the changes' if changed else ''}."
    return text


def _keys(lines: Sequence[PredictedLine], panels: Sequence[CurvePanel]) -> Iterator[Key]:
    for at, line in enumerate(lines):
        yield Key(SERIES[at], f"{line.name}, predicted", marker=True)
    every = [one for panel in panels for one in panel.series]
    if any(one.shape == "dashed" for one in every):
        yield Key("blue", "extrapolated", marker=True, hollow=True)
    if any(one.look == "dark" for one in every):
        yield Key("dark", "measured", marker=True)


def _numbers(
    name: str, metrics: Sequence[str], lines: Sequence[PredictedLine], measured: MeasuredMeans,
    labels: Mapping[str, str],
) -> Table:  # fmt: skip
    cells = {cell.info.id: cell for line in lines for cell in line.predicted}
    shown = {info.id: info for line in lines for info in line.cells}
    with_mean = {cell for name in metrics for cell in measured.get(name, {})}
    rows = in_reading_order([one for one in shown.values() if one.id in {*cells, *with_mean}])
    columns = [
        Column("setting", "setting", [
            labels[info.id] + "*" * bool(info.id in cells and cells[info.id].beyond)
            for info in rows
        ]),
    ]  # fmt: skip
    for metric in metrics:
        show = percent if metric in SHARE_METRICS else number
        means = measured.get(metric, {})
        predicted = [
            _figure(cells[info.id].values.get(metric)) if info.id in cells else None
            for info in rows
        ]
        head = " ".join(METRIC_HEADS[metric])
        columns.append(Column(f"{head}\npredicted", f"predicted_{metric}", predicted, show))
        real = [_figure(means.get(info.id)) for info in rows]
        columns.append(Column(f"{head}\nmeasured", f"measured_{metric}", real, show))
    return Table(name, "Predicted and measured; *: extrapolated", tuple(columns))


def _agreement_panel(
    metric: str, check: CheckedPrediction, measured: Mapping[str, MeasuredMean]
) -> CurvePanel:
    predicted = {cell.info.id: cell.values[metric] for cell in check.prediction.cells
                 if metric in cell.values}  # fmt: skip
    values = [one for one in check.values if one.metric == metric]
    points = {one: _agreement_point(one, predicted[one.cell], measured.get(one.cell))
              for one in values}  # fmt: skip
    bounds = [at for point in points.values() for at in (
        point.x, point.y, point.low, point.high, point.left, point.right
    ) if at is not None and at > 0]  # fmt: skip
    head = " ".join(METRIC_HEADS[metric])
    if metric in SHARE_METRICS:
        ticks = tuple(Tick(share, percent(share)) for share in (0, 0.25, 0.5, 0.75, 1))
        axis = Axis("", -0.03, 1.03, ticks)
    else:
        axis = log_axis("", min(bounds), max(bounds))
        axis = axis._replace(ticks=legible(axis.ticks, axis, 2 * TICK_GAP))
    diagonal = tuple(Point(at, at) for at in (axis.start, axis.end))
    series = [Series("equal", "dark", diagonal, "dashed")]
    for look, is_covered in (("blue", True), ("vermillion", False)):
        mine = tuple(point for one, point in points.items() if one.is_covered == is_covered)
        if mine:
            series.append(Series("settings", look, mine, "loose"))
    return CurvePanel(
        head, axis._replace(label="measured"), axis._replace(label="predicted"), tuple(series)
    )


def _agreement_point(one: CheckedValue, value: PredictedValue, mean: MeasuredMean | None) -> Point:
    left, right = (None, None) if mean is None else (mean.low, mean.high)
    return Point(
        one.measured, one.predicted, value.low, value.high, hollow=bool(one.beyond), left=left,
        right=right,
    )  # fmt: skip
