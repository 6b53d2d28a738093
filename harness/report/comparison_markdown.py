"""A comparison as Markdown, for the summary of a CI job: the verdict, the rules, all changes."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Sequence

from harness.analysis.compare import CellChanges, Comparison, RuleCheck
from harness.records.redaction import escape_controls
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
from harness.report.wording import NONE, counted, percent

_SPECIAL = re.compile(r"[\\`*_\[\]|#~]")


def comparison_markdown(comparison: Comparison, base: str, new: str, required: float | None) -> str:
    """Return the comparison as Markdown: the verdict and its certainty, then all changes folded.

    `base`, `new`: the directories of the runs, as they are shown. `required`: the power that each
    rule must have, None for any.
    """
    shown = shown_metrics(comparison)
    return "\n".join(
        [*_answer(comparison, shown, required), *_changes(comparison, shown, base, new)]
    )


def _answer(comparison: Comparison, shown: Sequence[str], required: float | None) -> Iterator[str]:
    yield f"### {_escaped(comparison.scenario)}: {_outcome(comparison, required)}"
    yield ""
    for line, style in verdict_lines(comparison, shown, required):
        yield f"- **{_escaped(line)}**" if style else f"- {_escaped(line)}"
    yield ""
    yield from _rules(comparison.rules)
    for line in sensitivity_lines(comparison, shown, required):
        yield f"- {_escaped(line)}"
    yield ""
    for warning in comparison_warnings(comparison):
        yield f"- Warning: {_escaped(warning)}."
    yield ""


def _outcome(comparison: Comparison, required: float | None) -> str:
    """Return the outcome in two or three words; it is what the exit code says."""
    if comparison.regressions:
        return "regression"
    if required is not None and comparison.lacking(required):
        return "too little power"
    return "no regression" if comparison.rules else "compared"


def _rules(rules: Sequence[RuleCheck]) -> Iterator[str]:
    if not rules:
        return
    yield from _table_head(["rule", "setting", "change", "interval", "p (Holm)", "power", "result"])
    for rule in rules:
        is_share = is_share_metric(rule.metric)
        power = NONE if rule.power is None else percent(rule.power)
        yield _row(
            [
                rule.rule,
                rule.cell,
                signed_change(rule.change.value, is_share),
                change_interval(rule.change, is_share),
                adjusted_p_text(rule.adjusted_p),
                power,
                rule.result,
            ]
        )
    yield ""


def _changes(comparison: Comparison, shown: Sequence[str], base: str, new: str) -> Iterator[str]:
    matched = counted(len(comparison.cells), "setting")
    yield f"<details><summary>All changes in {matched}</summary>"
    yield ""
    for name in shown:
        cells = [cell for cell in comparison.cells if name in cell.changes]
        if cells:
            yield from _metric(name, cells)
    simulated = " SIMULATED." if comparison.simulated else ""
    yield f"{_escaped(comparison_key(comparison, shown))}.{simulated}"
    yield ""
    yield f"Base: {_escaped(base)}. New: {_escaped(new)}."
    yield ""
    yield "</details>"
    yield ""


def _metric(name: str, cells: Sequence[CellChanges]) -> Iterator[str]:
    write, is_share = metric_writer(name), is_share_metric(name)
    yield f"**{_escaped(metric_heading(name, cells))}**"
    yield ""
    yield from _table_head(["setting", "base", "new", "change", "interval", "p (Holm)", "verdict"])
    for cell in cells:
        change = cell.changes[name]
        yield _row(
            [
                cell.cell,
                write(change.base),
                write(change.new),
                signed_change(change.change.value, is_share),
                change_interval(change.change, is_share),
                adjusted_p_text(change.adjusted_p),
                change.verdict,
            ]
        )
    yield ""


def _table_head(columns: Sequence[str]) -> Iterator[str]:
    yield _row(columns)
    yield f"|{'---|' * len(columns)}"


def _row(values: Iterable[str]) -> str:
    return f"| {' | '.join(map(_escaped, values))} |"


def _escaped(text: str) -> str:
    """Return a text of which Markdown and HTML show every character, on one line."""
    line = escape_controls(" ".join(text.split()))
    return html.escape(_SPECIAL.sub(lambda found: f"\\{found[0]}", line), quote=False)
