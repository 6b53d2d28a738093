"""The commands of docs/comparing-runs.md, one after the other, do what the document says."""

import re
import shlex
from pathlib import Path

import pytest

from harness.cli.main import main

TEXT = (Path(__file__).parents[2] / "docs" / "comparing-runs.md").read_text()


@pytest.mark.more
def test_the_commands_give_the_verdict_that_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    sample = re.search(r"```text\n(.*?)\n```", TEXT, re.DOTALL)
    assert sample is not None
    compared = []
    for command in re.findall(r"^harness (.+)$", TEXT, re.MULTILINE):
        arguments = shlex.split(command)
        code = main([*arguments, "--quiet"] if arguments[0] == "run" else arguments)
        output = capsys.readouterr().out
        if arguments[0] == "compare":
            compared.append((code, output))
        else:
            assert code == 0, command
    (plain, head), (gate, found), (power, lacking) = compared
    assert (plain, gate, power) == (0, 1, 1)
    assert head.startswith(sample[1])
    assert "Regression: makespan" in found
    assert "Too little power" in lacking
