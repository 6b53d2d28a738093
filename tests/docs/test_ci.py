"""The workflows and tables of docs/ci.md fit the action and the hook."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.ci.runner import read_action

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "ci.md").read_text()
BLOCKS = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)]
WORKFLOWS: list[dict[Any, Any]] = [one for one in BLOCKS if isinstance(one, dict) and "jobs" in one]
ACTION = read_action(ROOT)
ROWS = dict(re.findall(r"^\| `([a-z-]+)` \|(.*?)\|", TEXT, re.MULTILINE))


def test_there_is_a_whole_workflow_for_a_committed_and_for_a_cached_baseline() -> None:
    assert [one["name"] for one in WORKFLOWS] == ["llm-scenario", "llm-endpoint"]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda workflow: workflow["name"])
def test_a_workflow_gives_the_action_inputs_that_it_has(workflow: dict[Any, Any]) -> None:
    # YAML 1.1 reads the key `on` as true.
    assert set(workflow) == {"name", True, "permissions", "jobs"}
    assert workflow["permissions"] == {"contents": "read"}
    [job] = workflow["jobs"].values()
    [step] = [step for step in job["steps"] if step["uses"] == "OWNER/REPO@REF"]
    assert set(step["with"]) <= set(ACTION["inputs"])
    required = {name for name, one in ACTION["inputs"].items() if one.get("required")}
    assert required <= set(step["with"])
    for one in job["steps"]:
        assert re.fullmatch(r"actions/[a-z-]+(/\w+)?@v\d+|OWNER/REPO@REF", one["uses"])


def test_the_tables_have_every_input_with_its_default_and_every_output() -> None:
    assert set(ACTION["inputs"]) | set(ACTION["outputs"]) <= set(ROWS)
    for name, one in ACTION["inputs"].items():
        values = str(one.get("default", "")).splitlines()
        assert ROWS[name].strip() == ", ".join(f"`{value}`" for value in values), name


def test_the_hook_is_the_one_that_the_repository_has() -> None:
    [config] = [one for one in BLOCKS if isinstance(one, dict) and "repos" in one]
    hooks = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert [hook["id"] for hook in config["repos"][0]["hooks"]] == [hook["id"] for hook in hooks]
