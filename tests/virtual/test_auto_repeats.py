"""Runs in virtual time that add repeats until the recommendation is settled."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.analysis.model import Summary
from harness.analysis.selection import Dataset
from harness.analysis.summary import summarise
from harness.bench.executors import ExecutorChoice
from harness.bench.resume import progress_of
from harness.bench.runner import Hooks, TrialsLeft, run
from harness.bench.scenario_file import parse_scenario
from harness.cli.plan import profiles_of
from harness.records.schema import CellInfo, Run
from harness.store.run_directory import FILES, read_records

SCENARIO = """
name = "settles"
seed = 4
[workflow]
topics = ["tides", "soil"]
sub_questions = 2
[endpoint]
time = "virtual"
[load]
workflows = 20
in_flight = 4
[sweep]
permits = [1, 4, 8]
repeats = "auto"
max_repeats = 20
"""

FAILING = 'faults = [{ kind = "server_error", probability = 1.0 }]\n'


def nothing(*_: object) -> None:
    """Do nothing."""


def ran(
    folder: Path,
    text: str = SCENARIO,
    jobs: int = 1,
    before: Callable[[CellInfo, int, TrialsLeft], None] = nothing,
) -> tuple[Run, Summary, dict[str, int]]:
    """Run or resume a scenario. Return the run, its summary, and the number of trials by cell."""
    folder.mkdir(exist_ok=True)
    scenario = parse_scenario(text, "settles.toml")
    profiles = {cell: profile.as_dict() for cell, profile in profiles_of(scenario, "").items()}
    progress = progress_of(folder) if (folder / "run.json").exists() else None
    hooks = Hooks(before, *[nothing] * (len(Hooks._fields) - 1))
    ended = run(scenario, profiles, {}, folder, hooks, ExecutorChoice(jobs), progress)
    records = Dataset.read(folder)
    trials = Counter(trial.cell for trial in records.trials if not trial.interrupted)
    return ended, summarise(records), trials


def files(folder: Path) -> dict[str, bytes]:
    return {
        name: (folder / name).read_bytes() for name in FILES.values() if (folder / name).exists()
    }


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("auto") / "settled"
    ran(folder)
    return folder


def test_a_run_ends_when_the_recommendation_is_settled(settled: Path) -> None:
    records = read_records(settled)
    summary = summarise(records)
    repeats = max(cell.repeats for cell in summary.cells)
    assert records.run.status == "complete"
    assert (records.run.repeats, len(records.run.order)) == (20, 20)
    assert repeats in (4, 7, 12)
    assert summary.recommendation.state == "proven"
    assert any(
        f"Settled after {repeats} repeats (look" in s for s in summary.recommendation.because
    )


def test_the_records_are_the_same_for_any_number_of_processes(
    settled: Path, tmp_path: Path
) -> None:
    ran(tmp_path / "two", jobs=2)
    assert files(tmp_path / "two") == files(settled)


def test_a_run_that_keeps_only_what_the_statistics_need_decides_the_same(
    settled: Path, tmp_path: Path
) -> None:
    _, summary, _ = ran(tmp_path / "small", SCENARIO.replace("seed", 'records = "summary"\nseed'))
    assert summary.recommendation == summarise(read_records(settled)).recommendation


def test_a_run_that_is_interrupted_anywhere_goes_on_as_if_it_had_not_been(
    settled: Path, tmp_path: Path
) -> None:
    whole = Counter(trial.cell for trial in read_records(settled).trials)
    for stop in (1, 4, 12, 13, 20):
        folder, seen = tmp_path / f"stopped-{stop}", 0

        def interrupt(*_: object, stop: int = stop) -> None:
            nonlocal seen
            seen += 1
            if seen == stop:
                raise KeyboardInterrupt

        ended, summary, _ = ran(folder, before=interrupt)
        assert ended.status == "partial"
        assert any("ended early" in sentence for sentence in summary.recommendation.because)
        ended, summary, trials = ran(folder)
        assert ended.status == "complete"
        assert trials == whole
        expected = summarise(read_records(settled)).recommendation
        assert summary.recommendation == expected


def test_a_settled_run_has_nothing_to_resume(settled: Path, tmp_path: Path) -> None:
    shutil.copytree(settled, tmp_path / "again")
    before = files(tmp_path / "again")
    ended, _, _ = ran(tmp_path / "again")
    assert ended.status == "complete"
    assert files(tmp_path / "again") == before


def test_a_budget_ends_the_race_and_a_larger_one_goes_on_with_it(tmp_path: Path) -> None:
    ended, summary, _ = ran(tmp_path / "out", SCENARIO + "[budget]\nattempts = 700\n")
    assert ended.stopped is not None
    assert (ended.status, ended.stopped.by) == ("partial", "budget")
    assert any("ended early, in repeat" in sentence for sentence in summary.recommendation.because)
    assert summary.recommendation.state != "proven"


def test_cells_that_all_fail_end_the_run_at_the_first_look(tmp_path: Path) -> None:
    text = SCENARIO.replace("[load]", FAILING + "[load]")
    for number, extra in enumerate(("", "[slo]\nsuccess_rate = 0.9\n")):
        ended, summary, trials = ran(tmp_path / f"{number}", text + extra)
        assert ended.status == "complete"
        assert set(trials.values()) == {4}
        assert summary.recommendation.candidate is None
        assert summary.recommendation.because[1] == "Settled after 4 repeats (look 1 of 4)."


def test_one_cell_alone_runs_until_its_success_rate_is_proven(tmp_path: Path) -> None:
    text = SCENARIO.replace("[1, 4, 8]", "[4]")
    _, summary, trials = ran(tmp_path / "out", text + "[slo]\nsuccess_rate = 0.95\n")
    assert list(trials.values()) == [7]
    assert summary.recommendation.cell == "async_4_none_attempt"


def test_equal_cells_are_settled_and_the_one_with_fewer_permits_is_recommended(
    tmp_path: Path,
) -> None:
    text = SCENARIO.replace("[1, 4, 8]", "[64, 32]")
    _, summary, trials = ran(tmp_path / "out", text)
    assert len(set(trials.values())) == 1
    assert summary.recommendation.cell == "async_32_none_attempt"


def test_a_cell_without_a_percentile_yet_is_not_dropped(tmp_path: Path) -> None:
    text = SCENARIO.replace("workflows = 20", "workflows = 15").replace("[1, 4, 8]", "[1, 8]")
    text += '[objective]\nminimise = "workflow_p95"\n'
    _, summary, trials = ran(tmp_path / "out", text)
    assert min(trials.values()) > 4  # 72 workflows are needed
    assert summary.recommendation.cell == "async_8_none_attempt"


def test_a_dropped_cell_runs_no_further_and_is_marked(tmp_path: Path) -> None:
    text = SCENARIO.replace("[1, 4, 8]", "[1, 12]")
    text += '[slo]\nsuccess_rate = 0.95\nworkflow_latency = "400s"\n'
    _, summary, trials = ran(tmp_path / "out", text)
    slow = next(cell for cell in summary.cells if cell.permits == 1)
    assert slow.dropped_after == trials[slow.id] < max(trials.values())
    assert any(
        f"Dropped after {slow.dropped_after} repeats" in sentence
        for sentence in summary.recommendation.because
    )
