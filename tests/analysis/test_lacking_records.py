"""A run that lacks records says so, and proves nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.analysis.lacking_records import lacking_records
from harness.analysis.selection import Dataset
from harness.analysis.summary import summarise
from harness.cli.main import main
from harness.store.run_directory import (
    ATTEMPTS_FILE,
    CALLS_FILE,
    RUN_FILE,
    TRIALS_FILE,
    TRIALS_FOLDER,
    WORKFLOWS_FILE,
)
from tests.virtual.test_auto_repeats import SCENARIO, ran

FIXED = SCENARIO.replace('repeats = "auto"\nmax_repeats = 20', "repeats = 5")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a run of a fixed number of repeats, and one until it is settled."""
    folder = tmp_path_factory.mktemp("whole")
    ran(folder / "fixed", FIXED)
    ran(folder / "auto", SCENARIO)
    ran(folder / "summary", FIXED.replace("seed", 'records = "summary"\nseed'))
    return folder


def cut(path: Path) -> None:
    """Keep the first half of a file, as a copy that was interrupted does."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


@pytest.mark.parametrize("name", ["fixed", "auto", "summary"])
def test_a_whole_run_lacks_nothing(runs: Path, name: str) -> None:
    records = Dataset.read(runs / name)
    assert lacking_records(records) == ()
    assert summarise(records).recommendation.state == "proven"


@pytest.mark.parametrize("name", ["fixed", "auto"])
@pytest.mark.parametrize(
    ("file", "kind"),
    [
        (ATTEMPTS_FILE, "attempts"),
        (CALLS_FILE, "calls"),
        (WORKFLOWS_FILE, "workflows"),
        (TRIALS_FILE, "trials"),
    ],
)
def test_half_a_file_is_noticed_and_nothing_is_proven(
    runs: Path, tmp_path: Path, name: str, file: str, kind: str
) -> None:
    folder = tmp_path / name
    shutil.copytree(runs / name, folder)
    cut(folder / file)
    summary = summarise(Dataset.read(folder))
    assert [text for text in summary.lacking if kind in text], summary.lacking
    assert summary.recommendation.state == "open"
    assert summary.recommendation.candidate is None
    assert {cell.slo for cell in summary.cells} == {"open"}


def test_attempts_and_calls_that_end_at_the_same_workflow_are_noticed(
    runs: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "cut"
    shutil.copytree(runs / "fixed", folder)
    for file in (ATTEMPTS_FILE, CALLS_FILE):
        lines = (folder / file).read_bytes().splitlines(keepends=True)
        (folder / file).write_bytes(b"".join(lines[: len(lines) // 2]))
    (missing,) = summarise(Dataset.read(folder)).lacking
    assert "calls are missing" in missing


def test_a_lost_file_of_a_trial_is_noticed(runs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "lost"
    shutil.copytree(runs / "summary", folder)
    sorted((folder / TRIALS_FOLDER).iterdir())[0].unlink()
    assert summarise(Dataset.read(folder)).lacking == ("1 trial is missing.",)


def stop(folder: Path, status: str) -> None:
    """Write that a complete run is partial, or still runs."""
    text = (folder / RUN_FILE).read_text()
    (folder / RUN_FILE).write_text(text.replace('"status": "complete"', f'"status": "{status}"'))


def test_a_run_that_has_not_ended_lacks_nothing(runs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "running"
    shutil.copytree(runs / "fixed", folder)
    stop(folder, "running")
    cut(folder / WORKFLOWS_FILE)
    assert summarise(Dataset.read(folder)).lacking == ()


def test_an_interrupted_trial_lacks_nothing_and_a_whole_one_all_that_is_cut(
    runs: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "partial"
    shutil.copytree(runs / "fixed", folder)
    stop(folder, "partial")
    *whole, last = (folder / TRIALS_FILE).read_text().splitlines(keepends=True)
    interrupted = last.replace("}\n", ',"interrupted":true}\n')
    (folder / TRIALS_FILE).write_text("".join([*whole[:3], interrupted]))
    lines = (folder / WORKFLOWS_FILE).read_text().splitlines(keepends=True)
    (folder / WORKFLOWS_FILE).write_text("".join(lines[:-1]))
    assert summarise(Dataset.read(folder)).lacking == ()
    (folder / WORKFLOWS_FILE).write_text("".join(lines[1:]))
    (missing,) = summarise(Dataset.read(folder)).lacking
    assert missing == "1 workflow is missing."


def test_a_comparison_warns_of_a_run_that_has_lost_records(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(runs / "fixed", folder)
    cut(folder / ATTEMPTS_FILE)
    assert main(["compare", str(runs / "fixed"), str(folder)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Warning: the second run has lost records, so no change is proven:" in said
    assert "attempts are missing. Restore its files, or run it again." in said
    assert "the first run has lost records" not in said
