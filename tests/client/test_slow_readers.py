"""Programs that read a stream more slowly than it arrives."""

from __future__ import annotations

import asyncio
from typing import Any

import harness
from harness.client.async_responses import MOST_WAITING
from harness.engine.effects import Deadlines
from harness.records.clock import SECOND, Anchor
from harness.transports.exchange import Exchange
from tests.transports.bodies import DONE, EVENT_STREAM, chunk
from tests.wire.fault_server import framed, head

PIECE = chunk(content="x" * 2**16)
COUNT = 384
"""Pieces of a stream of 24 MiB, which no buffers of sockets hold."""


class EagerServer:
    """Sends a stream as fast as it is read, and counts the pieces."""

    def __init__(self) -> None:
        self.sent = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head(200, ("content-type", EVENT_STREAM)))
        for _ in range(COUNT):
            writer.write(framed(PIECE))
            await writer.drain()
            self.sent += 1
        writer.write(framed(chunk("stop")) + framed(DONE) + b"0\r\n\r\n")
        await writer.drain()
        writer.close()


async def test_a_stream_that_nobody_reads_is_not_received_beyond_a_bound() -> None:
    eager = EagerServer()
    server = await asyncio.start_server(eager, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    asked: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "why?"}]}
    async with (
        asyncio.timeout(60),
        server,
        harness.AsyncOpenAI(api_key="k", base_url=url, max_retries=0) as client,
    ):
        stream = await client.chat.completions.create(stream=True, **asked)
        still, last = 0, -1
        while still < 2000:
            await asyncio.sleep(0)
            still, last = (still + 1, last) if eager.sent == last else (0, eager.sent)
        assert MOST_WAITING / len(PIECE) < last < COUNT / 2
        texts = [one.choices[0].delta.content or "" async for one in stream if one.choices]
    assert len("".join(texts)) == COUNT * 2**16


def test_the_idle_deadline_does_not_run_while_nothing_is_read() -> None:
    now = 0
    deadlines = Deadlines(SECOND, SECOND, SECOND, 100 * SECOND, "call_timeout")
    exchange = Exchange(True, deadlines, lambda: now, Anchor(unix_ns=0, monotonic_ns=0))
    exchange.note_sent()
    exchange.note_response(200, {"content-type": EVENT_STREAM})
    exchange.begin_reading("/chat/completions")
    exchange.received(PIECE, 0)
    with exchange.reading_paused():
        now = 10 * SECOND
        assert not exchange.overdue()
    now = 10 * SECOND + SECOND // 2
    assert not exchange.overdue()
    now = 11 * SECOND
    assert exchange.overdue()
    assert exchange.expired == "idle_timeout"
