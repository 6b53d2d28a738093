"""Tables of failed attempts, failed workflows and the decisions of retry policies."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from harness.analysis.model import Cell, Summary, WorkflowFailure
from harness.analysis.workflow_failures import REJECTED, is_rejected
from harness.records.failures import (
    CANCELLED,
    FAILURES,
    OK,
    advice_after_retries,
    advice_for,
    is_failure,
    without_fewer_permits,
)
from harness.records.schema import Workflow
from harness.report.line_wrap import WIDTH
from harness.report.tables import Column, Subject, Table
from harness.report.wording import (
    counted,
    lost,
    narrow_percent,
    number,
    percent,
    short_count,
    whole_number,
)
from harness.store.columns import AttemptTable

MOST_CLASSES = 8
"""The most failure classes that the terminal lists, by frequency."""

MOST_ERRORS = 12
"""The most reasons of failed workflows that the report lists, by frequency."""

LONGEST_ERROR = 300

_SOURCES = {
    "policy": "own backoff",
    "retry_after": "as Retry-After asked",
    "rate_limit_reset": "when the limit is reset",
    "breaker": "when the circuit closes",
}


def attempts_by_outcome(cells: Sequence[Cell]) -> Counter[str]:
    """Return the number of attempts of each outcome over all cells."""
    return sum((Counter(cell.attempts.by_outcome) for cell in cells), Counter())


def _by_frequency(total: Counter[str]) -> list[str]:
    return [name for name, count in total.most_common() if count and is_failure(name)]


class FailureRow(NamedTuple):
    """One row of the table of failures.

    `times`: failed attempts, or workflows where no attempt failed; `share`: of all attempts, None
    for workflows. `retryable`: None where a retry was not tried. `said`: the most frequent message
    of the server, empty without one.
    """

    name: str
    times: int
    share: float | None
    retryable: bool | None
    advice: str
    said: str = ""


def failure_rows(summary: Summary) -> list[FailureRow]:
    """Return what failed and what to do: attempts by class, then workflows without one."""
    return [
        *_attempt_rows(summary.cells, summary),
        *(_workflow_row(failure, summary) for failure in summary.workflow_failures),
    ]


def _attempt_rows(cells: Sequence[Cell], summary: Summary) -> list[FailureRow]:
    total = attempts_by_outcome(cells)
    return [
        FailureRow(
            name,
            total[name],
            total[name] / total.total(),
            FAILURES[name].retryable,
            _advice(name, cells, summary),
            summary.server_said.get(name, ""),
        )
        for name in _by_frequency(total)
    ]


def _advice(name: str, cells: Sequence[Cell], summary: Summary) -> str:
    """Return the advice on a failure, which fits what the cells that met it have tried."""
    met = [cell for cell in cells if cell.attempts.by_outcome.get(name)]
    tried = all(lost(cell) and (cell.attempts.amplification or 0.0) > 1 for cell in met)
    find = advice_after_retries if met and tried else advice_for
    advice = find(name, summary.endpoint_keys)
    fewest = min((cell.permits for cell in summary.cells), default=0)
    has_more = any(cell.permits > fewest for cell in met) or len(summary.cells) == 1
    if met and all(cell.limiter for cell in met):  # the number is not what a person chooses
        has_more = False
    return advice if has_more else without_fewer_permits(advice)


def _workflow_row(failure: WorkflowFailure, summary: Summary) -> FailureRow:
    if failure.outcome is not None:
        advice = advice_for(failure.outcome, summary.endpoint_keys)
        name = f"{failure.phase} {failure.outcome}".strip()
    elif failure.in_program:
        name, advice = "program", f"{failure.error}; harness trace RUN --failed shows where"
    else:
        name = f"{failure.phase} unreadable".strip()
        advice = (
            "every call was answered, but not as the prompt asks; use a stronger model, or give "
            "the questions (docs/workflows.md); transcripts = true keeps the answers"
        )
    return FailureRow(name, failure.workflows, None, None, advice)


def most_frequent_failure(summary: Summary) -> str:
    """Return a sentence about the most frequent failure and what to do; empty without one."""
    rows = failure_rows(summary)
    if not rows:
        return ""
    row = _main_workflow_row(summary) or max(rows, key=_times)
    return f"The most frequent failure: {_row_text(row)}."


def most_frequent_failure_in(cell: Cell, summary: Summary) -> str:
    """Return the same about one cell.

    Failures of workflows that no attempt explains are not known by cell; the sentence then is about
    all cells, and says so.
    """
    whole = _main_workflow_row(summary)
    if whole is not None:
        return f"The most frequent failure in all settings: {_row_text(whole)}."
    row = max(_attempt_rows([cell], summary), key=_times, default=None)
    return "" if row is None else f"Its most frequent failure: {_row_text(row)}."


def _main_workflow_row(summary: Summary) -> FailureRow | None:
    """Return what failed most workflows without a failed attempt, if it explains half of them."""
    rows = [_workflow_row(failure, summary) for failure in summary.workflow_failures]
    row = max(rows, key=_times, default=None)
    return row if row is not None and 2 * row.times >= sum(map(lost, summary.cells)) else None


def _row_text(row: FailureRow) -> str:
    name = f"{row.name.replace('_', ' ')}{_status_of(row.name)}"
    what = "workflow" if row.share is None else "request"
    said = f' (server: "{row.said}")' if row.said and not row.retryable else ""
    return f"{name}, {counted(row.times, what)}{said}; {row.advice}"


def _times(row: FailureRow) -> int:
    return row.times


def _status_of(name: str) -> str:
    """Return ` (429)` for a failure that is a status of HTTP."""
    status = FAILURES[name].seen[:3] if name in FAILURES else ""
    return f" ({status})" if status.isdigit() and status >= "300" else ""


def failure_lines(summary: Summary, width: int = WIDTH) -> Iterator[str]:
    """Yield the lines of a table of failures with advice; none when nothing failed."""
    rows = failure_rows(summary)
    if not rows:
        return
    attempts = [row for row in rows if row.share is not None]
    shown = [*attempts[:MOST_CLASSES], *rows[len(attempts) :]]
    rest = attempts[MOST_CLASSES:]
    longest = max(len("failed as"), *(len(row.name) for row in shown))
    yield ""
    yield f"{'failed as':<{longest}}  times of all retry? advice"
    for row in shown:
        share = "" if row.share is None else narrow_percent(row.share)
        retry = "" if row.retryable is None else "yes" if row.retryable else "no"
        head = f"{row.name:<{longest}} {short_count(row.times):>6} {share:>6} {retry:<6} "
        yield from textwrap.wrap(
            head + row.advice, width, subsequent_indent=" " * len(head), break_on_hyphens=False
        )
        if row.said:
            blanks = " " * len(head)
            yield from textwrap.wrap(
                f"server: {row.said}", width, initial_indent=blanks, subsequent_indent=blanks
            )
    if rest:
        count = sum(row.times for row in rest)
        yield f"and {count} attempts of {len(rest)} rarer classes, see report.html"


def failure_tables(about: Subject) -> list[Table]:
    """Return the tables that have something to show."""
    total = attempts_by_outcome(about.cells)
    failed = _by_frequency(total)
    seen = [*failed, CANCELLED] if total[CANCELLED] else failed
    return [
        *([_classes(about, failed, total)] if failed else []),
        *([_by_cell(about, seen)] if seen else []),
        *_decisions(about, about.data.groups.attempts),
        *_errors(about.data.workflows),
    ]


def _classes(about: Subject, seen: list[str], total: Counter[str]) -> Table:
    def worst(outcome: str) -> str:
        cell = max(about.cells, key=lambda cell: cell.attempts.by_outcome.get(outcome, 0))
        return about.labels[cell.id]

    known = [FAILURES.get(outcome) for outcome in seen]
    advice = [_advice(name, about.cells, about.summary) for name in seen]
    retry = [("yes" if row.retryable else "no") if row else None for row in known]
    shares = [total[outcome] / total.total() for outcome in seen]
    return Table(
        "failures",
        "Failed attempts of all settings",
        (
            Column("failure", "failure", seen),
            Column("attempts", "attempts", [total[outcome] for outcome in seen], whole_number),
            Column("of all", "share", shares, percent),
            Column("most in", "most_in", list(map(worst, seen))),
            Column("what it looks like", "seen", [row.seen if row else None for row in known]),
            Column("retry helps", "retryable", retry),
            Column("advice", "advice", advice),
            *_said(seen, about.summary.server_said),
        ),
    )


def _said(seen: Sequence[str], said: Mapping[str, str]) -> Iterator[Column]:
    if any(name in said for name in seen):
        yield Column("the server said", "server_said", [said.get(name) for name in seen])


def _by_cell(about: Subject, seen: Sequence[str]) -> Table:
    counts = [cell.attempts for cell in about.cells]
    columns = [
        Column("attempts", "attempts", [one.total for one in counts], whole_number),
        Column("a call", "amplification", [one.amplification for one in counts]),
    ]
    for outcome in (OK, *seen):
        values = [one.by_outcome.get(outcome, 0) for one in counts]
        columns.append(Column(outcome, outcome, values, whole_number))
    return about.of_cells("attempts-by-outcome", "Attempts by outcome", columns)


def _decisions(about: Subject, attempts: AttemptTable) -> Iterator[Table]:
    retry_of = {cell.id: cell.retry for cell in about.data.run.cells}
    said: Counter[tuple[str, str]] = Counter()
    names = attempts.words.names
    for (cell, is_retry, by, reason), count in attempts.decisions():
        source = _SOURCES.get(names[by] or "policy", names[by])
        text = f"try again, {source}" if is_retry else f"give up: {names[reason]}"
        said[retry_of[names[cell]], text] += count
    if said:
        rows = sorted(said.items(), key=lambda item: (item[0][0], -item[1], item[0][1]))
        yield Table(
            "decisions",
            "Decisions of the retry policies",
            (
                Column("policy", "retry", [retry for (retry, _), _ in rows]),
                Column("decision", "decision", [decision for (_, decision), _ in rows]),
                Column("times", "times", [count for _, count in rows], whole_number),
            ),
        )


def _errors(workflows: Sequence[Workflow]) -> Iterator[Table]:
    said = Counter(
        (workflow.outcome, (workflow.error or REJECTED)[:LONGEST_ERROR])
        for workflow in workflows
        if workflow.error is not None or is_rejected(workflow)
    )
    if said:
        rows = said.most_common(MOST_ERRORS)
        rest = len(said) - len(rows)
        more = f" ({number(rest)} rarer ones are left out)" if rest else ""
        yield Table(
            "workflow-errors",
            f"Reasons why workflows were lost or degraded{more}",
            (
                Column("reason", "reason", [error for (_, error), _ in rows]),
                Column("outcome", "outcome", [outcome for (outcome, _), _ in rows]),
                Column("workflows", "workflows", [count for _, count in rows], whole_number),
            ),
        )
