"""What answers deviate in from the API, although they could be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from harness.analysis.model import Cell, Summary
from harness.records.anomalies import ANOMALIES
from harness.report.tables import Column, Subject, Table
from harness.report.wording import counted, whole_number


def anomaly_counts(cells: Sequence[Cell]) -> Counter[str]:
    """Return the number of attempts with each anomaly over all cells."""
    return sum((Counter(cell.attempts.anomalies) for cell in cells), Counter())


def anomaly_warning(summary: Summary) -> Iterator[str]:
    """Yield a sentence about the anomalies and what they mean; none without any."""
    total = anomaly_counts(summary.cells)
    if not total:
        return
    most, count = total.most_common(1)[0]
    rest = len(total) - 1
    more = f", and {counted(rest, 'other kind')}" if rest else ""
    what = ANOMALIES.get(most, "an anomaly of another version")
    yield (
        f"the server deviates from the API: {most} in {counted(count, 'response')} ({what}){more}; "
        "the answers could be read, and endpoint.strict = true makes them failures."
    )


def anomaly_tables(about: Subject) -> list[Table]:
    """Return a table of the anomalies by cell, if there are any."""
    total = anomaly_counts(about.cells)
    if not total:
        return []
    seen = [name for name, _ in total.most_common()]
    columns = [
        Column(name, name, [cell.attempts.anomalies.get(name, 0) for cell in about.cells],
               whole_number)
        for name in seen
    ]  # fmt: skip
    return [
        Table(
            "anomalies",
            "Responses that deviate from the API and could be read",
            (
                Column("anomaly", "anomaly", seen),
                Column("responses", "responses", [total[name] for name in seen], whole_number),
                Column("what it is", "seen", [ANOMALIES.get(name) for name in seen]),
            ),
        ),
        about.of_cells("anomalies-by-cell", "Anomalies by setting", columns),
    ]
