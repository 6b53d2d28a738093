"""A stand-in for the runner of GitHub Actions: runs the steps of a composite action with bash."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

_EXPRESSION = re.compile(r"\$\{\{ (inputs|steps)\.([a-z-]+)(?:\.outputs\.([a-z-]+))? \}\}")
_NOT_EMPTY = re.compile(r"inputs\.([a-z-]+) != ''")


class JobResult(NamedTuple):
    """What a job left: the exit code of the step that failed, or 0; its summary and its log."""

    code: int
    summary: str
    log: str
    outputs: dict[str, str]


def read_action(folder: Path) -> dict[str, Any]:
    """Return the content of the action in a folder."""
    action: dict[str, Any] = yaml.safe_load((folder / "action.yml").read_text())
    return action


def run_action(
    action_path: Path, workspace: Path, temp: Path, given: Mapping[str, str],
    environment: Mapping[str, str] | None = None,
) -> JobResult:  # fmt: skip
    """Run the steps in `workspace`, each as a runner does, until one fails.

    `temp`: the folder of the job. Steps that use another action are left out.
    """
    action = read_action(action_path)
    inputs = {name: str(one.get("default", "")) for name, one in action["inputs"].items()}
    inputs.update(given)
    files = {name: temp / f"_runner_{name}" for name in ("env", "output", "step_summary")}
    job = {
        "RUNNER_TEMP": str(temp), "RUNNER_OS": "Linux", "GITHUB_WORKSPACE": str(workspace),
        "GITHUB_ACTION_PATH": str(action_path), "CI": "true", "GITHUB_ACTIONS": "true",
        "PATH": os.environ["PATH"], "HOME": str(temp), "LANG": "C.UTF-8",
        **{f"GITHUB_{name.upper()}": str(file) for name, file in files.items()},
        **(environment or {}),
    }  # fmt: skip
    outputs: dict[str, dict[str, str]] = {}
    summary, log, code = "", "", 0

    def value_of(text: str) -> str:
        return _EXPRESSION.sub(
            lambda found: (
                inputs[found[2]]
                if found[1] == "inputs"
                else outputs.get(found[2], {}).get(found[3], "")
            ),
            text,
        )

    for step in action["runs"]["steps"]:
        wanted = _NOT_EMPTY.fullmatch(step["if"]) if "if" in step else None
        if "uses" in step or (wanted and not inputs[wanted[1]]):
            continue
        for file in files.values():
            file.write_text("")
        script = temp / "_runner_script.sh"
        script.write_text(step["run"])
        own = {name: value_of(value) for name, value in step.get("env", {}).items()}
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)],
            cwd=workspace, env=job | own, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, check=False, stdin=subprocess.DEVNULL, timeout=500,
        )  # fmt: skip
        log += done.stdout
        summary += files["step_summary"].read_text()
        lines = files["output"].read_text().splitlines()
        outputs[step["id"]] = dict(line.split("=", 1) for line in lines)
        code = done.returncode
        if code:
            break
    named = {name: value_of(one["value"]) for name, one in action["outputs"].items()}
    return JobResult(code, summary, log, named)
