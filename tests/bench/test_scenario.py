"""Scenario files: what they may say, and one clear line for each mistake."""

from __future__ import annotations

import copy
import json
import tomllib
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.bench.scenario import Scenario
from harness.bench.scenario_file import load_scenario, parse_scenario
from harness.config import shipped_scenarios
from harness.config.faults import KINDS
from harness.config.tables import parse_duration
from harness.config.toml_text import toml_document
from harness.endpoints.openai import OpenAIEndpoint
from harness.endpoints.simulated import SimulatedEndpoint
from harness.policies.exponential import Exponential
from harness.records.errors import InputError
from tests.bench.examples import EXAMPLE, HEAD, LIVE


def test_the_example_reads_as_it_stands_there() -> None:
    scenario = parse_scenario(EXAMPLE, "example.toml")
    assert scenario.workflow.max_tokens["research"] == 4000
    assert isinstance(scenario.endpoint, SimulatedEndpoint)
    assert scenario.endpoint.time_scale == 0.02
    assert (scenario.timeouts.first_token, scenario.timeouts.call) == (120.0, 600.0)
    assert scenario.sweep.mode == ("sync", "async")
    assert scenario.sweep.permits == (2, 8)
    policy = scenario.policy("full-jitter").backoff
    assert isinstance(policy, Exponential)
    assert (policy.attempts, policy.base, policy.cap) == (5, 0.5, 20.0)


def test_a_name_and_topics_are_enough_and_everything_else_has_a_default() -> None:
    scenario = parse_scenario(HEAD, "file.toml")
    assert scenario.endpoint == SimulatedEndpoint()
    assert scenario.as_dict()["workflow"]["sub_questions"] == 4
    assert scenario.sweep.mode == ("async",)
    assert scenario.sweep.permits == (1,)
    assert scenario.sweep.retry == ("none",)
    assert scenario.sweep.permit_scope == ("attempt",)
    assert scenario.timeouts.first_token is None
    assert scenario.policy("none").backoff.kind == "none"
    assert scenario.policy("openai-sdk").backoff.kind == "openai-sdk"


@pytest.mark.parametrize(
    "path", sorted(shipped_scenarios.folder().glob("*.toml")), ids=lambda path: path.stem
)
def test_every_shipped_scenario_reads(path: Path) -> None:
    assert load_scenario(path).name == path.stem


def test_the_scenario_of_faults_has_every_one_of_them() -> None:
    endpoint = load_scenario(shipped_scenarios.folder() / "faults.toml").endpoint
    assert isinstance(endpoint, SimulatedEndpoint)
    assert [fault.kind for fault in endpoint.faults or ()] == list(KINDS)


def test_a_bare_value_stands_for_a_list_of_one() -> None:
    scenario = parse_scenario(
        'name = "x"\nworkflow.topics = "tides"\n[sweep]\nmode = "threads"\npermits = 8\n'
        'retry = "openai-sdk"\npermit_scope = "call"\n',
        "file.toml",
    )
    assert scenario.workflow.topics == ("tides",)
    sweep = scenario.sweep
    assert (sweep.mode, sweep.permits) == (("threads",), (8,))
    assert (sweep.retry, sweep.permit_scope) == (("openai-sdk",), ("call",))


@pytest.mark.parametrize("text", [EXAMPLE, HEAD, LIVE])
def test_the_resolved_scenario_is_plain_and_reads_as_itself(text: str) -> None:
    resolved = parse_scenario(text, "file.toml").as_dict()
    assert json.loads(json.dumps(resolved)) == resolved
    assert Scenario.model_validate(resolved).as_dict() == resolved
    assert resolved["sweep"]["retry"] == list(resolved["retry"]), "each used policy is described"


def test_overrides_replace_what_the_file_says_in_their_order() -> None:
    scenario = parse_scenario(
        LIVE,
        "file.toml",
        [
            "load.workflows=2",
            "load.workflows=20",
            "endpoint.model=some-model",
            "timeouts.call=90s",
            "sweep.permits=[1, 4]",
            'endpoint.extra_body={thinking={type="enabled"}}',
            "description=a = b",
        ],
    )
    assert isinstance(scenario.endpoint, OpenAIEndpoint)
    assert scenario.endpoint.model == "some-model"
    assert scenario.endpoint.extra_body == {"thinking": {"type": "enabled"}}
    assert scenario.load.workflows == 20
    assert scenario.timeouts.call == 90.0
    assert scenario.sweep.permits == (1, 4)
    assert scenario.description == "a = b"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing.toml"
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    for path, what in [
        (missing, "no such file; give the path of a scenario (TOML)"),
        (tmp_path, "cannot be read ("),
        (binary, "cannot be read ("),
    ]:
        with pytest.raises(InputError) as caught:
            load_scenario(path)
        assert str(caught.value).startswith(f"{path}: {what}")
        assert len(str(caught.value).splitlines()) == 1


def test_a_byte_order_mark_at_the_start_of_a_file_is_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "marked.toml"
    path.write_text(HEAD, encoding="utf-8-sig")
    assert load_scenario(path).name == "example"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("30s", 30.0), ("2m", 120.0), ("1h", 3600.0), (" 1.5 s ", 1.5)],
)
def test_a_duration_has_a_number_and_a_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@given(st.floats(0, 1e6), st.sampled_from(["ms", "s", "m", "h"]))
def test_a_duration_reads_as_the_number_it_was_written_from(number: float, unit: str) -> None:
    in_seconds = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}[unit]
    assert parse_duration(f"{number:f}{unit}") == float(f"{number:f}") * in_seconds


# Whatever is written.

VALID: dict[str, Any] = tomllib.loads(EXAMPLE)
WORDS = sorted(
    {*VALID, *(key for table in VALID.values() if isinstance(table, dict) for key in table)}
)

scalars = st.one_of(
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=6),
    st.sampled_from(["5s", "async", "none", "openai", "exponential", "local-llm", "full", *WORDS]),
    st.dates(max_value=date(2999, 1, 1)),
)
keys = st.sampled_from([*WORDS, "kind", "base_url", "model", "0", "[key]"]) | st.text(max_size=4)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=6,
)


def paths(here: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(here, dict):
        for key, inner in here.items():
            yield (*path, key)
            yield from paths(inner, (*path, key))


places = st.sampled_from(sorted(paths(VALID))) | st.tuples(keys, keys) | st.tuples(keys)


def parse_or_say(text: str, *overrides: str) -> Scenario | str:
    try:
        return parse_scenario(text, "file.toml", overrides)
    except InputError as error:
        return str(error)


def check(result: Scenario | str) -> None:
    if isinstance(result, str):
        assert len(result.splitlines()) == 1
        assert result.startswith(("file.toml: ", "--set "))
    else:
        json.dumps(result.as_dict())


@given(st.lists(st.tuples(places, values), min_size=1, max_size=3))
def test_a_changed_scenario_reads_or_is_refused_in_one_line(
    changes: list[tuple[tuple[str, ...], Any]],
) -> None:
    changed = copy.deepcopy(VALID)
    for path, value in changes:
        table = changed
        for key in path[:-1]:
            if not isinstance(table.get(key), dict):
                table[key] = {}
            table = table[key]
        table[path[-1]] = value
    check(parse_or_say(toml_document(changed)))


@given(st.dictionaries(keys, values, max_size=5))
def test_any_table_reads_or_is_refused_in_one_line(table: dict[str, Any]) -> None:
    check(parse_or_say(toml_document(table)))


@given(st.text(max_size=40))
def test_any_text_is_refused_in_one_line(text: str) -> None:
    check(parse_or_say(text))


@given(places.map(".".join) | st.text(max_size=8), st.text(max_size=8) | values.map(str))
def test_any_override_reads_or_is_refused_in_one_line(key: str, value: str) -> None:
    check(parse_or_say(HEAD, f"{key}={value}"))


def test_a_simulated_run_may_name_a_budget_in_dollars_because_its_tokens_cost_nothing() -> None:
    text = """
name = "free"
[workflow]
topics = ["tides"]
max_tokens = { decompose = 100, research = 100, synthesize = 100 }
[budget]
usd = 1.0
"""
    assert parse_scenario(text, "free.toml").budget.usd == 1.0


PROFILES = """
name = "x"
[workflow]
topics = ["tides"]
[endpoint]
profile = {profile}
{sweep}
"""


@pytest.mark.parametrize(
    ("profile", "found"),
    [("twin.toml", "there/twin.toml"), ("../twin.toml", "there/../twin.toml"),
     ("/abs/twin.toml", "/abs/twin.toml"), ("streams", "streams")],
)  # fmt: skip
def test_the_path_of_a_profile_is_relative_to_the_folder_of_the_scenario(
    profile: str, found: str
) -> None:
    def profile_of(text: str, *overrides: str) -> Any:
        return parse_scenario(text, "x.toml", overrides, Path("there")).as_dict()["endpoint"]

    text = PROFILES.format(profile=f'"{profile}"', sweep="")
    assert profile_of(text)["profile"] == found
    typed = profile_of(text, "endpoint.profile=mine/other.toml")
    assert typed["profile"] == "mine/other.toml"
    sweep = f'[sweep]\n"endpoint.profile" = ["plain-chat", "{profile}"]'
    swept = parse_scenario(
        PROFILES.format(profile='"streams"', sweep=sweep), "x.toml", (), Path("there")
    )
    assert swept.as_dict()["sweep"]["endpoint.profile"] == ["plain-chat", found]
