"""Programs that use the clients, and servers that answer them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from openai.types.chat import ChatCompletionChunk

import harness
from harness.records.schema import Attempt, Call, Record
from tests.transports.bodies import DONE, EVENT_STREAM, JSON, chunk, whole
from tests.wire.fault_server import END, FaultServer, Seen, Step, Write, framed, head

MESSAGES: list[Any] = [{"role": "user", "content": "why?"}]
PIECES = [chunk(content="Be"), chunk(content="cause"), chunk("stop"), DONE]
SOON = harness.policies.Exponential(attempts=3, base=0.001, cap=0.01)
ERROR = b'{"error": {"message": "overloaded", "code": "overloaded"}}'


def stream_of(*pieces: bytes) -> Sequence[Step]:
    """A stream that ends cleanly."""
    begin = head(200, ("content-type", EVENT_STREAM))
    return [Write(begin + b"".join(map(framed, pieces))), Write(END)]


def body_of(body: bytes, status: int = 200, *headers: tuple[str, str]) -> Sequence[Step]:
    """A whole response."""
    return [Write(head(status, ("content-type", JSON), *headers) + framed(body) + END)]


def good(seen: Seen) -> Sequence[Step]:
    """The right answer to a request for a stream or a whole response."""
    return (
        stream_of(*PIECES) if b'"stream":true' in seen.body else body_of(whole(content="Because"))
    )


def refused(status: int = 503, *headers: tuple[str, str]) -> Sequence[Step]:
    """An error."""
    return body_of(ERROR, status, *headers)


def in_turn(*answers: Sequence[Step]) -> Callable[[Seen], Sequence[Step]]:
    """Give these answers first, and then good ones."""
    left = iter(answers)
    lock = threading.Lock()

    def answer(seen: Seen) -> Sequence[Step]:
        with lock:
            return next(left, None) or good(seen)

    return answer


def text_of(chunks: Iterable[ChatCompletionChunk]) -> str:
    """The text of a stream."""
    return "".join(one.choices[0].delta.content or "" for one in chunks)


def ask(server: FaultServer, mode: str, *, stream: bool, **keywords: Any) -> str:
    """Ask once with the client of a mode, and return the answer."""
    keywords = {"api_key": "k", "base_url": server.base_url, "retry": SOON, **keywords}
    if mode == "sync":
        with harness.OpenAI(**keywords) as client:
            if stream:
                return text_of(
                    client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
                )
            reply = client.chat.completions.create(model="m", messages=MESSAGES)
            return reply.choices[0].message.content or ""

    async def asking() -> str:
        async with harness.AsyncOpenAI(**keywords) as client:
            if stream:
                chunks = await client.chat.completions.create(
                    model="m", messages=MESSAGES, stream=True
                )
                return text_of([one async for one in chunks])
            reply = await client.chat.completions.create(model="m", messages=MESSAGES)
            return reply.choices[0].message.content or ""

    return asyncio.run(asking())


def outcomes(records: Iterable[Record]) -> list[str]:
    """The outcomes of the attempts."""
    return [record.outcome for record in records if isinstance(record, Attempt)]


def calls(records: Iterable[Record]) -> list[Call]:
    """The records of the calls."""
    return [record for record in records if isinstance(record, Call)]
