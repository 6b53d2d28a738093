"""A prediction, and its comparison with a run, as text for the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console
from rich.text import Text

from harness.report.console import say, table_blocks
from harness.report.line_wrap import legend, wrapped
from harness.report.tables import Column
from harness.report.wording import NONE, cell_labels, counted, number, percent
from harness.twin.prediction import (
    CheckedMetric,
    CheckedPrediction,
    LeftOutSetting,
    PredictedCell,
    PredictedValue,
    Prediction,
)

_MOST_OVERLAPPING = 3
SHARE_METRICS = ("success_rate", "in_time_rate")
"""The metrics that are shares of the workflows."""
NOTHING_WEAK = "No permit count and no retry policy is predicted clearly worse than others."
_MOST_WEAK = 6
_WORDS = {"makespan": "makespan", "ttft_p50": "median time to first token"}
"""The metrics whose errors are told, with their names in sentences."""
METRIC_HEADS: Mapping[str, tuple[str, str]] = {
    "makespan": ("makespan", "s"),
    "workflow_p50": ("workflow", "p50 s"),
    "workflow_p95": ("workflow", "p95 s"),
    "ttft_p50": ("ttft p50", "s"),
    "output_rate": ("output", "tokens/s"),
    "success_rate": ("workflows", "kept"),
    "in_time_rate": ("workflows", "in time"),
    "amplification": ("attempts", "a call"),
    "cost_per_successful_workflow": ("USD a", "success"),
}
"""The two lines of a table's head for each metric, in the order of the table."""


def render_prediction(prediction: Prediction, console: Console, width: int) -> None:
    """Write the best setting, the table, and how far the prediction can be trusted."""
    labels = prediction_labels(prediction)
    mark = " of a SIMULATED provider" if prediction.simulated else ""
    head = (
        f"{prediction.scenario}: {counted(len(prediction.cells), 'setting')} PREDICTED by a twin"
        f"{mark}, fitted to {prediction.attempts:,} attempts; nothing was sent"
    )
    say(console, *(Text(line, style="bold") for line in wrapped(head, width=width)))
    say(console, *wrapped(best_line(prediction, labels), width=width), "")
    say(
        console, *_table(prediction, labels, width), *legend([one.info for one in prediction.cells])
    )
    for note in [*extrapolations(prediction, labels), *prediction.notes]:
        say(console, *wrapped(f"Note: {note}.", width=width))
    say(console, "")
    for line in trust_lines(prediction, labels):
        say(console, *wrapped(line, width=width))
    say(console, "", "The records cannot tell:")
    for text in prediction.unknown:
        say(console, *wrapped(text, "- ", width))
    say(console, "", *wrapped(
        "To check it: measure some of these settings in a second run, and give that to --check.",
        width=width,
    ))  # fmt: skip


def render_check(check: CheckedPrediction, console: Console, width: int) -> None:
    """Write the quality, the errors of each metric, and where they are larger."""
    prediction, labels = check.prediction, prediction_labels(check.prediction)
    say(console, *(Text(line, style="bold") for line in wrapped(quality_line(check), width=width)))
    say(console, *_error_table(check.metrics), "")
    say(console, *wrapped(
        "bias: the mean of the errors; the other errors are without sign. covered: measured values "
        "in the interval of their prediction.", width=width,
    ))  # fmt: skip
    if check.weak:
        say(console, "Where it is weaker:")
        for text in weak_lines(check):
            say(console, *wrapped(text, "- ", width))
    elif len(prediction.cells) > 1:
        say(console, NOTHING_WEAK)
    say(console, "")
    say(console, *_value_table(check, labels))
    for note in [*extrapolations(prediction, labels), *prediction.notes]:
        say(console, *wrapped(f"Note: {note}.", width=width))


def weak_lines(check: CheckedPrediction) -> list[str]:
    """Return where the errors are larger than in general, the largest first."""
    return [
        f"{weak.where}: {weak.metric} is off by {_percent(weak.median)} in the median of "
        f"{counted(weak.settings, 'setting')}, of all by {_percent(weak.of_all)}; "
        f"{percent(weak.covered)} in the interval"
        for weak in check.weak[:_MOST_WEAK]
    ]


def quality_line(check: CheckedPrediction) -> str:
    """Return the quality in a sentence."""
    if not check.metrics:
        return "No predicted setting has a value in the run, so nothing can be compared."
    first = check.metrics[0]
    covered = round(first.covered * first.settings)
    return (
        f"The prediction of {check.prediction.scenario} is {check.quality}: {first.metric} is off "
        f"by {_percent(first.median)} in the median of {counted(first.settings, 'setting')}, by "
        f"{_percent(first.largest)} at most; the interval holds "
        f"{covered} of {counted(first.settings, 'measured value')}."
    )


def best_line(prediction: Prediction, labels: Mapping[str, str]) -> str:
    """Return the setting with the best predicted value of the objective, and how sure that is."""
    metric = predicted_objective(prediction)
    kept = enough(prediction)
    known = [one for one in kept if metric in one.values]
    if not known:
        return _none_keeps_enough(prediction, labels)
    best = min(known, key=lambda one: one.values[metric].value)
    value = best.values[metric]
    others = [
        labels[one.info.id]
        for one in known
        if one is not best and one.values[metric].low <= value.high
    ]
    lost = len(prediction.cells) - len(kept)
    text = f"Lowest {metric}: {labels[best.info.id]}, {value_and_interval(value)}"
    if best.beyond:
        text += ", an extrapolation"
    if others:
        more = len(others) - _MOST_OVERLAPPING
        shown = others if more <= 1 else [*others[:_MOST_OVERLAPPING], f"{more} more"]
        text += f"; its interval overlaps that of {_listed(shown)}"
    if lost:
        text += f". Left out, as they lose too many workflows: {lost} of {len(prediction.cells)}"
    return f"{text}."


def _none_keeps_enough(prediction: Prediction, labels: Mapping[str, str]) -> str:
    rates = kept_rates(prediction)
    if prediction.required is None or not rates or max(rates.values()) == 0:
        return "No setting is predicted to keep a workflow."
    best = max(rates, key=lambda name: rates[name])
    return (
        f"No setting is predicted to keep the {percent(prediction.required)} of the workflows that "
        f"slo.success_rate asks for; {labels[best]} keeps the most, {_percent(rates[best])}."
    )


def _listed(names: Sequence[str]) -> str:
    """Write `a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def predicted_objective(prediction: Prediction) -> str:
    """Return the metric that the scenario minimises, makespan if that one is not predicted."""
    return prediction.objective if prediction.objective in METRIC_HEADS else "makespan"


def kept_rates(prediction: Prediction) -> dict[str, float]:
    """Return the predicted share of workflows kept, in time if there is a limit, by setting."""
    return {
        one.info.id: one.values.get("in_time_rate", one.values["success_rate"]).value
        for one in prediction.cells
        if "success_rate" in one.values
    }


def enough(prediction: Prediction) -> list[PredictedCell]:
    """Return the settings that are predicted to keep enough workflows."""
    rates = kept_rates(prediction)
    if not rates or max(rates.values()) == 0:
        return []
    required = prediction.required
    least = max(rates.values()) - prediction.success_margin if required is None else required
    return [one for one in prediction.cells if rates.get(one.info.id, 0.0) >= least]


def value_and_interval(value: PredictedValue) -> str:
    """Write `41.2 (40.1 to 42.3)`."""
    low, high = number(value.low), number(value.high)
    text = number(value.value)
    return text if low == text == high else f"{text} ({low} to {high})"


def trust_lines(
    prediction: Prediction, labels: Mapping[str, str], intervals: str = "In brackets"
) -> Iterator[str]:
    """Yield what the intervals come from, and the errors of settings that were left out.

    `intervals`: where a reader finds them.
    """
    yield (
        f"{intervals}: where the mean over many runs of this work is expected, with 95 % "
        f"confidence: from {prediction.bootstraps} fits to runs that the twin played, and from the "
        "settings below. A single run varies around that mean. Failures that the runs never met "
        "are in no interval."
    )
    told = [
        _left_out(name, prediction.errors[name], labels)
        for name in _WORDS
        if prediction.errors.get(name)
    ]
    if told:
        yield f"Each measured setting predicted by a fit to the others: {'; '.join(told)}."
    else:
        yield (
            "No setting could be left out and predicted by the others, so the intervals do not "
            "contain the error of the model."
        )


def _left_out(name: str, errors: Sequence[LeftOutSetting], labels: Mapping[str, str]) -> str:
    inside = [one for one in errors if one.is_inside] or list(errors)
    sizes = sorted(abs(math.expm1(one.error)) for one in inside)
    middle = sizes[len(sizes) // 2]
    worst = max(inside, key=lambda one: abs(one.error))
    where = labels.get(worst.cell, worst.cell)
    text = f"{_WORDS[name]} off by {_percent(middle)} in the median"
    if len(inside) > 1:
        text += f", by {_percent(sizes[-1])} at most ({where})"
    outer = len(errors) - len(inside)
    if outer:
        far = max(abs(math.expm1(one.error)) for one in errors if not one.is_inside)
        text += f"; beyond the others' permits by up to {_percent(far)}"
    return text


def prediction_labels(prediction: Prediction) -> dict[str, str]:
    """Return the name of each setting, predicted or measured, by its id."""
    predicted = [one.info for one in prediction.cells]
    known = {one.id for one in predicted}
    return cell_labels([*predicted, *(one for one in prediction.measured if one.id not in known)])


def extrapolations(prediction: Prediction, labels: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence about the settings beyond what was measured."""
    beyond = [one for one in prediction.cells if one.beyond]
    if len(beyond) == 1:
        yield f"{labels[beyond[0].info.id]} is an extrapolation (*): {beyond[0].beyond}"
    elif beyond:
        yield (
            f"{len(beyond)} settings are extrapolations (*), for example "
            f"{labels[beyond[0].info.id]}: {beyond[0].beyond}"
        )


def _percent(share: float) -> str:
    return f"{share:.1%}".replace("%", "\u00a0%")


def _cell_text(metric: str, cell: PredictedCell) -> str:
    value = cell.values.get(metric)
    if value is None:
        return NONE
    return _share(value) if metric in SHARE_METRICS else value_and_interval(value)


def _share(value: PredictedValue) -> str:
    low, middle, high = (f"{100 * at:.0f}" for at in (value.low, value.value, value.high))
    return f"{middle} %" if low == high else f"{middle} % ({low} to {high})"


def _column(head: str, values: Sequence[str], *, left: bool = False) -> Column:
    return Column(head, "", values, left=left)


def _table(prediction: Prediction, labels: Mapping[str, str], width: int) -> Iterator[str]:
    cells = prediction.cells
    names = [labels[one.info.id] + "*" * bool(one.beyond) for one in cells]
    first = _column("setting", names, left=True)
    columns = [
        _column("\n".join(head), [_cell_text(name, one) for one in cells])
        for name, head in METRIC_HEADS.items()
        if any(name in one.values for one in cells)
    ]
    for place, block in enumerate(table_blocks([first], [columns], width)):
        yield from ["", *block] if place else block


def _error_table(metrics: Sequence[CheckedMetric]) -> Iterator[str]:
    columns = [
        _column("error of", [one.metric for one in metrics], left=True),
        _column("settings", [str(one.settings) for one in metrics]),
        _column("bias", [f"{one.bias:+.1%}" for one in metrics]),
        _column("median", [f"{one.median:.1%}" for one in metrics]),
        _column("p90", [f"{one.p90:.1%}" for one in metrics]),
        _column("largest", [f"{one.largest:.1%}" for one in metrics]),
        _column("covered", [f"{one.covered:.0%}" for one in metrics]),
        _column("quality", [one.quality for one in metrics], left=True),
    ]
    for block in table_blocks(columns[:1], [columns[1:]]):
        yield from block


def _value_table(check: CheckedPrediction, labels: Mapping[str, str]) -> Iterator[str]:
    metric = check.metrics[0].metric if check.metrics else ""
    values = [one for one in check.values if one.metric == metric]
    columns = [
        _column(
            "setting", [labels[one.cell] + "*" * bool(one.beyond) for one in values], left=True
        ),
        _column(f"{metric}\npredicted", [number(one.predicted) for one in values]),
        _column("expected\nin this run", [
            f"{number(one.low)} to {number(one.high)}" for one in values
        ]),
        _column("measured", [number(one.measured) for one in values]),
        _column("error", [f"{one.error:+.1%}" for one in values]),
        _column("in the\ninterval", ["yes" if one.is_covered else "NO" for one in values]),
    ]  # fmt: skip
    for block in table_blocks(columns[:1], [columns[1:]]):
        yield from block
