"""Every shipped scenario can be pointed at the user's own endpoint."""

from __future__ import annotations

from typing import Any

import pytest

from harness.bench.own_endpoint import OwnEndpoint, drop_former_endpoint
from harness.bench.scenario import Scenario
from harness.bench.scenario_file import load_scenario, parse_scenario
from harness.config import shipped_scenarios
from harness.endpoints.openai import OpenAIEndpoint

OWN = OwnEndpoint("http://127.0.0.1:9/v1", "429", None)


def pointed(
    name: str, *overrides: str, own: OwnEndpoint = OWN
) -> tuple[Scenario, OpenAIEndpoint, list[str]]:
    dropped: list[str] = []

    def change(values: dict[str, Any]) -> None:
        dropped.extend(drop_former_endpoint(values, own, overrides))

    scenario = load_scenario(shipped_scenarios.find(name), [*own.settings(), *overrides], change)
    assert isinstance(scenario.endpoint, OpenAIEndpoint)
    return scenario, scenario.endpoint, dropped


@pytest.mark.parametrize("name", shipped_scenarios.described())
def test_a_shipped_scenario_runs_against_any_endpoint_without_a_key(name: str) -> None:
    scenario, endpoint, _ = pointed(name)
    assert (endpoint.base_url, endpoint.model) == ("http://127.0.0.1:9/v1", "429")
    assert endpoint.api_key_env is None
    assert endpoint.extra_body == {}
    assert not scenario.is_virtual
    swept = {key for key in scenario.sweep.settings if key.startswith("endpoint.")}
    assert swept == ({"endpoint.client"} if name == "sdk-cost" else set())


def test_what_was_dropped_is_named() -> None:
    _, _, dropped = pointed("quickstart")
    assert dropped == ["endpoint.profile", "endpoint.time", "endpoint.override"]
    assert pointed("compare-providers")[2][-1] == 'sweep."endpoint.profile"'
    assert pointed("deepseek")[2] == ["endpoint.extra_body", "budget.usd"]


def test_what_describes_requests_is_kept() -> None:
    scenario, endpoint, _ = pointed("openrouter")
    assert (endpoint.json_mode, endpoint.settle) == (False, 5.0)
    assert scenario.budget.tokens == 250_000


def test_the_client_that_sends_the_requests_is_kept() -> None:
    values = {"endpoint": {"client": "wire"}, "sweep": {"endpoint.client": ["openai", "wire"]}}
    assert drop_former_endpoint(values, OWN, ()) == []


def test_a_key_is_sent_only_if_its_variable_is_named() -> None:
    own = OWN._replace(key_variable="MY_KEY")
    assert pointed("deepseek", own=own)[1].api_key_env == "MY_KEY"


def test_a_price_of_ones_own_keeps_what_needs_one() -> None:
    price = ("endpoint.price.input=1", "endpoint.price.output=2")
    scenario, endpoint, dropped = pointed("deepseek", *price)
    assert endpoint.price is not None
    assert scenario.budget.usd == 0.25
    assert dropped == ["endpoint.extra_body"]


def test_what_only_virtual_time_and_a_price_allow_is_dropped() -> None:
    text = """
        name = "a"
        records = "summary"
        [workflow]
        topics = "t"
        [endpoint]
        time = "virtual"
        price = { input = 1, output = 1 }
        [objective]
        minimise = "cost_per_successful_workflow"
        [sweep]
        "endpoint.override.slots" = [1, 2]
        "endpoint.stream" = [true, false]
        "load.in_flight" = [1, 2]
    """
    dropped: list[str] = []

    def change(values: dict[str, Any]) -> None:
        dropped.extend(drop_former_endpoint(values, OWN, ()))

    scenario = parse_scenario(text, "a", OWN.settings(), change=change)
    assert dropped == [
        "endpoint.time", "endpoint.price", 'sweep."endpoint.override.slots"', "records",
        "objective.minimise",
    ]  # fmt: skip
    assert list(scenario.sweep.settings) == ["endpoint.stream", "load.in_flight"]


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("endpoint.model=429", "429"),
        ("endpoint.model=1.10", "1.10"),
        ("endpoint.model=true", "true"),
        ("endpoint.model=2026-01-01", "2026-01-01"),
        ('endpoint.model="429"', "429"),
        ("endpoint.model = 7 ", "7"),
    ],
)
def test_a_setting_that_takes_text_is_text(override: str, value: str) -> None:
    scenario = load_scenario(shipped_scenarios.find("vllm"), [override, "load.workflows=2"])
    assert scenario.endpoint.model == value
    assert scenario.load.workflows == 2
