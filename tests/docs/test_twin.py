"""The example of docs/twin.md: the commands, run one after the other, print what it shows."""

import re
import shlex
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.simulator.profiles import load_profile

TEXT = (Path(__file__).parents[2] / "docs" / "twin.md").read_text()


def without_id(text: str) -> str:
    """Leave out the id of the run, which is another one each time."""
    return re.sub(r"\([0-9a-f]{8}\)", "(id)", text)


@pytest.mark.more
def test_the_commands_print_what_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    samples = re.findall(r"```text\n(.*?)```", TEXT, re.DOTALL)
    commands = re.findall(r"^harness ((?:run|fit|whatif) .+)$", TEXT, re.MULTILINE)
    run, fit, at_twin, whatif, second, check = commands[:6]
    assert main([*shlex.split(run), "--quiet"]) == 0
    for command, sample in zip((fit, whatif), samples, strict=True):
        capsys.readouterr()
        assert main(shlex.split(command)) == 0
        assert without_id(capsys.readouterr().out) == without_id(sample)
    assert load_profile("twin.toml").concurrency_cap == 6
    for command in (at_twin, second):
        assert main([*shlex.split(command), "--quiet"]) == 0
    capsys.readouterr()
    assert main(shlex.split(check)) == 0
    assert "The prediction of the scenario quickstart is good" in capsys.readouterr().out
