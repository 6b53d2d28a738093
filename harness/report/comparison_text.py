"""A comparison on the terminal: one table for each quantity, within 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from rich.console import Console
from rich.text import Text

from harness.analysis.compare import CellChanges, Change, Comparison
from harness.analysis.metrics import Unit, compared_metrics
from harness.analysis.regressions import Found
from harness.analysis.significance import is_called
from harness.report.columns import settings_columns
from harness.report.console import say, table_blocks
from harness.report.line_wrap import legend, wrapped
from harness.report.tables import Column
from harness.report.wording import counted, narrow_percent, number

_SHORT = {"no change shown": "not shown", "cannot tell": "unknown"}


def render_comparison(
    comparison: Comparison,
    names: Sequence[str],
    found: Sequence[Found],
    console: Console,
    base: str,
    new: str,
) -> None:
    """Write the changes of `names`, what cannot be compared, and the broken rules."""
    write = partial(say, console)
    matched = counted(len(comparison.cells), "cell")
    write(Text.assemble((comparison.scenario, "bold"), f": {matched} in both runs"))
    write(f"base {base}", f"new  {new}")
    if comparison.simulated:
        scale = ": durations are in scenario seconds" * (comparison.marked_answers == "none")
        write(Text.assemble(("SIMULATED", "bold"), scale))
    places = {name: one.shown for name, one in compared_metrics().items() if one.shown is not None}
    shown = list(dict.fromkeys([*sorted(places, key=lambda name: places[name]), *names]))
    for name in shown:
        cells = [cell for cell in comparison.cells if name in cell.changes]
        if cells:
            write("", *(Text(line, style="bold") for line in wrapped(_heading(name, cells))))
            write(*_table(name, cells))
    write("", *wrapped(_key(comparison, shown)), *legend(comparison.cells))
    for warning in _warnings(comparison):
        write(*wrapped(f"Warning: {warning}."))
    for one in found:
        style = "bold red" if one.regression else ""
        write(*(Text(line, style=style) for line in wrapped(_verdict(one))))


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
    changes, is_share = [cell.changes[name] for cell in cells], _is_share(name)
    show = narrow_percent if is_share else number
    columns = [
        Column("base", "", [change.base for change in changes], show),
        Column("new", "", [change.new for change in changes], show),
        Column("change", "", [_signed(change.change.value, is_share) for change in changes]),
        Column("95 % interval", "", [_interval(change, is_share) for change in changes]),
        Column("p\nHolm", "", [_p(change) for change in changes]),
        Column("verdict", "", [_SHORT.get(c.verdict, c.verdict) for c in changes], left=True),
    ]
    for block in table_blocks(settings_columns(cells), [columns]):
        yield from block


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
    changes = [c.changes[name] for c in comparison.cells for name in shown if name in c.changes]
    by_ranks = any(
        is_called(one.p, None) and not is_called(one.p, one.mann_whitney_p) for one in changes
    )
    ranks = ", or the ranks of the repeats do not confirm a small p" if by_ranks else ""
    return (
        "change = new over base (pt: percentage points); p: Holm's method over all cells "
        "and quantities; "
        f"not shown = can be due to chance{ranks}; unknown = too few data; {how}"
    )


def _warnings(comparison: Comparison) -> Iterator[str]:
    for where, cells in (("base", comparison.only_in_base), ("new", comparison.only_in_new)):
        if cells:
            yield f"{counted(len(cells), 'cell')} only in {where}: {', '.join(cells)}"
    yield from comparison.warnings


def _verdict(found: Found) -> str:
    seen = _signed(found.change.change.value, _is_share(found.rule.name))
    what = f"{found.rule.name} {seen} in {found.cell}"
    if found.regression:
        return f"Regression: {what}, against --fail-on '{found.rule.text}'."
    return f"Beyond '{found.rule.text}' but can be due to chance: {what}; run more repeats."
