"""Ctrl-C and limits of time, for programs that do not cooperate."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from tests.programs.running import VIRTUAL, run

REAL = 'kind = "simulated"\nprofile = "deepseek-reasoner"\ntime = "real"\ntime_scale = 0.01'
SWALLOWS = """
    while True:
        try:
            await client.models.list()
            await asyncio.sleep(1000)
        except BaseException:
            pass
"""
WAITS = """
    while True:
        try:
            await client.models.list()
        except Exception:
            await asyncio.sleep(1)
"""
SPINS = """
    while True:
        pass
"""


@pytest.mark.parametrize("endpoint", [REAL, VIRTUAL], ids=["real", "virtual"])
@pytest.mark.parametrize("code", [SWALLOWS, WAITS, SPINS], ids=["swallows", "waits", "spins"])
def test_one_interrupt_ends_the_run(tmp_path: Path, endpoint: str, code: str) -> None:
    begun = tmp_path / "begun"
    os.mkfifo(begun)
    (tmp_path / "mine.py").write_text(
        dedent(
            f"""
            import asyncio

            told = False

            async def main(client):
                global told
                if not told:
                    told = True
                    open({str(begun)!r}, "w").close()
            """
        )
        + code
    )
    (tmp_path / "s.toml").write_text(
        f'name = "mine"\n[endpoint]\n{endpoint}\n[workflow]\nkind = "program"\n'
        'program = "mine.py:main"\ntopics = ["tides"]\nmost_calls = 1000000\n[sweep]\n'
        'mode = ["async"]\npermits = [4]\n[load]\nworkflows = 3\nin_flight = 3\n'
    )
    command = [sys.executable, "-m", "harness", "run", "s.toml", "--out", "out", "--quiet"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        begun.open().close()  # waits until the program has opened it
        process.send_signal(signal.SIGINT)
        try:
            said, _ = process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert process.returncode == 130, said
    assert "interrupted; `harness run --resume out` continues the run" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("mode", ["async", "serial"])
@pytest.mark.parametrize("is_marked", [False, True], ids=["client", "ask"])
def test_one_interrupt_ends_all_workflows_that_spin(
    tmp_path: Path, mode: str, is_marked: bool
) -> None:
    begun = tmp_path / "begun"
    os.mkfifo(begun)
    call = "await client('plan', topic)" if is_marked else "await client.models.list()"
    (tmp_path / "mine.py").write_text(
        dedent(
            f"""
            import asyncio, time
            import harness

            asked = 0

            {"@harness.workflow" if is_marked else ""}
            async def main(client, topic):
                global asked
                asked += 1
                {call}
                if asked == 3 or {mode == "serial"}:  # the calls of the others have ended, too
                    asked = 0
                    time.sleep(0.5)
                    open({str(begun)!r}, "w").close()
                while True:
                    pass
            """
        )
    )
    (tmp_path / "s.toml").write_text(
        f'name = "mine"\n[endpoint]\n{REAL}\n[workflow]\nkind = "program"\n'
        f'program = "mine.py:main"\ntopics = ["tides"]\n[sweep]\nmode = ["{mode}"]\n'
        f"permits = [{4 if mode == 'async' else 1}]\n[load]\nworkflows = 3\nwarmup_calls = 1\n"
        + ("in_flight = 3\n" if mode == "async" else "")
    )
    command = [sys.executable, "-m", "harness", "run", "s.toml", "--out", "out", "--quiet"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        begun.open().close()  # waits until the program has opened it
        process.send_signal(signal.SIGINT)
        try:
            said, _ = process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert process.returncode == 130, said
    lines = [line for line in said.splitlines() if " no trace, because only " not in line]
    assert lines == ["harness: interrupted; `harness run --resume out` continues the run"], said
    assert not (tmp_path / "out" / "workflows.jsonl").read_text()


def test_code_that_runs_for_too_long_fails_its_workflow(tmp_path: Path) -> None:
    program = """
        count = 0

        async def main():
            global count
            count += 1
            while count == 1:
                pass
    """
    ran = run(tmp_path, program, VIRTUAL, load__workflows=2, workflow__own_time_limit="300ms")
    first, second = ran.errors
    assert first is not None
    assert "workflow.own_time_limit" in first
    assert second is None


def test_a_command_does_not_wait_for_the_threads_that_a_program_has_left(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import threading\n\n"
        "async def main(topic):\n"
        "    threading.Thread(target=threading.Event().wait).start()\n"
        "    return topic\n"
    )
    (tmp_path / "s.toml").write_text(
        'name = "left"\n[workflow]\nprogram = "mine.py:main"\ntopics = ["a"]\n'
    )
    done = subprocess.run(
        [sys.executable, "-m", "harness", "run", "s.toml", "--out", "run", "--json"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "complete"
