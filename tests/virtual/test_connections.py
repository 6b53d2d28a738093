"""Opening a connection takes time in virtual time, and an idle connection takes none."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.engine.effects import Reply, Send
from harness.records.clock import SECOND
from harness.records.connections import leaves_connection
from harness.simulator.virtual.provider import Flight, VirtualProvider, VirtualTrial
from tests.twin.providers import play
from tests.virtual.single import attempt, blocking, tasks, trial

LONG = 4.9
"""Seconds of a request from sending to its last text."""


class Line:
    """Sends attempts to one provider at given seconds."""

    def __init__(self, of: VirtualTrial) -> None:
        self.provider = VirtualProvider(of)

    def go(self, until: float) -> None:
        while (at := self.provider.next_at()) is not None and at <= until * SECOND:
            self.provider.advance(at)

    def begin(self, at: float) -> Flight:
        self.go(at)
        return self.provider.begin(round(at * SECOND), attempt())


def sent(flight: Flight) -> float:
    assert flight.reply is not None
    assert flight.reply.sent is not None
    return flight.reply.sent / SECOND


def shape(flight: Flight) -> tuple[str, float | None, float]:
    reply = flight.reply
    assert reply is not None
    return reply.outcome, None if reply.sent is None else reply.sent / SECOND, reply.done / SECOND


@pytest.mark.parametrize("wait", [blocking, tasks])
def test_an_attempt_without_a_connection_opens_one(
    wait: Callable[[VirtualTrial, Send], Reply],
) -> None:
    reply = wait(trial(connect="300ms"), attempt())
    assert reply.outcome == "ok"
    assert (reply.sent, reply.headers) == (3 * SECOND // 10, 3 * SECOND // 10)
    assert reply.done == pytest.approx((0.3 + LONG) * SECOND)


def test_an_idle_connection_is_reused_and_a_busy_one_is_not() -> None:
    line = Line(trial(connect="300ms"))
    first, beside, after = line.begin(0), line.begin(1), line.begin(6)
    line.go(5.9)
    line.go(40)
    both = [line.begin(40), line.begin(40), line.begin(40)]
    line.go(60)
    assert [sent(one) for one in (first, beside, after)] == [0.3, 1.3, 6]
    assert [sent(one) for one in both] == [40, 40, 40.3]


def test_a_connection_that_is_idle_for_more_than_a_minute_is_not_reused() -> None:
    line = Line(trial(connect="300ms"))
    first = line.begin(0)
    kept = line.begin(5.2 + 60)
    late = line.begin(5.2 + 60 + LONG + 60.1)
    line.go(500)
    assert [sent(first), sent(kept)] == [0.3, 65.2]
    assert sent(late) == pytest.approx(5.2 + 60 + LONG + 60.1 + 0.3)


def test_a_refusal_leaves_its_connection_and_a_cancelled_attempt_does_not() -> None:
    line = Line(trial(connect="300ms", concurrency_cap=1))
    served, refused = line.begin(0), line.begin(1)
    again = line.begin(2)
    line.go(3)
    assert [shape(refused), shape(again)] == [("rate_limited", 1.3, 1.3), ("rate_limited", 2, 2)]
    line.provider.give_up(3 * SECOND, served)
    one, other = line.begin(4), line.begin(4)
    line.go(20)
    assert [sent(one), sent(other)] == [4, 4.3]


def test_a_connection_that_takes_too_long_is_the_failure_of_its_deadline() -> None:
    line = Line(trial(connect="2s"))
    late = line.begin(3)
    line.go(20)
    assert shape(late) == ("connect_timeout", None, 4)
    waits = line.begin(20)
    assert shape_of_cancelled(line, waits, 20.5) == ("cancelled", None, 20.5)
    assert line.provider.next_at() is None


def shape_of_cancelled(line: Line, flight: Flight, at: float) -> tuple[str, float | None, float]:
    line.provider.give_up(round(at * SECOND), flight)
    return shape(flight)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("connect_failed", ("connect_failed", None, 2)), ("connect_timeout", ("ok", 2.8, 2.8 + LONG))],
)
def test_an_outage_closes_connections_and_prevents_those_being_opened(
    kind: str, expected: tuple[str, float | None, float]
) -> None:
    outage = {"kind": kind, "outage": {"start": "1700ms", "duration": "500ms"}}
    line = Line(trial(connect="300ms", faults=[outage]))
    first, opening = line.begin(0), line.begin(1.9)
    line.go(30)
    after = line.begin(30)
    line.go(60)
    assert shape(first) == ("connection_lost", 0.3, 2)  # the outage begins 1.7 s after 0.3
    assert shape(opening) == pytest.approx(expected)
    assert sent(after) == (30 if kind == "connect_timeout" else 30.3)


@pytest.mark.parametrize("is_busy", [True, False])
def test_an_outage_closes_idle_connections(is_busy: bool) -> None:
    outage = {"kind": "connect_timeout", "outage": {"start": "6s", "duration": "500ms"}}
    line = Line(trial(connect="300ms", faults=[outage]))
    first = line.begin(0)
    kept = line.begin(5.5) if is_busy else None
    after = line.begin(10)
    line.go(30)
    assert [sent(first), sent(after)] == [0.3, 10.3]
    assert kept is None or shape(kept) == ("connection_lost", 5.5, 6.3)


def test_a_complete_response_leaves_its_connection() -> None:
    assert leaves_connection("ok", 200, None)
    assert leaves_connection("truncated", 200, "length")
    assert leaves_connection("rate_limited", 429, None)
    assert not leaves_connection("connection_lost", 200, None)
    assert not leaves_connection("cancelled", None, None)


@pytest.mark.parametrize("permits", [1, 4])
def test_the_records_of_a_run_show_who_connected(permits: int) -> None:
    attempts = play({"connect": "250ms"}, permits=(permits,), in_flight=4).attempts
    waits = [one.client_wait for one in attempts]
    assert set(waits) == {0, SECOND // 4}
    assert waits.count(SECOND // 4) == permits
    plain = play({}, permits=(permits,), in_flight=4).attempts
    assert {one.client_wait for one in plain} == {0}
