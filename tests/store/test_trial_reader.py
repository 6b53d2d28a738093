"""A stored run is read one trial at a time, whatever wrote it and however long it is."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from harness.bench.resume import progress_of
from harness.cli.main import main
from harness.records.errors import StorageError
from harness.records.schema import Attempt, Call, Transcript, Workflow
from harness.store.run_directory import (
    ATTEMPTS_FILE,
    RUN_FILE,
    Records,
    Writer,
    read_records,
    write_whole,
)
from harness.store.trial_reader import TrialReader
from tests.analysis.builders import make_attempt, make_run, make_trial, make_workflow
from tests.analysis.played import Shape, make_records
from tests.cli.test_report import save
from tests.store.alive import count_alive

CELLS = ("sync_1_none_attempt", "async_2_none_attempt")
REPEATS = 6


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of twelve trials, whose records are in random order of cells."""
    directory = tmp_path_factory.mktemp("stored")
    records = make_records(CELLS, REPEATS, workflows=4, shape=Shape(failure_rate=0.2))
    save(records, directory)
    return directory


def test_the_trials_together_are_the_run(stored: Path) -> None:
    whole, reader = read_records(stored), TrialReader(stored)
    trials = list(reader.by_trial())
    every = [(cell.id, repeat) for cell in whole.run.cells for repeat in range(REPEATS)]
    assert reader.keys(Attempt) == reader.keys(Call, Workflow) == every
    for key, part in zip(every, trials, strict=True):
        for name in ("attempts", "calls", "workflows", "trials"):
            mine = [one for one in getattr(whole, name) if (one.cell, one.repeat) == key]
            assert getattr(part, name) == mine
    for part, only in zip(trials, reader.workflows_by_trial(), strict=True):
        assert only == part._replace(attempts=[], calls=[])


def test_the_sessions_of_a_resumed_trial_are_one_trial(tmp_path: Path) -> None:
    sections = [(0, 0), (1, 0), (0, 1), (0, 1), (2, 0)]
    attempts = [
        make_attempt(repeat=repeat, execution=execution, attempt=number)
        for number, (repeat, execution) in enumerate(sections, 1)
    ]
    save(Records(make_run(repeats=3), attempts, [], [], [make_trial()], None), tmp_path)
    with (tmp_path / ATTEMPTS_FILE).open("ab") as file:
        file.write(b'{"cell":"async_2_none_attempt","repeat":0,"wor')  # torn
    found = [[one.attempt for one in part.attempts] for part in TrialReader(tmp_path).by_trial()]
    assert found == [[1, 3, 4], [2], [5]]


def test_a_run_without_records_has_no_trials(tmp_path: Path) -> None:
    write_whole(tmp_path / RUN_FILE, make_run())
    assert list(TrialReader(tmp_path).by_trial()) == []


def test_transcripts_are_read_by_trial(tmp_path: Path) -> None:
    said = [
        Transcript(
            cell="async_2_none_attempt", repeat=repeat, workflow=0, execution=0, phase="step",
            call=call, outcome="ok", messages=(), reasoning="", answer="",
        )
        for repeat, call in ((0, 1), (0, 2), (1, 1))
    ]  # fmt: skip
    write_whole(tmp_path / RUN_FILE, make_run())
    with Writer(tmp_path, transcripts=True) as writer:
        for one in said:
            writer.append(one)
    reader = TrialReader(tmp_path)
    assert list(reader.each(Transcript, ("async_2_none_attempt", 0))) == said[:2]
    assert list(reader.each(Transcript, ("async_2_none_attempt", 2))) == []


def test_a_broken_line_is_named_by_its_number_in_the_file(tmp_path: Path) -> None:
    attempts = [make_attempt(repeat=repeat) for repeat in (0, 1)]
    save(Records(make_run(repeats=2), attempts, [], [make_workflow()], [], None), tmp_path)
    path = tmp_path / ATTEMPTS_FILE
    path.write_bytes(path.read_bytes().replace(b'"repeat":1', b'"repeat":1,"status":"odd"'))
    reader = TrialReader(tmp_path)
    assert len(reader.records(("async_2_none_attempt", 0)).attempts) == 1
    with pytest.raises(StorageError, match=r"attempts\.jsonl:2: not a record"):
        reader.records(("async_2_none_attempt", 1))
    path.write_bytes(b"nonsense\n")
    with pytest.raises(StorageError, match=r"attempts\.jsonl:1: not a record"):
        TrialReader(tmp_path).keys(Attempt)


# The most records in memory at once: those of the longest trial, and a few that are handed over.

FEW = 4


def longest(directory: Path) -> int:
    parts = TrialReader(directory).by_trial()
    return max(len(part.attempts) + len(part.calls) + len(part.workflows) for part in parts)


@pytest.mark.parametrize(
    "options", [[], ["--json"], ["--spans"], ["--slowest", "3"], [f"{CELLS[1]}/3/2"]]
)
def test_trace_keeps_the_records_of_one_trial(
    stored: Path, options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    most = longest(stored) + FEW
    seen = count_alive(monkeypatch)
    assert main(["trace", str(stored), *options]) == 0
    assert 0 < seen.most <= most


def test_exporting_the_traces_keeps_the_records_of_one_trial(
    stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = longest(stored) + FEW
    seen = count_alive(monkeypatch)
    assert main(["trace", "export", str(stored)]) == 0
    assert seen.read > 5 * most
    assert seen.most <= most


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_exporting_the_tables_keeps_the_workflows_of_one_trial(
    stored: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["report", str(stored)]) == 0  # its summary has the figures of the cells
    seen = count_alive(monkeypatch)
    assert main(["export", str(stored), "--out", str(tmp_path), "--format", kind]) == 0
    assert seen.read > 100
    assert seen.most <= 4 + FEW


def test_resuming_keeps_one_record(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = msgspec.structs.replace(read_records(stored).run, resumed=())
    seen = count_alive(monkeypatch)
    progress = progress_of(stored)
    assert sum(map(len, progress.ended.values())) == len(CELLS) * REPEATS * 4
    assert progress.run.execution == run.execution + 1
    assert seen.read > 100
    assert seen.most <= FEW
