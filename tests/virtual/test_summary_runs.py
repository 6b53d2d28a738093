"""A run that keeps only what its statistics need has the results of one that keeps all records."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness.bench.resume import progress_of
from harness.cli.main import main
from harness.records.errors import StorageError
from harness.records.schema import Attempt
from harness.store.run_directory import Records, read_records
from harness.store.trial_reader import TrialReader

IDS = ("request_id", "response_id", "first_chunk")
SCENARIO = """
name = "kept"
seed = 4
[workflow]
topics = ["tides", "soil"]
sub_questions = 3
max_tokens = { decompose = 2000, research = 2000, synthesize = 2000 }
[endpoint]
profile = "deepseek-reasoner"
override = { concurrency_cap = 4 }
faults = [{ kind = "rate_limited", probability = 0.2 }, { kind = "truncated", probability = 0.1 }]
time = "virtual"
[load]
workflows = 6
in_flight = 3
[sweep]
permits = [2, 8]
retry = ["none", "patient", "hedged"]
repeats = 2
[retry.patient]
kind = "exponential"
attempts = 4
base = "1s"
cap = "9s"
[retry.hedged]
kind = "stack"
layers = ["hedge", "patient"]
[retry.hedge]
kind = "hedge"
after = "1s"
"""
AGENT = """
name = "kept"
[workflow]
kind = "agent"
topics = ["tides"]
[endpoint]
profile = "plain-chat"
time = "virtual"
[load]
workflows = 5
arrivals = { process = "poisson", per_second = 0.05 }
[sweep]
mode = ["sync", "async"]
permits = [2]
repeats = 3
[objective]
minimise = "workflow_p95"
"""


def made(folder: Path, text: str, records: str, *options: str, code: int = 0) -> Path:
    """Run a scenario with `records` and return the run directory."""
    path, out = folder / "kept.toml", folder / records
    path.write_text(text)
    command = ["run", str(path), "--out", str(out), "--set", f"records={records}", *options]
    assert main([*command, "--quiet"]) == code
    return out


def summary_of(out: Path) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((out / "summary.json").read_text())
    del summary["run_id"]
    return summary


def without_ids(records: Records) -> list[Attempt]:
    none: dict[str, None] = dict.fromkeys(IDS)
    return [msgspec.structs.replace(attempt, **none) for attempt in records.attempts]


def same(full: Path, summary: Path) -> None:
    """The results are the same, and the records are but for the ids of the provider."""
    assert json.dumps(summary_of(full)) == json.dumps(summary_of(summary))
    one, other = read_records(full), read_records(summary)
    assert without_ids(one) == other.attempts
    assert one[2:] == other[2:]
    assert not (summary / "attempts.jsonl").exists()


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same run twice: with all records, and with only what the statistics need."""
    folder = tmp_path_factory.mktemp("both")
    return made(folder, SCENARIO, "full"), made(folder, SCENARIO, "summary")


def test_retries_and_hedges_have_the_same_results(both: tuple[Path, Path]) -> None:
    same(*both)
    attempts = read_records(both[0]).attempts
    assert {attempt.hedge for attempt in attempts} == {False, True}
    assert {"ok", "rate_limited"} < {attempt.outcome for attempt in attempts}
    assert not (both[1] / "traces").exists()


def test_nested_phases_of_an_open_loop_have_the_same_results(tmp_path: Path) -> None:
    same(made(tmp_path, AGENT, "full"), made(tmp_path, AGENT, "summary"))


def test_a_run_that_its_budget_stopped_can_be_resumed(tmp_path: Path) -> None:
    stop = ("--set", "budget.attempts=150")
    outs = [made(tmp_path, SCENARIO, kept, *stop, code=3) for kept in ("full", "summary")]
    same(*outs)
    for out in outs:
        assert read_records(out).trials[-1].interrupted
        more = ["--resume", str(out), "--set", "budget.attempts=100000", "--quiet"]
        assert main(["run", *more]) == 0
        assert {attempt.execution for attempt in read_records(out).attempts} == {0, 1}
    same(*outs)


def test_a_trial_without_a_file_is_played_when_the_run_is_resumed(
    both: tuple[Path, Path], tmp_path: Path
) -> None:
    """A killed run has the files of the trials that had ended; a file is written whole."""
    out = made(tmp_path, SCENARIO, "summary")
    files = sorted((out / "trials").iterdir())
    files[3].unlink()
    files[5].rename(files[5].with_name(files[5].name + ".part"))
    assert main(["run", "--resume", str(out), "--quiet"]) == 0
    again, before = read_records(out), read_records(both[1])
    assert sorted(trial.execution for trial in again.trials) == [0] * (len(files) - 2) + [1] * 2
    ended = [(one.cell, one.repeat, one.workflow) for one in again.workflows]
    assert sorted(ended) == sorted((one.cell, one.repeat, one.workflow) for one in before.workflows)
    assert [cell["workflows"]["started"] for cell in summary_of(out)["cells"]] == [12] * 6


def test_one_seed_leaves_the_same_bytes_in_any_number_of_processes(
    both: tuple[Path, Path], tmp_path: Path
) -> None:
    out = made(tmp_path, SCENARIO, "summary", "--jobs", "2")
    files = {path.name: path.read_bytes() for path in (out / "trials").iterdir()}
    assert files == {path.name: path.read_bytes() for path in (both[1] / "trials").iterdir()}


def test_views_are_made_again(
    both: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    full, summary = both
    before = summary_of(summary)
    assert main(["report", str(summary)]) == 0
    assert summary_of(summary) == before
    assert main(["compare", str(full), str(summary)]) == 0
    capsys.readouterr()
    shown = []
    for out in both:
        assert main(["trace", str(out), "--slowest", "3", "--json"]) == 0
        drawn = json.loads(capsys.readouterr().out)
        shown.append([drawn["cells"], [one["key"] for one in drawn["workflows"]]])
    assert shown[0] == shown[1]


def test_tables_and_spans_lack_only_the_ids_of_the_provider(
    both: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exported = []
    for out in both:
        assert main(["export", str(out), "--out", str(tmp_path / out.name)]) == 0
        tables = {}
        for path in (tmp_path / out.name).iterdir():
            with path.open(newline="") as file:
                rows = list(csv.DictReader(file))
            tables[path.name] = [
                {name: value for name, value in row.items() if name not in IDS} for row in rows
            ]
        exported.append(tables)
    assert exported[0] == exported[1]
    assert main(["trace", "export", str(both[1])]) == 0
    said = capsys.readouterr().err.splitlines()
    assert (
        said
        == [
            f"harness: {both[1]} keeps only what the statistics need: request_id and response_id "
            "are left out; run its scenario with --set records=full to record them"
        ]
        * 2
    )
    (account,) = (both[1] / "traces").glob("*.json")
    assert json.loads(account.read_text())["made"] > 0


def test_the_reader_of_trials_finds_the_same_ones(both: tuple[Path, Path]) -> None:
    full, summary = map(TrialReader, both)
    keys = full.keys(Attempt)
    assert summary.keys(Attempt) == keys
    assert next(summary.by_trial()).calls == next(full.by_trial()).calls
    assert list(summary.each(Attempt, ("no such cell", 0))) == []


def test_it_is_resumed_from_the_same_progress(both: tuple[Path, Path]) -> None:
    full, summary = map(progress_of, both)
    same = ("ended", "whole", "spent", "elapsed", "answered")
    assert [getattr(summary, name) for name in same] == [getattr(full, name) for name in same]
    assert full.spent.attempts > 100
    assert full.answered
    sessions = (full.run.resumed[-1], summary.run.resumed[-1])
    assert sessions[0].execution == sessions[1].execution


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ["--set", "endpoint.time=real"],
            "--set records = 'summary': the records of real time cannot be made again; use 'full', "
            "or endpoint.time = 'virtual'",
        ),
        (
            ["--set", "transcripts=true"],
            "--set records = 'summary': keeps no transcripts; use 'full', or transcripts = false",
        ),
        (["--set", "records=some"], "--set records = 'some': must be 'full' or 'summary'"),
        (
            ["--set", 'sweep."records"=["full", "summary"]'],
            "--set sweep.records: cannot vary within a run; keys of these sections can: endpoint, "
            "load, retry, timeouts, workflow",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    assert not made(tmp_path, SCENARIO, "summary", *options, code=2).exists()
    assert capsys.readouterr().err == f"harness: {said}\n"


def test_the_end_of_a_run_says_what_was_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "kept.toml"
    path.write_text(f'records = "summary"\n{AGENT}')
    assert main(["run", str(path), "--verbose", "--out", str(tmp_path / "out")]) == 0
    out, err = capsys.readouterr()
    assert "with `--set records=full` makes the same run with all records" in " ".join(out.split())
    assert err.splitlines()[-1].startswith("harness: no traces: the run keeps a summary only; ")


def damaged(data: bytes) -> Iterator[bytes]:
    """Yield the content of a file with all kinds of damage."""
    yield from (b"", data[:40], data[:-1], data[10:], data + b"x", bytes(len(data)))
    step = max(1, len(data) // 200)
    for at in range(0, len(data), step):
        yield data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def test_every_damage_of_a_file_is_found_and_one_can_run_its_trial_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = made(tmp_path, AGENT, "summary")
    trials, attempts = sorted((out / "trials").iterdir()), len(read_records(out).attempts)
    for content in damaged(trials[0].read_bytes()):
        trials[0].write_bytes(content)
        with pytest.raises(StorageError, match=r"\.trial: damaged") as caught:
            read_records(out)
    capsys.readouterr()
    assert main(["run", "--resume", str(out)]) == 2
    assert capsys.readouterr().err == f"harness: --resume {out}: {caught.value}\n"
    trials[0].unlink()
    assert main(["run", "--resume", str(out)]) == 0
    assert len(read_records(out).attempts) == attempts
    assert len(list((out / "trials").iterdir())) == len(trials)


def test_a_file_that_was_being_written_is_removed_and_never_read(tmp_path: Path) -> None:
    out = made(tmp_path, AGENT, "summary")
    path = min((out / "trials").iterdir())
    part = path.rename(path.with_name(f"{path.name}.part"))
    assert len(read_records(out).trials) == len(list((out / "trials").iterdir())) - 1
    assert main(["run", "--resume", str(out)]) == 0
    assert not part.exists()
