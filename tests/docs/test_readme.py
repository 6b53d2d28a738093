"""The commands and settings that the README and the documents show are accepted."""

import asyncio
import inspect
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

import harness
from benchmarks.quickstart import answer
from harness.bench.scenario_file import load_scenario, parse_scenario
from harness.cli.main import main
from harness.cli.parser import command_parser
from harness.config import shipped_scenarios
from harness.endpoints.simulated import SimulatedEndpoint, start_simulator
from tests.report.screens.recorded import stored

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands_in(document: Path) -> list[str]:
    """Return the arguments of each `harness` command that a document shows."""
    text = document.read_text()
    shown = re.findall(r"^(?:\.venv/bin/)?harness (.+?)(?:\s{2,}#.*)?$", text, re.MULTILINE)
    found = [*shown, *re.findall(r"`harness ([^`]+)`", text.replace("\n", " "))]
    return [command.partition(" > ")[0] for command in found]


COMMANDS = {command: document.name for document in DOCUMENTS for command in commands_in(document)}
BLOCKS = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)


def test_the_readme_shows_commands_and_scenarios() -> None:
    assert len(COMMANDS) >= 5
    assert len(BLOCKS) >= 2


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_one_that_the_command_line_takes(command: str) -> None:
    options = command_parser().parse_args(shlex.split(command))
    if getattr(options, "scenario", None) not in (None, "mine.toml", "scenarios/mine.toml", "PATH"):
        assert shipped_scenarios.find(options.scenario).exists()


def test_the_demo_of_the_readme_recommends_the_cell_that_the_quickstart_proves() -> None:
    scenario = load_scenario(shipped_scenarios.find("quickstart"))
    played = answer(scenario.seed)
    workflows = sum(done.tried for done in played.cells.values())
    size = f"{len(played.cells)} settings, {scenario.sweep.repeats} repeats, {workflows} workflows"
    assert f"quickstart: {size}" in README
    assert played.proven == "async_8_full-jitter_attempt"
    assert "Use 8 async calls at once with retry policy full-jitter: " in README
    assert "the fastest setting\nthat keeps at least 90 % of workflows (proven)" in README.replace(
        "\u00a0", " "
    )


def test_the_demo_prints_what_the_readme_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sample = re.search(r"```text\n(Use .*?\n)```", README, re.DOTALL)
    assert sample is not None
    monkeypatch.chdir(tmp_path)
    run = "results/20260101T000000Z-quickstart"
    assert main(["run", "quickstart", "--jobs", "1", "--out", run]) == 0
    assert capsys.readouterr().out == sample[1]
    assert stored("quickstart", 80).read_text() == sample[1]


def test_the_scenario_is_one_that_the_harness_reads() -> None:
    whole = next(block for block in BLOCKS if block.startswith("name"))
    scenario = parse_scenario(whole, "README.md")
    assert set(scenario.sweep.mode) == {"sync", "async"}


def test_every_endpoint_is_one_that_the_harness_reads() -> None:
    endpoints = [block for block in BLOCKS if block.lstrip().startswith("[endpoint]")]
    assert endpoints
    for block in endpoints:
        text = f'name = "x"\n[workflow]\ntopics = ["tides"]\n{block}'
        endpoint = parse_scenario(text, "README.md").endpoint
        if isinstance(endpoint, SimulatedEndpoint):
            assert endpoint.time == "virtual"


def test_the_commands_for_an_endpoint_of_ones_own_run_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    section = README.partition("## Your own endpoint\n")[2].partition("\n## ")[0]
    block = re.search(r"```sh\n(.*?)```", section, re.DOTALL)
    served = re.search(r"`harness serve (\S+) --port (\d+) --time-scale (\S+)`", section)
    assert block is not None
    assert served is not None
    profile, port, scale = served.groups()
    monkeypatch.chdir(tmp_path)
    faster = float(scale) / 5
    with start_simulator(profile, {}, 0, faster, tmp_path / "log.jsonl") as provider:
        for command in re.findall(r"^harness (.+?)(?:\s{2,}#.*)?$", block[1], re.MULTILINE):
            own = command.replace(f"http://127.0.0.1:{port}/v1", provider.base_url)
            assert own != command or "--endpoint" not in command
            assert main(shlex.split(own)) == 0
        (run,) = (tmp_path / "results").iterdir()
        _ask_as_recommended(run)
    said = capsys.readouterr().out
    assert "mine: 3 settings, 2 repeats, 24 workflows" in said
    assert "SIMULATED by the endpoint" in said


def _ask_as_recommended(run: Path) -> None:
    """The code of a recommendation reaches the endpoint that was measured, as it stands."""
    recommended = harness.read_run(run).summary.recommendation
    space: dict[str, Any] = {}
    exec("\n".join(recommended.code), space)
    request = {"model": "deepseek-reasoner", "messages": [{"role": "user", "content": "Why?"}]}
    asked: Any = space["ask"](**request)
    answer = asyncio.run(asked) if inspect.iscoroutine(asked) else asked
    assert answer.choices[0].message.content


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_every_file_that_a_document_links_to_exists(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
        if not target.startswith("http"):
            assert (document.parent / target).exists(), target


def anchors(document: Path) -> set[str]:
    """Return the anchors of the headings of a document."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_every_section_that_a_document_links_to_exists(document: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", document.read_text()):
        assert anchor in anchors(document.parent / target if target else document), target


@pytest.mark.parametrize("name", ["endpoints.md", "workflows.md", "policies.md", "scenarios.md"])
def test_the_keys_of_a_scenario_stand_in_the_generated_reference_alone(name: str) -> None:
    heads = re.findall(r"^\|(.+)\|\n\|---", (ROOT / "docs" / name).read_text(), re.MULTILINE)
    columns = {column.strip() for head in heads for column in head.split("|")}
    assert not columns & {"key", "keys", "default", "key of `[prompts]`"}
