"""Every deadline is kept on time by both clients, by the record's own stamps."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import NamedTuple, TypeAlias

import pytest
from msgspec.structs import replace

from harness.config.network import tls_context
from harness.engine.effects import Deadlines, Message, Reply, Request
from harness.records.clock import SECOND
from harness.records.failures import OK
from harness.transports.exchange import LINGER
from harness.transports.target import Target
from tests.transports.attempts import make_deadlines, make_send, make_target
from tests.transports.bodies import DONE, EVENT_STREAM, JSON, KEEP_ALIVE, chunk
from tests.wire.clients import BOTH, Sending, now, send_sync, trusted
from tests.wire.fault_server import END as END_OF_BODY
from tests.wire.fault_server import (
    Drip,
    FaultServer,
    Hold,
    Pause,
    Step,
    Write,
    framed,
    head,
)

MS = SECOND // 1000
TOLERANCE = 100 * MS
TRIES = 3
"""A machine may stall; a client that is late is late each time."""


def first_token_due(reply: Reply, deadlines: Deadlines) -> int:
    assert reply.sent is not None
    return reply.sent + deadlines.first_token


def idle_due(reply: Reply, deadlines: Deadlines) -> int:
    assert reply.last_token is not None
    return reply.last_token + deadlines.idle


def end_due(reply: Reply, deadlines: Deadlines) -> int:
    return deadlines.end


class Case(NamedTuple):
    """What the server does, and the deadline that ends it; its `end` is a duration here."""

    name: str
    steps: Sequence[Step]
    outcome: str
    due: Callable[[Reply, Deadlines], int]
    limits: Deadlines
    stream: bool = True

    def __str__(self) -> str:
        return self.name


HEAD = Write(head(200, ("content-type", EVENT_STREAM)))
TEXT = Write(framed(chunk(content="hi")))
COMMENTS = Drip(framed(KEEP_ALIVE), 0.02)
BLANK_LINES = Drip(framed(b"\n"), 0.02)
SLOW_TEXT = Drip(framed(chunk(content="on and on ")), 0.02)
LONG = 5000 * MS
FIRST = make_deadlines(first_token=250 * MS, idle=50 * MS, end=LONG)
IDLE = make_deadlines(idle=250 * MS, end=LONG)
END = make_deadlines(idle=250 * MS, end=350 * MS)

PART_OF_A_HEAD = Write(b"HTTP/1.1 200 So\r\n")
HEADERS = Drip(b"x-slow: 1\r\n", 0.02)
NOT_YET = Drip(b"HTTP/1.1 102 Processing\r\n\r\n", 0.02)

CASES = [
    Case("silence", [Hold()], "first_token_timeout", first_token_due, FIRST),
    Case("a slow head", [PART_OF_A_HEAD, HEADERS], "first_token_timeout", first_token_due, FIRST),
    Case("a slow head to the end", [PART_OF_A_HEAD, HEADERS], "call_timeout", end_due, END),
    Case("heads of no answer yet", [NOT_YET], "first_token_timeout", first_token_due, FIRST),
    Case("silence after the head", [HEAD, Hold()], "first_token_timeout", first_token_due, FIRST),
    Case("comments before text", [HEAD, COMMENTS], "first_token_timeout", first_token_due, FIRST),
    Case("silence after text", [HEAD, TEXT, Hold()], "idle_timeout", idle_due, IDLE),
    Case("comments after text", [HEAD, TEXT, COMMENTS], "idle_timeout", idle_due, IDLE),
    Case("endless text", [HEAD, SLOW_TEXT], "call_timeout", end_due, END),
    Case("endless comments", [HEAD, COMMENTS], "call_timeout", end_due, END),
    Case("silence to the end", [Hold()], "call_timeout", end_due, END),
    Case(
        "blank lines before a body",
        [Write(head(200, ("content-type", JSON))), BLANK_LINES],
        "first_token_timeout",
        first_token_due,
        FIRST,
        stream=False,
    ),
    Case(
        "half a body",
        [Write(head(200, ("content-type", JSON))), Write(framed(b'{"choices": [')), Hold()],
        "first_token_timeout",
        first_token_due,
        FIRST,
        stream=False,
    ),
]


def on_time(lateness: Callable[[], int]) -> None:
    """Call `lateness` until it is within the tolerance, at most so often."""
    for _ in range(TRIES):
        late = lateness()
        assert late >= 0
        if late <= TOLERANCE:
            return
    pytest.fail(f"late by {late / MS:.0f} ms, the last of {TRIES} times")


def end_on_time(sending: Sending, target: Target, case: Case) -> None:
    def lateness() -> int:
        deadlines = replace(case.limits, end=now() + case.limits.end)
        [reply] = sending(target, make_send(deadlines))
        back = now()
        assert reply.outcome == case.outcome, reply
        due = case.due(reply, deadlines)
        assert reply.done >= due
        return max(reply.done - due, back - reply.done)

    on_time(lateness)


@BOTH
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_deadline_ends_the_attempt_on_time(case: Case, sending: Sending) -> None:
    with FaultServer(lambda _: case.steps) as server:
        end_on_time(sending, make_target(server.base_url, stream=case.stream), case)
        assert server.settled(lambda: server.open == 0)


@pytest.fixture
def trusting(monkeypatch: pytest.MonkeyPatch) -> Iterator[ssl.SSLContext]:
    """What a server secures its connections with, so that the clients trust it."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "*")
    with trusted(monkeypatch) as context:
        yield context


@BOTH
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_deadline_ends_a_secured_attempt_on_time(
    case: Case, sending: Sending, trusting: ssl.SSLContext
) -> None:
    with FaultServer(lambda _: case.steps, trusting) as server:
        target = make_target(server.base_url, stream=case.stream, simulated=False)
        end_on_time(sending, target, case)
        assert server.settled(lambda: server.open == 0)


REST = Write(framed(chunk("stop") + DONE) + END_OF_BODY)


@BOTH
def test_text_that_comes_in_time_is_not_given_up(sending: Sending) -> None:
    """A pause may be longer than the wait for the first text was allowed to be."""
    steps: list[Step] = [HEAD, TEXT, Pause(0.3), TEXT, REST]
    with FaultServer(lambda _: steps) as server:
        deadlines = make_deadlines(connect=200 * MS, first_token=200 * MS)
        for _ in range(TRIES):
            [reply] = sending(make_target(server.base_url), make_send(deadlines))
            if reply.outcome != "first_token_timeout":  # a machine that stalls
                break
        assert (reply.outcome, reply.chunks) == (OK, 2)


@BOTH
def test_the_deadline_of_an_attempt_that_is_over_touches_nobody_else(sending: Sending) -> None:
    """The connection is by then another attempt's."""
    answers: list[list[Step]] = [[HEAD, TEXT, REST], [HEAD, TEXT, Pause(0.4), REST]]
    with FaultServer(lambda _: answers[(len(server.seen) - 1) % 2]) as server:
        for _ in range(TRIES):
            soon = make_send(make_deadlines(end=now() + 250 * MS))
            first, second = sending(make_target(server.base_url), soon, make_send())
            if first.outcome == OK:  # not on a machine that stalls
                break
        assert (first.outcome, second.outcome) == (OK, OK)
        assert server.connections < len(server.seen)


@BOTH
def test_the_end_is_named_by_whoever_set_it(sending: Sending) -> None:
    with FaultServer(lambda _: [Hold()]) as server:
        deadlines = make_deadlines(end=now() + 50 * MS, end_outcome="workflow_timeout")
        [reply] = sending(make_target(server.base_url), make_send(deadlines))
        assert reply.outcome == "workflow_timeout"


@BOTH
def test_a_body_that_never_ends_after_its_last_event_is_an_answer(sending: Sending) -> None:
    """It was done at its last event, and is waited for no longer than the linger."""
    steps: list[Step] = [HEAD, TEXT, Write(framed(chunk("stop") + DONE)), COMMENTS]
    with FaultServer(lambda _: steps) as server:

        def lateness() -> int:
            [reply] = sending(make_target(server.base_url), make_send())
            back = now()
            assert (reply.outcome, reply.answer) == (OK, "hi")
            return back - reply.done - LINGER

        on_time(lateness)


@BOTH
def test_a_refusal_whose_body_never_ends_is_a_refusal_soon(sending: Sending) -> None:
    steps: list[Step] = [Write(head(429, ("retry-after", "3"))), BLANK_LINES]
    with FaultServer(lambda _: steps) as server:

        def lateness() -> int:
            [reply] = sending(make_target(server.base_url), make_send())
            assert (reply.outcome, reply.retry_after) == ("rate_limited", 3 * SECOND)
            assert reply.headers is not None
            return reply.done - reply.headers - LINGER

        on_time(lateness)


Address: TypeAlias = tuple[str, int]


@contextmanager
def deaf() -> Iterator[Address]:
    """A port where connections are made by the system and nobody ever reads from them."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(TRIES)
        yield sock.getsockname()


@contextmanager
def full() -> Iterator[Address]:
    """A port where not even the system makes a connection: no more of them fit."""
    with socket.socket() as sock, ExitStack() as waiting:
        sock.bind(("127.0.0.1", 0))
        sock.listen(0)
        with suppress(TimeoutError):
            while True:
                waiting.enter_context(socket.create_connection(sock.getsockname(), timeout=0.05))
        yield sock.getsockname()


@BOTH
@pytest.mark.parametrize(
    ("place", "scheme"), [(full, "http"), (deaf, "https")], ids=["no connection", "no handshake"]
)
@pytest.mark.parametrize(
    ("limits", "outcome"),
    [
        (make_deadlines(connect=250 * MS, end=LONG), "connect_timeout"),
        (make_deadlines(connect=LONG, end=250 * MS), "call_timeout"),
    ],
    ids=["connect", "end"],
)
def test_a_connection_that_is_not_made_is_given_up_on_time(
    place: Callable[[], AbstractContextManager[Address]],
    scheme: str,
    limits: Deadlines,
    outcome: str,
    sending: Sending,
) -> None:
    tls_context(False)  # reading the certificates is no part of connecting
    with place() as (host, port):

        def lateness() -> int:
            began = now()
            deadlines = replace(limits, end=began + limits.end)
            target = make_target(f"{scheme}://{host}:{port}/v1")
            [reply] = sending(target, make_send(deadlines))
            assert (reply.outcome, reply.sent) == (outcome, None)
            return reply.done - began - 250 * MS

        on_time(lateness)


def test_all_addresses_of_a_name_share_one_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """In blocking code; aiohttp looks names up in its own way."""
    with full() as address:
        [found] = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: [found] * 5)

        def lateness() -> int:
            began = now()
            deadlines = make_deadlines(connect=250 * MS, end=began + LONG)
            [reply] = send_sync(make_target("http://many.test/v1"), make_send(deadlines))
            assert (reply.outcome, reply.sent) == ("connect_timeout", None)
            return reply.done - began - 250 * MS

        on_time(lateness)


@BOTH
@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
def test_a_request_that_nobody_reads_is_given_up_on_time(sending: Sending) -> None:
    book = Request((Message("user", "word " * 4_000_000),))
    with deaf() as (host, port):

        def lateness() -> int:
            deadlines = make_deadlines(first_token=250 * MS)
            target = make_target(f"http://{host}:{port}/v1")
            [reply] = sending(target, make_send(deadlines, request=book))
            assert reply.outcome == "first_token_timeout"
            return reply.done - first_token_due(reply, deadlines)

        on_time(lateness)
