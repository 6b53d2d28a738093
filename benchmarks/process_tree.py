"""The processor time of a program with all the processes that it starts.

    python benchmarks/process_tree.py RESULT COMMAND ...

Runs a command and writes to the file RESULT, as JSON, its exit code and the seconds of processor
time (user and system) of the whole tree of processes. Processes that the command leaves behind
become children of this one (Linux: `PR_SET_CHILD_SUBREAPER`), which waits for them, and ends those
that are still there after some seconds. So their time is counted too.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

PR_SET_CHILD_SUBREAPER = 36
LEFT_S = 5
"""Seconds that processes which a command leaves behind have to end."""


class Ended(NamedTuple):
    """How a command ended. `cpu_s`: seconds of processor time of all its processes."""

    code: int
    cpu_s: float
    said: str

    @property
    def last_lines(self) -> str:
        """The end of what the command printed."""
        return "\n".join(self.said.strip().splitlines()[-8:])


def run_counted(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], timeout_s: float
) -> Ended:
    """Run a command in a folder and count its processor time.

    Raises `TimeoutError` when it takes longer than `timeout_s`; all its processes are ended then.
    """
    result = folder / "process-tree.json"
    counted = [sys.executable, __file__, str(result), *command]
    with subprocess.Popen(
        counted, cwd=folder, env={**os.environ, **environment}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
    ) as running:  # fmt: skip
        try:
            said, _ = running.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            running.terminate()
            running.communicate()
            raise TimeoutError(f"{command[0]} took longer than {timeout_s:g} s") from None
    found = json.loads(result.read_text())
    return Ended(found["code"], found["cpu_s"], said)


def _children() -> list[int]:
    return list(map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()))


def _wait_for_those_left(seconds: float) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0]:
                continue
        except ChildProcessError:
            return
        if time.monotonic() > end:
            for child in _children():
                os.kill(child, signal.SIGKILL)
        time.sleep(0.01)


def main(words: Sequence[str]) -> int:
    """Run the command and write what it took; return its exit code."""
    result, *command = words
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        print("benchmarks.process_tree needs Linux (PR_SET_CHILD_SUBREAPER)", file=sys.stderr)
        return 2
    with subprocess.Popen(command) as running:

        def end_all(*_: object) -> None:
            running.kill()

        signal.signal(signal.SIGTERM, end_all)
        code = running.wait()
    _wait_for_those_left(LEFT_S)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = {"code": code, "cpu_s": used.ru_utime + used.ru_stime}
    Path(result).write_text(json.dumps(found))
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
