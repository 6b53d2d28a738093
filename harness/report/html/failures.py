"""What failed, how often, what it means, and what the policies made of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from harness.records.failures import CANCELLED, FAILURES, OK, is_failure
from harness.report.tables import Column, Subject, Table, whole_number
from harness.report.wording import number, percent
from harness.store.run_directory import Records

MOST_ERRORS = 12
"""So many different reasons why workflows failed are shown, the most frequent first."""

LONGEST_ERROR = 300

_SOURCES = {
    "policy": "own backoff",
    "retry_after": "as Retry-After asked",
    "breaker": "when the circuit closes",
}


class Failures(NamedTuple):
    """The tables on failures; each is None when there is nothing to say in it."""

    classes: Table | None
    cells: Table | None
    decisions: Table | None
    errors: Table | None


def failures(about: Subject, records: Records) -> Failures:
    """Return what is known of failed attempts and failed workflows."""
    total: Counter[str] = Counter()
    for cell in about.cells:
        total.update(cell.attempts.by_outcome)
    failed = [outcome for outcome, count in total.most_common() if is_failure(outcome) and count]
    cancelled = [CANCELLED] if total[CANCELLED] else []
    return Failures(
        _classes(about, failed, total) if failed else None,
        _by_cell(about, [*failed, *cancelled]) if failed or cancelled else None,
        _decisions(records),
        _errors(records),
    )


def _classes(about: Subject, seen: list[str], total: Counter[str]) -> Table:
    attempts = total.total()

    def worst(outcome: str) -> str:
        cell = max(about.cells, key=lambda cell: cell.attempts.by_outcome.get(outcome, 0))
        return about.labels[cell.id]

    known = [FAILURES.get(outcome) for outcome in seen]
    return Table(
        "failures",
        "What failed, over all cells",
        (
            Column("failure", "failure", seen),
            Column("attempts", "attempts", [total[outcome] for outcome in seen], whole_number),
            Column("of all", "share", [total[outcome] / attempts for outcome in seen], percent),
            Column("most in", "most_in", [worst(outcome) for outcome in seen]),
            Column("what it looks like", "seen", [row.seen if row else None for row in known]),
            Column(
                "retry helps", "retryable", [_yes(row.retryable) if row else None for row in known]
            ),
            Column("advice", "advice", [row.advice if row else None for row in known]),
        ),
    )


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _by_cell(about: Subject, seen: Iterable[str]) -> Table:
    cells = about.cells
    return about.of_cells(
        "attempts-by-outcome",
        "Attempts by outcome",
        (
            Column("attempts", "attempts", [cell.attempts.total for cell in cells], whole_number),
            Column("a call", "amplification", [cell.attempts.amplification for cell in cells]),
            *(
                Column(
                    outcome, outcome,
                    [cell.attempts.by_outcome.get(outcome, 0) for cell in cells], whole_number,
                )
                for outcome in (OK, *seen)
            ),
        ),
    )  # fmt: skip


def _decisions(records: Records) -> Table | None:
    """Return what the policies said to failures, by policy; None when they were never asked."""
    retry_of = {cell.id: cell.retry for cell in records.run.cells}
    said: Counter[tuple[str, str]] = Counter()
    for attempt in records.attempts:
        decision = attempt.decision
        if decision is None:
            continue
        if decision.retry_in is not None:
            source = _SOURCES.get(decision.source or "policy", decision.source)
            said[retry_of[attempt.cell], f"try again, {source}"] += 1
        else:
            said[retry_of[attempt.cell], f"give up: {decision.give_up}"] += 1
    if not said:
        return None
    rows = sorted(said.items(), key=lambda item: (item[0][0], -item[1], item[0][1]))
    return Table(
        "decisions",
        "What the retry policies decided",
        (
            Column("policy", "retry", [retry for (retry, _), _ in rows]),
            Column("decision", "decision", [decision for (_, decision), _ in rows]),
            Column("times", "times", [count for _, count in rows], whole_number),
        ),
    )


def _errors(records: Records) -> Table | None:
    said = Counter(
        (workflow.outcome, workflow.error[:LONGEST_ERROR])
        for workflow in records.workflows
        if workflow.error is not None
    )
    if not said:
        return None
    rows = said.most_common(MOST_ERRORS)
    rest = len(said) - len(rows)
    more = f" ({number(rest)} rarer ones are left out)" if rest else ""
    return Table(
        "workflow-errors",
        f"Why workflows did not end well{more}",
        (
            Column("reason", "reason", [error for (_, error), _ in rows]),
            Column("outcome", "outcome", [outcome for (outcome, _), _ in rows]),
            Column("workflows", "workflows", [count for _, count in rows], whole_number),
        ),
    )
