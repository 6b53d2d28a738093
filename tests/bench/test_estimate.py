"""What a run will do, reckoned before it does it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.bench.estimate import Estimate, estimate
from harness.bench.scenario import Scenario
from harness.bench.scenario_file import parse_scenario
from harness.config.toml_text import toml_document
from harness.endpoints.section import SecondsRange

SECOND = SecondsRange(1, 1)


def made(**sections: object) -> Scenario:
    base: dict[str, object] = {
        "name": "made",
        "workflow": {
            "topics": ["t" * 40, "short"],
            "sub_questions": 3,
            "max_tokens": {"decompose": 100, "research": 200, "synthesize": 300},
        },
        "endpoint": {"price": {"input": 1.0, "output": 10.0}},
        "load": {"workflows": 5, "in_flight": 2},
        "sweep": {"mode": ["sync", "async"], "permits": [2, 4], "repeats": 3},
    }
    return parse_scenario(toml_document({**base, **sections}), "made.toml")


def of(call: SecondsRange = SECOND, **sections: object) -> Estimate:
    return estimate(made(**sections), call)


def test_trials_workflows_and_calls_are_those_that_the_run_will_make() -> None:
    known = of()
    assert known.cells == 3
    assert known.trials == 9
    assert known.workflows == 45
    assert known.calls == 45 * 5
    assert known.most_attempts == 45 * 6, "each decomposition may be repaired once"


def test_the_most_attempts_are_what_each_cells_policy_allows() -> None:
    sweep = {"mode": ["async"], "retry": ["none", "openai-sdk", "own"]}
    retry = {"own": {"kind": "exponential", "attempts": 7}}
    known = of(sweep=sweep, retry=retry, load={"workflows": 2})
    assert known.calls == 3 * 2 * 5
    assert known.most_attempts == 2 * 6 * (1 + 3 + 7)


def test_written_tokens_are_the_limits_of_all_calls() -> None:
    assert of().output_tokens == 45 * (100 + 3 * 200 + 300)


def test_read_tokens_hold_every_answer_that_is_read_again() -> None:
    """Questions are read by branches and report, findings by the report."""
    small = of().input_tokens
    assert small is not None
    longer = of(
        workflow={
            "topics": ["t" * 40],
            "sub_questions": 3,
            "max_tokens": {"decompose": 101, "research": 200, "synthesize": 300},
        }
    ).input_tokens
    assert longer == small + 45 * 2
    longer = of(
        workflow={
            "topics": ["t" * 40],
            "sub_questions": 3,
            "max_tokens": {"decompose": 100, "research": 201, "synthesize": 300},
        }
    ).input_tokens
    assert longer == small + 45 * 3


def test_reasoning_that_is_carried_on_is_read_by_every_branch() -> None:
    workflow = made().workflow.model_dump(exclude_none=True)
    plain = of(workflow=workflow).input_tokens
    carried = of(workflow={**workflow, "carry_reasoning": True}).input_tokens
    assert plain is not None
    assert carried == plain + 45 * 2 * 100
    few = of(workflow={**workflow, "carry_reasoning": True, "carry_tokens": 30}).input_tokens
    assert few == plain + 45 * 2 * 30


def test_a_prompt_is_a_token_for_every_four_characters_of_the_longest_topic() -> None:
    workflow = made().workflow.model_dump(exclude_none=True)
    plain = of(workflow=workflow).input_tokens
    longer = of(workflow={**workflow, "topics": ["t" * 80]}).input_tokens
    assert plain is not None
    assert longer == plain + 45 * (1 + 3 + 1) * 10, "decompose, three branches, report"


def test_the_cost_is_that_of_the_tokens() -> None:
    known = of()
    assert known.input_tokens is not None
    assert known.output_tokens is not None
    assert known.usd == pytest.approx(known.input_tokens * 1e-6 + known.output_tokens * 1e-5)
    assert known.no_usd is None


def test_the_worst_cost_pays_for_every_retry_and_every_repair() -> None:
    once, thrice = of(), of(sweep={"retry": ["openai-sdk"], "repeats": 9})
    assert once.most_usd is not None
    assert once.usd is not None
    assert once.most_usd > once.usd
    assert thrice.most_usd == pytest.approx(3 * once.most_usd)


def test_the_peak_is_part_of_what_a_known_model_may_cost() -> None:
    live = {"base_url": "https://api.deepseek.com", "kind": "openai", "model": "deepseek-flash"}
    own = {**live, "price": {"input": 0.15, "output": 0.60}}
    listed, flat = of(endpoint=live).usd, of(endpoint=own).usd
    assert listed is not None
    assert flat is not None
    assert listed == pytest.approx(2 * flat)


def test_without_a_limit_or_a_price_nothing_is_made_up() -> None:
    workflow = {"topics": ["t"], "max_tokens": {"decompose": 5}}
    known = of(workflow=workflow)
    assert known.input_tokens is known.output_tokens is known.usd is known.most_usd is None
    assert known.no_usd is not None
    assert "research, synthesize" in known.no_usd
    unknown = {"base_url": "https://api.test", "kind": "openai", "model": "m"}
    known = of(endpoint=unknown)
    assert known.usd is None
    assert known.output_tokens is not None
    assert known.no_usd is not None
    assert "[endpoint.price]" in known.no_usd


def test_what_costs_nothing_is_not_asked_for_a_price() -> None:
    assert of(endpoint={"kind": "simulated"}).no_usd == "the provider is simulated"
    assert of(endpoint={"kind": "local-llm"}).no_usd == "the model runs on this machine"


@pytest.mark.parametrize(
    ("mode", "permits", "in_flight", "rounds"),
    [
        ("sync", 1, 2, 25),
        ("async", 1, 2, 25),
        ("async", 4, 2, 9),  # three turns of decompose, one round of branches, report
        ("async", 2, 5, 12.5),  # 25 calls, two at a time
        ("async", 99, 99, 3),
    ],
)
def test_time_is_rounds_of_calls_by_permits_or_by_the_workflows_in_line(
    mode: str, permits: int, in_flight: int, rounds: float
) -> None:
    known = of(
        SecondsRange(10, 30),
        sweep={"mode": [mode], "permits": [permits]},
        load={"workflows": 5, "in_flight": in_flight},
    )
    assert known.seconds == SecondsRange(10 * rounds, 30 * rounds)


def test_time_is_scaled_capped_by_the_calls_deadline_and_settles_between_trials() -> None:
    sweep = {"mode": ["sync"], "repeats": 2}
    load = {"workflows": 1}
    scaled = of(SecondsRange(10, 30), sweep=sweep, load=load, endpoint={"time_scale": 0.5})
    assert scaled.seconds == SecondsRange(50, 150)
    capped = of(SecondsRange(10, 30), sweep=sweep, load=load, timeouts={"call": "20s"})
    assert capped.seconds == SecondsRange(100, 200)
    live = {"base_url": "http://127.0.0.1:1", "kind": "openai", "model": "m", "settle": "7s"}
    settled = of(SecondsRange(10, 30), sweep=sweep, load=load, endpoint=live)
    assert settled.seconds == SecondsRange(147, 427)  # with two warm-up calls before each trial
    cold = of(SecondsRange(10, 30), sweep=sweep, load={**load, "warmup_calls": 0}, endpoint=live)
    assert cold.seconds == SecondsRange(107, 307)


def test_a_real_models_time_is_an_assumption_that_differs_for_the_small_one() -> None:
    live = {"base_url": "https://api.test", "kind": "openai", "model": "m"}
    large, small = made(endpoint=live), made(endpoint={"kind": "local-llm"})
    assert large.endpoint.facts.call_seconds == SecondsRange(10, 60)
    assert small.endpoint.facts.call_seconds == SecondsRange(1, 5)


@given(
    st.integers(1, 20), st.integers(1, 20), st.integers(1, 40), st.integers(1, 10),
    st.booleans(), st.sampled_from(["none", "openai-sdk"]),
)  # fmt: skip
def test_no_estimate_contradicts_itself(
    workflows: int, in_flight: int, permits: int, questions: int, carry: bool, retry: str
) -> None:
    workflow = {
        "topics": ["t"],
        "sub_questions": questions,
        "carry_reasoning": carry,
        "max_tokens": {"decompose": 1, "research": 2, "synthesize": 3},
    }
    load = {"workflows": workflows, "in_flight": in_flight}
    sweep = {"mode": ["sync", "async"], "permits": [permits], "retry": [retry]}
    known = of(SecondsRange(1, 2), workflow=workflow, load=load, sweep=sweep)
    assert known.calls <= known.most_attempts
    assert known.usd is not None
    assert known.most_usd is not None
    assert 0 < known.usd < known.most_usd
    assert 0 < known.seconds.low < known.seconds.high
    assert known.seconds.low <= known.calls


def test_every_server_settles_between_its_own_trials() -> None:
    live = {"base_url": "http://127.0.0.1:1", "kind": "openai", "model": "m", "settle": "7s"}
    load = {"workflows": 1}
    once = of(sweep={"mode": ["sync"]}, load=load, endpoint=live).seconds.low
    models = {"mode": ["sync"], "endpoint.model": ["m", "n"]}
    assert of(sweep=models, load=load, endpoint=live).seconds.low == 2 * once + 7
    servers = {"mode": ["sync"], "endpoint.base_url": ["http://127.0.0.1:1", "http://127.0.0.1:2"]}
    assert of(sweep=servers, load=load, endpoint=live).seconds.low == 2 * once
