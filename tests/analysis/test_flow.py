"""What went on at each moment of a trial."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from harness.analysis.flow import flow, lanes
from harness.records.clock import SECOND
from tests.analysis.builders import make_attempt, make_call, make_trial
from tests.analysis.played import Shape, make_records


def test_each_attempt_stands_in_the_bin_in_which_it_was_sent() -> None:
    trial = make_trial(start=10 * SECOND, end=14 * SECOND)
    sent = [10, 10.5, 12, 13.9]
    attempts = [
        make_attempt(sent=round(at * SECOND), outcome="ok" if at < 12 else "unavailable")
        for at in sent
    ]
    seen = flow(attempts, trial, SECOND)
    assert {name: list(counts) for name, counts in seen.counts.items()} == {
        "ok": [2, 0, 0, 0, 0],
        "unavailable": [0, 0, 1, 1, 0],
    }
    assert (seen.total, seen.failed) == (4, 2)


def test_an_attempt_that_lost_to_a_hedge_did_not_fail() -> None:
    outcomes = ("ok", "cancelled", "unavailable", "cancelled")
    seen = flow([make_attempt(outcome=outcome) for outcome in outcomes], make_trial(), SECOND)
    assert (seen.total, seen.failed) == (4, 1)


def test_an_attempt_that_was_never_sent_stands_where_it_ended() -> None:
    attempts = [make_attempt(sent=None, outcome="connect_failed", done=2 * SECOND)]
    seen = flow(attempts, make_trial(), SECOND)
    assert list(seen.every) == [0, 0, 1, 0]


def test_no_attempt_is_counted_twice_or_lost() -> None:
    records = make_records(repeats=1, shape=Shape(failure_rate=0.3))
    for trial in records.trials:
        mine = [attempt for attempt in records.attempts if attempt.cell == trial.cell]
        assert flow(mine, trial, (trial.end - trial.start) // 7 + 1).total == len(mine)


def test_a_trial_uses_as_many_lanes_as_it_had_permits_in_use_and_never_more() -> None:
    records = make_records(repeats=1, workflows=6, in_flight=3, shape=Shape(failure_rate=0.2))
    for info in records.run.cells:
        mine = [attempt for attempt in records.attempts if attempt.cell == info.id]
        held = lanes([], mine, "attempt")
        assert len(held) == len(mine)
        assert max(one.lane for one in held) + 1 <= info.permits


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 20)), max_size=30))
def test_no_two_in_one_lane_hold_it_at_once(spans: list[tuple[int, int]]) -> None:
    attempts = [make_attempt(permit_granted=at, done=at + lasts) for at, lasts in spans]
    by_lane: dict[int, list[tuple[int, int]]] = {}
    for one in lanes([], attempts, "attempt"):
        by_lane.setdefault(one.lane, []).append((one.start, one.end))
    for mine in by_lane.values():
        assert all(end <= start for (_, end), (start, _) in pairwise(mine))


def test_a_permit_a_call_is_held_through_backoff() -> None:
    attempts = [
        make_attempt(permit_granted=0, done=5, outcome="unavailable"),
        make_attempt(attempt=2, permit_granted=0, ready=20, done=30),
    ]
    (held,) = lanes([make_call(done=30)], attempts, "call")
    assert (held.start, held.end, len(held.attempts)) == (0, 30, 2)


def test_a_hedge_holds_a_permit_beside_that_of_its_call() -> None:
    """Whichever of the two comes to its end, and so into the records, first."""
    first = make_attempt(permit_granted=0, done=26, outcome="cancelled")
    hedge = make_attempt(attempt=2, permit_granted=10, done=25, hedge=True)
    for attempts in ([first, hedge], [hedge, first]):
        held = lanes([make_call(done=30)], attempts, "call")
        assert [(one.lane, one.start, one.end, one.attempts) for one in held] == [
            (0, 0, 30, (first,)),
            (1, 10, 25, (hedge,)),
        ]
