"""The page of a prediction, and of its comparison with a run: one file that loads nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from harness.report.charts.predictions import (
    agreement_chart,
    predicted_columns,
    prediction_charts,
    signed_percent,
)
from harness.report.html.templating import fill_template
from harness.report.prediction_text import (
    METRIC_HEADS,
    METRIC_WORDS,
    NOTHING_WEAK,
    SHARE_METRICS,
    best_line,
    check_lines,
    extrapolations,
    marked_names,
    prediction_labels,
    quality_line,
    trust_lines,
    weak_lines,
)
from harness.report.tables import Column, Table, csv_of_scenario
from harness.report.wording import counted, percent
from harness.twin.prediction import CheckedPrediction, MeasuredMeans, Prediction

_SHOWN_NOTES = 4
"""Of more notes, the others are folded."""


def render_prediction_page(
    found: Prediction | CheckedPrediction, measured: MeasuredMeans, changes: Sequence[str] = ()
) -> str:
    """Return the page. Equal predictions give equal text.

    `measured`: what the run measured: that of the twin, or the predicted one of a comparison.
    `changes`: of the scenario, `dotted.key=value`.
    """
    check = found if isinstance(found, CheckedPrediction) else None
    prediction = found if isinstance(found, Prediction) else found.prediction
    labels = prediction_labels(prediction)
    return fill_template(
        "prediction.html",
        ("script.js", "crosshair.js"),
        prediction=prediction,
        check=check,
        changes=changes,
        settings=counted(len(prediction.cells), "setting"),
        lead=best_line(prediction, labels) if check is None else quality_line(check),
        about=[] if check is None else list(check_lines(check)),
        notes=[
            *(one[:1].upper() + one[1:] for one in prediction.notes),
            *extrapolations(prediction, labels),
        ],
        shown_notes=_SHOWN_NOTES,
        agreement=None if check is None else agreement_chart(check, measured, labels),
        errors=None if check is None else _error_table(check),
        weak=[] if check is None else weak_lines(check),
        nothing_weak=NOTHING_WEAK,
        charts=list(
            prediction_charts(
                prediction,
                measured,
                labels,
                changed=any(not change.startswith("sweep.") for change in changes),
            )
        ),
        values=_value_table(prediction, labels),
        trust=list(trust_lines(prediction, labels, "The intervals")),
        left_out=_left_out_table(prediction, labels),
        csv_of=partial(
            csv_of_scenario, scenario=prediction.scenario, simulated=prediction.simulated
        ),
    )


def _value_table(prediction: Prediction, labels: Mapping[str, str]) -> Table:
    cells = prediction.cells
    names = marked_names(prediction, labels)
    return Table(
        "predicted",
        "All metrics: predicted means with 95\u00a0% intervals; *: extrapolated"
        + "; x: loses too many workflows" * any(name.endswith(" x") for name in names),
        (
            Column("setting", "setting", names),
            *predicted_columns(cells, list(METRIC_HEADS)),
            Column("", "beyond", [cell.beyond for cell in cells]),
        ),
    )


def _error_table(check: CheckedPrediction) -> Table | None:
    metrics = check.metrics
    if not metrics:
        return None
    return Table(
        "errors",
        "Errors by metric, over the settings",
        (
            Column("error of", "metric", [METRIC_WORDS[one.metric] for one in metrics]),
            Column("settings", "settings", [one.settings for one in metrics]),
            Column("bias", "bias", [one.bias for one in metrics], signed_percent),
            Column("median", "median", [one.median for one in metrics], _percent),
            Column("p90", "p90", [one.p90 for one in metrics], _percent),
            Column("largest", "largest", [one.largest for one in metrics], _percent),
            Column("covered", "covered", [one.covered for one in metrics], percent),
            Column("quality", "quality", [one.quality for one in metrics]),
        ),
    )


def _left_out_table(prediction: Prediction, labels: Mapping[str, str]) -> Table | None:
    """Return the errors of the settings that were left out of the fit; None without any."""
    by_cell: dict[str, dict[str, float]] = {}
    inside: dict[str, bool] = {}
    for metric, errors in prediction.errors.items():
        for one in errors:
            size = one.error if metric in SHARE_METRICS else math.expm1(one.error)
            by_cell.setdefault(one.cell, {})[metric] = size
            inside[one.cell] = one.is_inside
    if not by_cell:
        return None
    cells = list(by_cell)
    return Table(
        "left-out",
        "Predicted minus measured of each setting, by a fit to the other settings; "
        "*: beyond the others' permits",
        (
            Column("setting", "setting", [
                labels.get(cell, cell) + "*" * (not inside[cell]) for cell in cells
            ]),
            *_error_columns(cells, by_cell),
        ),
    )  # fmt: skip


def _error_columns(
    cells: Sequence[str], by_cell: Mapping[str, Mapping[str, float]]
) -> Iterator[Column]:
    for metric in METRIC_HEADS:
        values = [by_cell[cell].get(metric) for cell in cells]
        if any(value is not None for value in values):
            head = " ".join(METRIC_HEADS[metric]).removesuffix(" s")
            yield Column(head, f"error_{metric}", values, signed_percent)


def _percent(share: float) -> str:
    return f"{share:.1%}".replace("%", "\u00a0%")
