"""A comparison on the terminal, within 80 columns: the verdict, then a table for each metric."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from rich.console import Console
from rich.text import Text

from harness.analysis.compare import CellChanges, Comparison
from harness.report.columns import fitting_settings
from harness.report.comparison_words import (
    adjusted_p_text,
    change_interval,
    comparison_key,
    comparison_warnings,
    is_share_metric,
    metric_heading,
    metric_writer,
    sensitivity_lines,
    shown_metrics,
    signed_change,
    verdict_lines,
)
from harness.report.console import say, table_blocks
from harness.report.line_wrap import WIDTH, legend, wrapped
from harness.report.tables import Column
from harness.report.wording import counted


def render_comparison(
    comparison: Comparison, console: Console, base: str, new: str, required: float | None
) -> None:
    """Write the verdict, what could have been found, and the changes.

    `required`: the power that each rule must have, None for any.
    """
    write = partial(say, console)
    matched = counted(len(comparison.cells), "setting")
    write(Text.assemble((comparison.scenario, "bold"), f": {matched} in both runs"))
    shown = shown_metrics(comparison)
    for line, style in verdict_lines(comparison, shown, required):
        write(*(Text(part, style=style) for part in wrapped(line)))
    for line in sensitivity_lines(comparison, shown, required):
        write(*wrapped(line))
    write("", f"base {base}", f"new  {new}")
    if comparison.simulated:
        scale = ": durations are in scenario seconds" * (comparison.marked_answers == "none")
        write(Text.assemble(("SIMULATED", "bold"), scale))
    for name in shown:
        cells = [cell for cell in comparison.cells if name in cell.changes]
        if cells:
            write("", *(Text(line, style="bold") for line in wrapped(metric_heading(name, cells))))
            write(*_table(name, cells))
    write("", *wrapped(comparison_key(comparison, shown)), *legend(comparison.cells))
    for warning in comparison_warnings(comparison):
        write(*wrapped(f"Warning: {warning}."))


def _table(name: str, cells: Sequence[CellChanges]) -> Iterator[str]:
    changes, is_share = [cell.changes[name] for cell in cells], is_share_metric(name)
    show = metric_writer(name)
    columns = [
        Column("base", "", [change.base for change in changes], show),
        Column("new", "", [change.new for change in changes], show),
        Column("change", "", [signed_change(change.change.value, is_share) for change in changes]),
        Column("interval", "", [change_interval(change.change, is_share) for change in changes]),
        Column("p\nHolm", "", [adjusted_p_text(change.adjusted_p) for change in changes]),
        Column("verdict", "", [one.verdict for one in changes], left=True),
    ]
    for block in table_blocks(fitting_settings(cells, [columns], WIDTH), [columns]):
        yield from block
