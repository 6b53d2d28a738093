"""Sending with an exact account, by a clock that stands still unless somebody waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random

import pytest

from harness.telemetry.collector_reply import CollectorReply, DeliveryClock
from harness.telemetry.otlp_protobuf import MOST_SPANS, Batch, batches
from harness.telemetry.otlp_target import OtlpTarget
from harness.telemetry.outbox import TRIES, Delivery, Outbox, retry_pause
from harness.telemetry.span import Span
from tests.telemetry.otlp import Answer, Receiver, receiving, spans_in
from tests.telemetry.test_otlp_http import RESOURCE, closed_port, many, partial

ANY = 1e9
"""More seconds than anything here takes."""


class Slow:
    """A clock, and a collector that lets `seconds` pass for each request."""

    def __init__(self, seconds: float = 0.0, answer: Callable[[int], Answer] | None = None) -> None:
        self.time = 100.0
        self.slept: list[float] = []
        self.taken: list[tuple[int, int]] = []
        self.receiver = Receiver(self._answer)
        self._seconds = seconds
        self._given = answer or (lambda _: Answer())

    @property
    def clock(self) -> DeliveryClock:
        return DeliveryClock(lambda: self.time, self._sleep, lambda used, _: used.settimeout(60))

    @contextmanager
    def outbox(self, spans: list[Span]) -> Iterator[Outbox]:
        """Listen, and give an outbox with these spans in it."""
        with receiving(self.receiver):
            outbox = Outbox(self.receiver.target(), self._took, self.clock)
            outbox.put(batches(spans, RESOURCE), len(spans))
            yield outbox
            outbox.close()

    def got(self) -> list[str]:
        """Return the ids of all spans that arrived, in order, as often as they did."""
        return [span["ids"][1] for one in self.receiver.got for span in spans_in(one.message)]

    def _took(self, batch: Batch, rejected: int) -> None:
        self.taken.append((batch.items, rejected))

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds

    def _answer(self, number: int) -> Answer:
        self.time += self._seconds
        return self._given(number)


def ids(count: int) -> list[str]:
    return [span.span_id for span in many(count)]


def test_many_spans_go_in_batches_over_one_connection() -> None:
    slow = Slow()
    with slow.outbox(many(2 * MOST_SPANS + 1)) as outbox:
        assert outbox.send(ANY) == Delivery(2 * MOST_SPANS + 1, 0, 0, None)
        outbox.close()
        assert slow.receiver.hung_up.acquire(timeout=10)
    assert not slow.receiver.hung_up.acquire(blocking=False), "there was one connection"
    assert slow.taken == [(MOST_SPANS, 0), (MOST_SPANS, 0), (1, 0)]
    assert slow.got() == ids(2 * MOST_SPANS + 1)


def test_nothing_is_sent_when_there_are_no_spans() -> None:
    slow = Slow()
    with slow.outbox([]) as outbox:
        assert outbox.send(ANY) == Delivery(0, 0, 0, None)
    assert slow.receiver.got == []


def test_a_slow_collector_gets_two_seconds_and_the_rest_later_none_lost_and_none_twice() -> None:
    """20,000 spans to a collector that takes 200 ms for each of 40 batches."""
    slow = Slow(0.2)
    with slow.outbox(many(20_000)) as outbox:
        began = slow.time
        first = outbox.send(2.0)
        assert slow.time - began <= 2.0
        assert first == Delivery(9 * MOST_SPANS, 0, 20_000 - 9 * MOST_SPANS, None)
        assert outbox.send(ANY) == Delivery(20_000, 0, 0, None)
    assert slow.got() == ids(20_000)
    assert sum(count for count, _ in slow.taken) == 20_000


def test_no_request_is_begun_that_would_not_be_answered_in_time() -> None:
    slow = Slow(0.3)
    with slow.outbox(many(3 * MOST_SPANS)) as outbox:
        assert outbox.send(0.5).delivered == MOST_SPANS
        assert len(slow.receiver.got) == 1


def test_a_request_that_is_cut_is_sent_again_with_the_same_spans() -> None:
    class Cut:
        def __init__(self) -> None:
            self.got: list[tuple[bytes, float]] = []

        def post(self, body: bytes, seconds: float) -> CollectorReply:
            self.got.append((body, seconds))
            slow.time += seconds
            return CollectorReply("later" if len(self.got) == 1 else "taken", problem="cut")

        def close(self) -> None:
            pass

    slow, cut = Slow(), Cut()
    outbox = Outbox(OtlpTarget("http", "h", 1, "/"), slow._took, slow.clock)
    outbox._connection = cut
    outbox.put(batches(many(2), RESOURCE, most_spans=1), 2)
    assert outbox.send(0.5) == Delivery(0, 0, 2, "cut")
    assert outbox.send(ANY)[:3] == (1, 0, 1), "the second takes all of the time"
    assert [seconds for _, seconds in cut.got] == [0.5, pytest.approx(ANY)]
    assert cut.got[0][0] == cut.got[1][0]


def test_a_collector_that_is_busy_is_asked_again_and_gets_nothing_twice() -> None:
    busy = {2: 429, 3: 503, 5: 504}
    slow = Slow(answer=lambda number: Answer(busy.get(number, 200)))
    with slow.outbox(many(3 * MOST_SPANS)) as outbox:
        delivery = outbox.send(ANY)
    assert delivery[:3] == (3 * MOST_SPANS, 0, 0)
    assert len(slow.receiver.got) == 6
    assert len(slow.slept) == 3
    assert slow.taken == [(MOST_SPANS, 0)] * 3


def test_a_collector_that_asks_for_time_gets_it() -> None:
    slow = Slow(answer=lambda n: Answer(429 if n == 1 else 200, headers={"retry-after": "30"}))
    with slow.outbox(many(1)) as outbox:
        assert outbox.send(2.0)[:3] == (0, 0, 1), "thirty seconds are more than there are"
        failing = [outbox.is_failing]
        assert slow.slept == []
        assert outbox.send(ANY)[:3] == (1, 0, 0)
        failing.append(outbox.is_failing)
    assert failing == [True, False]
    assert slow.slept == [30.0]


def test_a_collector_that_goes_on_failing_is_given_up_and_the_account_is_exact() -> None:
    slow = Slow(answer=lambda number: Answer(503 if number > 1 else 200))
    with slow.outbox(many(3 * MOST_SPANS)) as outbox:
        delivery = outbox.send(ANY)
    problem = f"{slow.receiver.url}/v1/traces: answered 503 Service Unavailable"
    assert delivery == Delivery(MOST_SPANS, 0, 2 * MOST_SPANS, problem)
    assert len(slow.receiver.got) == 1 + TRIES


def test_a_collector_that_is_down_costs_no_more_than_its_seconds() -> None:
    slow = Slow()
    down = OtlpTarget("http", "127.0.0.1", closed_port(), "/v1/traces")
    outbox = Outbox(down, lambda *_: None, slow.clock)
    outbox.put(batches(many(20_000), RESOURCE), 20_000)
    began = slow.time
    delivery = outbox.send(2.0)
    outbox.close()
    assert slow.time - began <= 2.0
    assert delivery[:3] == (0, 0, 20_000)
    assert str(delivery.problem).endswith("connection refused")
    assert outbox.is_failing


def test_spans_that_are_rejected_are_refused_and_never_sent_again() -> None:
    body = partial(rejected_spans=5)
    slow = Slow(answer=lambda number: Answer(body=body) if number == 1 else Answer())
    with slow.outbox(many(MOST_SPANS + 1)) as outbox:
        assert outbox.send(ANY)[:3] == (MOST_SPANS - 4, 5, 0)
        outbox.send(ANY)
    assert slow.taken == [(MOST_SPANS, 5), (1, 0)]
    assert len(slow.receiver.got) == 2


@pytest.mark.parametrize(
    ("status", "delivery"),
    [(400, (MOST_SPANS, MOST_SPANS, 0)), (401, (0, MOST_SPANS, MOST_SPANS))],
)
def test_a_refusal_of_one_request_is_not_one_of_the_next_unless_it_says_so(
    status: int, delivery: tuple[int, int, int]
) -> None:
    slow = Slow(answer=lambda number: Answer(status if number == 1 else 200))
    with slow.outbox(many(2 * MOST_SPANS)) as outbox:
        got = outbox.send(ANY)
    assert got[:3] == delivery
    assert f"answered {status}" in str(got.problem)


@pytest.mark.parametrize("failures", range(1, 12))
def test_pauses_grow_are_spread_and_are_never_shorter_than_asked(failures: int) -> None:
    longest = min(8, 0.25 * 2 ** (failures - 1))
    pauses = [retry_pause(failures, None, Random(seed)) for seed in range(50)]
    assert longest / 2 <= min(pauses) < max(pauses) <= longest
    assert retry_pause(failures, 60.0, Random(1)) == 60.0
