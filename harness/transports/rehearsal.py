"""What the first attempt of a process would pay for, paid before anything is measured.

The openai package imports and builds much on its first request only, and the certificates that
the operating system trusts are read once.
"""

from __future__ import annotations

import asyncio

import httpx2

from harness.engine.effects import Deadlines, Message, Reply, Request, Send
from harness.records.clock import SECOND, ReadClock
from harness.records.failures import OK
from harness.records.keys import AttemptKey
from harness.transports.async_transport import AsyncClient, aiohttp_transport
from harness.transports.exchange import Target
from harness.transports.sync_transport import SyncClient, default_transport

_BODY = b"""\
data: {"choices": [{"delta": {"content": "ready"}, "finish_reason": "stop"}]}

data: [DONE]

"""


def rehearse(target: Target, now: ReadClock) -> None:
    """Send one attempt through each client, as it would go to `target`, but to nowhere."""
    default_transport(target).close()
    with SyncClient(target, now, httpx2.Client(transport=_nowhere())) as client:
        _check(client.send(_attempt(now)))
    asyncio.run(_rehearse_async(target, now))


async def _rehearse_async(target: Target, now: ReadClock) -> None:
    await aiohttp_transport(target).aclose()
    async with AsyncClient(target, now, httpx2.AsyncClient(transport=_nowhere())) as client:
        _check(await client.send(_attempt(now)))


def _nowhere() -> httpx2.MockTransport:
    """Return a transport that answers at once and reaches nothing."""
    headers = {"content-type": "text/event-stream"}
    return httpx2.MockTransport(lambda _: httpx2.Response(200, headers=headers, content=_BODY))


def _attempt(now: ReadClock) -> Send:
    return Send(
        AttemptKey("rehearsal", 0, 0, 0, "rehearsal", None, 1, 1),
        Request((Message("user", "Are you ready?"),)),
        Deadlines(60 * SECOND, 60 * SECOND, 60 * SECOND, now() + 60 * SECOND, "call_timeout"),
    )


def _check(reply: Reply) -> None:
    assert reply.outcome == OK, f"{reply.outcome}: {reply.detail}"
