"""Responses are parsed alike however their bytes are cut, and what is no response is an error."""

from __future__ import annotations

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.transports.response_parser import ResponseParser
from harness.transports.unasked import UnaskedResponseError
from tests.transports.cutting import cut

CHUNKED = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n"
SIZED = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"
UNTIL_CLOSED = b"HTTP/1.1 200 OK\r\n\r\n"


def parse(*pieces: bytes) -> tuple[ResponseParser, bytes]:
    parser = ResponseParser()
    body = b""
    for piece in pieces:
        parser.feed(piece)
        body += parser.take_body()
    return parser, body


@pytest.mark.parametrize(
    ("sent", "reusable"),
    [
        (CHUNKED + b"3\r\nabc\r\n2;note=1\r\nde\r\n0\r\nchecksum: 1\r\n\r\n", True),
        (SIZED + b"abcde", True),
        (
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nlink: x\r\n\r\n"
            + SIZED
            + b"abcde",
            True,
        ),
        (SIZED.replace(b"OK", b"OK\r\nfolded: 1\r\n 2") + b"abcde", True),
        (SIZED.replace(b"OK", b"OK\r\ncontrol: \x01") + b"abcde", True),
        (SIZED.replace(b"\r\n", b"\n") + b"abcde", True),
        (CHUNKED + b"5 \r\nabcde\r\n0\r\n\r\n", True),
        (SIZED.replace(b"OK", b"OK\r\nconnection: close") + b"abcde", False),
        (SIZED.replace(b"1.1", b"1.0") + b"abcde", False),
        (
            CHUNKED.replace(b"OK", b"OK\r\ncontent-length: 2") + b"5\r\nabcde\r\n0\r\n\r\n",
            False,
        ),
        (SIZED.replace(b"OK", b"OK" + b"\r\nx: y" * 300) + b"abcde", True),
    ],
    ids=["chunked", "sized", "informational", "folded", "control", "line feeds", "space", "closing",
         "old", "two lengths", "many headers"],
)  # fmt: skip
@given(cuts=st.data())
def test_any_cutting_of_the_bytes_gives_the_same_response(
    sent: bytes, reusable: bool, cuts: st.DataObject
) -> None:
    parser, body = parse(*(piece for piece in cuts.draw(cut(sent)) if piece))
    assert (parser.status, parser.complete, parser.reusable) == (200, True, reusable)
    assert body == b"abcde"
    assert b"link" not in dict(parser.headers)
    assert b"checksum" not in dict(parser.headers)


def test_the_next_response_begins_anew() -> None:
    parser, _ = parse(CHUNKED + b"3\r\nabc\r\n0\r\n\r\n")
    parser.restart()
    parser.feed(SIZED.replace(b"200", b"404") + b"abc")
    assert (parser.status, parser.complete) == (404, False)
    assert parser.headers == [(b"content-length", b"5")]
    parser.feed(b"de")
    assert parser.complete
    assert parser.take_body() == b"abcde"


def test_without_a_length_the_body_ends_with_the_connection() -> None:
    parser, body = parse(UNTIL_CLOSED, b"abc", b"de")
    assert not parser.complete
    parser.feed(b"")
    assert (parser.complete, parser.reusable, body) == (True, False, b"abcde")


@pytest.mark.parametrize(
    "more",
    [SIZED + b"other", b"HTTP/1.1 100 Continue\r\n\r\n", b"!"],
    ids=["response", "100", "noise"],
)
def test_after_bytes_that_nobody_asked_for_the_connection_is_not_used_again(more: bytes) -> None:
    parser, body = parse(SIZED + b"abcde" + more)
    assert (parser.status, parser.complete, parser.reusable) == (200, True, False)
    assert body == b"abcde"


@pytest.mark.parametrize(
    "pieces",
    [
        [b""],
        [b"HTTP/1.1 200 OK\r\n", b""],
        [b"HTTP/1.1 100 Continue\r\n\r\n", b""],
        [SIZED + b"abc", b""],
        [CHUNKED + b"3\r\nabc\r\n", b""],
        [b"SSH-2.0-server\r\n"],
        [CHUNKED + b"zz\r\n"],
        [b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\n"] + [b"x: " + b"y" * 20_000 + b"\r\n"] * 6,
    ],
    ids=["nothing", "half a head", "no response", "short", "no last chunk", "no HTTP", "no length",
         "another protocol", "a long head"],
)  # fmt: skip
def test_what_is_no_whole_response_is_an_error_without_a_cause(pieces: list[bytes]) -> None:
    with pytest.raises(httpx2.RemoteProtocolError) as caught:
        parse(*pieces)
    assert caught.value.__cause__ is caught.value.__context__ is None  # the cause names the detail


@pytest.mark.parametrize(
    ("received", "early", "is_unasked"),
    [
        (SIZED, [True], True),
        (SIZED, [False], False),
        (SIZED.replace(b"200 OK", b"413 Too long"), [True], False),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + SIZED, [True, False], False),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + SIZED, [True, True], True),
    ],
    ids=["early", "in time", "a refusal", "only the informational one", "after it"],
)
@given(cuts=st.data())
def test_a_response_that_begins_before_the_request_has_arrived_is_not_its_answer(
    received: bytes, early: list[bool], is_unasked: bool, cuts: st.DataObject
) -> None:
    """What counts is the first byte of the response, and not that of an informational one."""
    began = iter(early)
    parser = ResponseParser(is_early=lambda: next(began))
    pieces = [piece for piece in cuts.draw(cut(received)) if piece]

    def feed() -> None:
        for piece in pieces:
            parser.feed(piece)

    if is_unasked:
        with pytest.raises(UnaskedResponseError):
            feed()
        assert not parser.reusable
    else:
        feed()
        assert parser.status
