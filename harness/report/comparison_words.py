"""The sentences and numbers of a comparison, for the terminal and for Markdown."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import assert_never

from harness.analysis.compare import NO_CLEAR_CHANGE, CellChanges, Comparison, RuleCheck
from harness.analysis.metrics import Unit, compared_metrics
from harness.analysis.model import Figure
from harness.analysis.power import MOST_REPEATS, USUAL_POWER
from harness.analysis.significance import is_called
from harness.report.wording import counted, narrow_percent, number, percent, sentence

_FARTHEST = 100
"""A change by this factor or more is not written as a number."""


def shown_metrics(comparison: Comparison) -> list[str]:
    """Return the metrics to show: those of the rules first."""
    places = {name: one.shown for name, one in compared_metrics().items() if one.shown is not None}
    usual = sorted(places, key=lambda name: places[name])
    return list(dict.fromkeys([*(rule.metric for rule in comparison.rules), *usual]))


def verdict_lines(
    comparison: Comparison, shown: Sequence[str], required: float | None
) -> Iterator[tuple[str, str]]:
    """Yield the lines of the verdict, each with its style."""
    if not comparison.rules:
        yield _changed(comparison, shown), "bold"
        return
    for one in comparison.rules:
        change = signed_change(one.change.value, is_share_metric(one.metric))
        what = f"{one.metric} {change} in {one.cell}"
        match one.result:
            case "broken":
                yield f"Regression: {what}, against --fail-on '{one.rule}'.", "bold red"
            case "can be due to chance":
                yield f"Beyond '{one.rule}' but can be due to chance: {what}.", ""
            case "kept":
                pass
            case _:
                assert_never(one.result)
    if not comparison.regressions:
        yield "No regression: no --fail-on rule is broken by a significant change.", "bold"
    ruled = {one.metric for one in comparison.rules}
    if worse := _said(comparison, [name for name in shown if name not in ruled], ("worse",)):
        yield f"No rule for what is {'; '.join(worse)}.", ""
    lacking = comparison.lacking(required) if required is not None else ()
    for rule, checks in _by_rule(lacking).items():
        least = min(checks, key=_power)
        yield (
            f"Too little power: '{rule}' has {percent(_power(least))} in {least.cell}, and "
            f"{percent(required or 0)} is required.",
            "bold red",
        )


def _changed(comparison: Comparison, shown: Sequence[str]) -> str:
    """Return a sentence on the significant changes of the metrics that are shown."""
    said = _said(comparison, shown, ("worse", "better"))
    return f"{sentence('; '.join(said) or NO_CLEAR_CHANGE)}."


def _said(comparison: Comparison, shown: Sequence[str], verdicts: Sequence[str]) -> list[str]:
    """Return a clause for each metric with significant changes of these verdicts: the largest."""
    said = []
    for verdict in verdicts:
        found = [
            (name, cell.changes[name].change.value, cell.cell)
            for name in shown
            for cell in comparison.cells
            if name in cell.changes and cell.changes[name].verdict == verdict
        ]
        for name in dict.fromkeys(name for name, _, _ in found):
            mine = [(change, cell) for other, change, cell in found if other == name]
            change, cell = max(mine, key=lambda one: abs(one[0]))
            more = f" and {counted(len(mine) - 1, 'other setting')}" if len(mine) > 1 else ""
            said.append(
                f"{verdict}: {name} {signed_change(change, is_share_metric(name))} in {cell}{more}"
            )
    return said


def sensitivity_lines(
    comparison: Comparison, shown: Sequence[str], required: float | None
) -> Iterator[str]:
    """Yield sentences on the changes that would have been found, and on the repeats for more."""
    usual = percent(USUAL_POWER)
    if not comparison.rules:
        ranges = {
            name: [one.changes[name].detectable for one in comparison.cells if name in one.changes]
            for name in shown
        }
        said = [f"{name} {_found(found, name)}" for name, found in ranges.items() if found]
        yield (
            f"This comparison finds the following changes with a probability of {usual}: "
            f"{'; '.join(said)}. With --fail-on, it finds smaller changes of the named metric."
        )
    for rule, checks in _by_rule(comparison.rules).items():
        least, metric = min(checks, key=_power), checks[0].metric
        change = signed_change(least.limit, is_share_metric(metric))
        if not least.can_occur:
            yield f"'{rule}': no setting can change by {change}."
            continue
        yield (
            f"'{rule}': a change of {change} would have been found with a probability of "
            f"{percent(_power(least))} (the least, in {least.cell}); with {usual}: "
            f"{_range([one.detectable for one in checks], metric)}."
        )
        wanted = USUAL_POWER if required is None else required
        if _power(least) < wanted and least.limit:
            yield _more_repeats(rule, checks, wanted)


def _more_repeats(rule: str, checks: Sequence[RuleCheck], wanted: float) -> str:
    """Return how many repeats would give a rule the power in every cell, as an option."""
    short = [one for one in checks if one.can_occur and _power(one) < wanted]
    begin = f"For {percent(wanted)} in every setting of '{rule}'"
    if any(one.power is None for one in short):
        return f"{begin}, begin with both runs again, each with --set sweep.repeats=5."
    most = max((one.repeats or math.inf for one in short), default=math.inf)
    if math.isinf(most):
        return f"{begin}, {MOST_REPEATS:,} repeats are too few; give a larger limit."
    return f"{begin}, run both again with about {most:.0f} repeats: --set sweep.repeats={most:.0f}."


def _power(check: RuleCheck) -> float:
    """Return the power of a rule in a cell, for the least; more than 1 if it is not needed."""
    if not check.can_occur:
        return math.inf
    return 0.0 if check.power is None else check.power


def _by_rule(checks: Iterable[RuleCheck]) -> dict[str, list[RuleCheck]]:
    found: dict[str, list[RuleCheck]] = {}
    for one in checks:
        found.setdefault(one.rule, []).append(one)
    return found


def _found(changes: Sequence[float | None], name: str) -> str:
    """Write the least and the largest of detectable changes in words."""
    whole = {"any": "any change", "none": "no change"}
    texts = [whole.get(text, f"{text} or more") for text in _range(changes, name).split(" to ")]
    if len(texts) == 1:
        return f"{texts[0]} in each setting" if len(changes) > 1 else texts[0]
    return f"{texts[0]} in the most exact setting, {texts[1]} in the least exact one"


def _range(changes: Sequence[float | None], name: str) -> str:
    """Write the least and the largest of detectable changes."""
    known = sorted((one for one in changes if one is not None and one < _FARTHEST), key=abs)
    texts = [
        signed_change(one, is_share_metric(name)) if abs(one) > 5e-4 else "any" for one in known
    ]
    if len(known) < len(changes):
        texts.append("none")
    return " to ".join(dict.fromkeys([texts[0], texts[-1]]))


def metric_heading(name: str, cells: Sequence[CellChanges]) -> str:
    """Return the words of a metric, its unit, and the methods of its tests."""
    compared = compared_metrics()[name]
    methods = dict.fromkeys(cell.changes[name].method for cell in cells)
    return f"{compared.words}{_UNITS.get(compared.metric.unit, '')} ({'; '.join(methods)})"


_UNITS: Mapping[Unit, str] = {
    "s": ", s", "CPU s": ", ms", "USD": ", USD", "workflows/s": ", workflows per second",
    "calls/s": ", calls per second",
}  # fmt: skip


def is_share_metric(name: str) -> bool:
    """Return whether a metric is a share, which changes by percentage points."""
    return compared_metrics()[name].metric.unit == "share"


def metric_writer(name: str) -> Callable[[float], str]:
    """Return the function that writes a value of a metric in the unit of its heading."""
    if is_share_metric(name):
        return narrow_percent
    factor = 1000 if compared_metrics()[name].metric.unit == "CPU s" else 1
    return lambda value: number(factor * value)


def signed_change(change: float, is_share: bool) -> str:
    """Write a change with its sign, in percent or percentage points."""
    return f"{100 * change:+.1f}{' pt' if is_share else '%'}"


def change_interval(change: Figure, is_share: bool) -> str:
    """Write the interval of a change; it is adjusted as the p-value is."""
    low, high = change.low, change.high
    if low is None or high is None:
        return "none"
    if high > _FARTHEST and low < -0.95:
        return "very wide"
    if high > _FARTHEST:
        return f"{100 * low:+.0f}% and more"
    return f"{100 * low:+.1f} to {signed_change(high, is_share)}"


def adjusted_p_text(p: float | None) -> str:
    """Write an adjusted p-value; `-` if there is none."""
    if p is None:
        return "-"
    if p < 0.001:
        return "<.001"
    return f"{p:.3f}".removeprefix("0").removesuffix(".000")


def comparison_key(comparison: Comparison, shown: Sequence[str]) -> str:
    """Return the sentence that explains the columns."""
    how = "paired: both runs had the same draws" if comparison.paired else "not paired"
    changes = [c.changes[name] for c in comparison.cells for name in shown if name in c.changes]
    by_ranks = any(
        is_called(one.p, None) and not is_called(one.p, one.mann_whitney_p) for one in changes
    )
    ranks = ", or the ranks of the repeats do not confirm a small p" if by_ranks else ""
    family = "over all settings and quantities"
    if comparison.rules:
        family = f"over the metrics of --fail-on in all settings; of other metrics {family}"
    return (
        f"change = new over base (pt: percentage points); p and interval: adjusted by Holm's "
        f"method {family}, so an interval without 0 is a change; {NO_CLEAR_CHANGE} = can be due "
        f"to chance{ranks}; cannot tell = too few data; {how}"
    )


def comparison_warnings(comparison: Comparison) -> Iterator[str]:
    """Yield what differs between the runs, and settings that only one has, without a full stop."""
    for where, cells in (("base", comparison.only_in_base), ("new", comparison.only_in_new)):
        if cells:
            yield f"{counted(len(cells), 'setting')} only in {where}: {', '.join(cells)}"
    yield from comparison.warnings
