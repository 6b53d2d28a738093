"""The JSON Schema of scenarios says what the classes of the sections say."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastjsonschema
import pytest

from harness.bench.scenario_file import load_scenario
from harness.bench.scenario_schema import SCHEMA_FILE, scenario_schema
from harness.cli.init import scenario_text
from harness.cli.main import main
from harness.config.shipped_scenarios import folder
from tests.bench.examples import EXAMPLE, HEAD

SHIPPED = sorted(folder().glob("*.toml"))
validate = fastjsonschema.compile(scenario_schema())


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_a_shipped_scenario_names_the_schema_and_keeps_it(file: Path) -> None:
    text = file.read_text()
    assert text.startswith(f"#:schema ./{SCHEMA_FILE}\n")
    validate(tomllib.loads(text))


@pytest.mark.parametrize("text", [EXAMPLE, scenario_text(Path("mine.toml"), None)])
def test_other_scenarios_keep_it_too(text: str) -> None:
    validate(tomllib.loads(text))


def test_the_shipped_schema_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert capsys.readouterr().out == (folder() / SCHEMA_FILE).read_text(), (
        "run: harness schema > scenarios/scenario.schema.json"
    )


@pytest.mark.parametrize(
    "wrong",
    [
        "sub_question = 3",
        "sub_questions = 0",
        "sub_questions = []",
        "steps = 3",
        "[load]\nworkflows = 'many'",
        "[timeouts]\ncall = '10 minutes'",
        "[sweep]\npermit = 3",
        "[sweep]\nmode = ['sink']",
        "[sweep]\npermits = []",
        "[endpoint]\nbase_url = 'http://a/v1'",
        "[retry.a]\njitter = 'full'",
        "[retry.a]\nkind = 'fixed'\nbase = '1s'",
        "[[endpoint.faults]]\nkind = 'stal'\nprobability = 0.1",
    ],
)
def test_a_mistake_breaks_it(wrong: str) -> None:
    with pytest.raises(fastjsonschema.JsonSchemaException):
        validate(tomllib.loads(HEAD + wrong))


@pytest.mark.parametrize(
    "right",
    [
        "[timeouts]\ncall = '10m'\nidle = 3",
        "[sweep]\npermits = 3\n'endpoint.model' = ['a', 'b']",
        "[retry.a]\nkind = 'none'",
        "[prompts]\nresearch_file = 'a.txt'",
    ],
)
def test_what_a_file_may_have_keeps_it(right: str) -> None:
    validate(tomllib.loads(HEAD + right))


def test_topics_can_be_in_a_file() -> None:
    validate({"name": "a", "workflow": {"topics_file": "topics.txt"}})


def keys_in(schema: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, table in (("", schema), *schema["$defs"].items()):
        for key, value in table["properties"].items():
            yield f"{name}.{key}", value


def test_every_key_has_a_description() -> None:
    missing = [key for key, value in keys_in(scenario_schema()) if not value.get("description")]
    assert not missing, "write a docstring below each of these keys, in the class of the section"


def test_the_schema_is_json() -> None:
    assert json.loads(json.dumps(scenario_schema())) == scenario_schema()


@pytest.mark.parametrize("text", ["30", "30.0", "'30s'", "30s", "0.5m"])
def test_a_duration_without_a_unit_is_in_seconds_everywhere(text: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(EXAMPLE)
    assert load_scenario(file, [f"timeouts.call={text}"]).timeouts.call == 30
    if text.strip("'") != "0.5m" and not text.endswith("s"):
        validate(tomllib.loads(HEAD + f"[timeouts]\ncall = {text}\n"))
