"""The simulated provider on a port of this machine, within a test's own loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import msgspec

from harness.records.clock import Anchor, monotonic_since, take_anchor
from harness.records.provider_log import ProviderHead, Served
from harness.simulator.api import Api
from harness.simulator.listener import Listener
from harness.simulator.log import Log
from harness.simulator.profiles import load_profile
from harness.simulator.server import base_url, bind


class Provider(NamedTuple):
    """A provider that serves: where, and what its log says so far."""

    url: str
    path: Path
    session: aiohttp.ClientSession
    anchor: Anchor
    connections: Callable[[], int]
    """Counts those that are open."""

    def ask(self, text: str = "Topic: tides", **more: Any) -> dict[str, Any]:
        return {"model": "m", "messages": [{"role": "user", "content": text}], **more}

    def post(
        self, body: Mapping[str, Any], headers: Mapping[str, str] = {}
    ) -> contextlib.AbstractAsyncContextManager[aiohttp.ClientResponse]:
        return self.session.post(f"{self.url}/chat/completions", json=body, headers=headers)

    def log(self) -> list[Served]:
        lines = self.path.read_bytes().splitlines()
        assert msgspec.json.decode(lines[0], type=ProviderHead).anchor == self.anchor
        return [msgspec.json.decode(line, type=Served) for line in lines[1:]]

    async def logged(self, count: int) -> list[Served]:
        """Return the log once it has `count` lines; the client is sometimes done a bit sooner."""
        async with asyncio.timeout(10):
            while len(self.log()) < count:  # noqa: ASYNC110 - the log is a file
                await asyncio.sleep(0)
        return self.log()


@contextlib.asynccontextmanager
async def serving(
    where: Path,
    overrides: Mapping[str, object] = {},
    profile: str = "streams",
    scale: float = 0.01,
    host: str = "127.0.0.1",
) -> AsyncIterator[Provider]:
    loaded = load_profile(profile, overrides)
    sock, anchor, path = bind("127.0.0.1", 0), take_anchor(), where / "provider.jsonl"
    head = ProviderHead(anchor=anchor, profile=loaded.as_dict(), seed=3, time_scale=scale)
    log = Log(path, head)
    listener = Listener(sock)
    api = Api(loaded, 3, scale, log, monotonic_since(anchor), listener, host=host)
    await listener.start(api.connection)
    url = base_url(sock)
    try:
        async with aiohttp.ClientSession() as session:
            yield Provider(url, path, session, anchor, lambda: len(api._connections))
    finally:
        listener.close()
        api.stop()
        await listener.wait_closed()
        log.close()
