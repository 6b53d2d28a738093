"""What is let in, against the definition of each limit in exact numbers."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from harness.simulator import limits
from harness.simulator.limits import CapChange, ProviderLimits, ProviderRefusal, Rate

MINUTE = 60_000_000_000
rates = st.builds(
    Rate,
    amount=st.integers(1, 5_000),
    period=st.integers(1, 10_000),
    capacity=st.integers(1, 300),
)
arrivals = st.lists(st.tuples(st.integers(0, 200), st.integers(1, 80)), min_size=1, max_size=60)
"""(nanoseconds since the one before, how much is asked for)"""


def ask(
    rate: Rate, asked: Sequence[tuple[int, int]], what: str = "tokens"
) -> list[tuple[int, int, ProviderRefusal | None]]:
    """Return (moment, amount, refusal) of each arrival at a limiter of one rate."""
    of = ProviderLimits(requests=rate) if what == "requests" else ProviderLimits(tokens=rate)
    levels, now, out = limits.fresh(of, 0), 0, []
    for gap, amount in asked:
        now += gap
        levels, refusal = limits.admit_request(of, levels, now, now, 0, amount)
        out.append((now, 1 if what == "requests" else amount, refusal))
    return out


@given(rates, arrivals, st.sampled_from(["requests", "tokens"]))
def test_no_window_whatever_gets_more_than_the_rate_and_what_was_saved_up(
    rate: Rate, asked: list[tuple[int, int]], what: str
) -> None:
    let_in = [(at, amount) for at, amount, no in ask(rate, asked, what) if no is None]
    for first, (begin, _) in enumerate(let_in):
        total = 0
        for end, amount in let_in[first:]:
            total += amount
            assert total <= rate.capacity + Fraction(rate.amount * (end - begin), rate.period)


@given(rates, arrivals, st.sampled_from(["requests", "tokens"]))
def test_nothing_is_refused_that_the_rate_has_room_for(
    rate: Rate, asked: list[tuple[int, int]], what: str
) -> None:
    """Against a token bucket in exact fractions."""
    level, before = Fraction(rate.capacity), 0
    for at, amount, refusal in ask(rate, asked, what):
        level += Fraction(rate.amount * (at - before), rate.period)
        level = min(level, Fraction(rate.capacity))
        before = at
        assert (refusal is None) == (level >= amount)
        if refusal is None:
            level -= amount


@given(rates, arrivals)
def test_who_comes_back_when_told_gets_in_and_a_nanosecond_sooner_does_not(
    rate: Rate, asked: list[tuple[int, int]]
) -> None:
    of = ProviderLimits(tokens=rate)
    levels, now = limits.fresh(of, 0), 0
    for gap, amount in asked:
        now += gap
        levels, refusal = limits.admit_request(of, levels, now, now, 0, amount)
        if refusal is None:
            continue
        assert refusal.reason == "tokens"
        assert (refusal.wait is None) == (amount > rate.capacity)
        if refusal.wait is not None:
            soon, then = now + refusal.wait - 1, now + refusal.wait
            assert limits.admit_request(of, levels, soon, soon, 0, amount)[1] is not None
            assert limits.admit_request(of, levels, then, then, 0, amount)[1] is None


@given(st.integers(1, 2_000), st.integers(1, 120), st.integers(MINUTE // 1000, MINUTE), st.data())
def test_a_client_that_never_stops_asking_gets_exactly_the_rate_in_any_window(
    amount: int, capacity: int, length: int, data: st.DataObject
) -> None:
    """Once what was saved up is spent, a window of any length has its share, but for one."""
    rate = Rate(amount, MINUTE, capacity)
    of, now = ProviderLimits(requests=rate), 0
    let_in: list[int] = []
    levels = limits.fresh(of, 0)
    while len(let_in) < capacity + 200:
        levels, refusal = limits.admit_request(of, levels, now, now, 0, 0)
        if refusal is None:
            let_in.append(now)
        else:
            assert refusal.wait is not None
            now += refusal.wait
    spent = let_in[capacity - 1 :]
    begin = data.draw(st.integers(spent[0], max(spent[0], spent[-1] - length)))
    assume(begin + length <= spent[-1])
    inside = sum(begin < at <= begin + length for at in spent)
    assert abs(inside - Fraction(amount * length, MINUTE)) < 1 + Fraction(1, 1000)


def test_the_cap_steps_with_time() -> None:
    of = ProviderLimits(cap=8, steps=[CapChange(100, 2), CapChange(200, 16)])
    assert [limits.cap_at(of, at) for at in (0, 99, 100, 199, 200, 10**9)] == [8, 8, 2, 2, 16, 16]
    assert limits.cap_at(ProviderLimits(steps=[CapChange(100, 2)]), 99) is None


@given(st.integers(0, 20), st.integers(0, 400))
def test_the_cap_lets_in_whoever_finds_a_place_free(active: int, at: int) -> None:
    of = ProviderLimits(cap=8, steps=[CapChange(100, 2), CapChange(200, 16)])
    cap = 8 if at < 100 else 2 if at < 200 else 16
    _, refusal = limits.admit_request(of, {}, at, at, active, 1)
    assert refusal == (None if active < cap else ProviderRefusal("concurrency", None))


def let_in_of(of: ProviderLimits, moments: Sequence[int]) -> int:
    levels, count = limits.fresh(of, 0), 0
    for now in moments:
        levels, refusal = limits.admit_request(of, levels, now, now, 0, 1)
        count += refusal is None
    return count


def test_where_rejections_count_asking_again_and_again_does_not_help() -> None:
    """Sixty a minute, of which one is saved up: whoever asks every half second gets the first."""
    rate = Rate(60, MINUTE, 1)
    every_half_second = range(0, MINUTE, MINUTE // 120)
    assert let_in_of(ProviderLimits(requests=rate), every_half_second) == 60
    assert let_in_of(ProviderLimits(requests=rate, rejected_count=True), every_half_second) == 1
    every_second = range(0, MINUTE, MINUTE // 60)
    assert let_in_of(ProviderLimits(requests=rate, rejected_count=True), every_second) == 60


@given(rates, rates, arrivals, st.booleans())
def test_a_request_takes_from_all_limits_or_from_none(
    requests: Rate, tokens: Rate, asked: list[tuple[int, int]], full_house: bool
) -> None:
    of = ProviderLimits(cap=1, requests=requests, tokens=tokens)
    levels, now = limits.fresh(of, 0), 0
    for gap, amount in asked:
        now += gap
        untouched = {reason: bucket.refilled(now) for reason, bucket in levels.items()}
        levels, refusal = limits.admit_request(of, levels, now, now, int(full_house), amount)
        assert refusal is None or levels == untouched
        assert not (full_house and refusal is None)
        if refusal is None:
            assert levels["requests"] != untouched["requests"]
            assert levels["tokens"] != untouched["tokens"]


def test_tokens_that_were_not_counted_beforehand_are_paid_for_by_those_who_come_later() -> None:
    of = ProviderLimits(tokens=Rate(60, MINUTE, 60))
    levels, refusal = limits.admit_request(of, limits.fresh(of, 0), 0, 0, 0, 10)
    assert refusal is None
    levels = limits.charge(levels, 0, 80)  # 30 below empty
    _, refusal = limits.admit_request(of, levels, 0, 0, 0, 1)
    assert refusal == ProviderRefusal("tokens", 31 * MINUTE // 60)


@pytest.mark.parametrize("of", [ProviderLimits(), ProviderLimits(requests=Rate(1, 1, 1))])
def test_without_a_limit_on_tokens_nothing_is_charged(of: ProviderLimits) -> None:
    levels = limits.fresh(of, 0)
    assert limits.charge(levels, 5, 10**9) == levels
