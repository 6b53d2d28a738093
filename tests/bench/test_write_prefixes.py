"""Every prefix of the real writes of a run, with run.json and the spent amounts, can be resumed."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from pathlib import Path
from random import Random
from unittest.mock import patch

import pytest

from benchmarks.survival import Plan, play
from benchmarks.survival_checks import check, lines_of, topics
from benchmarks.survival_disk import Disk, Killed, ignore
from benchmarks.survival_world import without_http
from harness.bench.resume import progress_of
from harness.bench.scenario_file import parse_scenario
from harness.simulator.profiles import load_profile
from harness.store.run_directory import RUN_FILE, read_records

SCENARIO = """
name = "prefixes"
[workflow]
topics = ["tides", "seed banks"]
sub_questions = 2
[endpoint]
profile = "plain-chat"
time = "TIME"
[load]
workflows = 1
[sweep]
repeats = 2
[budget]
attempts = 1000
"""


class CutDisk(Disk):
    """A disk that is lost at the write with this number, from 1; `rest`: bytes that are missing."""

    def __init__(self, folder: Path, number: int, rest: int | None) -> None:
        super().__init__(Random(0), folder, (), {})
        self._target, self._left = "", number
        self._kind = "before" if rest is None else "torn"
        self._rest = rest

    def _part(self, data: bytes) -> bytes:
        return data[: -(self._rest or 1)]


def resume(plan: Plan, run: Path) -> None:
    """Begin a run, or go on with it."""
    with ExitStack() as stack:
        stack.enter_context(patch("os.fsync", ignore))  # takes most of the time
        if not plan.scenario.is_virtual:
            stack.enter_context(without_http(plan.scenario, plan.profile, ignore))
        play(plan, run, progress_of(run) if (run / RUN_FILE).exists() else None)


@pytest.mark.parametrize("time", ["real", "virtual"])
@pytest.mark.parametrize("rest", [None, 1, 7], ids=["whole lines", "no newline", "half a line"])
def test_a_run_that_is_killed_at_any_write_is_resumed_to_the_whole(
    time: str, rest: int | None, tmp_path: Path
) -> None:
    scenario = parse_scenario(SCENARIO.replace("TIME", time), "prefixes")
    plan = Plan(scenario, load_profile("plain-chat", {}).as_dict(), True, False)
    whole, number, was_killed = tmp_path / "whole", 0, True
    whole.mkdir()
    resume(plan, whole)
    expected = topics(read_records(whole).workflows)
    while was_killed:
        number += 1
        run = tmp_path / str(number)
        run.mkdir()
        was_killed = True
        with suppress(Killed), CutDisk(run, number, rest).mounted(ignore):
            resume(plan, run)
            was_killed = False
        before = lines_of(run)
        resume(plan, run)
        check(run, scenario, before)
        assert topics(read_records(run).workflows) == expected, number
    assert number > (10 if time == "virtual" else 40)
