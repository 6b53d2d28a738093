"""The shipped price list and the calculation of costs."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.config.prices import (
    DailyRates,
    Peak,
    Price,
    SizeTier,
    cost_usd,
    price_text,
    shipped_price,
    worst_usd,
)
from harness.records.schema import Tokens

DEEPSEEK = "https://api.deepseek.com"
PEAK = Peak(factor=2.0, days=("mon",), hours=((1, 4), (6, 10)))
PRICE = Price(input=2.0, cached=0.5, output=8.0, source="made up")


def at(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 10**9


def test_the_list_knows_the_models_of_deepseek_at_its_own_address() -> None:
    flash = shipped_price("deepseek-flash", DEEPSEEK)
    pro = shipped_price("deepseek-v4-pro", f"{DEEPSEEK}/v1")
    assert flash is not None
    assert pro is not None
    assert (flash.cached, flash.input, flash.output) == (0.003, 0.15, 0.60)
    assert (pro.cached, pro.input, pro.output) == (0.022, 0.66, 1.98)
    assert str(flash.date) == "2026-11-15"
    assert flash.source


@pytest.mark.parametrize(
    ("model", "base_url"),
    [
        ("deepseek-flash", "https://openrouter.ai/api/v1"),
        ("deepseek-flash", "https://api.deepseek.com.example.org"),
        ("deepseek-reasoner", DEEPSEEK),
        ("gpt", DEEPSEEK),
    ],
)
def test_a_model_has_no_price_where_the_list_does_not_name_it(model: str, base_url: str) -> None:
    assert shipped_price(model, base_url) is None


@pytest.mark.parametrize(
    ("moment", "factor"),
    [
        ("2026-11-16T00:59:59", 1.0),  # a Monday
        ("2026-11-16T01:00:00", 2.0),
        ("2026-11-16T03:59:59", 2.0),
        ("2026-11-16T04:00:00", 1.0),
        ("2026-11-16T06:00:00", 2.0),
        ("2026-11-16T10:00:00", 1.0),
        ("2026-11-17T02:00:00", 1.0),
        ("2026-11-15T02:00:00", 1.0),
    ],
)
def test_the_peak_begins_and_ends_on_the_hour_and_only_on_its_days(
    moment: str, factor: float
) -> None:
    assert msgspec.structs.replace(PRICE, peak=PEAK).factor(at(moment)) == factor


def test_the_shipped_peak_leaves_the_weekend_out() -> None:
    flash = shipped_price("deepseek-flash", DEEPSEEK)
    assert flash is not None
    assert flash.factor(at("2026-11-20T07:00:00")) == 2.0
    assert flash.factor(at("2026-11-21T07:00:00")) == 1.0


def test_cached_input_is_part_of_the_input_and_has_its_own_price() -> None:
    tokens = Tokens(input=1_000_000, cached=400_000, output=500_000, reasoning=100_000)
    assert cost_usd(PRICE, tokens, 0) == pytest.approx(0.6 * 2.0 + 0.4 * 0.5 + 0.5 * 8.0)


def test_tokens_that_were_not_reported_cost_nothing() -> None:
    assert cost_usd(PRICE, Tokens(), 0) == 0.0
    assert cost_usd(PRICE, Tokens(output=1_000_000), 0) == pytest.approx(8.0)


def test_more_cached_than_read_never_makes_a_cost_negative() -> None:
    assert cost_usd(PRICE, Tokens(input=10, cached=1_000_000), 0) == pytest.approx(10 * 0.5e-6)


COUNT = st.integers(0, 10**7)
FIGURE = st.floats(0, 1000)


@given(FIGURE, FIGURE, FIGURE, COUNT, COUNT, COUNT, st.integers(0, 2 * 10**18))
def test_no_cost_is_above_the_worst_of_its_tokens(
    new: float, cached: float, written: float, read: int, hits: int, output: int, moment: int
) -> None:
    price = Price(input=new, cached=cached, output=written, source="made up", peak=PEAK)
    cost = cost_usd(price, Tokens(input=read, cached=hits, output=output), moment)
    assert 0 <= cost <= worst_usd(price, read, output) * (1 + 1e-12)


VARYING = Price(
    input=2.0,
    cached=0.5,
    output=8.0,
    reasoning=3.0,
    source="made up",
    tiers=(SizeTier(input=4.0, cached=1.0, output=12.0, above=1000),),
    daily=(DailyRates(input=1.0, cached=0.25, output=4.0, start=0, end=90),),
)


@pytest.mark.parametrize(
    ("read", "moment", "usd"),
    [
        # 900 new x 2 + 100 cached x 0.5 + 150 output x 8 + 50 reasoning x 3, per million
        (1000, "2026-11-16T12:00:00", 3200e-6),
        # above 1,000: 901 x 4 + 100 x 1 + 200 x 12
        (1001, "2026-11-16T12:00:00", 6104e-6),
        # before 01:30: 900 x 1 + 100 x 0.25 + 200 x 4
        (1000, "2026-11-16T01:29:59", 1725e-6),
        (1000, "2026-11-16T01:30:00", 3200e-6),
        # those hours have no other size
        (1001, "2026-11-16T00:00:00", 1726e-6),
    ],
)
def test_rates_follow_the_size_of_a_request_and_its_time(
    read: int, moment: str, usd: float
) -> None:
    tokens = Tokens(input=read, cached=100, output=200, reasoning=50)
    assert cost_usd(VARYING, tokens, at(moment)) == pytest.approx(usd, rel=1e-12)


@given(COUNT, COUNT, COUNT, COUNT, st.integers(0, 2 * 10**18))
def test_the_worst_cost_covers_every_size_and_time(
    read: int, hits: int, output: int, thought: int, moment: int
) -> None:
    tokens = Tokens(input=read, cached=hits, output=output, reasoning=thought)
    assert cost_usd(VARYING, tokens, moment) <= worst_usd(VARYING, read, output) * (1 + 1e-12)
    assert worst_usd(VARYING, read, output) <= worst_usd(VARYING, read + 1, output)


def test_a_price_in_words_has_every_size_and_time() -> None:
    assert price_text(VARYING) == (
        "USD per million tokens: 2 input, 0.5 cached, 8 output, 3 reasoning; above 1,000 input "
        "tokens 4 input, 1 cached, 12 output; 00:00 to 01:30 UTC 1 input, 0.25 cached, 4 output "
        "(made up)"
    )


def test_a_price_with_sizes_and_times_comes_back_from_json() -> None:
    plain = msgspec.json.decode(msgspec.json.encode(VARYING.as_dict()))
    assert msgspec.convert(plain, Price) == VARYING


def test_a_price_comes_back_from_json_as_it_was() -> None:
    flash = shipped_price("deepseek-flash", DEEPSEEK)
    assert flash is not None
    plain = msgspec.json.decode(msgspec.json.encode(flash.as_dict()))
    assert msgspec.convert(plain, Price) == flash


@pytest.mark.parametrize("figure", [-1.0, 1e9, float("nan"), float("inf")])
def test_a_figure_that_is_no_price_is_refused(figure: float) -> None:
    plain = {**PRICE.as_dict(), "output": figure}
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(plain, Price)
