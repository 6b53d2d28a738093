"""A comparison on the terminal: one table a quantity, within 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console
from rich.text import Text

from harness.analysis.compare import CellChanges, Change, Comparison
from harness.analysis.metrics import Unit, compared_metrics
from harness.analysis.regressions import Found
from harness.analysis.significance import is_called
from harness.report.cell_columns import legend, settings_columns
from harness.report.tables import Column
from harness.report.terminal_tables import WIDTH, pack, wrapped
from harness.report.wording import counted, number, percent

_SHORT = {"no change shown": "not shown", "cannot tell": "unknown"}


def render_comparison(
    comparison: Comparison,
    names: Sequence[str],
    found: Sequence[Found],
    console: Console,
    base: str,
    new: str,
) -> None:
    """Write what changed in `names`, what could not be compared, and which rule was broken."""

    def say(line: str | Text = "") -> None:
        console.print(line, soft_wrap=True, markup=False, highlight=False)

    matched = counted(len(comparison.cells), "cell")
    say(Text.assemble((comparison.scenario, "bold"), f": {matched} in both runs"))
    say(f"base {base}")
    say(f"new  {new}")
    if comparison.simulated:
        say(Text.assemble(("SIMULATED", "bold"), ": durations are in scenario seconds"))
    places = {name: one.shown for name, one in compared_metrics().items() if one.shown is not None}
    shown = list(dict.fromkeys([*sorted(places, key=lambda name: places[name]), *names]))
    for name in shown:
        cells = [cell for cell in comparison.cells if name in cell.changes]
        if cells:
            say()
            for line in wrapped(_heading(name, cells)):
                say(Text(line, style="bold"))
            for line in _table(name, cells):
                say(line)
    say()
    for line in wrapped(_key(comparison, shown)):
        say(line)
    for line in legend(comparison.cells):
        say(line)
    for warning in _cautions(comparison):
        for line in wrapped(f"Warning: {warning}."):
            say(line)
    for one in found:
        for line in wrapped(_verdict(one)):
            say(Text(line, style="bold red" if one.regression else ""))


def _heading(name: str, cells: Sequence[CellChanges]) -> str:
    compared = compared_metrics()[name]
    methods = dict.fromkeys(cell.changes[name].method for cell in cells)
    return f"{compared.words}{_UNITS.get(compared.metric.unit, '')} ({'; '.join(methods)})"


_UNITS: Mapping[Unit, str] = {
    "s": ", s", "USD": ", USD", "workflows/s": ", workflows per second",
    "calls/s": ", calls per second",
}  # fmt: skip


def _is_share(name: str) -> bool:
    return compared_metrics()[name].metric.unit == "share"


def _table(name: str, cells: Sequence[CellChanges]) -> Iterator[str]:
    settings = settings_columns(cells)
    changes = [cell.changes[name] for cell in cells]
    is_share = _is_share(name)
    columns = [
        Column("base", "", [_value(change.base, is_share=is_share) for change in changes]),
        Column("new", "", [_value(change.new, is_share=is_share) for change in changes]),
        Column("change", "", [_signed(change.change.value, is_share) for change in changes]),
        Column("95 % interval", "", [_interval(change, is_share) for change in changes]),
        Column("p\nHolm", "", [_p(change) for change in changes]),
        Column("verdict", "", [_SHORT.get(c.verdict, c.verdict) for c in changes], left=True),
    ]
    room = WIDTH - sum(column.width + 1 for column in settings)
    for block in pack([columns], room):
        for line in zip(*(column.lines() for column in (*settings, *block)), strict=True):
            yield " ".join(line).rstrip()


def _value(value: float, *, is_share: bool) -> str:
    if is_share:
        return percent(value).replace("\u00a0", "")
    return number(value)


def _signed(change: float, is_share: bool) -> str:
    return f"{100 * change:+.1f}{' pt' if is_share else '%'}"


def _interval(change: Change, is_share: bool) -> str:
    low, high = change.change.low, change.change.high
    if low is None or high is None:
        return "none"
    if high > 100:
        return f"{100 * low:+.0f}% and more"
    return f"{_signed(low, is_share)} to {_signed(high, is_share)}"


def _p(change: Change) -> str:
    if change.adjusted_p is None:
        return "-"
    return "<.001" if change.adjusted_p < 0.001 else f"{change.adjusted_p:.3f}".removeprefix("0")


def _key(comparison: Comparison, shown: Sequence[str]) -> str:
    how = "paired: both runs had the same draws" if comparison.paired else "not paired"
    changes = [cell.changes[name] for cell in comparison.cells for name in shown
               if name in cell.changes]  # fmt: skip
    ranks = any(is_called(one.adjusted_p, None) and not one.called for one in changes)
    objection = ", or the ranks of the repeats do not bear a small p out" if ranks else ""
    return (
        "change = new over base (pt: percentage points); p by Holm's method over the cells; "
        f"not shown = chance could have done it{objection}; unknown = too little to tell; {how}"
    )


def _cautions(comparison: Comparison) -> Iterator[str]:
    for where, cells in (("base", comparison.only_in_base), ("new", comparison.only_in_new)):
        if cells:
            yield f"{counted(len(cells), 'cell')} only in {where}: {', '.join(cells)}"
    yield from comparison.warnings


def _verdict(found: Found) -> str:
    seen = _signed(found.change.change.value, _is_share(found.rule.name))
    what = f"{found.rule.name} {seen} in {found.cell}"
    if found.regression:
        return f"Regression: {what}, against --fail-on '{found.rule.text}'."
    return f"Beyond '{found.rule.text}' but it may be chance: {what}; run more repeats to tell."
