"""The processes that play trials: killed, or interrupted before they had begun."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from harness.bench.cells import expand
from harness.bench.child_processes import interrupts_deferred
from harness.bench.executors import play_in_order
from harness.bench.resume import RunProgress
from harness.bench.runner import Hooks, run
from harness.bench.scenario import Scenario
from harness.bench.scenario_file import parse_scenario
from harness.bench.trial import Tally
from harness.bench.virtual import Played, Task
from harness.bench.workers import Workers
from harness.records.errors import HarnessError
from harness.records.schema import Workflow
from harness.simulator.profiles import load_profile
from harness.store.run_directory import read_run

SCENARIO = """
name = "some"
[workflow]
topics = ["tides"]
[endpoint]
time = "virtual"
[load]
workflows = 2
[sweep]
permits = [1, 2]
"""


def nothing(*_: object) -> None:
    """Do nothing."""


@pytest.fixture
def setting(tmp_path: Path) -> RunProgress:
    scenario: Scenario = parse_scenario(SCENARIO, "some.toml")
    profile = load_profile("deepseek-reasoner").as_dict()
    profiles = {cell.id: profile for cell in expand(scenario)}
    run(scenario, profiles, {}, tmp_path, Hooks(*[nothing] * len(Hooks._fields)))
    return RunProgress(scenario, read_run(tmp_path))


def tasks(setting: RunProgress) -> list[Task]:
    return [Task(number, cell, 0) for number, cell in enumerate(setting.run.cells)]


@pytest.fixture
def sending(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Lets a test do something `before` and `after` a task is sent to a process."""
    acts: dict[str, Any] = {"before": nothing, "after": nothing}
    send = Connection.send

    def and_more(line: Connection, task: object) -> None:
        acts["before"]()
        send(line, task)
        acts["after"]()

    monkeypatch.setattr(Connection, "send", and_more)
    yield acts
    assert multiprocessing.active_children() == []


def kill_one() -> None:
    child = multiprocessing.active_children()[0]
    child.kill()
    child.join()


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_process_that_was_killed_before_it_read_its_task_is_said_in_one_line(
    setting: RunProgress, sending: dict[str, Any], when: str
) -> None:
    sending[when] = kill_one
    with (
        pytest.raises(
            HarnessError, match=r"a process .* died \(exit code -9\); the trials that had ended"
        ),
        Workers(1, setting) as workers,
    ):
        list(workers.play(tasks(setting), nothing))


def test_an_interrupt_before_a_process_has_begun_ends_its_trial_as_soon_as_it_begins(
    setting: RunProgress, sending: dict[str, Any]
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    sending["after"] = interrupt
    kept: list[Played] = []
    told: list[Tally] = []
    stopped = play_in_order(Workers(2, setting), [tasks(setting)], kept.append, told.append)
    assert getattr(stopped, "by", None) == "interrupt"
    for played in kept:
        assert played.trial.interrupted
        assert played.lines[Workflow] == b""


def test_an_interrupt_when_a_trial_has_been_received_does_not_lose_it(
    setting: RunProgress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run would wait for ever for a process that has nothing left to do."""
    receive = Connection.recv

    def and_interrupt(line: Connection) -> object:
        message = receive(line)
        if isinstance(message, Played) and not received:
            received.append(message)
            signal.raise_signal(signal.SIGINT)
        return message

    received: list[Played] = []
    kept: list[Played] = []
    monkeypatch.setattr(Connection, "recv", and_interrupt)
    stopped = play_in_order(Workers(2, setting), [tasks(setting)], kept.append, nothing)
    assert getattr(stopped, "by", None) == "interrupt"
    assert [one.task.number for one in kept] == [0, 1]
    assert sum(one is received[0] for one in kept) == 1


def test_an_interrupt_while_a_trial_is_kept_does_not_keep_it_twice(setting: RunProgress) -> None:
    kept: list[Played] = []

    def keep(played: Played) -> None:
        kept.append(played)
        if len(kept) == 1:
            signal.raise_signal(signal.SIGINT)

    stopped = play_in_order(Workers(2, setting), [tasks(setting)], keep, nothing)
    assert getattr(stopped, "by", None) == "interrupt"
    assert [one.task.number for one in kept] == [0, 1]


def test_signals_that_came_meanwhile_act_at_the_end_once() -> None:
    seen: list[str] = []

    def work() -> None:
        with interrupts_deferred():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            seen.append("whole")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert seen == ["whole"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_while_the_processes_are_started_leaves_none_of_them(
    setting: RunProgress, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextlib.contextmanager
    def interrupted() -> Iterator[None]:
        yield
        raise KeyboardInterrupt

    monkeypatch.setattr("harness.bench.child_processes.interrupts_blocked", interrupted)
    stopped = play_in_order(Workers(2, setting), [tasks(setting)], nothing, nothing)
    assert getattr(stopped, "by", None) == "interrupt"
    assert multiprocessing.active_children() == []


def test_a_limit_of_tokens_that_differs_between_cells_is_not_recorded_as_that_of_the_phase(
    tmp_path: Path,
) -> None:
    swept = SCENARIO + '"workflow.max_tokens.research" = [50, 60]\n'
    scenario = parse_scenario(
        swept.replace("[load]", "[workflow.max_tokens]\ndecompose = 9\n[load]"), "f"
    )
    profile = load_profile("deepseek-reasoner").as_dict()
    profiles = {cell.id: profile for cell in expand(scenario)}
    run(scenario, profiles, {}, tmp_path, Hooks(*[nothing] * len(Hooks._fields)))
    limits = {phase.setting: phase.max_tokens for phase in read_run(tmp_path).phases}
    assert limits == {"decompose": 9, "research": None, "synthesize": None}
