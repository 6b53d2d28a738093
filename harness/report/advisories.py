"""Warnings about the figures of a run."""

from __future__ import annotations

from harness.analysis.model import Cell, Summary
from harness.records.failures import FAILURES, is_failure
from harness.report.failures import attempts_by_outcome
from harness.report.wording import cell_labels, counted, percent

NO_LONGER = 0.9
"""MSER-5 cuts at most half. When it cuts this share of that, there was no steady state."""

CACHE_GAP = 0.05
"""Cells whose cached shares of the input differ by more than this are not comparable."""


def warnings_of(summary: Summary) -> list[str]:
    """Return warnings about the figures, each with advice."""
    found = (
        _unfinished(summary),
        _limited(summary),
        _lost_workflows(summary),
        _disagreement(summary),
        _unreported(summary),
        _never_steady(summary),
        _once(summary),
        _no_sync(summary),
        _unequal_caches(summary),
    )
    return [warning for warning in found if warning]


def _unfinished(summary: Summary) -> str:
    if summary.status == "complete":
        return ""
    return f"the run is {summary.status}, so the work of the cells may differ; complete the run."


def _limited(summary: Summary) -> str:
    advice = {
        "client": "use fewer permits, a larger endpoint.time_scale or a less busy machine",
        "simulator": "use fewer permits or a larger endpoint.time_scale",
    }
    limited = summary.verdict.bottleneck
    if limited == "none":
        return ""
    return f"the {limited} limited the results, not the provider; {advice[limited]}."


def _lost_workflows(summary: Summary) -> str:
    # Workflows that an interruption cut short started, but neither failed nor degraded.
    losing = [cell for cell in summary.cells if _lost(cell)]
    if not losing:
        return ""
    worst = max(losing, key=lambda cell: _lost(cell) / (_lost(cell) + cell.workflows.ok))
    failed = [name for name, _ in attempts_by_outcome(losing).most_common() if is_failure(name)]
    most = (
        f" The most frequent failure: {failed[0]}; {FAILURES[failed[0]].advice}." if failed else ""
    )
    return (
        f"{len(losing)} of {counted(len(summary.cells), 'cell')} lost workflows, "
        f"{cell_labels(summary.cells)[worst.id]} most ({worst.workflows.ok} of "
        f"{worst.workflows.started} ok); lost work makes a cell look fast.{most}"
    )


def _lost(cell: Cell) -> int:
    return cell.workflows.degraded + cell.workflows.failed


def _disagreement(summary: Summary) -> str:
    oracle = summary.oracle
    wrong = oracle.outcome_mismatches + oracle.token_mismatches if oracle else 0
    if not wrong:
        return ""
    return (
        f"client and provider disagree on {counted(wrong, 'attempt')}, so counts may be wrong; "
        "compare attempts.jsonl with provider.jsonl."
    )


def _unreported(summary: Summary) -> str:
    count = sum(cell.tokens.unreported for cell in summary.cells)
    if not count:
        return ""
    return (
        f"{counted(count, 'whole response')} had no usage, so tokens and cost are too low; do not "
        "compare cells by cost."
    )


def _never_steady(summary: Summary) -> str:
    labels = cell_labels(summary.cells)
    cut = [
        labels[c.id] for c in summary.cells if 2 * c.warm_up >= NO_LONGER * c.workflows.started > 0
    ]
    if not cut:
        return ""
    return (
        f"no steady state in {', '.join(cut)}: workflows arrive faster than they end, so "
        "latencies grow with the length of the run; use more permits or a lower "
        "load.arrivals.per_second."
    )


def _once(summary: Summary) -> str:
    if not summary.cells or any(cell.repeats != 1 for cell in summary.cells):
        return ""
    return "every cell ran once, so there are no intervals; set sweep.repeats to 3 or more."


def _no_sync(summary: Summary) -> str:
    if not summary.cells or any(cell.mode == "sync" for cell in summary.cells):
        return ""
    return 'there is no sync cell, so there is no speed-up; add "sync" to sweep.mode.'


def _unequal_caches(summary: Summary) -> str:
    shares = {
        cell.id: cell.tokens.cached / cell.tokens.input
        for cell in summary.cells
        if cell.tokens.input
    }
    if not shares or max(shares.values()) - min(shares.values()) <= CACHE_GAP:
        return ""
    labels = cell_labels(summary.cells)
    least, most = (find(shares, key=lambda cell: shares[cell]) for find in (min, max))
    return (
        f"the prompt cache served {percent(shares[least])} of the input in {labels[least]} but "
        f"{percent(shares[most])} in {labels[most]}, so they are not comparable; "
        'set endpoint.cache = "avoid".'
    )
