"""A chart that is added to the list appears in every view."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli.main import main
from harness.report.charts import catalogue
from harness.report.charts.catalogue import NamedChart
from harness.report.charts.model import Bar, Chart, ChartRow, RowPanel, axis_from_zero
from harness.report.tables import Column, Subject
from harness.report.wording import whole_number
from tests.analysis.played import make_records
from tests.cli.test_report import save
from tests.report.html.reading import read, rows_of

pytestmark = pytest.mark.plots

CELLS = ("sync_1_none_attempt", "async_2_none_attempt")


def attempts(about: Subject) -> Chart | None:
    """Return how many attempts each cell made."""
    counts = [len(about.data.cells[cell.id].attempts) for cell in about.cells]
    rows = tuple(
        ChartRow(about.labels[cell.id], f"{count}", bars=(Bar(0, count, "blue"),))
        for cell, count in zip(about.cells, counts, strict=True)
    )
    return Chart(
        "How many attempts", "", "Attempts by cell.", ("All of them.",),
        (RowPanel("", rows, axis_from_zero("attempts", max(counts)), 24),), (),
        about.of_cells("attempts-made", "Attempts", [Column("made", "made", counts)]),
    )  # fmt: skip


@pytest.fixture(autouse=True)
def listed(monkeypatch: pytest.MonkeyPatch) -> None:
    added = NamedChart("attempts-made", "spent", attempts)
    monkeypatch.setattr(catalogue, "CHARTS", (*catalogue.CHARTS, added))
    monkeypatch.setattr("harness.cli.report.CHARTS", catalogue.CHARTS)


def test_a_new_function_in_the_list_is_in_the_report_the_plots_and_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = make_records(CELLS, 1, workflows=2, branches=2)
    save(records, tmp_path)
    assert main(["report", str(tmp_path)]) == 0
    section = read((tmp_path / "report.html").read_text()).one("section", id="spent")
    figure = section.one("figure", id="attempts-made")
    counts = [sum(one.cell == cell for one in records.attempts) for cell in CELLS]
    shown = [row["made"] for row in rows_of(figure.one("table")).values()]
    assert shown == list(map(whole_number, counts))
    assert "How many attempts" in (tmp_path / "plots" / "attempts-made-simulated.svg").read_text()
    assert (tmp_path / "plots" / "attempts-made-simulated.png").read_bytes()[1:4] == b"PNG"
    capsys.readouterr()
    assert main(["report", str(tmp_path), "--only", "attempts-made", "--text"]) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[0] == "How many attempts"
    assert "▒▒▒" in said
