"""Pieces that are collected and read together mean the same as pieces that are read one by one."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.config.response_reading import ReadingTerms, ResponseLimits
from harness.engine.effects import Reply
from harness.transports import wire_connection
from harness.transports.exchange import Exchange
from harness.transports.framed_chunks import FramedChunks
from harness.transports.wire_connection import PieceBacklog, WireConnection
from tests.transports.attempts import ANCHOR, make_deadlines
from tests.transports.bodies import DONE
from tests.transports.cutting import cut
from tests.transports.test_plain_chunks import chunk_of, streams

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


class Wire:
    """A transport that sends nothing."""

    def __init__(self) -> None:
        self.is_aborted = False

    def write(self, data: bytes) -> None: ...

    def abort(self) -> None:
        self.is_aborted = True

    def is_closing(self) -> bool:
        return self.is_aborted

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str) -> Wire:
        return self

    def fileno(self) -> int:
        return 1_000_000  # no file: nothing is unacknowledged


def framed(event: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(event), event)


def received(pieces: list[bytes], *, most_text: int = 1_000_000, cancel: bool = False) -> Any:
    """Return the reply to a response whose pieces come at 10, 20, 30 …, and whether it is over."""
    clock = iter(range(10, 10 * (len(pieces) + 9), 10))

    async def whole() -> tuple[Reply | None, bool]:
        wire, time = Wire(), [0]
        backlog = PieceBacklog(lambda: time[0])
        connection = WireConnection(
            lambda: time[0], "/v1/chat/completions", lambda _: None, backlog
        )
        connection.connection_made(cast(asyncio.Transport, wire))
        terms = ReadingTerms(limits=ResponseLimits(text=most_text))
        exchange = Exchange(True, make_deadlines(), lambda: time[0], ANCHOR, terms)
        sending = asyncio.create_task(connection.send(b"", exchange, close=False, follow=False))
        await asyncio.sleep(0)
        for piece in pieces:
            time[0] = next(clock)
            if not sending.done():
                connection.data_received(piece)
                await asyncio.sleep(0)
        if cancel:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            return exchange.reply("cancelled", done=0), False
        try:
            reply = await asyncio.wait_for(sending, 0.001)
        except TimeoutError:
            reply = exchange.reply("timeout", done=0)
        except Exception as error:
            reply = exchange.fail(error)
        return reply, connection.is_reusable

    return asyncio.run(whole())


def both(pieces: list[bytes], **options: Any) -> tuple[Any, Any]:
    """Return what is received with pieces that are collected, and without."""
    collected = received(pieces, **options)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(wire_connection, "_MOST_TRIES", 0)
        return collected, received(pieces, **options)


@settings(max_examples=200)
@given(streams(), st.sampled_from([20, 1_000_000]), st.booleans())
def test_one_chunk_a_piece(events: list[bytes], most_text: int, cancel: bool) -> None:
    pieces = [HEAD, *map(framed, [*events, DONE]), END]
    collected, one_by_one = both(pieces, most_text=most_text, cancel=cancel)
    assert collected == one_by_one


@settings(max_examples=100)
@given(streams(), st.data())
def test_pieces_of_any_form(events: list[bytes], cuts: st.DataObject) -> None:
    whole = b"".join([HEAD, *map(framed, [*events, DONE]), END])
    collected, one_by_one = both([piece for piece in cuts.draw(cut(whole)) if piece])
    assert collected == one_by_one


SIZES = st.sampled_from(["%x", "%X", "0%x"])


@settings(max_examples=100)
@given(streams(), st.data())
def test_pieces_of_whole_chunks(events: list[bytes], drawn: st.DataObject) -> None:
    pieces = [HEAD]
    for event in [*events, DONE]:
        chunk = (drawn.draw(SIZES) % len(event)).encode() + b"\r\n" + event + b"\r\n"
        if drawn.draw(st.booleans()):
            pieces.append(chunk)
        else:
            pieces[-1] += chunk
    collected, one_by_one = both([*pieces, END])
    assert collected == one_by_one


BEFORE, AFTER = b'data: {"text":"', b'"}'


@settings(max_examples=200)
@given(st.lists(st.tuples(st.binary(max_size=3), SIZES, st.integers(-1, 3)), max_size=20))
def test_a_known_size_changes_nothing(parts: list[tuple[bytes, str, int]]) -> None:
    known, slow = (FramedChunks(BEFORE, AFTER, 0) for _ in range(2))
    for at, (text, size, wrong) in enumerate(parts):
        event = BEFORE + text + AFTER + b"\n\n"
        length = len(event) + (wrong if wrong < 1 else 0)
        piece = (size % length).encode() + b"\r\n" + event + b"\r\n"
        slow._begins.clear()
        assert known.takes(piece, at) == slow.takes(piece, at)
    assert (known.texts, known.stamps) == (slow.texts, slow.stamps)
    assert list(map(known.chunk, known.texts)) == list(map(slow.chunk, slow.texts))


@pytest.mark.parametrize(
    "odd",
    [
        framed(chunk_of(content="two ")) * 2,
        framed(chunk_of(content="wrong size "))[1:],
        b"1" + framed(chunk_of(content="wrong size ")),
        framed(chunk_of(content='"')),
        framed(chunk_of(content="\n")),
        framed(chunk_of(content="</think>")),
        framed(chunk_of(content="é\u2028")),
        framed(chunk_of(content="x").replace(b"x", b"\xff")),
        framed(chunk_of(content="Z").replace(b"Z", b"\xc3"))
        + framed(chunk_of(content="Z").replace(b"Z", b"\xa9")),
        framed(chunk_of(reasoning_content="hm")),
    ],
    ids=[
        "two",
        "smaller",
        "larger",
        "quote",
        "escape",
        "mark",
        "separator",
        "no text",
        "divided character",
        "other",
    ],
)
def test_what_is_otherwise_among_them(odd: bytes) -> None:
    plain = [framed(chunk_of(content=f"word {number} ")) for number in range(20)]
    pieces = [HEAD, *plain[:10], odd, *plain[10:], framed(DONE), END]
    collected, one_by_one = both(pieces)
    assert collected == one_by_one


@pytest.fixture
def processed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The pieces that are read one by one."""
    found: list[bytes] = []
    original = WireConnection._process

    def counted(self: WireConnection, data: bytes, at: int) -> None:
        found.append(data)
        original(self, data, at)

    monkeypatch.setattr(WireConnection, "_process", counted)
    return found


def test_most_pieces_are_read_together(processed: list[bytes]) -> None:
    plain = [framed(chunk_of(content=f"word {number} ")) for number in range(100)]
    reply, is_reusable = received([HEAD, *plain, framed(chunk_of(content="")), framed(DONE), END])
    assert (reply.chunks, sum(reply.gaps.values())) == (100, 99)
    assert reply.answer == "".join(f"word {number} " for number in range(100))
    assert len(processed) < 10
    assert is_reusable


def test_escapes_do_not_end_the_collecting(processed: list[bytes]) -> None:
    texts = ["\n" if number % 10 == 9 else f"word {number} " for number in range(200)]
    pieces = [framed(chunk_of(content=text)) for text in texts]
    reply, _ = received([HEAD, *pieces, framed(DONE), END])
    assert (reply.chunks, reply.answer) == (200, "".join(texts))
    assert len(processed) < 30


def test_bytes_after_a_response_are_no_answer_to_the_next_request() -> None:
    """They arrive when the response is complete, and its sender has not gone on yet."""
    response = b"".join([HEAD, framed(chunk_of(content="a")), framed(DONE), END])

    async def whole() -> bool:
        wire = Wire()
        connection = WireConnection(
            lambda: 1, "/v1/chat/completions", lambda _: None, PieceBacklog(lambda: 1)
        )
        connection.connection_made(cast(asyncio.Transport, wire))

        async def send() -> bool:
            exchange = Exchange(True, make_deadlines(), lambda: 1, ANCHOR)
            reply = await connection.send(b"", exchange, close=False, follow=False)
            assert reply is not None
            assert reply.outcome == "ok"
            return connection.is_reusable

        sending = asyncio.create_task(send())
        await asyncio.sleep(0)
        connection.data_received(response)
        await asyncio.sleep(0)
        assert not sending.done()
        connection.data_received(response)
        return await sending

    assert not asyncio.run(whole())
