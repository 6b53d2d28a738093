"""The pre-commit hook, in a repository of somebody else."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.cli.main import main
from harness.config import shipped_scenarios

ROOT = Path(__file__).parents[2]
HOOKS: list[dict[str, Any]] = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
GOOD = shipped_scenarios.find("quickstart").read_text()
BAD = GOOD.replace("permits = [", "permits = [0, ")


def test_the_hook_takes_the_files_of_folders_named_scenarios_and_runs_a_command_that_exists() -> (
    None
):
    [hook] = HOOKS
    assert hook["id"] == "harness-scenarios"
    chosen = re.compile(hook["files"])
    for path in ("scenarios/a.toml", "services/api/scenarios/b.toml"):
        assert chosen.search(path)
    for path in ("pyproject.toml", "scenarios.toml", "scenarios/run.json", "my-scenarios/a.toml",
                 "scenarios/data/topics.toml"):  # fmt: skip
        assert not chosen.search(path)
    command, *arguments = shlex.split(hook["entry"])
    assert command == "harness"
    assert main([*arguments, "quickstart"]) == 0


def test_every_file_is_checked_and_each_bad_one_is_named_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.toml").write_text(BAD)
    Path("good.toml").write_text(GOOD)
    Path("broken.toml").write_text("x = [")
    assert main(["check", "bad.toml", "good.toml", "broken.toml", "bad.toml", "none.toml"]) == 2
    out, err = capsys.readouterr()
    assert out == "good.toml: valid, 6 settings\n"
    lines = err.splitlines()
    assert lines[0] == "harness: bad.toml: sweep.permits[0] = 0: must be at least 1"
    assert lines[1].startswith("harness: broken.toml: invalid TOML: ")
    assert lines[2].startswith("harness: none.toml: no such file")
    assert len(lines) == 3


def test_a_profile_that_does_not_fit_is_found_and_no_program_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("profile.toml").write_text(GOOD.replace("concurrency_cap", "concurrency_cup"))
    assert main(["check", "profile.toml"]) == 2
    assert "concurrency_cup: unknown key" in capsys.readouterr().err
    Path("program.py").write_text("import a_package_that_is_not_here\n")
    Path("own.toml").write_text(
        'name = "own"\n[workflow]\nprogram = "program.py:work"\ntopics = ["tides"]\n'
        '[endpoint]\nkind = "openai"\nbase_url = "http://127.0.0.1:9/v1"\nmodel = "m"\n'
        '[sweep]\nmode = ["async"]\npermits = [2]\nretry = ["none"]\n'
    )
    assert main(["check", "own.toml"]) == 0


@pytest.mark.more
def test_pre_commit_refuses_a_commit_with_a_bad_scenario_and_lets_a_good_one_pass(
    tmp_path: Path,
) -> None:
    """pre-commit itself, which installs the hook from a clone, in a fresh repository."""
    home = {"PRE_COMMIT_HOME": str(tmp_path / "cache"), "GIT_CONFIG_GLOBAL": "/dev/null"}
    author = {f"GIT_{who}_{what}": "a@example.com" for who in ("AUTHOR", "COMMITTER")
              for what in ("NAME", "EMAIL")}  # fmt: skip
    path = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | home | author | path

    def done(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=theirs, env=environment, capture_output=True, text=True, check=False,
            timeout=500,
        )  # fmt: skip

    theirs = tmp_path / "theirs"
    (theirs / "scenarios").mkdir(parents=True)
    commit = subprocess.run(
        ["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    config = {"repos": [{"repo": str(ROOT), "rev": commit, "hooks": [{"id": HOOKS[0]["id"]}]}]}
    (theirs / ".pre-commit-config.yaml").write_text(yaml.safe_dump(config))
    (theirs / "scenarios" / "good.toml").write_text(GOOD)
    (theirs / "elsewhere.toml").write_text("x = [")
    assert done("git", "init", "-q").returncode == 0
    assert done("pre-commit", "install").returncode == 0
    assert done("git", "add", "-A").returncode == 0
    first = done("git", "commit", "-q", "-m", "good")
    assert first.returncode == 0, first.stderr
    for name in ("bad", "worse"):
        (theirs / "scenarios" / f"{name}.toml").write_text(BAD)
    assert done("git", "add", "-A").returncode == 0
    second = done("git", "commit", "-q", "-m", "bad")
    assert second.returncode == 1
    for name in ("bad", "worse"):
        assert f"harness: scenarios/{name}.toml: sweep.permits[0] = 0" in second.stderr
