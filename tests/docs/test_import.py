"""The commands of docs/import.md, on spans of a run."""

import json
import re
import shlex
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.workflows.replay.data_file import ReplayedCall, ReplayedWorkflow

DOCUMENT = (Path(__file__).parents[2] / "docs" / "import.md").read_text()
SCENARIO = """
name = "original"
[workflow]
topics = ["ocean tides", "river deltas"]
[endpoint]
time = "virtual"
[load]
workflows = 8
in_flight = 2
[sweep]
permits = [4]
"""


def test_the_commands_run_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("original.toml").write_text(SCENARIO)
    assert main(["run", "original.toml", "--out", "original", "--quiet"]) == 0
    (spans,) = Path("original", "traces").glob("async*.jsonl")
    spans.rename("traces.otlp.jsonl")
    block = re.search(r"```sh\n(.*?)```", DOCUMENT, re.DOTALL)
    assert block is not None
    commands = re.findall(r"^harness (.+)$", block[1], re.MULTILINE)
    assert [command.split()[0] for command in commands] == ["import", "run", "tune"]
    fewer: dict[str, list[str]] = {
        "import": [],
        "run": ["sweep.max_repeats=3"],
        "tune": ["tune.max_blocks=3"],
    }
    for command in map(shlex.split, commands):
        shorter = [word for key in fewer[command[0]] for word in ("--set", key)]
        if command[0] != "import":  # the names of runs that begin in one second are the same
            shorter += ["--out", f"results/{command[0]}"]
        assert main([*command, *shorter]) == 0
    runs = sorted(Path("results").iterdir())
    cells = [json.loads((run / "summary.json").read_text())["cells"] for run in runs]
    assert [len(each) for each in cells] == [3, 3]


def test_each_field_of_the_data_file_is_described() -> None:
    section = DOCUMENT.partition("## The data file\n")[2]
    for name in (*ReplayedWorkflow.__struct_fields__, *ReplayedCall.__struct_fields__):
        assert f"`{name}`" in section
