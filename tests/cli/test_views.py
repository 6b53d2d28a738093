"""A view that cannot be made is one line; it ends neither a run nor the other views."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import pytest
from rich.console import Console

from harness.analysis.model import Summary
from harness.cli.live import Counters, LiveView
from harness.cli.main import DEBUG_VARIABLE, main
from harness.cli.views import Views
from harness.report.charts.catalogue import CHARTS
from harness.report.charts.model import Chart
from harness.store.run_directory import read_run
from tests.analysis.played import Shape, make_records
from tests.cli.answering import one_line
from tests.cli.test_report import save

SCENARIO = """
name = "tiny"
workflow = { topics = ["tides"], sub_questions = 2 }
endpoint = { kind = "simulated", time = "virtual" }
load = { workflows = 2 }
sweep = { mode = ["sync", "async"], permits = 2 }
"""
NAMES = [chart.name for chart in CHARTS]
RAISED = "KeyError: 'p95 of what'"
REPORT_AGAIN = "the records are safe: `harness report out` tries again"
TRACES_AGAIN = "the records are safe: `harness trace export out` tries again"
RUN_CONTINUES = "the run continues"

PLOT_FILES = [f"plots/{name}.svg" for name in NAMES]
RECORD_FILES = ["run.json", "attempts.jsonl", "calls.jsonl", "workflows.jsonl"]
TRACED = ["run", "sync_1_none_attempt", "async_2_none_attempt"]
TRACE_FILES = [f"traces/{name}.otlp.jsonl" for name in TRACED]
FILES = {*RECORD_FILES, *TRACE_FILES, *PLOT_FILES, "summary.json", "report.html"}


def broken(*_: object, **__: object) -> NoReturn:
    raise KeyError("p95 of what")


def interrupted(*_: object, **__: object) -> NoReturn:
    raise KeyboardInterrupt


def draw_quickly(_: Chart | None, name: str, __: Summary, directory: Path) -> Sequence[Path]:
    """Draw a plot that is an empty file."""
    file = directory / "plots" / f"{name}.svg"
    file.parent.mkdir(exist_ok=True)
    file.touch()
    return [file]


def draw_all_but(wrong: str) -> object:
    """Return a function that draws every plot but `wrong`."""

    def draw(chart: Chart | None, name: str, summary: Summary, directory: Path) -> Sequence[Path]:
        return (broken if name == wrong else draw_quickly)(chart, name, summary, directory)

    return draw


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run in a folder that holds a tiny scenario; plots are empty files."""
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", DEBUG_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("harness.cli.report.save_plot", draw_quickly)
    monkeypatch.chdir(tmp_path)
    Path("tiny.toml").write_text(SCENARIO)
    return tmp_path


def run(*options: str) -> int:
    return main(["run", "tiny.toml", "--out", "out", "--jobs", "1", *options])


def files_of(directory: str) -> set[str]:
    found = Path(directory)
    return {str(path.relative_to(found)) for path in found.rglob("*") if path.is_file()}


def test_a_run_whose_views_work_makes_every_file(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--quiet") == 0
    assert files_of("out") >= FILES
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("target", "view", "way_out", "missing"),
    [
        ("harness.cli.report.save_report", "report.html", REPORT_AGAIN, {"report.html"}),
        ("harness.report.first_screen.first_screen", "the results", REPORT_AGAIN, set()),
        ("harness.report.terminal.render_summary", "the results", REPORT_AGAIN, set()),
        ("harness.cli.results.jaeger_of", "the links to Jaeger", TRACES_AGAIN, set()),
        (
            "harness.telemetry.spans.TraceMaker.of_workflows",
            "the traces",
            TRACES_AGAIN,
            set(TRACE_FILES[1:]),
        ),
        (
            "harness.telemetry.spans.TraceMaker.of_run",
            "the traces",
            TRACES_AGAIN,
            set(TRACE_FILES[:1]),
        ),
        ("harness.telemetry.delivery_log.save_account", "the traces", TRACES_AGAIN, set()),
        ("harness.cli.live.LiveView.before_trial", "the live view", RUN_CONTINUES, set()),
        ("harness.cli.live.Counters.add", "the live view", RUN_CONTINUES, set()),
        ("harness.telemetry.log_lines.RunLog.record", "the log", RUN_CONTINUES, set()),
        ("harness.telemetry.log_lines.RunLog.after_trial", "the log", RUN_CONTINUES, set()),
    ],
)
def test_a_view_that_raises_is_one_line_and_the_run_keeps_its_exit_code(
    target: str,
    view: str,
    way_out: str,
    missing: set[str],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(target, broken)
    assert run("--log-level", "error", "--verbose") == 0
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("harness: ")]
    assert said == [f"harness: {view} could not be made ({RAISED}); {way_out}"]
    assert files_of("out") >= FILES - missing
    assert not files_of("out") & missing


@pytest.mark.parametrize("name", NAMES)
def test_a_plot_that_raises_leaves_the_others(
    name: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("harness.cli.report.save_plot", draw_all_but(name))
    assert run("--quiet") == 0
    line = one_line(capsys.readouterr().err)
    assert line == f"harness: plots/{name} could not be made ({RAISED}); {REPORT_AGAIN}"
    assert files_of("out") >= FILES - {f"plots/{name}.svg"}


def test_a_chart_that_raises_is_missing_from_the_page_and_the_others_are_not(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save(make_records(["sync_1_none_attempt"], 1, shape=Shape()), folder)
    assert main(["report", "."]) == 0
    figures = Path("report.html").read_text().count("<figure ")
    listed = [one._replace(make=broken) if one.name == "timeline" else one for one in CHARTS]
    monkeypatch.setattr("harness.cli.report.CHARTS", listed)
    assert main(["report", "."]) == 4
    line = one_line(capsys.readouterr().err)
    assert line.startswith("harness: plots/timeline could not be made (KeyError")
    page = Path("report.html").read_text()
    assert page.count("<figure ") == figures - 1
    assert 'id="timeline"' not in page


def test_a_run_without_a_summary_says_so_and_exits_with_4(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("harness.analysis.summary.summarise", broken)
    assert run("--quiet") == 4
    line = one_line(capsys.readouterr().err)
    assert line == f"harness: summary.json could not be made ({RAISED}); {REPORT_AGAIN}"
    assert files_of("out") >= {*RECORD_FILES, *TRACE_FILES}
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    monkeypatch.setattr("harness.cli.report.save_plot", draw_quickly)
    assert main(["report", "out"]) == 0
    assert files_of("out") >= FILES


def test_a_run_that_failed_keeps_its_exit_code_when_a_view_fails_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.cli.report.save_report", broken)
    never = "endpoint.faults=[{kind='server_error', probability=1.0}]"
    assert run("--quiet", "--set", never) == 1


@pytest.mark.parametrize(
    "target", ["harness.cli.report.save_report", "harness.cli.results.jaeger_of"]
)
def test_an_interrupt_is_no_failed_view(
    target: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(target, interrupted)
    assert run() == 130
    said = "harness: interrupted; the run is complete: `harness report out` shows its results"
    assert capsys.readouterr().err.splitlines()[-1] == said


def test_a_second_interrupt_says_how_to_continue(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "harness.bench.virtual.VIRTUAL_MODES", {"sync": interrupted, "async": interrupted}
    )
    monkeypatch.setattr("harness.analysis.summary.summarise", interrupted)
    assert run() == 130
    said = "harness: interrupted; `harness run --resume out` continues the run"
    assert capsys.readouterr().err.splitlines()[-1] == said
    assert read_run(folder / "out").status == "partial"


def test_a_report_with_a_failed_view_exits_with_4_and_makes_the_others(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save(make_records(["sync_1_none_attempt"], 1, shape=Shape()), folder)
    monkeypatch.setattr("harness.cli.report.save_plot", draw_all_but("timeline"))
    assert main(["report", "."]) == 4
    printed = capsys.readouterr()
    assert "\nReport: report.html\n" in printed.out
    assert one_line(printed.err).startswith("harness: plots/timeline could not be made (KeyError")
    assert files_of(".") >= {"report.html", "summary.json", *PLOT_FILES} - {"plots/timeline.svg"}
    assert main(["report", ".", "--only", "timeline"]) == 4
    assert one_line(capsys.readouterr().err).startswith("harness: plots/timeline could not be")


def test_a_report_that_failed_is_not_named_as_made(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save(make_records(["sync_1_none_attempt"], 1, shape=Shape()), folder)
    monkeypatch.setattr("harness.cli.report.save_report", broken)
    Path("report.html").write_text("of an earlier session")
    assert main(["report", "."]) == 4
    said = capsys.readouterr().out
    assert "\nRecords: .\n" in said
    assert "report.html" not in said


def test_the_variable_for_debugging_adds_the_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(DEBUG_VARIABLE, "1")
    Views(Path("out")).safe("report.html", broken, REPORT_AGAIN)()
    line, *traceback = capsys.readouterr().err.splitlines()
    assert line.startswith("harness: report.html could not be made")
    assert traceback[-1] == RAISED


def test_a_view_is_reported_once_and_always_in_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    views = Views(Path("out"))
    for _ in range(3):
        with views.making("report.html", "way out"):
            raise ValueError("two\nlines")
    line = one_line(capsys.readouterr().err)
    assert line == "harness: report.html could not be made (ValueError: two lines); way out"
    assert views.failed == {"report.html"}


def test_a_drawing_thread_that_raises_leaves_the_terminal_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("harness.cli.live.LiveView._draw", broken)
    terminal = io.StringIO()  # rich sends standard error there while it draws
    console = Console(file=terminal, width=120, force_terminal=True)
    with LiveView(Counters(1, 1, None), console, Views(Path("out"))):
        pass
    line = f"harness: the live view could not be made ({RAISED}); {RUN_CONTINUES}"
    assert terminal.getvalue().count(line) == 1


@pytest.mark.parametrize(
    ("target", "command"),
    [
        ("harness.cli.trace.Waterfalls", ["trace", "."]),
        ("harness.cli.compare.compare_runs", ["compare", ".", "copy"]),
        ("harness.cli.export.export", ["export", "."]),
        ("harness.cli.trace.export_stored", ["trace", "export", "."]),
    ],
)
def test_another_view_that_raises_is_one_line_and_exits_with_4(
    target: str,
    command: list[str],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    save(make_records(["sync_1_none_attempt"], 1, shape=Shape()), folder)
    if "copy" in command:
        shutil.copytree(".", "copy")
    monkeypatch.setattr(target, broken)
    assert main(command) == 4
    line = one_line(capsys.readouterr().err)
    assert line == f"harness: internal error ({RAISED}); HARNESS_DEBUG=1 prints the traceback"
    monkeypatch.setenv(DEBUG_VARIABLE, "1")
    assert main(command) == 4
    assert capsys.readouterr().err.splitlines()[-1] == RAISED


@pytest.mark.parametrize("reader", ["gone", "full"])
def test_a_standard_error_that_cannot_be_written_does_not_end_the_run(
    reader: str, folder: Path
) -> None:
    read, write = os.pipe()
    os.close(read)
    if reader == "full":
        os.close(write)
        write = os.open("/dev/full", os.O_WRONLY)
    command = [sys.executable, "-m", "harness", "run", "tiny.toml", "--out", "out", "--jobs", "1"]
    try:
        ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=write, check=False)
    finally:
        os.close(write)
    assert ended.returncode == 0
    assert read_run(Path("out")).status == "complete"
    assert files_of("out") >= {*RECORD_FILES, *TRACE_FILES, "summary.json", "report.html"}
    assert b"Report: out/report.html" in ended.stdout
