"""Branches that are cancelled, and attempts that race, in virtual time."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.records.failures import CANCELLED, OK
from harness.store.run_directory import ATTEMPTS_FILE, CALLS_FILE, WORKFLOWS_FILE, read_records
from tests.virtual.test_sweeps import play

SCENARIO = """
name = "racing"
seed = 3
[workflow]
topics = ["tides", "seed banks"]
sub_questions = 4
BRANCHES
[endpoint]
profile = "deepseek-reasoner"
override = { ttft = { median = "5s", sigma = 1.0 }, itl_b = "2ms" }
time = "virtual"
FAULTS
[load]
workflows = 12
in_flight = 3
[sweep]
mode = ["async"]
permits = [3, 12]
retry = ["hedged"]
[retry.hedged]
kind = "stack"
layers = ["late", "none"]
[retry.late]
kind = "hedge"
after = "6s"
ratio = 1.0
"""
FAULT = '[[endpoint.faults]]\nkind = "server_error"\nphases = ["research"]\nprobability = 0.3\n'


def scenario(folder: Path, branches: str = "", faults: str = "") -> Path:
    path = folder / "racing.toml"
    path.write_text(SCENARIO.replace("BRANCHES", branches).replace("FAULTS", faults))
    return path


def test_of_two_that_race_the_first_text_wins_and_the_other_is_cancelled_at_that_moment(
    tmp_path: Path,
) -> None:
    records = read_records(play(scenario(tmp_path), "out"))
    assert {workflow.outcome for workflow in records.workflows} == {OK}
    hedges = [attempt for attempt in records.attempts if attempt.hedge]
    assert hedges
    for hedge in hedges:
        rivals = [
            attempt
            for attempt in records.attempts
            if attempt.call_key == hedge.call_key and not attempt.hedge
        ]
        winner, loser = sorted((hedge, *rivals), key=lambda attempt: attempt.outcome != OK)
        assert (winner.outcome, loser.outcome) == (OK, CANCELLED)
        assert loser.done == winner.first_text
        assert loser.first_text is None


@pytest.mark.parametrize(
    ("branches", "faults"),
    [
        ('on_branch_failure = "fail-fast"', FAULT),
        ('on_branch_failure = "quorum"\nquorum = 3', ""),
    ],
)
def test_cancelled_branches_are_recorded_and_the_same_bytes_again(
    tmp_path: Path, branches: str, faults: str
) -> None:
    path = scenario(tmp_path, branches, faults)
    one, two = play(path, "one"), play(path, "two", jobs=2)
    for name in (ATTEMPTS_FILE, CALLS_FILE, WORKFLOWS_FILE):
        assert (one / name).read_bytes() == (two / name).read_bytes()
    records = read_records(one)
    assert any(call.outcome == CANCELLED for call in records.calls)
    for attempt in records.attempts:
        if attempt.outcome == CANCELLED and attempt.sent is not None:
            assert attempt.sent <= attempt.done
            assert attempt.last_token is None or attempt.last_token <= attempt.done
            assert sum(attempt.gaps.values()) == max(attempt.chunks - 1, 0)
