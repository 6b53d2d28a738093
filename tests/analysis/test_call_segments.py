"""How a call's time is cut: parked, hedged, cancelled, without overlap and without a gap."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from harness.analysis.call_segments import segments_of_call, tiles
from harness.records.schema import Attempt, Backoff, Call
from tests.analysis.builders import make_attempt, make_call
from tests.analysis.played import Shape, make_records

Cut = list[tuple[str, int, int]]


def tried(granted: int, done: int, outcome: str = "ok", **fields: Any) -> Attempt:
    """Return an attempt that was sent with its permit and answered at its end."""
    went_well = outcome == "ok"
    times: dict[str, Any] = {
        "ready": granted - 1, "permit_requested": granted - 1, "permit_granted": granted,
        "sent": granted, "first_reasoning": None, "first_answer": done - 1 if went_well else None,
        "last_token": done if went_well else None, "done": done, "outcome": outcome,
    }  # fmt: skip
    return make_attempt(**(times | fields))


def parked(start: int, end: int) -> Backoff:
    return Backoff(start=start, end=end, planned=end - start, source="breaker")


def cut(call: Call, *attempts: Attempt) -> Cut:
    """Return the tiles, which are what the call went through where nothing overlaps."""
    return [(it.part, it.start, it.end) for it in tiles(call, attempts)]


@pytest.mark.parametrize("scope", ["attempt", "call"])
def test_tiles_follow_one_another_from_ready_to_done_and_are_the_pieces(scope: str) -> None:
    """Where no attempts ran at the same time nothing is lost of any piece."""
    shape = Shape(failure_rate=0.3)
    records = make_records([f"async_2_full-jitter_{scope}"], 2, workflows=5, shape=shape)
    for call in records.calls:
        mine = [one for one in records.attempts if one.call_key == call.call_key]
        whole = tiles(call, mine)
        assert whole[0].start == call.ready
        assert whole[-1].end == call.done
        assert all(one.end == other.start for one, other in itertools.pairwise(whole))
        assert [piece for piece in whole if piece.attempt] == segments_of_call(call, mine)


def test_a_call_that_was_parked_before_its_first_attempt_waited_for_a_permit_twice() -> None:
    call = make_call(ready=0, done=60, backoffs=(parked(10, 40),))
    assert cut(call, tried(45, 60, ready=40, permit_requested=40)) == [
        ("permit_wait", 0, 10), ("backoff", 10, 40), ("permit_wait", 40, 45),
        ("to_first_token", 45, 59), ("answer", 59, 60),
    ]  # fmt: skip


def test_a_failure_that_a_breaker_took_over_is_followed_by_parking() -> None:
    failed = tried(1, 20, "unavailable")
    call = make_call(ready=0, done=90, attempts=2, backoffs=(parked(20, 50), parked(55, 70)))
    assert cut(call, failed, tried(72, 90, attempt=2, permit_requested=70)) == [
        ("permit_wait", 0, 1), ("failed_attempts", 1, 20), ("backoff", 20, 50),
        ("permit_wait", 50, 55), ("backoff", 55, 70), ("permit_wait", 70, 72),
        ("to_first_token", 72, 89), ("answer", 89, 90),
    ]  # fmt: skip
    assert [
        piece.attempt for piece in segments_of_call(call, [failed]) if piece.part == "backoff"
    ] == [1, 1]


def test_a_call_that_was_cancelled_or_too_late_between_attempts_waited_for_a_permit() -> None:
    for outcome in ("cancelled", "call_timeout"):
        slept = Backoff(start=20, end=30, planned=10, source="policy")
        call = make_call(ready=0, done=50, attempts=1, backoffs=(slept,), outcome=outcome)
        assert cut(call, tried(1, 20, "unavailable"))[-2:] == [
            ("backoff", 20, 30), ("permit_wait", 30, 50),
        ]  # fmt: skip
        never = make_call(ready=7, done=50, attempts=0, outcome=outcome)
        assert cut(never) == [("permit_wait", 7, 50)]
        only_parked = make_call(
            ready=0, done=50, attempts=0, backoffs=(parked(5, 50),), outcome=outcome
        )
        assert cut(only_parked) == [("permit_wait", 0, 5), ("backoff", 5, 50)]


def test_an_attempt_that_was_cancelled_is_wasted_up_to_the_end() -> None:
    call = make_call(ready=0, done=50, outcome="cancelled")
    assert cut(call, tried(1, 50, "cancelled")) == [
        ("permit_wait", 0, 1), ("failed_attempts", 1, 50),
    ]  # fmt: skip


def test_of_a_hedged_call_only_what_held_its_end_counts() -> None:
    slow, hedge = tried(1, 80, "cancelled"), tried(44, 95, attempt=2, hedge=True)
    call = make_call(ready=0, done=95, attempts=2)
    assert cut(call, slow, hedge) == [
        ("permit_wait", 0, 1), ("failed_attempts", 1, 43), ("permit_wait", 43, 44),
        ("to_first_token", 44, 94), ("answer", 94, 95),
    ]  # fmt: skip
    won, lost = tried(1, 80), tried(44, 84, "cancelled", attempt=2, hedge=True)
    call = make_call(ready=0, done=80, attempts=2)
    assert cut(call, won, lost) == [
        ("permit_wait", 0, 1), ("to_first_token", 1, 79), ("answer", 79, 80),
    ]  # fmt: skip


def test_time_that_nothing_claims_is_other() -> None:
    call = make_call(ready=0, done=50)
    assert cut(call, tried(10, 40)) == [
        ("other", 0, 9), ("permit_wait", 9, 10), ("to_first_token", 10, 39), ("answer", 39, 40),
        ("other", 40, 50),
    ]  # fmt: skip
