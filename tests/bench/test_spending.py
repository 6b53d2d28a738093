"""What attempts are reckoned to cost, before they go out and after they came back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from harness.bench.scenario import Scenario
from harness.bench.scenario_file import parse_scenario
from harness.bench.spending import TokenMeter, explain, limits_of, most_input_tokens
from harness.config.toml_text import toml_document
from harness.engine.effects import Deadlines, Message, Request, Send
from harness.engine.ledger import NANO, Amount, BudgetLimits, BudgetRefusal, Ledger
from harness.records.clock import SECOND, Anchor
from harness.records.keys import CallKey
from harness.records.schema import Tokens
from tests.engine.scripted import WORKFLOW, Says, reply

PEAK = 1_795_485_600 * SECOND  # Tuesday, 2026-11-24, 02:00 UTC
HOUR = 3600 * SECOND
ANCHOR = Anchor(unix_ns=PEAK, monotonic_ns=0)
DEEPSEEK = {"kind": "openai", "base_url": "https://api.deepseek.com", "model": "deepseek-flash"}
LIMITED = {"topics": ["t"], "max_tokens": {"decompose": 9, "research": 9, "synthesize": 9}}


def made(**sections: object) -> Scenario:
    base: dict[str, object] = {"name": "made", "workflow": LIMITED, "endpoint": DEEPSEEK}
    return parse_scenario(toml_document({**base, **sections}), "made.toml")


def asked(*contents: str, most: int | None = 1000) -> Send:
    request = Request(tuple(Message("user", content) for content in contents), max_tokens=most)
    key = CallKey(*WORKFLOW, "fan_out", 0, 1)
    return Send(key, 1, request, Deadlines(1, 1, 1, 1, "call_timeout"))


def test_limits_are_in_real_seconds_and_whole_billionths() -> None:
    scaled = {"time_scale": 0.1, "price": {"input": 1, "output": 1}}
    budget = {"usd": 0.1, "attempts": 3, "tokens": 4, "seconds": "5m"}
    assert limits_of(made(endpoint=scaled, budget=budget)) == BudgetLimits(3, 4, NANO // 10, 30.0)
    assert limits_of(made()) == BudgetLimits()


@given(st.lists(st.text(), min_size=1))
def test_no_tokenizer_of_bytes_makes_more_tokens_than_are_reserved(contents: list[str]) -> None:
    request = asked(*contents).request
    told = sum(len(content.encode(errors="replace")) for content in contents)
    assert most_input_tokens(request) >= told + 10 * len(contents)


def test_the_worst_case_has_every_token_at_the_hour_that_costs_most() -> None:
    meter = TokenMeter(made(), ANCHOR)
    worst = meter.worst(asked("why?"))
    read = most_input_tokens(asked("why?").request) + len("{}") * 4
    assert worst.attempts == 1
    assert worst.tokens == read + 1000
    assert worst.nano_usd == pytest.approx((read * 150 + 1000 * 600) * 2, abs=1)


def test_what_is_added_to_the_body_is_reserved_too() -> None:
    plain = TokenMeter(made(), ANCHOR).worst(asked("why?"))
    schema = {"response_format": {"type": "json_schema", "padding": "x" * 500}}
    added = TokenMeter(made(endpoint={**DEEPSEEK, "extra_body": schema}), ANCHOR)
    assert added.worst(asked("why?")).tokens >= plain.tokens + 500


@given(
    st.integers(0, 10_000), st.integers(0, 1000), st.integers(0, 10_000), st.integers(0, 24 * 14)
)
def test_what_was_used_is_never_more_than_the_worst_case(
    read: int, written: int, cached: int, hours: int
) -> None:
    meter = TokenMeter(made(), ANCHOR)
    worst = meter.worst(asked("x" * 10_000))
    tokens = Tokens(input=read, output=written, cached=cached)
    used = meter.used(worst, reply(Says(tokens=tokens), hours * HOUR))
    assert used.tokens == read + written <= worst.tokens
    assert used.nano_usd <= worst.nano_usd


def test_an_answer_that_crosses_into_the_peak_is_reckoned_at_the_peak() -> None:
    meter = TokenMeter(made(), Anchor(unix_ns=PEAK - HOUR - SECOND, monotonic_ns=0))
    tokens = Tokens(input=1_000_000, output=0)
    outside = meter.used(Amount(), reply(Says(tokens=tokens, takes=5), 0))
    across = meter.used(Amount(), reply(Says(tokens=tokens, takes=2 * SECOND), 0))
    assert outside.nano_usd == 150_000_000
    assert across.nano_usd == 300_000_000


@pytest.mark.parametrize("status", [400, 401, 429, 500, 503])
def test_an_attempt_that_was_refused_used_nothing(status: int) -> None:
    meter = TokenMeter(made(), ANCHOR)
    worst = meter.worst(asked("why?"))
    says = Says("server_error", status=status, tokens=Tokens())
    assert meter.used(worst, reply(says, 0)) == Amount(1)


def test_an_attempt_that_never_went_out_used_nothing() -> None:
    meter = TokenMeter(made(), ANCHOR)
    worst = meter.worst(asked("why?"))
    unsent = replace(reply(Says("connect_failed", status=None, tokens=Tokens()), 0), sent=None)
    assert meter.used(worst, unsent) == Amount(1)


@pytest.mark.parametrize(
    "tokens", [Tokens(), Tokens(input=5), Tokens(output=5)], ids=["none", "no output", "no input"]
)
def test_an_attempt_whose_use_is_not_known_counts_as_its_worst_case(tokens: Tokens) -> None:
    """It may have been cut off after the model had written all it was allowed to."""
    meter = TokenMeter(made(), ANCHOR)
    worst = meter.worst(asked("why?"))
    cut = reply(Says("connection_lost", tokens=tokens), 0)
    assert meter.used(worst, cut) == worst


def test_text_beyond_the_worst_case_counts_although_no_usage_can_be_believed() -> None:
    """A server that ignores max_tokens and reports nothing, or nonsense."""
    meter = TokenMeter(made(), ANCHOR)
    worst = meter.worst(asked("why?", most=10))
    long = replace(reply(Says(tokens=Tokens()), 0), answer="word" * 5000)
    used = meter.used(worst, long)
    assert used.tokens >= 5000 > worst.tokens
    assert used.nano_usd > worst.nano_usd


def test_the_worst_case_grows_once_a_server_has_exceeded_it() -> None:
    meter = TokenMeter(made(), ANCHOR)
    worst = meter.worst(asked("why?", most=10))
    reported = reply(Says(tokens=Tokens(input=10, output=7000)), 0)
    used = meter.used(worst, reported)
    assert used.tokens == 7010
    assert meter.worst(asked("why?", most=10)).tokens >= used.tokens
    assert meter.worst(asked("why?", most=10)).nano_usd >= used.nano_usd


def test_without_a_price_tokens_are_counted_and_money_is_not() -> None:
    meter = TokenMeter(made(endpoint={"kind": "simulated"}), ANCHOR)
    worst = meter.worst(asked("why?"))
    assert worst.nano_usd == 0
    assert worst.tokens > 1000
    assert meter.used(worst, reply(Says(), 0)) == Amount(1, 30, 0)


def test_the_line_names_the_budget_and_what_was_spent() -> None:
    budget = {"usd": 0.5, "attempts": 50, "seconds": 60}
    scenario = made(budget=budget)
    ledger = Ledger(limits_of(scenario), spent=Amount(42, 90_000, 487_312_345))
    assert explain(BudgetRefusal("usd"), scenario, ledger) == (
        "budget.usd = 0.5 leaves no room for another attempt; "
        "spent: 42 attempts, 90000 tokens, 0.4873 USD"
    )
    assert explain(BudgetRefusal("seconds"), scenario, ledger).startswith(
        "budget.seconds = 60 is used up;"
    )
    counted = made(budget={"attempts": 42})
    ledger = Ledger(limits_of(counted), spent=Amount(42, 90_000, 0))
    assert explain(BudgetRefusal("attempts"), counted, ledger).endswith("; spent: 42 attempts")
