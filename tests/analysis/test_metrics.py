"""A metric is one row of METRICS: the summary and every view follow."""

from __future__ import annotations

import csv
import io
import json
import statistics
from pathlib import Path
from typing import get_args

import msgspec
import pytest
from rich.console import Console

from harness.analysis import metrics
from harness.analysis.cells import MeasuredCell
from harness.analysis.metrics import (
    METRICS,
    Compared,
    Metric,
    OverRepeats,
    ShareOf,
    TerminalColumn,
    Unit,
    compared_metrics,
)
from harness.analysis.model import Cell
from harness.analysis.selection import Dataset
from harness.analysis.summary import summarise, write_summary
from harness.cli.main import main
from harness.report.terminal import render_summary
from harness.report.wording import number
from harness.store.run_directory import Records
from tests.analysis.played import Shape, make_records
from tests.cli.test_report import save
from tests.report.subjects import render_report

CELLS = ("sync_1_none_attempt", "async_2_none_attempt")

LAST_READY = Metric(
    "last_ready_s", "time until the last workflow is ready",
    OverRepeats(
        lambda cell: {
            trial.repeat: max(
                one.ready - trial.start
                for one in cell.records.workflows
                if one.repeat == trial.repeat
            ) / 1e9
            for trial in cell.records.whole_trials()
        }
    ),
    "s", "higher",
    compared=(Compared("last_ready", shown=5),),
    report={"speed": "last ready"},
    terminal=(TerminalColumn("speed", ("last", "ready s")),),
    definition="When the last workflow of a trial becomes ready.",
)  # fmt: skip


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> Records:
    monkeypatch.setattr(metrics, "METRICS", (*METRICS, LAST_READY))
    return make_records(CELLS, 3, workflows=6, in_flight=2, time_scale=0.5)


def test_a_new_row_is_a_field_of_the_summary(records: Records, tmp_path: Path) -> None:
    save(records, tmp_path)
    write_summary(tmp_path)
    for cell in json.loads((tmp_path / "summary.json").read_text())["cells"]:
        assert [*cell][-1] == "last_ready_s"
        assert 0 < cell["last_ready_s"]["low"] <= cell["last_ready_s"]["value"]


def test_a_new_row_is_a_column_on_the_terminal(records: Records, tmp_path: Path) -> None:
    said = io.StringIO()
    summary = summarise(records)
    render_summary(summary, tmp_path, Console(file=said, width=80))
    table = said.getvalue().split("\n\n")[1]
    assert "ready s" in table
    shown = table.splitlines()[2].split()
    figure = LAST_READY.of(summary.cells[0])
    assert any(abs(float(text) - figure.value / 0.5) < 0.01 * figure.value
               for text in shown if text.replace(".", "").isdigit())  # fmt: skip


def test_a_new_row_is_a_column_of_the_report(records: Records) -> None:
    page = render_report(summarise(records), records)
    assert "last ready" in page
    assert "last_ready_scenario_s" in page


def test_a_new_row_is_compared_and_can_fail_a_comparison(
    records: Records, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = []
    for name in ("base", "new"):
        (tmp_path / name).mkdir()
        save(records, tmp_path / name)
        folders.append(str(tmp_path / name))
    assert main(["compare", *folders, "--fail-on", "last_ready>+5%"]) == 0
    assert "time until the last workflow is ready, s (paired t" in capsys.readouterr().out


def test_a_new_row_is_exported(records: Records, tmp_path: Path) -> None:
    save(records, tmp_path)
    assert main(["export", str(tmp_path)]) == 0
    with (tmp_path / "export" / "cells.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [*CELLS]
    for row, cell in zip(rows, summarise(records).cells, strict=True):
        assert float(row["last_ready_s"]) == LAST_READY.of(cell).value
        assert float(row["last_ready_s_low"]) == LAST_READY.of(cell).low
        assert row["simulated"] == "true"


def test_the_table_has_every_field_that_a_cell_declares() -> None:
    declared = {
        "id", "mode", "permits", "retry", "permit_scope", "settings", "slo", "dropped_after",
        "late", "limiter",
        *(metric.name.split(".")[0] for metric in METRICS),
    }  # fmt: skip
    assert declared == set(Cell.__struct_fields__)


def test_every_name_is_unique_and_every_compared_metric_has_a_value_by_repeat() -> None:
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)
    compared = [one.name for metric in METRICS for one in metric.compared]
    assert len(set(compared)) == len(compared)
    for metric in METRICS:
        assert metric.unit in get_args(Unit)
        assert not metric.compared or metric.worse is not None
    records = make_records(CELLS)
    cell = MeasuredCell(Dataset.of(records).cells[CELLS[0]])
    for one in compared_metrics().values():
        if not isinstance(one.metric.kind, ShareOf):
            one.by_repeat(cell)


def test_processor_time_is_in_real_milliseconds_whatever_the_time_scale(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make_records(CELLS, 3, workflows=6, in_flight=2, time_scale=0.5)
    summary = summarise(made)
    milliseconds = []
    for cell in summary.cells:
        assert cell.client_cpu_per_attempt_s is not None
        milliseconds.append(1000 * cell.client_cpu_per_attempt_s.value)
    assert min(milliseconds) > 1
    said = io.StringIO()
    render_summary(summary, tmp_path, Console(file=said, width=120))
    assert all(number(one) in said.getvalue() for one in milliseconds)
    page = render_report(summary, made)
    assert "client_cpu_per_attempt_real_ms" in page
    folders = []
    for name, faster in (("base", 1), ("new", 2)):
        (tmp_path / name).mkdir()
        trials = [msgspec.structs.replace(one, cpu=one.cpu // faster) for one in made.trials]
        save(made._replace(trials=trials), tmp_path / name)
        folders.append(str(tmp_path / name))
    rule = "client_cpu_per_attempt>+50%"
    assert main(["compare", *folders, "--fail-on", rule]) == 0
    lines = capsys.readouterr().out.splitlines()
    heading = lines.index("client's processor time an attempt, ms (paired t over 3 repeats)")
    shown = [number(one) for each in milliseconds for one in (each, each / 2)]
    assert [
        text for line in lines[heading + 3 : heading + 5] for text in line.split()[3:5]
    ] == shown
    assert main(["compare", *reversed(folders), "--fail-on", rule]) == 1


@pytest.mark.parametrize("repeats", [1, 3])
def test_the_median_of_kept_workflows_is_that_of_all_where_all_succeeded(repeats: int) -> None:
    records = make_records(["async_8_none_attempt"], repeats, workflows=8)
    (cell,) = summarise(records).cells
    assert cell.workflows.ok == cell.workflows.started
    assert cell.success_latency_p50_s is not None
    assert cell.success_latency_p50_s == cell.workflow_latency_s.p50


def test_the_median_of_kept_workflows_leaves_out_the_others_and_has_no_bounds_then() -> None:
    records = make_records(["async_8_none_attempt"], 4, workflows=6, shape=Shape(failure_rate=0.25))
    (cell,) = summarise(records).cells
    ok: dict[int, list[int]] = {}
    for one in records.workflows:
        if one.outcome == "ok":
            ok.setdefault(one.repeat, []).append(one.done - one.ready)
    assert 0 < sum(map(len, ok.values())) < cell.workflows.started
    medians = [statistics.median(times) / 1e9 for times in ok.values()]
    assert cell.success_latency_p50_s is not None
    assert cell.success_latency_p50_s.value == pytest.approx(statistics.geometric_mean(medians))
    assert cell.success_latency_p50_s.low is None
    assert cell.success_latency_p50_s != cell.workflow_latency_s.p50
