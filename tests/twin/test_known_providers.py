"""A fit to runs of providers whose settings are known finds these settings."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace as replace_fields

from harness.config.prices import Price, cost_usd
from harness.records.clock import SECOND
from harness.store.columns import AttemptTable
from harness.store.run_directory import Records
from harness.twin.fit import ProviderFit, fit_observations
from harness.twin.fitted_parts import fitted_parts
from harness.twin.limits_fit import fit_limits
from harness.twin.observations import Observations, observe
from tests.twin.providers import play

SEEDS = (1, 2, 3)
LIMITED: dict[str, Any] = {"permits": (4, 16), "workflows": 20}


def fitted(provider: dict[str, Any], seed: int, **settings: Any) -> ProviderFit:
    return fit_observations(observe([play(provider, seed=seed, **settings)]))


def itl_at(fit: ProviderFit) -> dict[int, float]:
    return dict(zip(fit.pace.requests, fit.pace.itl, strict=True))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_plain_provider_has_its_speed_times_and_lengths_and_no_limit(seed: int) -> None:
    fit = fitted({}, seed)
    assert all(itl == pytest.approx(0.020, rel=0.001) for itl in fit.pace.itl)
    assert fit.pace.chunk == 1
    assert fit.ttft.median == pytest.approx(0.5, rel=0.12)
    assert fit.ttft.sigma == pytest.approx(0.3, abs=0.09)
    assert (fit.ttft.growth, fit.ttft.slots, fit.ttft.per_1k) == ((), None, 0)
    assert fit.pooled.reasoning is not None
    assert fit.pooled.reasoning.median == pytest.approx(120, rel=0.15)
    assert (fit.limits.cap.cap, fit.limits.rate, fit.limits.unexplained) == (None, None, 0)
    assert fit.limits.cap.most == 16
    assert fit.faults.faults == ()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_knee_in_the_pace_is_found_where_it_is(seed: int) -> None:
    points = [(1, "10ms"), (6, "11ms"), (16, "30ms")]
    provider = {"itl_points": [{"requests": n, "itl": itl} for n, itl in points]}
    itl = itl_at(fitted(provider, seed, permits=(1, 4, 16)))
    assert itl[1] == pytest.approx(0.010, rel=0.01)
    assert itl[4] == pytest.approx(0.0104, rel=0.01)
    assert itl[8] == pytest.approx(0.0124, rel=0.03)
    assert itl[16] == pytest.approx(0.030, rel=0.03)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_shared_processor_and_large_chunks_give_the_same_pace(seed: int) -> None:
    itl = itl_at(fitted({"itl_a": "4ms", "itl_b": "2ms"}, seed))
    assert all(one == pytest.approx(0.004 + 0.002 * n, rel=0.01) for n, one in itl.items())
    fit = fitted({"itl_a": "4ms", "itl_b": "2ms", "tokens_per_chunk": 20}, seed)
    assert fit.pace.chunk == 20
    assert all(one == pytest.approx(0.004 + 0.002 * n, rel=0.02) for n, one in itl_at(fit).items())


@pytest.mark.parametrize("seed", SEEDS)
def test_responses_that_come_as_a_whole_tell_pace_and_time_to_first_token_less_sharply(
    seed: int,
) -> None:
    fit = fitted({"itl_b": "1ms"}, seed, permits=(1, 2, 8, 16), stream=False)
    itl = itl_at(fit)
    assert itl[1] == pytest.approx(0.021, rel=0.05)
    assert itl[16] == pytest.approx(0.036, rel=0.05)
    assert fit.ttft.median == pytest.approx(0.5, rel=0.4)
    assert fit.pace.tokens_per_chunk is None


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("more", [{}, {"retry_after": "2s"}])
def test_a_cap_is_the_threshold_of_its_refusals(seed: int, more: dict[str, Any]) -> None:
    limits = fitted({"concurrency_cap": 8, **more}, seed, permits=(4, 16)).limits
    assert (limits.cap.cap, limits.rate, limits.unexplained) == (8, None, 0)
    assert (limits.step, limits.step_hints) == (None, 0)
    assert limits.retry_after.value == (2.0 if more else None)


STEPPED: dict[str, Any] = {"permits": (8, 16, 24), "workflows": 30, "in_flight": 12}


def stepped(before: int | None, after: int, at: str = "45s", **more: Any) -> dict[str, Any]:
    """Return a provider whose cap changes."""
    provider = {"cap_steps": [{"at": at, "cap": after}], **more}
    return provider if before is None else provider | {"concurrency_cap": before}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("before", "after"), [(16, 4), (4, 16), (None, 5), (5, None)])
def test_a_cap_that_changes_is_found_with_its_moment(
    seed: int, before: int | None, after: int | None
) -> None:
    fit = fitted(stepped(before, after or 1000), seed, **STEPPED)
    limits, step = fit.limits, fit.limits.step
    assert step is not None
    assert (step.before, step.after, step.at) == (before, after, 45)
    assert step.earliest < 45 <= step.latest < step.earliest + 3
    assert (limits.cap.cap, limits.rate, limits.unexplained) == (before, None, 0)
    assert fit.faults.faults == ()
    part = next(one for one in fitted_parts(fit) if one.name == "concurrency cap")
    cap_after = 1_000_000 if after is None else after
    assert part.keys["cap_steps"] == f'[{{ at = "45s", cap = {cap_after} }}]'
    assert part.keys.get("concurrency_cap") == (None if before is None else str(before))
    assert any("above 24" in text for text in part.unknown) == (None in (before, after))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "more",
    [
        {"requests_per_minute": 80, "burst": "10s", "retry_after": "exact"},
        {"faults": [{"kind": "rate_limited", "probability": 0.03}]},
    ],
)
def test_a_cap_that_changes_is_found_beside_other_refusals(seed: int, more: dict[str, Any]) -> None:
    limits = fitted(stepped(12, 4, **more), seed, **STEPPED).limits
    assert limits.step is not None
    assert (limits.step.after, limits.step.at) == (4, 45)
    if "faults" in more:
        assert 0 < limits.unexplained < 60
    else:
        assert limits.rate is not None
        assert limits.rate.amount == pytest.approx(80, rel=0.03)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("before", "after"), [(16, 4), (4, 16)])
def test_a_cap_that_changes_is_found_by_a_client_that_sees_all_late(
    seed: int, before: int, after: int
) -> None:
    seen = observe([play(stepped(before, after), seed=seed, **STEPPED)])
    random = np.random.default_rng(seed)
    early, late = 0.02 * (0.5 + random.exponential(size=(2, len(seen))))
    last = seen.last_token + late
    done = np.fmax(seen.done + late, last)
    step = fit_limits(replace(seen, sent=seen.sent - early, last_token=last, done=done)).step
    assert step is not None
    assert (step.before, step.after) == (before, after)
    assert step.at == pytest.approx(45, abs=1)


def busy(provider: dict[str, Any], seed: int) -> tuple[Observations, Observations]:
    """Return what a busy client sees, without and with its lag: that of its timers."""
    seen = observe([play(provider, seed=seed, permits=(4, 7, 12), workflows=30)])
    usual = float(np.median((seen.served_until - seen.sent)[seen.ok]))
    late = np.random.default_rng(seed).exponential(0.1 * usual, len(seen))
    moved = replace(seen, last_token=seen.last_token + late, done=seen.done + late)
    return moved, replace(moved, client_lag=np.full(len(seen), np.quantile(late, 0.95)))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_cap_is_found_by_a_client_that_is_busy(seed: int) -> None:
    unaware, aware = busy({"concurrency_cap": 6}, seed)
    assert fit_limits(unaware).cap.cap == 7
    limits = fit_limits(aware)
    assert (limits.cap.cap, limits.step, limits.rate) == (6, None, None)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_busy_client_finds_no_cap_in_refusals_by_chance(seed: int) -> None:
    _, aware = busy({"faults": [{"kind": "rate_limited", "probability": 0.4}]}, seed)
    limits = fit_limits(aware)
    assert (limits.cap.cap, limits.step) == (None, None)


def test_the_lag_of_a_client_is_that_of_its_timers_in_scenario_seconds() -> None:
    known = play({}, workflows=2)
    slow = [replace_fields(one, loop_lag={0: 90, SECOND // 100: 10}) for one in known.trials]
    run = replace_fields(known.run, time_scale=0.5)
    seen = observe([known._replace(run=run, trials=slow)])
    assert seen.client_lag == pytest.approx(np.full(len(seen), 0.02), rel=0.01)
    assert observe([known]).client_lag.max() == 0


def test_a_cap_that_changes_is_found_among_many_more_refusals() -> None:
    many = {"permits": (48, 64), "workflows": 150, "in_flight": 64}
    limits = fitted(stepped(40, 10, "10s"), 1, **many).limits
    assert limits.step is not None
    assert (limits.step.before, limits.step.after, limits.step.at) == (40, 10, 10)
    assert limits.step.refused > 6000  # and 921 admissions


@pytest.mark.parametrize("times", [("45s",), ("25s", "45s", "65s")])
def test_a_change_of_the_cap_in_one_trial_or_at_other_times_cannot_be_told(
    times: tuple[str, ...],
) -> None:
    one = {**STEPPED, "permits": (24,)}
    fit = fit_observations(observe([play(stepped(16, 4, at), seed=1, **one) for at in times]))
    assert (fit.limits.cap.cap, fit.limits.step) == (16, None)
    assert 1 <= fit.limits.step_hints <= len(times)
    part = next(one for one in fitted_parts(fit) if one.name == "concurrency cap")
    assert part.keys == {"concurrency_cap": "16"}
    assert part.unknown[0].startswith("whether the cap changes: ")


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("provider", "kind", "amount", "burst"),
    [
        ({"requests_per_minute": 60, "burst": "5s", "retry_after": "exact"}, "requests", 60, 5),
        ({"requests_per_minute": 43}, "requests", 43, 60),
        ({"requests_per_minute": 60, "burst": "10s", "rejected_count": True},
         "rejected_count", 60, 10),
        ({"tokens_per_minute": 12_000, "burst": "10s", "retry_after": "exact"},
         "used", 12_000, 10),
    ],
)  # fmt: skip
def test_a_rate_is_found_with_its_kind_and_its_burst(
    seed: int, provider: dict[str, Any], kind: str, amount: float, burst: float
) -> None:
    limits = fitted(provider, seed, **LIMITED).limits
    assert (limits.cap.cap, limits.step, limits.step_hints) == (None, None, 0)
    assert limits.rate is not None
    assert (limits.rate.kind, limits.rate.burst) == (kind, burst)
    assert limits.rate.amount == pytest.approx(amount, rel=0.03)
    assert limits.retry_after.value == provider.get("retry_after")


def test_reserved_tokens_are_told_from_used_ones() -> None:
    provider = {"tokens_per_minute": 60_000, "tokens_counted": "reserved", "burst": "10s"}
    limit = "max_tokens = { decompose = 1000, research = 1500, synthesize = 2000 }"
    rate = fitted(provider, 1, workflow=limit, **LIMITED).limits.rate
    assert rate is not None
    assert (rate.kind, rate.burst) == ("reserved", 10)
    assert rate.amount == pytest.approx(60_000, rel=0.01)


def test_a_cap_and_a_rate_are_found_beside_each_other() -> None:
    provider = {
        "concurrency_cap": 6, "requests_per_minute": 50, "burst": "10s", "retry_after": "exact",
    }  # fmt: skip
    limits = fitted(provider, 2, permits=(2, 16), workflows=20).limits
    assert limits.rate is not None
    assert (limits.cap.cap, limits.rate.kind, limits.rate.burst) == (6, "requests", 10)
    assert limits.rate.amount == pytest.approx(50, rel=0.03)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_cap_and_a_rate_are_found_where_no_refusal_says_which_it_met(seed: int) -> None:
    provider = {"concurrency_cap": 6, "requests_per_minute": 50, "burst": "10s"}
    limits = fitted(provider, seed, permits=(2, 16), workflows=20).limits
    assert limits.rate is not None
    assert (limits.cap.cap, limits.rate.kind, limits.rate.burst) == (6, "requests", 10)
    assert limits.rate.amount == pytest.approx(50, rel=0.03)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_rate_stands_for_a_cap_that_changes_in_one_trial(seed: int) -> None:
    limits = fitted(stepped(12, 4), seed, **{**STEPPED, "permits": (24,)}).limits
    assert (limits.cap.cap, limits.step, limits.step_hints, limits.rate) == (12, None, 1, None)


def killed(records: Records, share: float, *, is_known: bool) -> Records:
    """Return what a run leaves that was killed after a share of its first trial.

    It was resumed then. `is_known`: that trial has no record, as it never ended.
    """
    first = min(records.trials, key=lambda one: one.start)
    until = first.start + share * (first.end - first.start)

    trials = [one for one in records.trials if not is_known or one is not first]
    table = records.attempts
    assert isinstance(table, AttemptTable)
    others = ~table.where("cell", first.cell.__eq__) | (table.column("repeat") != first.repeat)
    return records._replace(
        attempts=table.take(others | (table.column("done") <= until)), trials=trials
    )


@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize("seed", SEEDS)
def test_what_was_in_flight_when_a_run_was_killed_makes_no_limit_a_minute(
    seed: int, *, is_known: bool
) -> None:
    """Refusals by requests that no record has are no evidence, and other trials contradict it."""
    records = play({"concurrency_cap": 6}, seed=seed, permits=(4, 8, 12), workflows=16)
    for share in (0.3, 0.5, 0.7):
        seen = observe([killed(records, share, is_known=is_known)])
        limits = fit_observations(seen).limits
        assert (limits.cap.cap, limits.step, limits.rate) == (6, None, None)
        if is_known:
            assert limits.unexplained == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_a_small_bucket_of_reserved_tokens_is_no_cap(seed: int) -> None:
    provider = {"tokens_per_minute": 60_000, "tokens_counted": "reserved", "burst": "10s"}
    limit = "max_tokens = { decompose = 1000, research = 1500, synthesize = 2000 }"
    many = {"permits": (16, 24), "workflows": 20, "in_flight": 12, "workflow": limit}
    limits = fitted(provider, seed, **many).limits
    assert limits.rate is not None
    assert (limits.cap.cap, limits.rate.kind, limits.rate.burst) == (None, "reserved", 10)
    assert limits.rate.amount == pytest.approx(60_000, rel=0.03)


BUSY: dict[str, Any] = {"permits": (2, 24), "workflows": 20, "in_flight": 12}


@pytest.mark.parametrize("seed", SEEDS)
def test_slots_are_a_queue_and_not_a_slow_first_token(seed: int) -> None:
    ttft = fitted({"slots": 5}, seed).ttft
    assert (ttft.slots, ttft.growth) == (5, ())
    assert ttft.median == pytest.approx(0.5, rel=0.15)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("slots", "median", "sigma"), [(4, "2s", 0.8), (16, "500ms", 0.8)])
def test_slots_are_found_beside_times_to_first_token_that_vary_more(
    seed: int, slots: int, median: str, sigma: float
) -> None:
    provider = {"slots": slots, "ttft": {"median": median, "sigma": sigma}}
    assert fitted(provider, seed, **BUSY).ttft.slots == slots


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("key", ["growth", "growth_in_service"])
def test_growth_with_the_load_is_no_queue(seed: int, key: str) -> None:
    growth = [{"requests": 1, "factor": 1}, {"requests": 8, "factor": 4}]
    provider = {"itl_a": "2ms", "ttft": {"median": "2s", "sigma": 0.1, key: growth}}
    ttft = fitted(provider, seed, **{**BUSY, "permits": (2, 8, 16)}).ttft
    assert ttft.slots is None
    assert ttft.growth or ttft.growth_in_service


@pytest.mark.parametrize("seed", SEEDS)
def test_the_time_to_first_token_grows_with_prompt_and_load(seed: int) -> None:
    growth = [{"requests": 1, "factor": 1}, {"requests": 16, "factor": 4}]
    ttft = {"median": "2s", "sigma": 0.2, "growth": growth}
    fit = fitted({"ttft": ttft}, seed, permits=(1, 4, 16), workflows=40).ttft
    factors = dict(fit.growth)
    assert fit.slots is None
    assert fit.median * factors[4] == pytest.approx(3.2, rel=0.15)
    assert fit.median * factors[12] == pytest.approx(6.4, rel=0.2)
    ttft = {"median": "200ms", "sigma": 0.2, "per_1k_input_tokens": "2s"}
    fit = fitted({"ttft": ttft}, seed).ttft
    assert fit.per_1k == pytest.approx(2.0, rel=0.05)
    assert fit.median == pytest.approx(0.2, rel=0.1)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"concurrency_cap": 6, "retry_after": "2s"},
        {"faults": [{"kind": "reset_in_body", "probability": 0.1}]},
    ],
)
def test_the_time_of_connecting_is_found_from_those_without_an_idle_connection(
    seed: int, more: dict[str, Any]
) -> None:
    fit = fitted({"connect": "150ms", **more}, seed)
    connect = fit.connect
    assert connect.seconds == pytest.approx(0.15)
    assert (connect.low, connect.high, connect.own) == pytest.approx((0.15, 0.15, 0), abs=1e-9)
    assert connect.opened >= (18 if "concurrency_cap" not in more else 6)
    assert connect.reused > 100
    assert fit.ttft.median == pytest.approx(0.5, rel=0.15)
    part = next(one for one in fitted_parts(fit) if one.name == "connecting")
    assert part.keys == {"connect": '"150ms"'}


def test_no_time_of_connecting_is_found_where_there_is_none_or_nobody_connects() -> None:
    fit = fitted({}, 1)
    assert (fit.connect.seconds, fit.connect.opened) == (None, 18)
    part = next(one for one in fitted_parts(fit) if one.name == "connecting")
    assert (part.keys, part.unknown) == ({}, ("connect: below 1 ms",))
    assert fitted({"connect": "150ms"}, 1, permits=(2,)).connect.seconds is None


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_cached_share_of_the_input_is_found_and_has_its_price(seed: int, share: float) -> None:
    records = play({"cached_share": share}, seed=seed)
    cache = fit_observations(observe([records])).cache
    assert cache.share == pytest.approx(share, abs=0.005)
    assert (cache.attempts, cache.silent) == (len(records.attempts), 0)
    price = Price(input=1000.0, cached=100.0, output=0.0, source="made up")
    paid = sum(cost_usd(price, one.tokens, 0) for one in records.attempts)
    assert paid == pytest.approx(cache.input * (1 - 0.9 * share) / 1000, rel=0.005)


PHASES = {
    "synthesize": {"answer_tokens": {"median": 400, "sigma": 0.3}},
    "research": {"answer_tokens": {"median": 150, "sigma": 0.3, "topic_sigma": 0.4}},
}


@pytest.mark.parametrize("seed", SEEDS)
def test_phases_have_their_own_lengths_and_topics_their_share(seed: int) -> None:
    fit = fitted({"phases": PHASES}, seed, permits=(8,), workflows=80, topics=80)
    lengths = {one.setting: one for one in fit.lengths}
    research, synthesize = lengths["research"].answer, lengths["synthesize"].answer
    assert research.median == pytest.approx(150, rel=0.12)
    assert research.sigma == pytest.approx(0.3, abs=0.04)
    assert research.topic_sigma == pytest.approx(0.4, abs=0.1)
    assert synthesize.median == pytest.approx(400, rel=0.1)
    assert synthesize.topic_sigma is None
    assert synthesize.sigma == pytest.approx(0.3, abs=0.07)


@pytest.mark.parametrize("seed", SEEDS)
def test_lengths_that_max_tokens_cut_are_counted_as_longer(seed: int) -> None:
    limit = "max_tokens = { decompose = 5000, research = 220, synthesize = 5000 }"
    fit = fitted({}, seed, permits=(8,), workflows=60, topics=60, workflow=limit)
    research = next(one for one in fit.lengths if one.setting == "research")
    assert research.reasoning is not None
    assert research.answer.cut > 30
    assert research.answer.median == pytest.approx(80, rel=0.1)
    total = math.hypot(research.answer.sigma, research.answer.topic_sigma or 0)
    assert total == pytest.approx(0.4, abs=0.08)
    assert fit.faults.faults == ()


@pytest.mark.parametrize("seed", SEEDS)
def test_faults_are_told_from_bursts_of_faults(seed: int) -> None:
    faults = [
        {"kind": "server_error", "probability": 0.1},
        {"kind": "unavailable", "burst": {"on": "5s", "off": "40s"}, "probability": 0.8},
    ]
    fit = fitted({"faults": faults}, seed, permits=(8,), workflows=400, topics=12)
    found = {fault.kind: fault for fault in fit.faults.faults}
    assert found.keys() == {"server_error", "unavailable"}
    assert found["server_error"].burst is None
    assert found["server_error"].share == pytest.approx(0.1, abs=0.025)
    bursts = found["unavailable"]
    assert bursts.burst is not None
    assert bursts.share == pytest.approx(0.8, abs=0.12)
    assert bursts.burst.on == pytest.approx(5, rel=0.5)
    assert bursts.burst.off == pytest.approx(40, rel=0.5)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", ["server_error", "reset_in_body"])
def test_the_share_of_a_fault_is_that_of_the_requests_that_it_could_strike(
    seed: int, kind: str
) -> None:
    provider = {"concurrency_cap": 6, "faults": [{"kind": kind, "probability": 0.1}]}
    fit = fitted(provider, seed, permits=(16,), workflows=100, topics=100)
    (fault,) = fit.faults.faults
    refused = fit.limits.cap.refused
    assert refused > 200
    # The simulated provider draws a fault before it asks the cap.
    assert fault.of == fit.attempts - (refused if kind == "reset_in_body" else 0)
    assert fault.share == pytest.approx(0.1, abs=0.03)
