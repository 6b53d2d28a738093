"""What `benchmarks.peers` computes from the outputs of other load generators."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.known_loads import FLOOR, Shape
from benchmarks.peers import (
    Cost,
    RunFailedError,
    Spent,
    cost_of,
    cost_rows,
    in_turns,
    last_served,
    measurement,
    programs_of,
    ratios,
    trial_s,
)
from benchmarks.peers_programs import (
    RIVALS,
    Reported,
    aiperf_command,
    aiperf_reported,
    guidellm_command,
    guidellm_reported,
    locust_environment,
    locust_reported,
    vllm_reported,
    write_prompts,
)
from benchmarks.process_tree import run_counted

RECORDED = Path(__file__).parent / "peers"
WHOLE, STREAM = Shape(10, 0, 5, 128, 64), Shape(200, 2, 10, 64, 64, 64)


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """Outputs of the programs, as they wrote them, cut to the parts that are read."""
    (tmp_path / "aiperf").mkdir()
    shutil.copy(RECORDED / "aiperf.json", tmp_path / "aiperf" / "profile_export_aiperf.json")
    for name in ("guidellm.json", "vllm.json", "locust_stats.csv"):
        shutil.copy(RECORDED / name, tmp_path)
    return tmp_path


def test_what_aiperf_reports(recorded: Path) -> None:
    assert aiperf_reported(recorded, STREAM) == Reported(64, 0, 255.5, 301.25)


def test_aiperf_counts_failed_requests_and_reports_no_first_token_of_whole_bodies(
    recorded: Path,
) -> None:
    export = recorded / "aiperf" / "profile_export_aiperf.json"
    found = json.loads(export.read_text())
    del found["time_to_first_token"]
    found["error_request_count"] = {"unit": "requests", "avg": 3.0}
    export.write_text(json.dumps(found))
    assert aiperf_reported(recorded, WHOLE) == Reported(64, 3, None, None)


def test_what_guidellm_reports(recorded: Path) -> None:
    assert guidellm_reported(recorded, STREAM) == Reported(64, 0, 240.5, 262.75)


def test_guidellm_reports_zeros_for_whole_bodies_which_are_no_times(recorded: Path) -> None:
    assert guidellm_reported(recorded, WHOLE) == Reported(64, 0, None, None)


def test_what_locust_reports_is_of_the_calls_and_not_of_the_warm_up(recorded: Path) -> None:
    assert locust_reported(recorded, STREAM) == Reported(159, 1, 210, 230)


def test_what_vllm_reports(recorded: Path) -> None:
    assert vllm_reported(recorded, STREAM) == Reported(64, 0, 248.5, 290.5)


def test_only_a_stream_is_requested_as_one(tmp_path: Path) -> None:
    assert "--streaming" in aiperf_command("aiperf", 1, STREAM, tmp_path)
    assert "--streaming" not in aiperf_command("aiperf", 1, WHOLE, tmp_path)
    assert locust_environment(WHOLE)["STREAM"] == "false"


def test_the_warm_up_is_outside_what_is_measured(tmp_path: Path) -> None:
    words = guidellm_command("guidellm", 1, STREAM, tmp_path)
    assert "kind=max_requests,count=128" in words
    profile = json.loads(words[words.index("--profile") + 1])
    assert profile["warmup"] == {"mode": "requests", "value": 64}
    assert locust_environment(STREAM)["WARM_UP"] == "1"
    assert locust_environment(WHOLE)["CALLS"] == "2"


def test_there_is_a_prompt_for_each_call(tmp_path: Path) -> None:
    write_prompts(tmp_path, STREAM)
    lines = (tmp_path / "prompts.jsonl").read_text().splitlines()
    assert len(lines) == STREAM.calls + STREAM.warm_up
    assert json.loads((tmp_path / "tokenizer" / "tokenizer.json").read_text())["model"]["vocab"]


def test_the_start_is_no_part_of_the_cost_of_a_call() -> None:
    assert cost_of(Spent(5.5), Spent(6.0), 1_000) == Cost(500)
    assert cost_of(Spent(5.5, 0.25), Spent(6.0, 0.5), 1_000) == Cost(500, 250)


def test_a_trial_has_a_row_of_its_own_and_costs_are_compared() -> None:
    rows = cost_rows({FLOOR: [Cost(10)], "wire": [Cost(40, 20)], "locust": [Cost(20)]})
    assert rows == {FLOOR: [10], "wire": [40], "wire, the trial": [20], "locust": [20]}
    assert ratios("locust", rows).split() == ["2.00", "x", *FLOOR.split(), "0.50", "x", "wire"]


def test_the_processor_time_of_a_trial_is_in_its_record(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "trials.jsonl").write_text('{"repeat": 0, "cpu": 1500000000}\n')
    assert trial_s(tmp_path) == 1.5


LOG = np.array([(0, 0, 9_000), (2, 30_000_000, 235_000_000), (1, 20_000_000, 220_000_000)])


def test_the_calls_that_arrived_last_count() -> None:
    assert last_served(LOG, 2)[:, 0].tolist() == [1, 2]
    found = measurement(210, 230, LOG, Shape(200, 2, 10, 2, 2))
    assert found.server_p50_ms == pytest.approx(202.5)
    assert found.burst_ms == 10


def test_fewer_calls_at_the_server_than_asked_for_are_a_failure() -> None:
    with pytest.raises(RunFailedError, match="answered 3 of 4"):
        last_served(LOG, 4)


def test_a_program_that_fails_is_not_counted(capsys: pytest.CaptureFixture[str]) -> None:
    def measure(name: str) -> int:
        if name == "bad":
            raise RunFailedError("bad ended with exit code 1")
        return 7

    found, failures = in_turns(("good", "bad"), 2, measure)
    assert (found, failures) == ({"good": [7, 7]}, 2)
    assert "bad FAILED and is not counted" in capsys.readouterr().out


def test_a_program_that_is_not_installed_is_an_error_only_if_it_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "")
    nothing = dict.fromkeys(RIVALS)
    options = argparse.Namespace(names=[], **{**nothing, "locust": sys.executable})
    assert programs_of(options) == {"locust": sys.executable}
    with pytest.raises(ValueError, match=r"aiperf is not installed: pip install aiperf==\d"):
        programs_of(argparse.Namespace(names=["aiperf"], **nothing))
    with pytest.raises(ValueError, match="--vllm nowhere: there is no such program"):
        programs_of(argparse.Namespace(names=[], **{**nothing, "vllm": "nowhere"}))


BUSY_S = 0.3
ORPHAN = f"""
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        while time.process_time() < {BUSY_S}:
            pass
    os._exit(0)
"""


def test_the_time_of_a_process_that_is_left_behind_is_counted(tmp_path: Path) -> None:
    ended = run_counted([sys.executable, "-S", "-c", ORPHAN], tmp_path, {}, 60)
    assert ended.code == 0
    assert ended.cpu_s >= BUSY_S


def test_the_exit_code_and_the_last_lines_are_kept(tmp_path: Path) -> None:
    ended = run_counted([sys.executable, "-c", "print('bad'); exit(3)"], tmp_path, {}, 60)
    assert (ended.code, ended.last_lines) == (3, "bad")
