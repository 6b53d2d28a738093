"""A shell completes commands, options, scenarios and runs."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli.completion import candidates
from harness.cli.main import main
from harness.config.shipped_scenarios import described


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("one", "two"):
        (tmp_path / "results" / name).mkdir(parents=True)
        (tmp_path / "results" / name / "run.json").touch()
    (tmp_path / "results" / "no-run").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


RUNS = ["results/one", "results/two"]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("sc", ["scenarios", "schema"]),
        ("nothing run", []),
        ("run qu", ["quickstart"]),
        ("run --quiet ", list(described())),
        ("run --en", ["--endpoint"]),
        ("run quickstart --log-level w", ["warning"]),
        ("run --log-level debug --log-format ", ["text", "json"]),
        ("run --resume ", RUNS),
        ("run --out ", []),
        ("run quickstart ", []),
        ("scenarios out", ["outage"]),
        ("report ", RUNS),
        ("compare results/one results/t", ["results/two"]),
        ("serve plain", ["plain-chat"]),
        ("completion ", ["bash", "zsh", "fish"]),
    ],
)
def test_the_last_word_is_completed(line: str, found: list[str]) -> None:
    words = shlex.split(line) + ([""] if line.endswith(" ") else [])
    assert candidates(words) == found


def test_commands_are_completed_without_that_of_the_scripts() -> None:
    assert {"run", "init", "report"} < set(candidates([""]))
    assert "complete" not in candidates([""])
    assert candidates([]) == candidates([""])


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_is_printed(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "harness complete -- " in script
    if path := shutil.which(shell):
        subprocess.run([path, "-n", "-c", script], check=True)


def test_bash_gets_the_candidates() -> None:
    script = f"""
        harness() {{ {shlex.quote(sys.executable)} -m harness "$@"; }}
        eval "$(harness completion bash)"
        COMP_WORDS=(harness run --res) COMP_CWORD=2
        _harness
        echo "${{COMPREPLY[*]}}"
    """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "--resume\n"
