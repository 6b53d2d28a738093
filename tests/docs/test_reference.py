"""The reference documents say what the code says, and their examples are scenarios."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from harness.bench.scenario_file import parse_scenario
from harness.workflows.replay.data_file import ReplayedCall, ReplayedWorkflow, encoded_data
from tests.docs.reference import DOCS, PAGES

EXAMPLES = re.findall(r"```toml\n(.*?)```", (DOCS / "scenario.md").read_text(), re.DOTALL)


@pytest.mark.parametrize("page", PAGES)
def test_a_reference_document_is_made_from_the_code(page: str) -> None:
    assert (DOCS / page).read_text() == PAGES[page](), "run: python -m tests.docs.reference"


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_a_part_of_a_scenario(example: str, tmp_path: Path) -> None:
    values = tomllib.loads(example)
    assert values, "each section has an example"
    head = "" if "name" in values else 'name = "example"\n'
    workflow = "" if "workflow" in values else '[workflow]\ntopics = ["a", "b"]\n'
    endpoint = ""
    if set(values.get("endpoint", ())) == {"price"}:
        endpoint = '[endpoint]\nkind = "simulated"\n'
    if values.get("workflow", {}).get("kind") == "replay":
        call = ReplayedCall(input=9, output=9)
        (tmp_path / values["workflow"]["data"]).write_bytes(
            encoded_data([ReplayedWorkflow(0.0, (call,))])
        )
    parse_scenario(f"{head}{workflow}{endpoint}{example}", "scenario.md", folder=tmp_path)
