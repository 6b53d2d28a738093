"""The clients, each as a run uses it."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias, TypeVar

import pytest
import uvloop

from harness.config.network import cached_tls_context
from harness.engine.effects import Reply, Send
from harness.records.clock import monotonic_since
from harness.transports.async_transport import AsyncClient
from harness.transports.sync_transport import SyncClient
from harness.transports.target import Target
from harness.transports.wire_client import WireClient
from tests.transports.attempts import ANCHOR
from tests.wire.fault_server import PATIENCE

now = monotonic_since(ANCHOR)

CERTIFICATE = Path(__file__).with_name("localhost.pem")
"""Made for these tests, with its key; nobody else trusts it."""

T = TypeVar("T")
Sending: TypeAlias = Callable[..., list[Reply]]
"""(target, sends) -> their replies, one attempt after another through one client."""


def send_sync(target: Target, *sends: Send) -> list[Reply]:
    """Send with openai.OpenAI; leave no thread behind."""
    with SyncClient(target, now) as client:
        replies = [client.send(send) for send in sends]
    assert [thread for thread in threading.enumerate() if thread.name == "deadlines"] == []
    return replies


def send_async(target: Target, *sends: Send) -> list[Reply]:
    """Send with openai.AsyncOpenAI on uvloop; leave no task behind."""

    async def whole(client: AsyncClient) -> list[Reply]:
        replies = [await client.send(send) for send in sends]
        async with asyncio.timeout(PATIENCE):
            while asyncio.all_tasks() != {asyncio.current_task()}:  # noqa: ASYNC110 - no event
                await asyncio.sleep(0)
        return replies

    return with_client(target, whole)


def send_wire(target: Target, *sends: Send) -> list[Reply]:
    """Send with the wire client on uvloop; leave no task behind."""

    async def whole() -> list[Reply]:
        async with WireClient(target, now) as client:
            replies = [await client.send(send) for send in sends]
        async with asyncio.timeout(PATIENCE):
            while asyncio.all_tasks() != {asyncio.current_task()}:  # noqa: ASYNC110 - no event
                await asyncio.sleep(0)
        return replies

    return uvloop.run(whole())


def with_client(target: Target, use: Callable[[AsyncClient], Awaitable[T]]) -> T:
    """Use an AsyncClient on uvloop and return what came of it."""

    async def whole() -> T:
        async with AsyncClient(target, now) as client:
            return await use(client)

    return uvloop.run(whole())


@contextmanager
def trusted(monkeypatch: pytest.MonkeyPatch) -> Iterator[ssl.SSLContext]:
    """What a server secures its connections with, so that clients of the environment trust it."""
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERTIFICATE)
    cached_tls_context.cache_clear()
    try:
        yield context
    finally:
        cached_tls_context.cache_clear()


BOTH = pytest.mark.parametrize(
    "sending", [send_sync, send_async, send_wire], ids=["sync", "async", "wire"]
)
