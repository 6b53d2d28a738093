"""The example of docs/twin.md: the commands, run one after the other, print what it shows."""

import re
import shlex
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.simulator.profiles import load_profile

TEXT = (Path(__file__).parents[2] / "docs" / "twin.md").read_text()


@pytest.mark.more
def test_the_commands_print_what_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    sample = re.search(r"```text\n(.*?)```", TEXT, re.DOTALL)
    assert sample is not None
    run, fit = re.findall(r"^harness ((?:run|fit) .+)$", TEXT, re.MULTILINE)[:2]
    assert main([*shlex.split(run), "--quiet"]) == 0
    capsys.readouterr()
    assert main(shlex.split(fit)) == 0
    assert capsys.readouterr().out == sample[1]
    assert load_profile("twin.toml").concurrency_cap == 6
