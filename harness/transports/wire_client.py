"""One attempt over sockets alone, without the openai package: the client that takes least time.

Its requests have the body that the openai package would send, and only the headers that are needed.
"""

from __future__ import annotations

import httpx2
import msgspec

from harness.config.request_settings import AUTHORIZATION
from harness.engine.branches import Branch
from harness.engine.effects import Reply, Send
from harness.records.clock import ReadClock
from harness.transports.async_transport import exchange_async
from harness.transports.exchange import Exchange, attempt_headers, received_texts
from harness.transports.request_bodies import request_body
from harness.transports.target import Target
from harness.transports.wire_sender import WireSender

_PATH = "/chat/completions"


class WireClient:
    """Sends attempts to one target. Use it as an async context manager."""

    def __init__(self, target: Target, now: ReadClock) -> None:
        self._target = target
        self._texts = received_texts(target)
        self._now = now
        self._request = httpx2.Request("POST", _url(target), content=b"{}")
        self._sender = WireSender(target, now, self._request.url)
        self._headers = _headers(target)
        self._head = b""
        self._head = self._head_for(self._request.url)

    async def __aenter__(self) -> WireClient:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._sender.close()

    async def send(self, effect: Send, branch: Branch | None = None) -> Reply:
        """Send one attempt and read the whole response. A failure is a reply too.

        If `branch` is cancelled, the attempt is aborted with the outcome `cancelled`.
        """
        target = self._target
        exchange = Exchange(
            target.stream, effect.deadlines, self._now, target.anchor, target.reading, self._texts
        )
        return await exchange_async(
            exchange, branch or Branch(), lambda: self._exchange(exchange, effect)
        )

    async def _exchange(self, exchange: Exchange, effect: Send) -> Reply:
        own = attempt_headers(self._target, effect)
        body = self._body(effect)
        lines = "".join([f"{name}: {value}\r\n" for name, value in own.items()])
        rest = f"{lines}content-length: {len(body)}\r\n\r\n".encode("latin-1") + body
        return await self._sender.send(
            self._request, lambda url: self._head_for(url) + rest, exchange
        )

    def _body(self, effect: Send) -> bytes:
        target = self._target
        body = request_body(target, effect.request)
        body.update(target.extra_body_by_phase.get(effect.key.phase, {}))
        return msgspec.json.encode(body)

    def _head_for(self, url: httpx2.URL) -> bytes:
        """Return the beginning of the requests to a URL, which is the same for all attempts."""
        if self._head and url is self._request.url:
            return self._head
        return self._sender.head("POST", url, self._headers).removesuffix(b"\r\n")


def _url(target: Target) -> httpx2.URL:
    url = httpx2.URL(target.base_url.rstrip("/") + _PATH)
    query = [*url.params.multi_items(), *target.request.query.items()]
    return url.copy_with(params=query) if query else url


def _headers(target: Target) -> list[tuple[bytes, bytes]]:
    """Return the headers of all attempts."""
    headers: dict[str, str | None] = {
        "accept": "application/json", "content-type": "application/json",
        AUTHORIZATION.lower(): f"Bearer {target.api_key}",
    }  # fmt: skip
    for table in (target.request.headers, target.request.key_headers(target.api_key)):
        headers |= {name.lower(): value for name, value in table.items()}
    return [(name.encode(), value.encode()) for name, value in headers.items() if value is not None]
