"""Anomalies of responses are counted from the records and shown in every view."""

from __future__ import annotations

from collections import Counter

from harness.analysis.cells import count_anomalies
from harness.analysis.model import AttemptCounts, Summary
from harness.records.anomalies import ANOMALIES
from harness.report.advisories import warnings_of
from harness.report.anomalies import anomaly_tables
from harness.store.column_values import Words
from harness.store.columns import AttemptTable
from tests.analysis.builders import make_attempt
from tests.report.subjects import about
from tests.report.summaries import make_cell, make_summary


def summary_with(**anomalies: int) -> Summary:
    counts = AttemptCounts(
        total=9, failed=0, by_outcome={"ok": 9}, amplification=1.0, anomalies=anomalies
    )
    return make_summary([make_cell(attempts=counts)])


def test_each_anomaly_of_an_attempt_is_counted() -> None:
    attempts = [
        make_attempt(anomalies=("missing_done", "usage")),
        make_attempt(anomalies=("usage",)),
        make_attempt(),
    ]
    table = AttemptTable.of(attempts, Words())
    assert count_anomalies(table) == Counter(usage=2, missing_done=1)


def test_the_terminal_names_the_most_frequent_one_and_what_it_means() -> None:
    (only,) = warnings_of(summary_with(usage=2, missing_done=5))
    assert "missing_done in 5 responses" in only
    assert ANOMALIES["missing_done"] in only
    assert "1 other kind" in only
    assert "endpoint.strict = true" in only
    assert not warnings_of(summary_with())


def test_the_report_has_a_table_of_them() -> None:
    summary = summary_with(usage=2, missing_done=5)
    first, by_cell = anomaly_tables(about(summary))
    assert list(first.columns[0].values) == ["missing_done", "usage"]
    assert list(first.columns[1].values) == [5, 2]
    assert by_cell.name == "anomalies-by-cell"
    assert anomaly_tables(about(summary_with())) == []
