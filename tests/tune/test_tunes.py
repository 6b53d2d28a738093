"""Whole tunes in virtual time: what they find, leave and resume."""

import json
import shutil
from pathlib import Path

import msgspec
import pytest

from harness.analysis.model import Summary
from harness.cli import execute
from harness.cli.main import main
from harness.records.schema import Trial
from harness.records.tune_blocks import TuneBlock, valid_decisions
from harness.report.first_screen import first_screen
from harness.store.run_directory import each, read_run

SCENARIO = """
name = "capped"
seed = 3
[workflow]
topics = ["a", "b", "c", "d", "e", "f"]
sub_questions = 4
[endpoint]
profile = "plain-chat"
time = "virtual"
[endpoint.override]
concurrency_cap = 6
ttft = { median = "400ms", sigma = 0.2 }
answer_tokens = { median = 100, sigma = 0.3 }
[load]
workflows = 12
in_flight = 6
[slo]
success_rate = 0.9
[tune]
permits = { min = 1, max = 12 }
retry = ["none", "patient"]
max_blocks = 4
[retry.patient]
kind = "exponential"
attempts = 8
base = "1s"
cap = "10s"
"""


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tune")
    (folder / "capped.toml").write_text(SCENARIO)
    assert main(["tune", str(folder / "capped.toml"), "--out", str(folder / "run"), "--quiet"]) == 0
    return folder / "run"


def test_a_tune_finds_the_cap_with_a_part_of_the_trials(tuned: Path) -> None:
    summary = json.loads((tuned / "summary.json").read_text())
    assert summary["recommendation"]["candidate"].startswith("async_6_")
    assert summary["lacking"] == []
    blocks = list(each(tuned, TuneBlock))
    assert blocks[-1].end
    trials = sum(len(block.cells) for block in blocks)
    settings = len(read_run(tuned).cells)
    assert trials < settings == len(blocks[0].open)
    assert {cell["id"] for cell in summary["cells"]} == {
        name for block in blocks for name in block.cells
    }


def test_the_answer_says_what_was_measured_and_ruled_out(
    tuned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(tuned), "--verbose"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "settings were measured, in" in said


def test_a_tune_that_was_killed_goes_on_with_its_own_decisions(tuned: Path, tmp_path: Path) -> None:
    again = tmp_path / "run"
    shutil.copytree(tuned, again)
    blocks = list(each(again, TuneBlock))
    kept = blocks[:3]
    (again / "tune.jsonl").write_bytes(
        b"".join(msgspec.json.encode(block) + b"\n" for block in kept)
    )
    gone = {(name, kept[-1].block) for name in kept[-1].cells}  # the last of them did not run
    for name in ("attempts", "calls", "workflows", "trials"):
        path = again / f"{name}.jsonl"
        lines = [
            line
            for line in path.read_bytes().splitlines(keepends=True)
            if (one := json.loads(line)) and one.get("repeat", 0) <= kept[-1].block
            and (one["cell"], one.get("repeat", 0)) not in gone
        ]  # fmt: skip
        path.write_bytes(b"".join(lines))
    assert main(["tune", "--resume", str(again), "--quiet"]) == 0
    after = list(each(again, TuneBlock))
    assert after[:3] == kept
    assert after[-1].end
    trials = [(trial.cell, trial.repeat) for trial in each(again, Trial)]
    assert len(trials) == len(set(trials)) == sum(len(block.cells) for block in after)


def test_tune_needs_a_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune"]) == 2
    assert "no scenario" in capsys.readouterr().err


@pytest.mark.parametrize("section", ["tune", "sweep"])
def test_a_tune_does_not_choose_a_client(
    section: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "capped.toml").write_text(SCENARIO)
    clients = f'{section}."endpoint.client"=["openai", "wire"]'
    sets = ["--set", "endpoint.time=real", "--set", clients]
    assert main(["tune", str(tmp_path / "capped.toml"), *sets, "--dry-run"]) == 2
    [error] = capsys.readouterr().err.splitlines()
    assert error.startswith(
        f"harness: --set {section}.\"endpoint.client\" = ['openai', 'wire']: no setting is "
        "recommended among several clients, so a tune or repeats = 'auto' has no end;"
    )


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("tune.permits={min=9, max=4}", "tune.permits.min = 9: is more than max = 4"),
        ("tune.permits={min=1}", "tune.permits.max: missing"),
        ("tune.permits=[0, 4]", "tune.permits[0] = 0: must be at least 1"),
        ('tune.retry=["unknown"]', "unknown"),
        ("tune.max_blocks=1", "max_blocks"),
        ("tune.speed=[1]", "speed"),
        ('tune.permits=["elastc"]', "--set tune.permits[0] = 'elastc': unknown limit"),
        ('tune.retry=["unknown"]', "--set tune.retry[0] = 'unknown': unknown policy"),
        (
            'tune."workflow.sub_questions"=[0]',
            '--set tune."workflow.sub_questions"[0] = 0: must be 1 to 1000 branches',
        ),
        (
            'tune.mode=["async"]',
            "tune.mode: is a key of [sweep], whose values a tune chooses from, too; write it",
        ),
        (f'tune."load.in_flight"={list(range(1, 61))}', "1,440 settings can be chosen, more than"),
        ("tune.repeats=3", "tune.repeats: unknown key; use one of permits, retry, max_blocks"),
        ("sweep.permits=[0]", "sweep.permits[0] = 0: must be at least 1"),
    ],
)
def test_a_wrong_key_is_one_line(
    key: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "capped.toml").write_text(SCENARIO)
    assert main(["tune", str(tmp_path / "capped.toml"), "--set", key, "--dry-run"]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert key.startswith("sweep.") or "sweep." not in error


def test_a_limit_a_minute_lets_a_real_endpoint_rest(tmp_path: Path) -> None:
    text = SCENARIO.replace("concurrency_cap = 6", 'requests_per_minute = 60\nburst = "20s"')
    (tmp_path / "minute.toml").write_text(text)
    arguments = ["tune", str(tmp_path / "minute.toml"), "--out", str(tmp_path / "run"), "--quiet"]
    few = ["tune.permits=[4, 12]", "tune.retry=['patient']", "tune.max_blocks=3"]
    assert main([*arguments, *(word for one in few for word in ("--set", one))]) == 0
    rests = [block.rest_s for block in each(tmp_path / "run", TuneBlock)]
    assert rests[0] == 0
    assert rests[1] == pytest.approx(20, rel=0.2)


def test_a_tune_that_its_budget_ended_goes_on_with_a_larger_one(tmp_path: Path) -> None:
    """The budget has room for the first blocks, but not for the next trial."""
    (tmp_path / "capped.toml").write_text(SCENARIO)
    run = tmp_path / "run"
    few = ["tune.permits=[4, 6]", "tune.retry=['patient']", "budget.attempts=170"]
    words = ["tune", str(tmp_path / "capped.toml"), "--out", str(run), "--quiet"]
    assert main([*words, *(word for one in few for word in ("--set", one))]) == 3
    stopped = read_run(run).stopped
    assert stopped is not None
    assert stopped.because == (
        "budget.attempts = 170 leaves no room for another trial; spent: 144 attempts"
    )
    ended = list(each(run, TuneBlock))
    assert [block.over_budget for block in ended] == [False] * (len(ended) - 1) + [True]
    summary = msgspec.json.decode((run / "summary.json").read_bytes(), type=Summary)
    lines = [str(line) for line in first_screen(summary, run, 80)]
    said = " ".join(" ".join(lines).split())
    assert "The budget ended the tune: budget.attempts = 170 leaves no room for another" in said
    assert f"Next: harness run --resume {run} --set budget.attempts=" in said.replace("\\ ", "")

    assert main(["tune", "--resume", str(run), "--set", "budget.attempts=400", "--quiet"]) == 0
    assert read_run(run).status == "complete"
    after = list(each(run, TuneBlock))
    assert after[: len(ended)] == ended
    valid = valid_decisions(after)
    assert [block.block for block in valid] == list(range(len(valid)))
    assert ended[-1] not in valid
    assert len(valid) > len(ended)
    assert sum(len(block.cells) for block in valid) == len(list(each(run, Trial)))


def test_a_complete_tune_needs_no_endpoint(
    tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    again = tmp_path / "run"
    shutil.copytree(tuned, again)

    def refuse(*_: object) -> None:
        pytest.fail("waits for the endpoint")

    monkeypatch.setattr(execute, "_wait", refuse)
    assert main(["tune", "--resume", str(again)]) == 0
    assert "the run is complete, so nothing is left to run" in capsys.readouterr().err


def test_an_end_at_the_budget_is_valid_until_the_tune_goes_on() -> None:
    block = TuneBlock(
        block=0, cells=("a",), leading="", regret=1.0, open=("a",), ruled_out=(), outlooks=(),
        attempts=0, reason="",
    )  # fmt: skip
    end = msgspec.structs.replace(block, block=1, cells=(), end="the budget", over_budget=True)
    later = msgspec.structs.replace(block, block=1)
    assert valid_decisions([block, end]) == (block, end)
    assert valid_decisions([block, end, end]) == (block, end)
    assert valid_decisions([block, end, later]) == (block, later)
