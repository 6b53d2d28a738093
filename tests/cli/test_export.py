"""`harness export`: what is in the tables is what is in the records."""

from __future__ import annotations

import csv
import importlib
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness.analysis.summary import write_summary
from harness.cli.main import main
from harness.records.schema import Phase
from harness.store.run_directory import RUN_FILE, SUMMARY_FILE, Records, write_whole
from tests.analysis.builders import make_attempt, make_run, make_trial, make_workflow
from tests.analysis.played import Shape, make_records
from tests.cli.test_report import save

CELLS = ["sync_1_none_attempt", "async_2_full-jitter_attempt"]
NAMES = ("attempts", "calls", "workflows", "phases", "trials", "cells")


@pytest.fixture
def records() -> Records:
    return make_records(CELLS, 2, shape=Shape(failure_rate=0.3), time_scale=0.05)


@pytest.fixture
def directory(tmp_path: Path, records: Records) -> Path:
    save(records, tmp_path)
    return tmp_path


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_record_is_a_row_with_its_own_values(
    directory: Path, records: Records, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(directory)]) == 0
    folder = directory / "export"
    assert capsys.readouterr().out.split() == [str(folder / f"{name}.csv") for name in NAMES]
    table = rows(folder / "attempts.csv")
    assert len(table) == len(records.attempts)
    for row, attempt in zip(table, records.attempts, strict=True):
        assert row["done"] == str(attempt.done)
        assert row["outcome"] == attempt.outcome
        assert row["branch"] == ("" if attempt.branch is None else str(attempt.branch))
        assert row["tokens_output"] == str(attempt.tokens.output or "")
        assert (row["counts"], row["simulated"], row["time_scale"]) == ("true", "true", "0.05")
    calls = rows(folder / "calls.csv")
    assert sum(int(row["backoff"]) for row in calls) == sum(
        pause.end - pause.start for call in records.calls for pause in call.backoffs
    )
    assert rows(folder / "workflows.csv")[0]["decompose_outcome"] == "ok"
    assert len(rows(folder / "trials.csv")) == 4


def test_the_figures_of_cells_are_those_of_a_summary_that_is_not_older_than_the_run(
    directory: Path, records: Records
) -> None:
    assert main(["export", str(directory)]) == 0
    made = (directory / "export" / "cells.csv").read_bytes()
    write_summary(directory)
    path = directory / SUMMARY_FILE
    path.write_text(re.sub(r'"ok": \d+', '"ok": 1000', path.read_text()))
    assert main(["export", str(directory)]) == 0
    first = rows(directory / "export" / "cells.csv")[0]
    assert first["workflows_ok"] == "1000", "read, not made again"
    resumed = msgspec.structs.replace(records.run, status="running")
    for changed in (resumed, msgspec.structs.replace(records.run, run_id="another")):
        write_whole(directory / RUN_FILE, changed)
        assert main(["export", str(directory)]) == 0
        assert (directory / "export" / "cells.csv").read_bytes() == made
    write_whole(directory / RUN_FILE, records.run)
    path.write_text('{"schema": 1}')
    assert main(["export", str(directory)]) == 0
    assert (directory / "export" / "cells.csv").read_bytes() == made


def test_every_occurrence_of_a_phase_is_a_row(tmp_path: Path) -> None:
    phases = (
        Phase(name="step", start=0, end=5, outcome="ok"),
        Phase(name="tools", start=5, end=9, outcome="degraded"),
        Phase(name="search", start=6, end=8, outcome="ok", parent=1, branch=2),
        Phase(name="step", start=9, end=12, outcome="ok"),
    )
    workflow = make_workflow(phases=phases)
    save(Records(make_run(), [], [], [workflow], [make_trial()], None), tmp_path)
    assert main(["export", str(tmp_path)]) == 0
    (row,) = rows(tmp_path / "export" / "workflows.csv")
    assert row["tools_outcome"] == "degraded"
    assert "step_outcome" not in row, "it occurs twice"
    found = rows(tmp_path / "export" / "phases.csv")
    assert [one["name"] for one in found] == [phase.name for phase in phases]
    assert [(one["start"], one["end"]) for one in found[1:3]] == [("5", "9"), ("6", "8")]
    assert [(one["parent"], one["branch"]) for one in found[1:3]] == [("", ""), ("1", "2")]
    assert [one["number"] for one in found] == ["0", "1", "2", "3"]
    assert {one["workflow"] for one in found} == {str(workflow.workflow)}


def test_what_a_resumed_run_left_behind_does_not_count(tmp_path: Path) -> None:
    attempts = [make_attempt(execution=0), make_attempt(execution=1)]
    records = Records(
        make_run(), attempts, [], [make_workflow(execution=1)], [make_trial(execution=1)], None
    )
    save(records, tmp_path)
    assert main(["export", str(tmp_path), "--out", str(tmp_path / "to")]) == 0
    assert [row["counts"] for row in rows(tmp_path / "to" / "attempts.csv")] == ["false", "true"]


def test_a_table_without_rows_has_its_columns_all_the_same(
    directory: Path, tmp_path: Path, records: Records
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    save(records._replace(attempts=[], calls=[], workflows=[], trials=[]), empty)
    assert main(["export", str(directory)]) == main(["export", str(empty)]) == 0
    for name in ("attempts", "calls", "workflows", "phases", "trials"):
        with (directory / "export" / f"{name}.csv").open() as file:
            head = file.readline()
        assert (empty / "export" / f"{name}.csv").read_text() == head


def test_a_topic_that_a_spreadsheet_would_run_is_text(tmp_path: Path) -> None:
    workflow = make_workflow(topic='=HYPERLINK("http://x")')
    save(Records(make_run(), [], [], [workflow], [make_trial()], None), tmp_path)
    assert main(["export", str(tmp_path)]) == 0
    (row,) = rows(tmp_path / "export" / "workflows.csv")
    assert row["topic"] == "'" + workflow.topic


def test_parquet_holds_the_same_with_types(directory: Path, records: Records) -> None:
    assert main(["export", str(directory), "--format", "parquet"]) == 0
    parquet: Any = importlib.import_module("pyarrow.parquet")
    table = parquet.read_table(directory / "export" / "attempts.parquet")
    assert table.column("done").to_pylist() == [attempt.done for attempt in records.attempts]
    assert table.column("branch").to_pylist() == [attempt.branch for attempt in records.attempts]


def test_parquet_in_parts_is_the_same_though_a_column_has_a_type_in_one_of_them_only(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet: Any = importlib.import_module("pyarrow.parquet")
    found = []
    for rows_at_once in (50_000, 3):
        monkeypatch.setattr("harness.report.export._AT_ONCE", rows_at_once)
        assert main(["export", str(directory), "--format", "parquet"]) == 0
        found.append(parquet.read_table(directory / "export" / "attempts.parquet"))
    assert found[0].equals(found[1])
    assert found[0].column("retry_in").null_count not in (0, len(found[0]))


def test_without_pyarrow_parquet_is_one_line_with_a_way_out(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = importlib.import_module

    def missing(name: str) -> Any:
        if name.startswith("pyarrow"):
            raise ModuleNotFoundError(name)
        return found(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    assert main(["export", str(directory), "--format", "parquet"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "pyarrow is not installed" in line
    assert "--format csv" in line


def test_a_directory_without_a_run_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "contains no run.json" in line
