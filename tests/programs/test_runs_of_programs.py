"""Whole runs of a program: Ctrl-C at each kind of wait, budgets, and every view of the records."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.store.run_directory import read_records

PROGRAM = '''
import asyncio, pathlib
import harness

HERE = pathlib.Path(__file__).parent

@harness.workflow
async def waits(ask, topic):
    """Make a call, and then wait for long, but not when the run is resumed."""
    await ask("plan", topic)
    (HERE / "begun").touch()
    if not (HERE / "resumed").exists():
        await {
            "asyncio": lambda: asyncio.sleep(1000),
            "harness": lambda: harness.sleep(10000),
            "ask": lambda: ask("slow", topic),
            "gather": lambda: harness.gather(ask("slow", topic), harness.sleep(10000)),
            "stubborn": lambda: stubborn(ask),
        }[topic]()
    return "done"

async def stubborn(ask):
    while True:
        try:
            await harness.sleep(10000)
        except BaseException:
            pass

@harness.workflow
async def late(ask, topic):
    """Give up a call, a gather and a wait; each time, continue."""
    for wait in (
        ask("slow", topic),
        harness.gather(ask("slow", topic), ask("slow", topic)),
        harness.sleep(10000),
    ):
        try:
            async with asyncio.timeout(0.3):
                await wait
        except TimeoutError:
            await ask("next", topic)
    return "done"

@harness.workflow
async def nested(ask, topic):
    async def part(number):
        with harness.phase("part"):
            looks = (ask("look", f"{topic} {number} {side}") for side in range(3))
            await harness.gather(*looks, enough=1, wait_for_all=True)
            return await ask("write", f"{topic} {number}", raises=False)
    with harness.phase("plan"):
        await ask("plan", topic)
        await ask("check", topic)
    await harness.gather(*map(part, range(3)), enough=0.5, wait_for_all=True)
    return harness.Scored(await ask("write", topic), ok=topic == "tides")

@harness.workflow
async def limited(ask, topic):
    await ask("plan", topic, max_tokens=500)

@harness.workflow
async def unlimited(ask, topic):
    await ask("plan", topic)
'''
SCENARIO = """
name = "own"
[workflow]
program = "mine.py:FUNCTION"
topics = ["TOPIC"]
[endpoint]
profile = "plain-chat"
time_scale = 0.02
override = { phases.slow = { answer_tokens = { median = 30000, sigma = 0.0 } } }
[timeouts]
call = "24h"
idle = "24h"
[sweep]
mode = ["MODE"]
permits = [PERMITS]
retry = ["none"]
"""


def write(folder: Path, function: str, topic: str, mode: str, more: str = "") -> Path:
    (folder / "mine.py").write_text(PROGRAM)
    text = SCENARIO.replace("FUNCTION", function).replace("TOPIC", topic).replace("MODE", mode)
    path = folder / "own.toml"
    path.write_text(text.replace("PERMITS", "3" if mode in ("threads", "async") else "1") + more)
    return path


WAITS = [
    ("async", "asyncio"), ("async", "ask"), ("async", "stubborn"), ("threads", "gather"),
    ("threads", "stubborn"), ("sync", "harness"),
]  # fmt: skip


@pytest.mark.parametrize(("mode", "wait"), WAITS)
def test_ctrl_c_saves_the_records_and_resuming_completes_the_run(
    mode: str, wait: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    scenario, out = (
        write(tmp_path, "waits", wait, mode, "[load]\nworkflows = 1\n"),
        tmp_path / "out",
    )
    run = subprocess.Popen(
        [sys.executable, "-m", "harness", "run", str(scenario), "--out", str(out)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    while run.poll() is None and not (tmp_path / "begun").exists():
        time.sleep(0.02)  # polls for the end of the first call
    run.send_signal(signal.SIGINT)
    said, _ = run.communicate(timeout=60)
    assert run.returncode == 130, said
    assert "Traceback" not in said
    records = read_records(out)
    assert records.run.status == "partial"
    assert records.workflows == []
    assert ("plan", "ok") in [(one.phase, one.outcome) for one in records.calls]

    (tmp_path / "resumed").touch()
    assert main(["run", "--resume", str(out)]) == 0, capfd.readouterr().err
    records = read_records(out)
    assert records.run.status == "complete"
    assert [one.outcome for one in records.workflows] == ["ok"]


HEDGED = """
[load]
workflows = 2
[retry.hedge]
kind = "stack"
layers = ["late", "none"]
[retry.late]
kind = "hedge"
after = "2s"
ratio = 1.0
burst = 10
"""


@pytest.mark.parametrize(
    ("mode", "retry"), [("async", "none"), ("async", "hedge"), ("serial", "none")]
)
def test_a_call_given_up_by_a_timeout_of_asyncio_is_recorded_as_cancelled(
    mode: str, retry: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    scenario = write(tmp_path, "late", "tides", mode, HEDGED if retry == "hedge" else "")
    scenario.write_text(scenario.read_text().replace('["none"]', f'["{retry}"]'))
    assert main(["run", str(scenario), "--out", str(tmp_path / "out")]) == 0
    records = read_records(tmp_path / "out")
    for workflow in records.workflows:
        own = [one for one in records.calls if one.workflow == workflow.workflow]
        assert workflow.error is None
        assert [one.outcome for one in own if one.phase == "slow"] == ["cancelled"] * (
            2 if mode == "serial" else 3
        )
        assert [one.outcome for one in own if one.phase == "next"] == ["ok"] * 3
    slow = [one for one in records.attempts if one.phase == "slow"]
    assert len(slow) >= 2 * len(records.workflows)
    assert {one.outcome for one in slow} == {"cancelled"}


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("time_", ["real", "virtual"])
def test_a_budget_of_attempts_ends_the_run(
    mode: str, time_: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    more = "[load]\nworkflows = 9\n[budget]\nattempts = 17\n"
    scenario = write(tmp_path, "nested", "tides", mode, more)
    if time_ == "virtual":
        text = scenario.read_text().replace("time_scale = 0.02", 'time = "virtual"')
        scenario.write_text(text)
    assert main(["run", str(scenario), "--out", str(tmp_path / "out")]) == 3
    records = read_records(tmp_path / "out")
    assert len(records.attempts) == 17
    assert all(one.error is None for one in records.workflows)


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_budget_of_tokens_needs_a_limit_of_each_answer(
    mode: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    more = "[load]\nworkflows = 2\n[budget]\ntokens = 100000\n"
    scenario = write(tmp_path, "unlimited", "tides", mode, more)
    main(["run", str(scenario), "--out", str(tmp_path / "out")])
    records = read_records(tmp_path / "out")
    assert records.attempts == []
    expected = (
        "plan: the budget requires a limit for the length of an answer; give max_tokens in the "
        "program, or workflow.max_tokens.plan"
    )
    assert {one.error for one in records.workflows} == {expected}

    set_ = ("--set", "workflow.max_tokens.plan=400")
    assert main(["run", str(scenario), "--out", str(tmp_path / "set"), *set_]) == 0
    scenario = write(tmp_path, "limited", "tides", mode, more)
    assert main(["run", str(scenario), "--out", str(tmp_path / "given")]) == 0


def test_every_view_shows_a_program(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    more = '[load]\nworkflows = 4\n[[endpoint.faults]]\nkind = "unavailable"\nprobability = 0.02\n'
    scenario = write(tmp_path, "nested", 'tides", "deltas', "async", more)
    text = scenario.read_text().replace("time_scale = 0.02", 'time = "virtual"')
    scenario.write_text(text)
    out = tmp_path / "out"
    assert main(["run", str(scenario), "--out", str(out)]) == 0
    records = read_records(out)
    assert {phase.name for one in records.workflows for phase in one.phases} >= {
        "plan", "part", "look", "write",
    }  # fmt: skip
    assert (out / "report.html").exists()
    spans = "".join(path.read_text() for path in (out / "traces").glob("*.jsonl"))
    assert all(name in spans for name in ("plan", "part", "look", "write"))
    for command in (
        ["trace", str(out)], ["trace", str(out), "--slowest", "2"], ["trace", str(out), "--failed"],
        ["report", str(out)], ["trace", str(out), "--spans"],
        ["export", str(out), "--out", str(tmp_path / "tables")],
    ):  # fmt: skip
        code = main(command)
        said = capfd.readouterr()
        assert code in (0, 1), (command, said.err)
        assert "Traceback" not in said.err + said.out
        assert "could not" not in said.err + said.out
