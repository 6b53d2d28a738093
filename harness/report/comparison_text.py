"""A comparison on the terminal, within 80 columns: the verdict, then a table for each metric."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import assert_never

from rich.console import Console
from rich.text import Text

from harness.analysis.compare import (
    NO_CLEAR_CHANGE,
    CellChanges,
    Change,
    Comparison,
    RuleCheck,
)
from harness.analysis.metrics import Unit, compared_metrics
from harness.analysis.power import MOST_REPEATS, USUAL_POWER
from harness.analysis.significance import is_called
from harness.report.columns import fitting_settings
from harness.report.console import say, table_blocks
from harness.report.line_wrap import WIDTH, legend, wrapped
from harness.report.tables import Column
from harness.report.wording import counted, narrow_percent, number, percent, sentence

_FARTHEST = 100
"""A change by this factor or more is not written as a number."""


def render_comparison(
    comparison: Comparison, console: Console, base: str, new: str, required: float | None
) -> None:
    """Write the verdict, what could have been found, and the changes.

    `required`: the power that each rule must have, None for any.
    """
    write = partial(say, console)
    matched = counted(len(comparison.cells), "setting")
    write(Text.assemble((comparison.scenario, "bold"), f": {matched} in both runs"))
    shown = _shown(comparison)
    for line, style in _verdict(comparison, shown, required):
        write(*(Text(part, style=style) for part in wrapped(line)))
    for line in _sensitivity(comparison, shown, required):
        write(*wrapped(line))
    write("", f"base {base}", f"new  {new}")
    if comparison.simulated:
        scale = ": durations are in scenario seconds" * (comparison.marked_answers == "none")
        write(Text.assemble(("SIMULATED", "bold"), scale))
    for name in shown:
        cells = [cell for cell in comparison.cells if name in cell.changes]
        if cells:
            write("", *(Text(line, style="bold") for line in wrapped(_heading(name, cells))))
            write(*_table(name, cells))
    write("", *wrapped(_key(comparison, shown)), *legend(comparison.cells))
    for warning in _warnings(comparison):
        write(*wrapped(f"Warning: {warning}."))


def _shown(comparison: Comparison) -> list[str]:
    """Return the metrics to show: those of the rules first."""
    places = {name: one.shown for name, one in compared_metrics().items() if one.shown is not None}
    usual = sorted(places, key=lambda name: places[name])
    return list(dict.fromkeys([*(rule.metric for rule in comparison.rules), *usual]))


def _verdict(
    comparison: Comparison, shown: Sequence[str], required: float | None
) -> Iterator[tuple[str, str]]:
    """Yield the lines of the verdict, each with its style."""
    if not comparison.rules:
        yield _changed(comparison, shown), "bold"
        return
    for one in comparison.rules:
        what = f"{one.metric} {_signed(one.change.value, _is_share(one.metric))} in {one.cell}"
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
    said = []
    for verdict in ("worse", "better"):
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
            said.append(f"{verdict}: {name} {_signed(change, _is_share(name))} in {cell}{more}")
    return f"{sentence('; '.join(said) or NO_CLEAR_CHANGE)}."


def _sensitivity(
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
        change = _signed(least.limit, _is_share(metric))
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
    texts = [_signed(one, _is_share(name)) if abs(one) > 5e-4 else "any" for one in known]
    if len(known) < len(changes):
        texts.append("none")
    return " to ".join(dict.fromkeys([texts[0], texts[-1]]))


def _heading(name: str, cells: Sequence[CellChanges]) -> str:
    compared = compared_metrics()[name]
    methods = dict.fromkeys(cell.changes[name].method for cell in cells)
    return f"{compared.words}{_UNITS.get(compared.metric.unit, '')} ({'; '.join(methods)})"


_UNITS: Mapping[Unit, str] = {
    "s": ", s", "CPU s": ", ms", "USD": ", USD", "workflows/s": ", workflows per second",
    "calls/s": ", calls per second",
}  # fmt: skip


def _is_share(name: str) -> bool:
    return compared_metrics()[name].metric.unit == "share"


def _table(name: str, cells: Sequence[CellChanges]) -> Iterator[str]:
    changes, is_share = [cell.changes[name] for cell in cells], _is_share(name)
    show = narrow_percent if is_share else number
    factor = 1000 if compared_metrics()[name].metric.unit == "CPU s" else 1
    columns = [
        Column("base", "", [factor * change.base for change in changes], show),
        Column("new", "", [factor * change.new for change in changes], show),
        Column("change", "", [_signed(change.change.value, is_share) for change in changes]),
        Column("interval", "", [_interval(change, is_share) for change in changes]),
        Column("p\nHolm", "", [_p(change) for change in changes]),
        Column("verdict", "", [one.verdict for one in changes], left=True),
    ]
    for block in table_blocks(fitting_settings(cells, [columns], WIDTH), [columns]):
        yield from block


def _signed(change: float, is_share: bool) -> str:
    return f"{100 * change:+.1f}{' pt' if is_share else '%'}"


def _interval(change: Change, is_share: bool) -> str:
    low, high = change.change.low, change.change.high
    if low is None or high is None:
        return "none"
    if high > _FARTHEST and low < -0.95:
        return "very wide"
    if high > _FARTHEST:
        return f"{100 * low:+.0f}% and more"
    return f"{100 * low:+.1f} to {_signed(high, is_share)}"


def _p(change: Change) -> str:
    if change.adjusted_p is None:
        return "-"
    if change.adjusted_p < 0.001:
        return "<.001"
    return f"{change.adjusted_p:.3f}".removeprefix("0").removesuffix(".000")


def _key(comparison: Comparison, shown: Sequence[str]) -> str:
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


def _warnings(comparison: Comparison) -> Iterator[str]:
    for where, cells in (("base", comparison.only_in_base), ("new", comparison.only_in_new)):
        if cells:
            yield f"{counted(len(cells), 'setting')} only in {where}: {', '.join(cells)}"
    yield from comparison.warnings
