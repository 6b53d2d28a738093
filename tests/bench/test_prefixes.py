"""A run that was cut at any write, or within one, goes on: nothing is lost or doubled."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from harness.analysis.selection import Dataset
from harness.bench import runner
from harness.bench.resume import progress_of
from harness.bench.runner import Hooks
from harness.cli.main import main
from harness.records.schema import Attempt, Call, Trial, Workflow
from harness.store.run_directory import (
    ATTEMPTS_FILE,
    CALLS_FILE,
    FILES,
    RUN_FILE,
    TRIALS_FILE,
    WORKFLOWS_FILE,
    each,
    read_run,
    write_whole,
)
from harness.store.trial_reader import TrialReader
from tests.virtual.test_sweeps import nothing, play

SCENARIO = """
name = "cut"
seed = 3
[workflow]
topics = ["tides", "seed banks"]
sub_questions = 2
[endpoint]
profile = "deepseek-reasoner"
override = { concurrency_cap = 2, retry_after = "2s" }
time = "virtual"
[load]
workflows = 3
in_flight = 2
[sweep]
mode = ["sync", "async"]
permits = [4]
retry = ["patient"]
repeats = 1
[retry.patient]
kind = "exponential"
attempts = 9
base = "1s"
cap = "20s"
"""
ORDER: tuple[type[Attempt | Call | Workflow], ...] = (Attempt, Call, Workflow)


class Write(NamedTuple):
    """One line that was written to a file."""

    name: str
    line: bytes


def writes(run: Path) -> list[Write]:
    """Return the lines of a run in the order in which a run in real time writes them."""
    of_trials = []
    for place, trial in enumerate(each(run, Trial)):
        of_trials.append((place, float("inf"), 0, Write(TRIALS_FILE, _line(trial))))
        for number, kind in enumerate(ORDER):
            for record in each(run, kind):
                if (record.cell, record.repeat) == (trial.cell, trial.repeat):
                    write = Write(FILES[kind], _line(record))
                    of_trials.append((place, record.done, number, write))
    return [write for *_, write in sorted(of_trials, key=lambda one: one[:3])]


def _line(record: Attempt | Call | Workflow | Trial) -> bytes:
    return msgspec.json.encode(record) + b"\n"


def cuts(sequence: list[Write]) -> Iterator[list[Write]]:
    """Yield each prefix, and each with a part of the next line, most often all but its newline."""
    for count, (name, line) in enumerate(sequence):
        yield sequence[:count]
        part = line[: len(line) // 2] if count % 4 == 0 else line[:-1]
        yield [*sequence[:count], Write(name, part)]
    yield sequence


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cut")
    (folder / "cut.toml").write_text(SCENARIO)
    return play(folder / "cut.toml", "whole")


def lay_out(whole: Path, run: Path, written: list[Write]) -> None:
    """Make a run directory of which so much had been written."""
    run.mkdir()
    begun = msgspec.structs.replace(read_run(whole), status="running")
    write_whole(run / RUN_FILE, begun)
    for name in (ATTEMPTS_FILE, CALLS_FILE, WORKFLOWS_FILE, TRIALS_FILE):
        (run / name).write_bytes(b"".join(write.line for write in written if write.name == name))


def go_on(run: Path) -> None:
    progress = progress_of(run)
    profiles = {cell.id: progress.run.cell_profile(cell.id) or {} for cell in progress.run.cells}
    hooks = Hooks(*[nothing] * len(Hooks._fields))
    runner.run(progress.scenario, profiles, {}, run, hooks, progress=progress)


def test_nothing_is_lost_and_nothing_is_doubled_after_any_cut(whole: Path, tmp_path: Path) -> None:
    sequence = writes(whole)
    ended = {write.line for write in sequence if write.name == WORKFLOWS_FILE}
    assert len(ended) == 6
    for number, written in enumerate(cuts(sequence)):
        run = tmp_path / str(number)
        lay_out(whole, run, written)
        kept = [write.line for write in written if write.name == WORKFLOWS_FILE]
        kept = [line for line in kept if line.endswith(b"\n")]
        go_on(run)
        lines = (run / WORKFLOWS_FILE).read_bytes().splitlines(keepends=True)
        assert lines[: len(kept)] == kept, "what had ended stays"
        records = Dataset.read(run)
        assert records.run.status == "complete"
        times = Counter((one.cell, one.repeat, one.workflow) for one in records.workflows)
        assert times == dict.fromkeys(times, 1)
        assert len(times) == 6
        for cell in records.cells.values():
            assert len(cell.workflows) == 3
            assert set(cell.clusters) == {(0, 0), (0, 1), (0, 2)}
        shutil.rmtree(run)


def test_a_last_line_without_its_newline_is_left_out_by_every_reader(
    whole: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    for name in (ATTEMPTS_FILE, CALLS_FILE, WORKFLOWS_FILE, TRIALS_FILE):
        (run / name).write_bytes((run / name).read_bytes()[:-1])
    for kind in (*ORDER, Trial):
        assert len(list(each(run, kind))) == len(list(each(whole, kind))) - 1
    one, other = Dataset.read(run), Dataset.read(whole)
    for name in ("attempts", "calls", "workflows", "trials"):
        assert len(getattr(one, name)) == len(getattr(other, name)) - 1
    reader = TrialReader(run)
    counted = sum(len(reader.records(trial).attempts) for trial in reader.keys(Attempt))
    assert counted == len(one.attempts)


def test_a_line_that_was_copied_counts_once(whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    for name in (ATTEMPTS_FILE, CALLS_FILE, WORKFLOWS_FILE, TRIALS_FILE):
        lines = (run / name).read_bytes().splitlines(keepends=True)
        (run / name).write_bytes(b"".join([*lines, *lines[:3]]))
    for name in ("attempts", "calls", "workflows", "trials"):
        assert getattr(Dataset.read(run), name) == getattr(Dataset.read(whole), name)
    assert progress_of(run).whole == progress_of(whole).whole
    assert progress_of(run).elapsed == progress_of(whole).elapsed


@pytest.mark.parametrize("kind", [Attempt, Call, Workflow, Trial])
@pytest.mark.parametrize("command", ["report", "--resume", "trace", "export", "compare"])
def test_a_cell_that_the_run_does_not_have_is_one_line(
    whole: Path, tmp_path: Path, kind: type, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    text = (run / FILES[kind]).read_text()
    (run / FILES[kind]).write_text(text.replace("async_4", "async_5", 1))
    arguments = {
        "--resume": ["run", "--resume", str(run), "--quiet"],
        "compare": ["compare", str(whole), str(run)],
        "trace": ["trace", "export", str(run)],
    }
    code = main(arguments.get(command, [command, str(run)]))
    said = capsys.readouterr().err.splitlines()
    assert code in (2, 4)
    assert len(said) == 1
    assert "async_5" in said[0]
    assert FILES[kind] in said[0]
