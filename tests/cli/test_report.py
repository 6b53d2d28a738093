"""`harness report` on a run directory made by hand."""

import argparse
import shutil
from pathlib import Path

import msgspec
import pytest

from harness.analysis.summary import summarise
from harness.cli.main import main
from harness.cli.report import report_run
from harness.records.errors import InputError
from harness.store.run_directory import (
    PROVIDER_FILE,
    RUN_FILE,
    Records,
    Writer,
    read_records,
    write_whole,
)
from tests.analysis.played import Shape, make_records
from tests.report.subjects import save_report

pytestmark = pytest.mark.plots


def save(records: Records, directory: Path) -> None:
    write_whole(directory / RUN_FILE, records.run)
    with Writer(directory) as writer:
        for kind in (records.attempts, records.calls, records.workflows, records.trials):
            for record in kind:
                writer.append(record)
    if records.provider is None:
        return
    head, served = records.provider
    lines = [msgspec.json.encode(line) for line in (head, *served)]
    (directory / PROVIDER_FILE).write_bytes(b"\n".join(lines) + b"\n")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    cells = ["sync_1_none_attempt", "async_2_none_attempt"]
    save(make_records(cells, 2, shape=Shape(failure_rate=0.1), time_scale=0.05), tmp_path)
    return tmp_path


def test_everything_that_is_made_from_records_is_made_again(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = argparse.Namespace(run=str(directory), only=None, text=False, verbose=False)
    assert report_run(options) == 0
    plots = ["plots/latency-throughput-simulated.svg", "plots/timeline-simulated.png"]
    made = ["summary.json", "report.html", *plots]
    before = {name: (directory / name).read_bytes() for name in made}
    assert f"\nReport: {directory / 'report.html'}\n" in capsys.readouterr().out
    (directory / "summary.json").unlink()
    (directory / "report.html").unlink()
    shutil.rmtree(directory / "plots")
    assert report_run(options) == 0
    assert {name: (directory / name).read_bytes() for name in made} == before


def test_the_report_alone_can_be_made_from_the_records(directory: Path) -> None:
    report_run(argparse.Namespace(run=directory, only=None, text=False, verbose=False))
    whole = (directory / "report.html").read_bytes()
    records = read_records(directory)
    assert save_report(summarise(records), records, directory).read_bytes() == whole


def test_a_directory_without_a_run_is_refused_with_a_way_out(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"contains no run\.json; give a directory"):
        report_run(
            argparse.Namespace(run=tmp_path / "nowhere", only=None, text=False, verbose=False)
        )


def test_one_plot_alone_can_be_drawn(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(directory), "--only", "repeats"]) == 0
    plots = directory / "plots"
    files = [plots / f"repeats-simulated.{kind}" for kind in ("svg", "png")]
    assert capsys.readouterr().out.split() == list(map(str, files))
    assert sorted(plots.iterdir()) == sorted(files)


@pytest.mark.parametrize(
    ("name", "said"),
    [("repeat", "--only repeat: no such plot (did you mean 'repeats'?); known: "),
     ("heat-map", "--only heat-map: ")],
)  # fmt: skip
def test_a_plot_that_cannot_be_drawn_is_one_line(
    name: str, said: str, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(directory), "--only", name]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"harness: {said}")
