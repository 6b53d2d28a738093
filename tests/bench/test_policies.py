"""The `[retry.*]` tables: what is made of them, how they stand around one another, mistakes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.bench import cells
from harness.bench.estimate import estimate
from harness.bench.scenario import Scenario
from harness.bench.scenario_file import parse_scenario
from harness.config.toml_text import toml_value
from harness.endpoints.section import SecondsRange
from harness.policies.aws_standard import AwsBackoff, AwsQuota
from harness.policies.breaker import BreakerLayer, BreakerRule
from harness.policies.budget_layer import BudgetLayer
from harness.policies.exponential import ExponentialRule
from harness.policies.finagle_budget import FinagleBudgetRule
from harness.policies.fixed import FixedRule
from harness.policies.grpc_throttling import GrpcThrottlingRule
from harness.policies.hedge import HedgeLayer
from harness.policies.layers import Layer
from harness.policies.no_retry import NoRetryRule
from harness.policies.openai_sdk import OpenAISdkRule
from harness.policies.protocol import Asking
from harness.policies.registry import POLICIES
from harness.policies.retry import Retry
from harness.policies.retry_budget import RetryBudgetRule
from harness.policies.section import WrapperSection
from harness.policies.stack import Stack
from harness.records.clock import SECOND
from harness.records.errors import InputError
from tests.bench.examples import HEAD

QUARTER = SECOND // 4
PARTS = """
[retry.outage-breaker]
kind = "breaker"
[retry.ten-percent]
kind = "retry-budget"
[retry.full-jitter]
kind = "exponential"
[retry.hedge]
kind = "hedge"
after = "4s"
"""


def scenario(text: str = HEAD, /, **overrides: Any) -> Scenario:
    values = {"endpoint.time_scale": 0.25, **overrides}
    settings = [f"{key}={toml_value(value)}" for key, value in values.items()]
    return parse_scenario(text, "file.toml", settings)


def made(described: dict[str, Any], **overrides: Any) -> Any:
    return built(scenario(**{"retry.it": described}, **overrides), "it")


def built(read: Scenario, name: str) -> Any:
    return read.policy(name).build(read.time_scale, read.endpoint.stream)


def stack(*layers: str) -> str:
    return f'{HEAD}{PARTS}[retry.whole]\nkind = "stack"\nlayers = {toml_value(layers)}\n'


def layer_of(described: dict[str, Any]) -> Layer:
    table = {"retry.outer": described, "retry.it": {"kind": "stack", "layers": ["outer", "none"]}}
    [layer] = built(scenario(**table), "it").layers
    found: Layer = layer
    return found


@pytest.mark.parametrize(
    ("described", "stream", "policy"),
    [
        ({"kind": "none"}, True, NoRetryRule()),
        ({"kind": "fixed"}, True, FixedRule(5, QUARTER)),
        ({"kind": "fixed", "attempts": 2, "delay": "8s"}, True, FixedRule(2, 2 * SECOND)),
        ({"kind": "openai-sdk", "max_retries": 4}, True, OpenAISdkRule(4, True, QUARTER)),
        ({"kind": "openai-sdk"}, False, OpenAISdkRule(2, False, QUARTER)),
        (
            {"kind": "exponential", "attempts": 3, "jitter": "equal"},
            True,
            ExponentialRule(3, SECOND // 8, 5 * SECOND, "equal"),
        ),
        (
            {"kind": "exponential", "jitter": "decorrelated"},
            True,
            ExponentialRule(5, SECOND // 8, 5 * SECOND, "decorrelated"),
        ),
    ],
)
def test_a_policy_of_one_call_is_what_its_description_says(
    described: dict[str, Any], stream: bool, policy: Retry
) -> None:
    assert made(described, **{"endpoint.stream": stream}) == Stack([], policy)


@given(
    scale=st.floats(0.001, 1),
    base=st.floats(0.001, 3600).map(lambda value: round(value, 3)),
    cap=st.floats(0.001, 3600).map(lambda value: round(value, 3)),
)
def test_backoff_becomes_nanoseconds_scaled_once(scale: float, base: float, cap: float) -> None:
    described = {"kind": "exponential", "base": base, "cap": cap}
    assert made(described, **{"endpoint.time_scale": scale}) == Stack(
        [],
        ExponentialRule(
            attempts=5,
            base=round(base * scale * SECOND),
            cap=round(cap * scale * SECOND),
            jitter="full",
        ),
    )


def test_the_standard_mode_of_aws_is_a_backoff_within_a_quota() -> None:
    policy = built(scenario(), "aws-standard")
    assert isinstance(policy, Stack)
    [quota] = policy.layers
    assert isinstance(quota, BudgetLayer)
    assert quota.budget == AwsQuota()
    assert policy.retry == AwsBackoff(3, QUARTER)


@pytest.mark.parametrize(
    ("described", "budget"),
    [
        ({"kind": "retry-budget"}, RetryBudgetRule(100, 10)),
        ({"kind": "retry-budget", "ratio": 0.25, "burst": 3}, RetryBudgetRule(250, 3)),
        ({"kind": "grpc-throttling"}, GrpcThrottlingRule(10, 100)),
        ({"kind": "grpc-throttling", "tokens": 4, "ratio": 1}, GrpcThrottlingRule(4, 1000)),
        ({"kind": "finagle-budget"}, FinagleBudgetRule(200, 100, 10 * QUARTER)),
        (
            {"kind": "finagle-budget", "per_second": 0.5, "window": "1m"},
            FinagleBudgetRule(200, 30, 60 * QUARTER),
        ),
    ],
)
def test_a_budget_is_what_its_description_says(described: dict[str, Any], budget: object) -> None:
    for scope in ("process", "phase"):
        layer = layer_of({**described, "scope": scope})
        assert isinstance(layer, BudgetLayer)
        assert layer.budget == budget
        assert layer.states.scope == scope


def test_a_breaker_is_what_its_description_says() -> None:
    layer = layer_of({"kind": "breaker"})
    assert isinstance(layer, BreakerLayer)
    assert layer.rule == BreakerRule(5, 10, 20, QUARTER, 15 * QUARTER)
    assert layer.states.scope == "process"
    layer = layer_of(
        {"kind": "breaker", "failures": 2, "rate": 0.34, "last": 3, "pause": "9s", "cap": "8s"}
    )
    assert isinstance(layer, BreakerLayer)
    assert layer.rule == BreakerRule(2, 2, 3, 8 * QUARTER, 8 * QUARTER)


def test_a_hedge_is_what_its_description_says() -> None:
    layer = layer_of({"kind": "hedge", "after": "4s", "ratio": 1, "burst": 2})
    assert isinstance(layer, HedgeLayer)
    assert layer.hedge.after == SECOND
    asking = Asking("fan_out", 2, 0)
    assert [layer.may(asking) for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize("kind", POLICIES.names())
def test_every_kind_of_policy_can_be_built_and_estimated(kind: str) -> None:
    more: dict[str, Any] = {"hedge": {"after": "4s"}, "stack": {"layers": ["none"]}}
    described: dict[str, Any] = {"kind": kind, **more.get(kind, {})}
    if issubclass(POLICIES.get(kind), WrapperSection):
        assert layer_of(described)
        return
    assert made(described)
    the_scenario = scenario(**{"retry.it": described, "sweep.retry": ["it"]})
    assert estimate(the_scenario, SecondsRange(1, 1)).most_attempts > 0
    assert the_scenario.policy("it").code().attempts > 0


def test_layers_stand_in_the_order_of_the_scenario_and_a_stack_may_end_with_a_stack() -> None:
    text = stack("ten-percent", "full-jitter") + (
        '[retry.outer]\nkind = "stack"\nlayers = ["outage-breaker", "whole"]\n'
    )
    policy = built(scenario(text, **{"sweep.retry": "outer"}), "outer")
    assert isinstance(policy, Stack)
    assert [type(layer) for layer in policy.layers] == [BreakerLayer, BudgetLayer]
    assert policy.retry == ExponentialRule(5, SECOND // 8, 5 * SECOND, "full")


def test_each_trial_begins_with_a_policy_that_remembers_nothing() -> None:
    read = scenario(stack("outage-breaker", "none"), **{"sweep.retry": "whole"})
    [cell] = cells.expand(read)
    one, other = cells.terms(read, cell).policy, cells.terms(read, cell).policy
    assert one is not other
    assert one.layers[0] is not other.layers[0]  # type: ignore[attr-defined]


def test_the_resolved_scenario_describes_every_layer_of_what_was_run_and_nothing_else() -> None:
    read = scenario(stack("ten-percent", "aws-standard"), **{"sweep.retry": ["whole", "none"]})
    described = read.as_dict()["retry"]
    assert set(described) == {"whole", "ten-percent", "aws-standard", "none"}
    assert described["ten-percent"] == {
        "kind": "retry-budget", "ratio": 0.1, "burst": 10, "scope": "process",
    }  # fmt: skip


def test_a_stack_within_a_stack_is_described_so_that_the_run_can_be_resumed() -> None:
    text = stack("ten-percent", "none") + '[retry.outer]\nkind = "stack"\nlayers = ["whole"]\n'
    read = scenario(text, **{"sweep.retry": "outer"})
    described = read.as_dict()
    assert set(described["retry"]) == {"outer", "whole", "ten-percent", "none"}
    assert Scenario.model_validate(described).policy("outer") == read.policy("outer")


@pytest.mark.parametrize(
    ("layers", "most"),
    [
        (["full-jitter"], 5),
        (["ten-percent", "full-jitter"], 5),
        (["hedge", "full-jitter"], 10),
        (["outage-breaker", "hedge", "openai-sdk"], 6),
        (["ten-percent", "aws-standard"], 3),
        (["hedge", "none"], 2),
    ],
)
def test_an_estimate_counts_the_attempts_of_the_innermost_and_twice_with_a_hedge(
    layers: list[str], most: int
) -> None:
    read = scenario(stack(*layers), **{"sweep.retry": "whole"})
    plain = scenario()
    assert estimate(read, SecondsRange(1, 1)).most_attempts == (
        most * estimate(plain, SecondsRange(1, 1)).most_attempts
    )


SWEEP = '[sweep]\nmode = "sync"\nretry = "whole"\n'
A_IN_B = '[retry.a]\nkind = "stack"\nlayers = ["b"]\n[retry.b]\nkind = "stack"\nlayers = ["a"]\n'


@pytest.mark.parametrize(
    ("text", "line"),
    [
        pytest.param(
            stack("outage-braker", "none"),
            "retry.whole.layers[0] = 'outage-braker': unknown policy (did you mean "
            "'outage-breaker'?); describe it in [retry.outage-brak",
            id="a layer that nobody knows",
        ),
        pytest.param(
            stack("outage-breaker", "ten-percent"),
            "retry.whole.layers[1] = 'ten-percent': wraps another policy and cannot be the "
            "last layer; end with a policy that decides, such as 'none' or 'openai-sdk'",
            id="no innermost",
        ),
        pytest.param(
            stack("full-jitter", "ten-percent", "none"),
            "retry.whole.layers[0] = 'full-jitter': decides alone and cannot wrap another "
            "policy; put it last",
            id="a backoff policy around others",
        ),
        pytest.param(
            stack("ten-percent", "outage-breaker", "ten-percent", "none"),
            "retry.whole.layers[2] = 'ten-percent': occurs twice; remove one",
            id="a layer twice",
        ),
        pytest.param(
            stack("outage-breaker", "other", "none") + '[retry.other]\nkind = "breaker"\n',
            "retry.whole.layers[1] = 'other': 'outage-breaker' is of kind 'breaker' too; remove ",
            id="two breakers",
        ),
        pytest.param(
            stack("hedge", "other", "none") + '[retry.other]\nkind = "hedge"\nafter = 1.0\n',
            "retry.whole.layers[1] = 'other': 'hedge' is of kind 'hedge' too; remove one",
            id="two hedges",
        ),
        pytest.param(
            stack("whole"),
            "retry.whole.layers[0] = 'whole': contains itself (whole > whole); remove it",
            id="a stack in itself",
        ),
        pytest.param(
            HEAD + A_IN_B,
            "retry.b.layers[0] = 'a': contains itself (a > b > a); remove it",
            id="a circle",
        ),
        pytest.param(
            stack("none").replace('["none"]', "[]"),
            "retry.whole.layers = []: must not be empty; give at least one value",
            id="no layers",
        ),
        pytest.param(
            stack("none") + '[sweep]\nretry = "outage-breaker"\n',
            "sweep.retry = 'outage-breaker': wraps another policy; name a stack instead: "
            '[retry.NAME] with kind = "stack", layers = ["outage-breaker", "none"]',
            id="a breaker alone",
        ),
        pytest.param(
            stack("hedge", "none") + SWEEP,
            "sweep.retry = 'whole': hedges, and sweep.mode contains 'sync', which has one "
            "request in flight at a time; remove one of them",
            id="a hedge in sync",
        ),
        pytest.param(
            stack("hedge", "none") + "[sweep]\nretry = 'whole'\n[endpoint]\nstream = false\n",
            "sweep.retry = 'whole': hedges on the first token, which endpoint.stream = "
            "false does not show; remove one of them",
            id="a hedge without a first token",
        ),
        pytest.param(
            HEAD + '[retry.x]\nkind = "hedge"\n', "retry.x.after: missing; add it", id="no delay"
        ),
        pytest.param(
            HEAD + '[retry.x]\nkind = "breaker"\nscope = "call"\n',
            "retry.x.scope = 'call': must be 'process' or 'phase'",
            id="a scope that is none",
        ),
        pytest.param(
            HEAD + '[retry.x]\nkind = "breaker"\npaus = "1s"\n',
            "retry.x.paus: unknown key (did you mean 'pause'?); known here: cap, failures, kind, ",
            id="unknown key",
        ),
    ],
)
def test_a_mistake_is_one_line_with_the_way_out(text: str, line: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_scenario(text, "file.toml")
    assert str(caught.value).startswith(f"file.toml: {line}")
    assert len(str(caught.value).splitlines()) == 1
