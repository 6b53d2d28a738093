"""A prediction, and its comparison with a run, as text for the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import median

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
_SLOWER = 0.02
"""By how much a setting may be worse than the best and still be named for its fewer permits."""
_TOLD = ("makespan", "ttft_p50")
"""The metrics whose errors are told in a sentence."""
METRIC_WORDS: Mapping[str, str] = {
    "makespan": "makespan",
    "workflow_p50": "median workflow latency",
    "workflow_p95": "p95 of workflow latency",
    "ttft_p50": "median time to first token",
    "output_rate": "output tokens a second",
    "success_rate": "success rate",
    "in_time_rate": "share in time",
    "amplification": "attempts a call",
    "cost_per_successful_workflow": "cost of a success",
}
"""The name of each metric in sentences, titles and errors."""
_IN_SECONDS = ("makespan", "workflow_p50", "workflow_p95", "ttft_p50")
METRIC_HEADS: Mapping[str, tuple[str, str]] = {
    "makespan": ("makespan", "s"),
    "workflow_p50": ("workflow", "p50 s"),
    "workflow_p95": ("workflow", "p95 s"),
    "ttft_p50": ("ttft p50", "s"),
    "output_rate": ("output", "tokens/s"),
    "success_rate": ("success", "rate"),
    "in_time_rate": ("share", "in time"),
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
        f"{mark}, fitted to {prediction.attempts:,} attempts of {_listed(prediction.sources)}; "
        "nothing was sent"
    )
    say(console, *(Text(line, style="bold") for line in wrapped(head, width=width)))
    say(console, *wrapped(best_line(prediction, labels), width=width), "")
    say(
        console, *_table(prediction, labels, width), *legend([one.info for one in prediction.cells])
    )
    _say_notes(prediction, labels, console, width)
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
    for line in check_lines(check):
        say(console, *wrapped(line, width=width))
    if check.weak:
        say(console, "Where it is weaker:")
        for text in weak_lines(check):
            say(console, *wrapped(text, "- ", width))
    elif len(prediction.cells) > 1:
        say(console, NOTHING_WEAK)
    say(console, "")
    say(console, *_value_table(check, labels))
    _say_notes(prediction, labels, console, width)


def _say_notes(
    prediction: Prediction, labels: Mapping[str, str], console: Console, width: int
) -> None:
    notes = [*extrapolations(prediction, labels), *prediction.notes]
    if notes:
        say(console, "")
    for note in notes:
        say(console, *wrapped(f"Note: {note}.", width=width))


def weak_lines(check: CheckedPrediction) -> list[str]:
    """Return where the errors are larger than in general, the largest first."""
    return [
        f"{weak.where}: {_verb(weak.metric)} off by {error_in_words(weak.metric, weak.median)} in "
        f"the median of {counted(weak.settings, 'setting')}, of all by "
        f"{error_in_words(weak.metric, weak.of_all)}; "
        f"{percent(weak.covered)} in the interval"
        for weak in check.weak[:_MOST_WEAK]
    ]


def quality_line(check: CheckedPrediction) -> str:
    """Return the quality in a sentence."""
    if not check.metrics:
        return "No predicted setting has a value in the run, so nothing can be compared."
    first = check.metrics[0]
    covered = round(first.covered * first.settings)
    new = " that the fitted runs do not have" if check.is_new else ""
    told = [
        f"{_verb(one.metric)} off by {error_in_words(one.metric, one.median)} in the median"
        for one in check.metrics
        if one is first or (one.metric == "success_rate" and one.largest > 0)
    ]
    return (
        f"The prediction of the scenario {check.prediction.scenario} is {check.quality}: over "
        f"{counted(first.settings, 'setting')}{new}, {' and '.join(told)}; the interval of "
        f"the {METRIC_WORDS[first.metric]} holds {covered} of "
        f"{counted(first.settings, 'measured value')}."
    )


def check_lines(check: CheckedPrediction) -> Iterator[str]:
    """Yield with what the prediction was compared, and how the columns are meant."""
    yield (
        f"Fitted to {_listed(check.prediction.sources)}, compared with {check.other}. The "
        "prediction had the lengths of the answers in that run, so this checks the twin, not how "
        "answers differ from run to run."
    )
    yield (
        "bias: the mean of the errors; the other errors are without sign. covered: measured values "
        "in the interval of their prediction."
    )


def _verb(metric: str) -> str:
    """Return a metric with its verb."""
    words = METRIC_WORDS[metric]
    is_many = metric in ("amplification", "output_rate")
    return f"{words} are" if is_many else f"the {words} is"


def error_in_words(metric: str, error: float) -> str:
    """Write an error: `1.2 %`, or `3.4 points` for a share."""
    return f"{100 * error:.1f} points" if metric in SHARE_METRICS else _percent(error)


def best_line(prediction: Prediction, labels: Mapping[str, str]) -> str:
    """Return the setting with the best predicted value of the objective, in sentences.

    Of those within 2 %, it is the one with the fewest permits. Extrapolations are named apart.
    """
    metric = predicted_objective(prediction)
    kept = enough(prediction)
    every = [one for one in kept if metric in one.values]
    if not every:
        return _none_keeps_enough(prediction, labels)
    known = [one for one in every if not one.beyond]
    text = _best_of(known or every, metric, labels)
    if not known:
        text += "; it is an extrapolation, as all of them are"
    beyond = [one for one in every if one.beyond] if known else []
    if beyond:
        best = min(beyond, key=lambda one: one.values[metric].value)
        if best.values[metric].high < min(one.values[metric].low for one in known):
            text += (
                f". Beyond what was measured, {labels[best.info.id]} would have "
                f"{value_and_interval(best.values[metric])}, if nothing changes there"
            )
    lost = len(prediction.cells) - len(kept)
    if lost:
        verb = "lose too many workflows (x) and are" if lost > 1 else (
            "loses too many workflows (x) and is"
        )  # fmt: skip
        text += f". Of the {len(prediction.cells)} settings, {lost} {verb} left out"
    return f"{text}."


def _best_of(known: Sequence[PredictedCell], metric: str, labels: Mapping[str, str]) -> str:
    least = min(one.values[metric].value for one in known)
    equal = [one for one in known if one.values[metric].value <= least * (1 + _SLOWER)]
    best = min(equal, key=lambda one: (one.info.permits, one.values[metric].value))
    value = best.values[metric]
    unit = "\u00a0s" if metric in _IN_SECONDS else ""
    words = f"the lowest predicted {METRIC_WORDS[metric]}"
    has = f"has {words}"
    if len(equal) > 1:
        has = f"is within 2\u00a0% of {words}, with the fewest calls at once"
    text = f"{labels[best.info.id]} {has}: {value_and_interval(value)}{unit}"
    others = [
        labels[one.info.id]
        for one in known
        if one not in equal and one.values[metric].low <= value.high
    ]
    same = [labels[one.info.id] for one in equal if one is not best]
    if same:
        text += f"; as good: {_listed(_first(same))}"
    if others:
        text += f"; its interval overlaps that of {_listed(_first(others))}"
    return text


def _first(names: Sequence[str]) -> list[str]:
    more = len(names) - _MOST_OVERLAPPING
    return list(names) if more <= 1 else [*names[:_MOST_OVERLAPPING], f"{more} more"]


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
    prediction: Prediction, labels: Mapping[str, str], intervals: str = "The intervals in brackets"
) -> Iterator[str]:
    """Yield what the intervals come from, and the errors of settings that were left out.

    `intervals`: where a reader finds them.
    """
    yield (
        f"{intervals} are where the mean over many runs is expected, with 95\u00a0% confidence, if "
        "the answers are as long as those of the run. They come from "
        f"{prediction.bootstraps} fits to runs that the twin played, and from the errors of the "
        "settings that were left out. Failures and limits that the runs never met are in no "
        f"interval.{_one_run(prediction, labels)}"
    )
    told = [
        _left_out(name, prediction.errors[name], labels)
        for name in _TOLD
        if prediction.errors.get(name)
    ]
    if told:
        yield f"Each measured setting was predicted by a fit to the others: {'; '.join(told)}."
    else:
        yield (
            "No setting could be left out and predicted by the others, so the intervals do not "
            "contain the error of the model."
        )


def _one_run(prediction: Prediction, labels: Mapping[str, str]) -> str:
    """Return how far one run with new answers is from the mean, in a sentence."""
    known = [one for one in enough(prediction) if "makespan" in one.values and not one.beyond]
    if not known:
        return ""
    best = min(known, key=lambda one: one.values["makespan"].value)
    share = best.values["makespan"].one_run
    if share is None:
        return ""
    return (
        " One repeat with new answers about the same topics differs by up to "
        f"{percent(share)} from it (makespan of {labels[best.info.id]})."
    )


def _left_out(name: str, errors: Sequence[LeftOutSetting], labels: Mapping[str, str]) -> str:
    inside = [one for one in errors if one.is_inside] or list(errors)
    sizes = sorted(abs(math.expm1(one.error)) for one in inside)
    middle = median(sizes)
    worst = max(inside, key=lambda one: abs(one.error))
    where = labels.get(worst.cell, worst.cell)
    text = f"{_verb(name)} off by {_percent(middle)} in the median"
    if len(inside) > 1:
        text += f", by {_percent(sizes[-1])} at most ({where})"
    outer = len(errors) - len(inside)
    if not inside[0].is_inside:
        text += ", each beyond the permits of the others"
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
    if not beyond:
        return
    risk = "a limit or a slowdown that begins there is not in the prediction"
    if len(beyond) == 1:
        yield f"{labels[beyond[0].info.id]} is an extrapolation (*): {beyond[0].beyond}; {risk}"
    else:
        yield (
            f"{len(beyond)} settings are extrapolations (*), for example "
            f"{labels[beyond[0].info.id]}: {beyond[0].beyond}; {risk}"
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


def marked_names(prediction: Prediction, labels: Mapping[str, str]) -> list[str]:
    """Return the name of each setting, `*` if it is extrapolated, `x` if it keeps too few."""
    kept = {one.info.id for one in enough(prediction)}
    return [
        labels[one.info.id] + "*" * bool(one.beyond) + " x" * (one.info.id not in kept)
        for one in prediction.cells
    ]


def _column(head: str, values: Sequence[str], *, left: bool = False) -> Column:
    return Column(head, "", values, left=left)


def _table(prediction: Prediction, labels: Mapping[str, str], width: int) -> Iterator[str]:
    cells = prediction.cells
    first = _column("setting", marked_names(prediction, labels), left=True)
    columns = [
        _column("\n".join(head), [_cell_text(name, one) for one in cells])
        for name, head in METRIC_HEADS.items()
        if any(name in one.values for one in cells)
    ]
    for place, block in enumerate(table_blocks([first], [columns], width)):
        yield from ["", *block] if place else block


def _error_table(metrics: Sequence[CheckedMetric]) -> Iterator[str]:
    columns = [
        _column("error of", [METRIC_WORDS[one.metric] for one in metrics], left=True),
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
    words = METRIC_WORDS.get(metric, "")
    values = [one for one in check.values if one.metric == metric]
    columns = [
        _column(
            "setting", [labels[one.cell] + "*" * bool(one.beyond) for one in values], left=True
        ),
        _column(f"{words}\npredicted", [number(one.predicted) for one in values]),
        _column("expected\nin this run", [
            f"{number(one.low)} to {number(one.high)}" for one in values
        ]),
        _column("measured", [number(one.measured) for one in values]),
        _column("error", [f"{one.error:+.1%}" for one in values]),
        _column("in the\ninterval", ["yes" if one.is_covered else "NO" for one in values]),
    ]  # fmt: skip
    for block in table_blocks(columns[:1], [columns[1:]]):
        yield from block
