"""Over real TCP both clients come to the same outcomes as over a mocked transport."""

from __future__ import annotations

import gzip
from collections.abc import Sequence

import pytest

from harness.records.failures import OK
from tests.transports.attempts import make_send, make_target
from tests.transports.bodies import DONE, EVENT_STREAM, chunk
from tests.wire.clients import BOTH, Sending, now
from tests.wire.fault_server import END, FaultServer, Hold, Seen, Step, Until, Write, framed, head
from tests.wire.faults import FAULTS, GOOD, Fault, check, script

GOOD_ANSWER = [Write(head(200, ("content-type", EVENT_STREAM))), Write(framed(b"".join(GOOD)))]


@BOTH
@pytest.mark.parametrize("slowly", [False, True], ids=["in pieces", "byte by byte"])
@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_fault_leads_to_its_record_and_leaves_nothing_open(
    fault: Fault, slowly: bool, sending: Sending
) -> None:
    """The attempt after it succeeds, over the same connection where that is still good."""

    def answer(_: Seen) -> Sequence[Step]:
        return script(fault, slowly) if len(server.seen) == 1 else [*GOOD_ANSWER, Write(END)]

    with FaultServer(answer) as server:
        began = now()
        first, second = sending(
            make_target(server.base_url, stream=fault.stream), make_send(), make_send()
        )
        check(fault, first, began, now())
        assert second.outcome == OK
        assert len(server.seen) == 2  # no retry and no redirect behind our back
        if fault.reusable:
            assert server.connections == 1
        assert server.settled(lambda: server.open == 0)


OK_HEAD = b"HTTP/1.1 200 OK\r\n"


@BOTH
@pytest.mark.parametrize(
    "said",
    [
        b"HELLO\r\n\r\n",
        OK_HEAD + b"content-length: 1\r\ncontent-length: 2\r\n\r\n!",
        OK_HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\nhello\r\n",
    ],
    ids=["no status line", "two lengths", "no length of a chunk"],
)
def test_what_is_no_http_is_a_lost_connection(said: bytes, sending: Sending) -> None:
    with FaultServer(lambda _: [Write(said), Hold()]) as server:
        [reply] = sending(make_target(server.base_url), make_send())
        assert server.settled(lambda: server.open == 0)
    assert reply.outcome == "connection_lost"


@BOTH
def test_a_header_may_be_long(sending: Sending) -> None:
    policy = ("content-security-policy", "default-src 'self'; " * 2000)
    said = [Write(head(200, ("content-type", EVENT_STREAM), policy)), *GOOD_ANSWER[1:], Write(END)]
    with FaultServer(lambda _: said) as server:
        [reply] = sending(make_target(server.base_url), make_send())
    assert reply.outcome == OK


@BOTH
def test_a_compressed_stream_is_read(sending: Sending) -> None:
    encoded = head(200, ("content-type", EVENT_STREAM), ("content-encoding", "gzip"))
    said = [Write(encoded), Write(framed(gzip.compress(b"".join(GOOD)))), Write(END)]
    with FaultServer(lambda _: said) as server:
        [reply] = sending(make_target(server.base_url), make_send())
    assert (reply.outcome, reply.answer) == (OK, "hi")


@BOTH
def test_a_broken_stream_is_hung_up_on_at_once(sending: Sending) -> None:
    """The second attempt is answered only when the first one's connection is gone."""

    def answer(seen: Seen) -> Sequence[Step]:
        if len(server.seen) == 1:
            return [*GOOD_ANSWER[:1], Write(framed(b"Bad Gateway\n")), Hold()]
        return [Until(lambda: server.open == 1), *GOOD_ANSWER, Write(END)]

    with FaultServer(answer) as server:
        first, second = sending(make_target(server.base_url), make_send(), make_send())
    assert (first.outcome, second.outcome) == ("malformed_stream", OK)


@BOTH
def test_a_server_that_does_not_listen_is_a_failed_connection(sending: Sending) -> None:
    with FaultServer(lambda _: []) as server:
        url = server.base_url
    for reply in sending(make_target(url), make_send(), make_send()):
        assert (reply.outcome, reply.sent, reply.status) == ("connect_failed", None, None)


@BOTH
def test_a_name_that_is_unknown_is_a_failed_connection(sending: Sending) -> None:
    for reply in sending(make_target("http://no-such-host.invalid/v1"), make_send(), make_send()):
        assert (reply.outcome, reply.sent) == ("connect_failed", None)


@BOTH
def test_an_answer_as_long_as_a_book_is_read_to_its_end(sending: Sending) -> None:
    count = 20_000
    book = framed(b"".join([chunk(content="word ")] * count + [chunk("stop"), DONE]))
    said = [Write(head(200, ("content-type", EVENT_STREAM))), Write(book), Write(END)]
    with FaultServer(lambda _: said) as server:
        for reply in sending(make_target(server.base_url), make_send(), make_send()):
            assert (reply.outcome, reply.chunks) == (OK, count)
            assert reply.answer == "word " * count
        assert server.connections == 1
