"""What both clients share: the request, the reply's fields, and what an exception stands for."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from itertools import pairwise

import httpx2
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.engine.effects import Message, Request, Send
from harness.records.clock import SECOND
from harness.records.failures import FAILURES, OK
from harness.records.ids import attempt_span, traceparent, workflow_trace
from harness.records.keys import AttemptKey
from harness.transports.exchange import (
    LINGER,
    Exchange,
    attempt_headers,
    classify,
    post_arguments,
    retry_after,
)
from harness.transports.request_bodies import request_body
from tests.transports.attempts import ANCHOR, KEY, make_deadlines, make_send, make_target
from tests.transports.bodies import DONE, EVENT_STREAM, chunk

NOW = 1_800_000_000.0
"""2027-01-15 08:00:00 UTC."""


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "2"}, 2),
        ({"retry-after": " 0.5 "}, 0.5),
        ({"retry-after": "0"}, 0),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9),
        ({"retry-after": "Fri, 15 Jan 2027 08:00:30 GMT"}, 30),
        ({"retry-after": "Fri, 15 Jan 2027 08:00:30 -0000"}, 30),
        ({"retry-after": "Fri, 15 Jan 2027 09:00:30 +0100"}, 30),
        ({"retry-after": "Friday, 15-Jan-27 08:00:30 GMT"}, 30),
        ({"retry-after": "Fri, 15 Jan 2027 07:59:00 GMT"}, 0),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1e300"}, 10**9),
        ({"retry-after": "Fri, 99 Jan 2027 08:00:30 GMT"}, None),
        ({"retry-after": "Fri, 15 Jan 99999999999 08:00:30 GMT"}, None),
        ({"retry-after": "Fri, 15 Jan 2027 08:00:30 +99999999999999"}, None),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}, 10**9),
        ({"retry-after": "2, 3"}, None),
        ({"retry-after-ms": "-1"}, None),
    ],
)
def test_retry_after_is_read_in_every_form_or_counts_as_not_said(
    headers: dict[str, str], seconds: float | None
) -> None:
    wanted = None if seconds is None else round(seconds * SECOND)
    assert retry_after(httpx2.Headers(headers), NOW) == wanted


@pytest.fixture
def far_east(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A local time that is not UTC."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("far_east")
def test_a_date_without_a_zone_is_utc_wherever_we_are() -> None:
    headers = {"retry-after": "Fri, 15 Jan 2027 08:00:30 -0000"}
    assert retry_after(headers, NOW) == 30 * SECOND


@given(text=st.text(st.characters(codec="latin-1", exclude_categories=["Cc"])))
def test_no_header_at_all_makes_retry_after_fail_or_negative(text: str) -> None:
    for name in ("retry-after", "retry-after-ms"):
        assert (retry_after({name: text}, NOW) or 0) >= 0


REQUEST = httpx2.Request("POST", "http://test/v1")


def chain(exceptions: list[Exception]) -> Exception:
    """Return the last exception, with each caused by the one before."""
    for cause, error in pairwise(exceptions):
        error.__cause__ = cause
    return exceptions[-1]


RESET = ConnectionResetError(104, "reset")
SYSTEM_TIMEOUT = TimeoutError(110, "timed out")
UNKNOWN_HOST = socket.gaierror(-2, "unknown")
NO_CONNECTION = openai.APIConnectionError(request=REQUEST)
SDK_TIMEOUT = openai.APITimeoutError(request=REQUEST)


@pytest.mark.parametrize(
    ("causes", "before", "after"),
    [
        ([TimeoutError("timed out"), httpx2.ReadTimeout("")], "the limit", "the limit"),
        ([TimeoutError("timed out"), httpx2.ConnectTimeout(""), SDK_TIMEOUT], "the limit", None),
        ([SYSTEM_TIMEOUT, httpx2.ConnectTimeout(""), SDK_TIMEOUT], "connect_timeout", None),
        ([SYSTEM_TIMEOUT, httpx2.ReadError("")], None, "connection_lost"),
        ([RESET, httpx2.ReadError("")], "connect_failed", "connection_lost"),
        ([RESET, httpx2.ConnectTimeout(""), SDK_TIMEOUT], None, "connection_lost"),
        ([httpx2.RemoteProtocolError("")], None, "connection_lost"),
        ([UNKNOWN_HOST, httpx2.ConnectError(""), NO_CONNECTION], "connect_failed", None),
        ([ValueError("of our own")], "client_error", "client_error"),
        ([KeyError("of our own"), TypeError()], "client_error", "client_error"),
    ],
    ids=lambda value: "+".join(type(e).__name__ for e in value) if isinstance(value, list) else "",
)
def test_the_root_of_an_exception_says_what_happened(
    causes: list[Exception], before: str | None, after: str | None
) -> None:
    error = chain(causes)
    for was_sent, outcome in ((False, before), (True, after)):
        if outcome is not None:
            found, detail = classify(error, was_sent, "the limit")
            assert found == outcome
            assert found in {*FAILURES, "the limit"}
            assert "of our own" not in detail


def test_the_body_holds_what_was_asked_and_what_the_endpoint_wants_besides() -> None:
    request = Request((Message("user", "hi"),), max_tokens=5, json_mode=True)
    target = make_target(extra_body={"thinking": {"type": "enabled"}})
    assert request_body(target, request) == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 5,
        "response_format": {"type": "json_object"},
        "thinking": {"type": "enabled"},
    }


def test_a_whole_body_is_asked_for_without_options_of_a_stream() -> None:
    plain = request_body(make_target(stream=False), Request((Message("user", "hi"),)))
    assert plain == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": False,
    }


def test_a_phase_has_a_body_of_its_own_where_the_endpoint_says_so() -> None:
    target = make_target(
        extra_body={"seed": 1}, extra_body_by_phase={"fan_out": {"seed": 2}, "synthesize": {}}
    )
    assert KEY.phase == "fan_out"
    assert post_arguments(target, make_send())["body"]["seed"] == 2
    elsewhere = make_send(key=KEY._replace(phase="synthesize"))
    assert post_arguments(target, elsewhere)["body"]["seed"] == 1


def test_the_attempt_carries_its_trace_context_and_the_repeat_only_to_the_simulator() -> None:
    context = traceparent(workflow_trace("run", KEY), attempt_span("run", AttemptKey(*KEY, 1)))
    simulated = attempt_headers(make_target(), make_send())
    live = attempt_headers(make_target(simulated=False), make_send())
    assert simulated == {
        "traceparent": context,
        "x-harness-repeat": "1",
        "x-harness-phase": "fan_out",
    }
    named = attempt_headers(make_target(settings={"fan_out": "research"}), make_send())
    assert named["x-harness-phase"] == "research"
    assert live == {"traceparent": context}
    replayed = Request((Message("user", "the and for"),), lengths=(12, 34))
    assert (
        attempt_headers(make_target(), make_send(request=replayed))["x-harness-lengths"] == "12,34"
    )
    asked = make_send(request=replayed)
    assert "x-harness-lengths" not in attempt_headers(make_target(simulated=False), asked)


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.time = 0

    def __call__(self) -> int:
        return self.time


def begun(send: Send, status: int = 200) -> tuple[Exchange, Clock, list[int]]:
    """An exchange sent at 10 with its head read at 20, its clock, and when it was rearmed."""
    clock = Clock()
    exchange = Exchange(True, send.deadlines, clock, ANCHOR)
    rearmed: list[int] = []
    exchange.rearm = lambda: rearmed.append(clock.time)
    clock.time = 10
    exchange.note_sent()
    clock.time = 20
    request = httpx2.Request("POST", "http://test/v1/chat/completions")
    response = httpx2.Response(status, headers={"content-type": EVENT_STREAM}, request=request)
    exchange.note_response(response.status_code, response.headers)
    if status == 200:
        exchange.begin_reading(response.request.url.path)
    return exchange, clock, rearmed


def test_the_watch_is_told_whenever_a_deadline_may_have_come_nearer() -> None:
    exchange, _, rearmed = begun(make_send(make_deadlines(first_token=1000, idle=50)))
    assert exchange.limit().at == 1010
    rearmed.clear()
    exchange.received(b": keep-alive\n\n", 30)
    assert (exchange.limit().at, rearmed) == (1010, [])
    exchange.received(chunk(content="a"), 40)
    assert (exchange.limit().at, len(rearmed)) == (90, 1)
    exchange.received(chunk(content="b"), 60)
    assert (exchange.limit().at, len(rearmed)) == (110, 1)  # later: found out when 90 comes
    exchange.received(DONE, 70)
    assert (exchange.limit().at, len(rearmed)) == (70 + LINGER, 2)


def test_a_deadline_that_passed_is_the_outcome_whatever_it_raised() -> None:
    exchange, clock, _ = begun(make_send(make_deadlines(first_token=100)))
    clock.time = 109
    assert not exchange.overdue()
    clock.time = 110
    assert exchange.overdue()
    reply = exchange.fail(httpx2.ReadError("shut down"))
    assert (reply.outcome, reply.done) == ("first_token_timeout", 110)


def test_an_answer_that_is_whole_stays_ok_when_its_body_does_not_end() -> None:
    exchange, clock, _ = begun(make_send())
    assert exchange.received(chunk(content="a") + DONE, 40)
    clock.time = 40 + LINGER
    assert exchange.overdue()
    reply = exchange.fail(httpx2.ReadError("shut down"))
    assert (reply.outcome, reply.done) == (OK, 40)


def test_a_refusal_stays_one_when_its_body_cannot_be_read() -> None:
    exchange, clock, _ = begun(make_send(), status=429)
    assert exchange.limit().at == 20 + LINGER
    clock.time = 20 + LINGER
    assert exchange.overdue()
    reply = exchange.fail(httpx2.ReadError("shut down"))
    assert (reply.outcome, reply.status) == ("rate_limited", 429)


def test_nothing_more_is_read_after_a_failure() -> None:
    exchange, _, _ = begun(make_send())
    assert exchange.received(chunk(content="a"), 30)
    assert not exchange.received(b"<html>\n", 40)
    reply = exchange.finish()
    assert (reply.outcome, reply.done) == ("malformed_stream", 40)


def test_reasoning_is_sent_back_in_a_field_of_its_own() -> None:
    messages = (Message("user", "hi"), Message("assistant", "hello", "they greet"))
    assert request_body(make_target(), Request(messages))["messages"] == [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "hello", "reasoning_content": "they greet"},
    ]
