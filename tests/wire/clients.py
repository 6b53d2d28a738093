"""Both clients, each as a run uses it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import TypeAlias, TypeVar

import pytest
import uvloop

from harness.client.asynchronous import AsyncClient
from harness.client.exchange import Target
from harness.client.synchronous import SyncClient
from harness.clock import monotonic_since
from harness.workflow.effects import Reply, Send
from tests.client.attempts import ANCHOR
from tests.wire.fault_server import PATIENCE

now = monotonic_since(ANCHOR)

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


def with_client(target: Target, use: Callable[[AsyncClient], Awaitable[T]]) -> T:
    """Use an AsyncClient on uvloop and return what came of it."""

    async def whole() -> T:
        async with AsyncClient(target, now) as client:
            return await use(client)

    return uvloop.run(whole())


BOTH = pytest.mark.parametrize("sending", [send_sync, send_async], ids=["sync", "async"])
