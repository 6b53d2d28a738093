"""What the README shows is what the harness understands."""

import re
import shlex
from pathlib import Path

import pytest

from harness.bench.scenario import parse_scenario
from harness.cli.main import _parser
from harness.config import shipped_scenarios
from harness.endpoints.sections import SimulatedEndpoint

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^(?:\.venv/bin/)?harness (.+?)(?:\s{2,}#.*)?$", README, re.MULTILINE)
COMMANDS += re.findall(r"`harness ([^`]+)`", README.replace("\n", " "))
BLOCKS = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)


def test_the_readme_shows_commands_and_scenarios() -> None:
    assert len(COMMANDS) >= 5
    assert len(BLOCKS) >= 2


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_one_that_the_command_line_takes(command: str) -> None:
    options = _parser().parse_args(shlex.split(command))
    if getattr(options, "scenario", None) not in (None, "mine.toml"):
        assert shipped_scenarios.find(options.scenario).exists()


def test_the_scenario_is_one_that_the_harness_reads() -> None:
    whole = next(block for block in BLOCKS if block.startswith("name"))
    scenario = parse_scenario(whole, "README.md")
    assert set(scenario.sweep.mode) == {"sync", "threads", "async"}


def test_every_endpoint_is_one_that_the_harness_reads() -> None:
    endpoints = [block for block in BLOCKS if block.lstrip().startswith("[endpoint]")]
    assert endpoints
    for block in endpoints:
        text = f'name = "x"\n[workflow]\ntopics = ["tides"]\n{block}'
        endpoint = parse_scenario(text, "README.md").endpoint
        if isinstance(endpoint, SimulatedEndpoint):
            assert endpoint.time == "virtual"


def test_every_file_that_the_readme_links_to_is_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target
