"""When faults strike."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.config.faults import KINDS, Fault
from harness.records.clock import SECOND
from harness.records.failures import FAILURES
from harness.simulator.draws import Draws
from harness.simulator.plan import Chain, FaultPlan, Strike, Windows


def plan(*faults: dict[str, Any], seed: int = 1, nanoseconds: float = SECOND) -> FaultPlan:
    return FaultPlan([Fault.model_validate(fault) for fault in faults], seed, nanoseconds)


def strike(
    made: FaultPlan,
    number: int = 0,
    *,
    seed: int = 1,
    repeat: int = 0,
    arrival: int = 1,
    elapsed: int = 0,
    phase: str | None = "research",
    stream: bool = True,
) -> str | None:
    draws = Draws(seed, repeat, f"prompt {number}".encode())
    struck = made.strike(elapsed, repeat, phase, stream, draws, arrival)
    return None if struck is None else struck.kind.name


def is_share(count: int, of: int, share: float) -> bool:
    """Whether a count is within five standard deviations of what it must be on average."""
    return abs(count - of * share) <= 5 * math.sqrt(of * share * (1 - share))


def test_every_fault_comes_to_a_known_class_and_every_status_has_its_own() -> None:
    for kind in KINDS.values():
        assert kind.outcome in FAILURES
    statuses = [kind.status for kind in KINDS.values() if kind.status is not None]
    assert statuses == [400, 401, 402, 403, 404, 408, 409, 422, 429, 500, 502, 503, 504]


def test_a_fault_strikes_as_often_as_its_probability_says() -> None:
    made = plan({"kind": "unavailable", "probability": 0.05})
    struck = sum(strike(made, number) is not None for number in range(20_000))
    assert is_share(struck, 20_000, 0.05)


def test_a_fault_may_spare_the_later_arrivals_of_a_prompt() -> None:
    made = plan({"kind": "unavailable", "arrivals": 2})
    for number in range(3):
        assert strike(made, number, arrival=1) == strike(made, number, arrival=2) == "unavailable"
        assert strike(made, number, arrival=3) is None
    some = plan({"kind": "unavailable", "arrivals": 1, "probability": 0.5})
    struck = sum(strike(some, number) is not None for number in range(2000))
    assert is_share(struck, 2000, 0.5)
    assert all(strike(some, number, arrival=2) is None for number in range(100))


def test_the_first_table_that_strikes_wins_and_each_draws_for_itself() -> None:
    made = plan(
        {"kind": "unavailable", "probability": 0.2},
        {"kind": "silent", "probability": 0.5},
    )
    struck = [strike(made, number) for number in range(10_000)]
    assert is_share(struck.count("unavailable"), 10_000, 0.2)
    assert is_share(struck.count("silent"), 10_000, 0.8 * 0.5)


def test_two_tables_of_one_kind_strike_independently() -> None:
    half = {"kind": "unavailable", "probability": 0.5}
    struck = sum(strike(plan(half, half), number) is not None for number in range(4_000))
    assert is_share(struck, 4_000, 0.75)


def test_another_table_changes_nothing_about_whom_the_others_strike() -> None:
    half = {"kind": "unavailable", "probability": 0.5}
    alone, beside = plan(half), plan({"kind": "silent", "probability": 0.3}, half)
    for number in range(200):
        both = strike(beside, number)
        assert both in ("silent", strike(alone, number))


@given(st.permutations(range(12)))
def test_whom_a_fault_strikes_does_not_depend_on_the_order_of_arrivals(order: list[int]) -> None:
    half = {"kind": "unavailable", "probability": 0.5}
    made = plan(half)
    struck = {number: strike(made, number) for number in order}
    assert struck == {number: strike(plan(half), number) for number in range(12)}


def test_seed_repeat_prompt_and_arrival_each_make_another_draw() -> None:
    made = plan({"kind": "unavailable", "probability": 0.5})

    def pattern(seed: int = 1, repeat: int = 0, arrival: int = 1) -> list[str | None]:
        which = range(64)
        return [strike(made, n, seed=seed, repeat=repeat, arrival=arrival) for n in which]

    patterns = [pattern(), pattern(seed=2), pattern(repeat=1), pattern(arrival=2)]
    assert all(one != other for one, other in itertools.combinations(patterns, 2))
    assert pattern() == patterns[0]


def test_a_fault_leaves_other_phases_alone_and_requests_that_are_no_streams() -> None:
    made = plan(
        {"kind": "unavailable", "probability": 1, "phases": ["synthesize"]},
        {"kind": "stall", "probability": 1},
    )
    assert strike(made, phase="synthesize") == "unavailable"
    assert strike(made, phase="research") == "stall"
    assert strike(made, phase="decompose", stream=False) is None
    assert strike(made, phase=None) == "stall"


def test_what_a_fault_says_of_time_is_in_the_nanoseconds_of_the_simulation() -> None:
    made = plan(
        {"kind": "rate_limited", "probability": 1, "retry_after": "2s", "after": "1s"},
        nanoseconds=SECOND / 100,
    )
    struck = made.strike(0, 0, "research", True, Draws(1, 0, b"x"), 1)
    assert struck == Strike(KINDS["rate_limited"], SECOND // 50, SECOND // 100, 0.5)


def test_an_outage_strikes_everyone_from_its_start_until_its_end() -> None:
    outage = {"start": "60s", "duration": "10s"}
    made = plan({"kind": "unavailable", "outage": outage})
    for elapsed, expected in (
        (0, None),
        (60 * SECOND - 1, None),
        (60 * SECOND, "unavailable"),
        (70 * SECOND - 1, "unavailable"),
        (70 * SECOND, None),
        (10**6 * SECOND, None),
    ):
        assert strike(made, elapsed=elapsed) == expected


def test_an_outage_may_strike_some_only() -> None:
    made = plan(
        {"kind": "unavailable", "probability": 0.3, "outage": {"start": 0, "duration": "1m"}}
    )
    assert is_share(sum(strike(made, n) is not None for n in range(5_000)), 5_000, 0.3)
    assert not any(strike(made, n, elapsed=60 * SECOND) for n in range(100))


@given(
    st.integers(0, 500), st.integers(1, 100), st.none() | st.integers(1, 200), st.integers(0, 2000)
)
def test_the_next_change_of_an_outage_is_where_it_changes(
    start: int, duration: int, pause: int | None, elapsed: int
) -> None:
    windows = Windows(start, duration, None if pause is None else duration + pause)
    now = windows.holds(elapsed)
    change = windows.next_change(elapsed)
    if change is None:
        assert pause is None
        assert not any(windows.holds(later) for later in range(elapsed, elapsed + 1000))
        return
    assert change > elapsed
    assert all(windows.holds(between) == now for between in range(elapsed, change))
    assert windows.holds(change) != now


def chains(count: int, on: float, off: float) -> Sequence[Chain]:
    return [Chain(on, off, random.Random(seed)) for seed in range(count)]


@pytest.mark.parametrize("elapsed", [0, 10, 1_000, 20_000])
def test_a_burst_is_on_for_its_share_of_the_time_at_every_moment(elapsed: int) -> None:
    """So a trial begins as one in the middle of things would."""
    on = sum(chain.holds(elapsed) for chain in chains(4_000, 100.0, 300.0))
    assert is_share(on, 4_000, 0.25)


def test_stays_are_exponential_with_the_means_that_were_asked_for() -> None:
    stays: dict[bool, list[int]] = {True: [], False: []}
    chain, at = Chain(2_000.0, 5_000.0, random.Random(3)), 0
    for _ in range(8_000):
        state, change = chain.holds(at), chain.next_change(at)
        assert change is not None
        stays[state].append(change - at)
        at = change
        assert chain.holds(at) != state
    for state, mean in ((True, 2_000), (False, 5_000)):
        length = len(stays[state])
        # mean and standard deviation of an exponential stay are the same
        assert abs(sum(stays[state]) / length - mean) <= 5 * mean / math.sqrt(length)
        assert is_share(sum(stay > mean for stay in stays[state]), length, math.exp(-1))


def test_bursts_differ_by_seed_repeat_and_table_and_are_the_same_for_all_prompts() -> None:
    def seen(seed: int, repeat: int, kind: str = "unavailable") -> list[bool]:
        made = plan({"kind": kind, "burst": {"on": "5s", "off": "5s"}}, seed=seed)
        times = range(0, 200 * SECOND, SECOND)
        both = [[strike(made, n, elapsed=t, repeat=repeat) for t in times] for n in (1, 2)]
        assert both[0] == both[1]
        return [struck is not None for struck in both[0]]

    patterns = [seen(1, 0), seen(2, 0), seen(1, 1), seen(1, 0, "silent")]
    assert all(one != other for one, other in itertools.combinations(patterns, 2))
    assert seen(1, 0) == patterns[0]


def test_connections_are_kept_out_in_time_alone_and_it_is_known_until_when() -> None:
    made = plan(
        {"kind": "connect_timeout", "outage": {"start": "10s", "duration": "5s", "every": "20s"}},
        {"kind": "connect_failed", "outage": {"start": "12s", "duration": "10s"}},
    )
    assert strike(made, elapsed=12 * SECOND) is None
    found = []
    elapsed: int | None = 0
    while elapsed is not None and elapsed < 40 * SECOND:
        struck, change = made.connection(elapsed, 0)
        found.append((elapsed // SECOND, None if struck is None else struck.kind.name))
        elapsed = change
    assert found == [
        (0, None), (10, "connect_timeout"), (12, "connect_timeout"), (15, "connect_failed"),
        (22, None), (30, "connect_timeout"), (35, None),
    ]  # fmt: skip
    assert plan({"kind": "silent", "probability": 1}).connection(0, 0) == (None, None)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"kind": "unavailble", "probability": 1}, "did you mean 'unavailable'"),
        ({"kind": "unavailable"}, "must say when; add probability"),
        ({"kind": "unavailable", "probability": 0}, "greater than 0"),
        ({"kind": "unavailable", "probability": 1, "propability": 1}, "unknown key"),
        (
            {"kind": "silent", "burst": {"on": 1, "off": 1}, "outage": {"start": 1, "duration": 1}},
            "cannot be combined with outage",
        ),
        (
            {"kind": "silent", "outage": {"start": 1, "duration": 3, "every": 3}},
            "must be longer than duration = 3 seconds",
        ),
        ({"kind": "connect_failed", "probability": 0.1}, "add a burst or an outage"),
        (
            {"kind": "connect_failed", "burst": {"on": 1, "off": 1}, "phases": ["research"]},
            "has no effect on connect_failed",
        ),
        ({"kind": "silent", "probability": 1, "retry_after": "1s"}, "applies only to refusals"),
        ({"kind": "silent", "probability": 1, "after": "1s"}, "applies only to what comes instead"),
        (
            {"kind": "unavailable", "probability": 1, "at": 0.5},
            "applies only to faults in the middle",
        ),
        (
            {"kind": "empty_answer", "probability": 1, "at": 0.5},
            "applies only to faults in the middle",
        ),
    ],
)
def test_a_table_that_means_nothing_is_refused(table: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Fault.model_validate(table)


def test_a_table_written_out_with_all_its_defaults_is_the_same_table() -> None:
    for kind in KINDS.values():
        timed: dict[str, Any] = {"outage": {"start": 1, "duration": 1}}
        when = timed if kind.place == "connection" else {"probability": 0.1}
        fault = Fault.model_validate({"kind": kind.name, **when})
        assert Fault.model_validate(fault.model_dump(mode="json")) == fault
