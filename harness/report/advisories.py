"""What a reader should know before trusting a run's figures."""

from __future__ import annotations

from harness.analysis.model import Cell, Summary
from harness.records.failures import FAILURES, is_failure
from harness.report.wording import cell_labels, counted, percent

NO_LONGER = 0.9
"""MSER-5 cuts at most half; where it cuts this share of that, the load never became steady."""

CACHE_GAP = 0.05
"""Cells whose cached shares of the input differ by more than this are not on a par."""


def warnings_of(summary: Summary) -> list[str]:
    """Return what a reader should know before trusting the figures, each with advice."""
    return [
        warning
        for warning in (
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
        if warning
    ]


def _unfinished(summary: Summary) -> str:
    if summary.status == "complete":
        return ""
    return f"the run is {summary.status}, so the cells may hold unequal work; run it to its end."


def _limited(summary: Summary) -> str:
    advice = {
        "client": "use fewer permits, a larger endpoint.time_scale or a machine with less to do",
        "simulator": "use fewer permits or a larger endpoint.time_scale",
    }
    limited = summary.verdict.bottleneck
    if limited == "none":
        return ""
    return f"the {limited} limited what was measured, not the provider; {advice[limited]}."


def _lost_workflows(summary: Summary) -> str:
    # What an interruption cut short is not lost: it did start, and neither failed nor degraded.
    losing = [cell for cell in summary.cells if _lost(cell)]
    if not losing:
        return ""
    worst = max(losing, key=lambda cell: _lost(cell) / (_lost(cell) + cell.workflows.ok))
    failures: dict[str, int] = {}
    for cell in losing:
        for outcome, count in cell.attempts.by_outcome.items():
            if is_failure(outcome):
                failures[outcome] = failures.get(outcome, 0) + count
    most = max(failures, key=lambda outcome: failures[outcome], default=None)
    advice = "" if most is None else f" The most frequent failure: {most}; {FAILURES[most].advice}."
    return (
        f"{len(losing)} of {counted(len(summary.cells), 'cell')} lost workflows, "
        f"{cell_labels(summary.cells)[worst.id]} most ({worst.workflows.ok} of "
        f"{worst.workflows.started} ok); dropped work makes a cell look fast.{advice}"
    )


def _lost(cell: Cell) -> int:
    return cell.workflows.degraded + cell.workflows.failed


def _disagreement(summary: Summary) -> str:
    oracle = summary.oracle
    wrong = oracle.outcome_mismatches + oracle.token_mismatches if oracle else 0
    if not wrong:
        return ""
    return (
        f"client and provider disagree on {counted(wrong, 'attempt')}; compare attempts.jsonl "
        "with provider.jsonl before you trust the counts."
    )


def _unreported(summary: Summary) -> str:
    count = sum(cell.tokens.unreported for cell in summary.cells)
    if not count:
        return ""
    return (
        f"{counted(count, 'whole response')} came without usage; their tokens and cost count as "
        "nothing, so do not compare cells by cost, and do not add them up."
    )


def _never_steady(summary: Summary) -> str:
    labels = cell_labels(summary.cells)
    cut = [
        labels[c.id] for c in summary.cells if 2 * c.warm_up >= NO_LONGER * c.workflows.started > 0
    ]
    if not cut:
        return ""
    return (
        f"no steady state in {', '.join(cut)}: workflows come faster than they are done, so "
        "latencies grow with the length of the run; use more permits or a lower "
        "load.arrivals.per_second."
    )


def _once(summary: Summary) -> str:
    if not summary.cells or any(cell.repeats != 1 for cell in summary.cells):
        return ""
    return "every cell ran once, so nothing has an interval; set sweep.repeats to 3 or more."


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
        f"{percent(shares[most])} in {labels[most]}, so they are not on a par; "
        'set endpoint.cache = "avoid".'
    )
