"""Sends the requests of programs to the endpoint of a scenario instead of their own.

The path below the base URL, the body and a few headers are the program's. The server, the key and
what `[endpoint]` says of requests are the scenario's. No other header of the program is sent,
because any header can hold a key.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import httpx2
import msgspec

from harness.client.calls import ClientCall, ReceivedResponse
from harness.config.request_settings import RequestSettings
from harness.engine.branches import Branch
from harness.engine.effects import Reply, Send
from harness.records.clock import ReadClock
from harness.transports.async_transport import exchange_async
from harness.transports.exchange import Exchange, attempt_headers, received_texts
from harness.transports.request_bodies import adapted
from harness.transports.target import Target
from harness.transports.wire_sender import WireSender

CHAT_PATH = "/chat/completions"
_OF_MODEL = frozenset({CHAT_PATH, "/completions", "/responses"})
"""The paths to whose requests `endpoint.model` and the keys of `[endpoint]` apply."""
_SENT = frozenset(
    {
        b"accept", b"accept-encoding", b"anthropic-beta", b"anthropic-version", b"content-type",
        b"openai-beta", b"user-agent",
    }
)  # fmt: skip
_SENT_PREFIX = b"x-stainless-"
"""The headers of a program that are sent."""
_OF_AZURE = "api-version"
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
"""The methods whose requests say the length of their body also if it is empty."""


class RequestToTarget(NamedTuple):
    """A request as it is sent to a target: without its host and the length of its body."""

    method: str
    url: httpx2.URL
    headers: list[tuple[bytes, bytes]]
    body: bytes


class TargetTransport:
    """Sends the attempts of programs to a target. Use it as an async context manager."""

    def __init__(self, target: Target, now: ReadClock) -> None:
        self._target = target
        self._texts = received_texts(target)
        self._now = now
        self._sender = WireSender(target, now, httpx2.URL(target.base_url))

    async def __aenter__(self) -> TargetTransport:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._sender.close()

    async def transmit(self, effect: Send, branch: Branch, call: ClientCall) -> Reply:
        """Send an attempt; `call` gets the response. A failure is a reply too."""
        target = self._target
        exchange = Exchange(
            call.streams, effect.deadlines, self._now, target.anchor, target.reading, self._texts
        )
        received = ReceivedResponse(call, exchange, branch)
        steps = partial(self._exchange, effect, call, received)
        reply = await exchange_async(exchange, branch, steps)
        received.end(reply)
        return reply

    async def _exchange(self, effect: Send, call: ClientCall, received: ReceivedResponse) -> Reply:
        asked, sender = request_to(self._target, effect, call), self._sender
        headers = asked.headers
        if asked.body or asked.method in _WITH_BODY:
            headers = [*headers, (b"content-length", b"%d" % len(asked.body))]

        def message(url: httpx2.URL) -> bytes:
            return sender.head(asked.method, url, headers) + asked.body

        try:
            request = _identity(asked.method, asked.url)
            return await sender.send(request, message, received.exchange, received)
        except Exception as error:
            received.fail(error)
            raise


@functools.lru_cache(maxsize=64)
def _identity(method: str, url: httpx2.URL) -> httpx2.Request:
    """Return a request with a method and a URL alone."""
    return httpx2.Request(method, url)


def request_to(target: Target, effect: Send, call: ClientCall) -> RequestToTarget:
    """Return the request of an attempt as it is sent to the target."""
    asked, given = effect.request, call.request
    assert asked.path is not None, "a program has sent it"
    body = asked.body
    if asked.path in _OF_MODEL:
        by_phase = target.extra_body_by_phase.get(effect.key.phase, {})
        extra = {**target.extra_body, **by_phase}
        body = adapted_body(body, None if call.keeps_model else target.model, target.request, extra)
    own = {**target.request.headers, "Authorization": f"Bearer {target.api_key}"}
    for name, value in target.request.key_headers(target.api_key).items():
        own.pop(name, None)
        if value is not None:
            own[name] = value
    own.update(attempt_headers(target, effect))
    replaced = {name.lower().encode() for name in own}
    kept = [  # as bytes, because decoding them takes 0.1 ms
        pair
        for name, pair in ((pair[0].lower(), pair) for pair in given.headers.raw)
        if (name in _SENT or name.startswith(_SENT_PREFIX)) and name not in replaced
    ]
    added = [(name.encode(), value.encode()) for name, value in own.items()]
    query = tuple(target.request.query.items())
    url = _url(target.base_url, asked.path, given.url.query, query)
    return RequestToTarget(given.method, url, [*kept, *added], body or b"")


@functools.lru_cache(maxsize=64)
def _url(base: str, path: str, query: bytes, own: tuple[tuple[str, str], ...]) -> httpx2.URL:
    """Return the URL of a path below `base`, with the query of a program and that of the target."""
    url = httpx2.URL(base.rstrip("/") + path)
    given = httpx2.QueryParams(query.decode("ascii", "replace"))
    kept = [pair for pair in given.multi_items() if pair[0] != _OF_AZURE]
    params = [*url.params.multi_items(), *kept, *own]
    return url.copy_with(params=params) if params else url


def adapted_body(
    body: bytes, model: str | None, settings: RequestSettings, extra: Mapping[str, Any]
) -> bytes:
    """Return a JSON body with a model and with what `[endpoint]` says of bodies.

    `model`: None to leave it. A body that is no JSON object stays as it is.
    """
    changes = extra or settings.omit or settings.rename or settings.system != "message"
    if model is None and not changes:
        return body
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body
    if not isinstance(value, dict):
        return body
    if model is not None:
        value["model"] = model
    return msgspec.json.encode(adapted(value, settings, extra))


def body_for_model(path: str, body: bytes, model: str) -> bytes:
    """Return the body of a request to a path with a model, if such requests name one."""
    return adapted_body(body, model, RequestSettings(), {}) if path in _OF_MODEL else body
