"""Every view counts the same attempts as failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from harness.analysis.flow import flow
from harness.analysis.model import AttemptCounts, Summary
from harness.bench.trial import Tally
from harness.cli.live import Counters
from harness.records.clock import SECOND
from harness.records.failures import CANCELLED, OK
from harness.records.schema import Attempt
from harness.report.failures import failure_lines, failure_tables
from harness.store.run_directory import Records
from tests.analysis.builders import make_attempt, make_run, make_trial
from tests.report.subjects import about
from tests.report.summaries import make_cell, make_summary


def count_in_the_live_view(attempts: list[Attempt]) -> int:
    counters = Counters(trials=1, workflows=1, cost=None)
    for attempt in attempts:
        counters.note(attempt)
    return counters.total.failed


def count_in_virtual_time(attempts: list[Attempt]) -> int:
    tally = Tally()
    for attempt in attempts:
        tally.note(attempt, None)
    return tally.failed


def count_over_time(attempts: list[Attempt]) -> int:
    return flow(attempts, make_trial(), width=SECOND).failed


def counts_by_outcome(attempts: list[Attempt]) -> Summary:
    outcomes = Counter(attempt.outcome for attempt in attempts)
    total = len(attempts)
    counts = AttemptCounts(total=total, failed=2, by_outcome=outcomes, amplification=1.0)
    return make_summary([make_cell(attempts=counts)])


def count_in_the_terminal(attempts: list[Attempt]) -> int:
    rows = list(failure_lines(counts_by_outcome(attempts)))[2:]
    return sum(int(row.split()[1]) for row in rows if row[0] != " ")


def count_in_the_report(attempts: list[Attempt]) -> int:
    records = Records(make_run(), [], [], [], [], None)
    table = failure_tables(about(counts_by_outcome(attempts), records))[0]
    assert table.name == "failures"
    counted = next(column for column in table.columns if column.key == "attempts")
    return sum(value for value in counted.values if isinstance(value, int))


@pytest.mark.parametrize(
    "count",
    [
        count_in_the_live_view,
        count_in_virtual_time,
        count_over_time,
        count_in_the_terminal,
        count_in_the_report,
    ],
)
def test_every_view_counts_the_same_failures(count: Callable[[list[Attempt]], int]) -> None:
    outcomes = [OK, CANCELLED, CANCELLED, CANCELLED, "rate_limited", "truncated"]
    assert count([make_attempt(outcome=outcome) for outcome in outcomes]) == 2
