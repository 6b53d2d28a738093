"""Lets aiohttp parse responses with the parser of the blocking clients, so that all modes agree.

aiohttp's own parser refuses what that one reads, such as Content-Length beside Transfer-Encoding or
more than 128 headers. And aiohttp keeps a response that arrives on an idle connection for the next
request; here the connection is closed.
"""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import httpx2
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import HttpVersion11, RawResponseMessage
from aiohttp.streams import StreamReader
from multidict import CIMultiDict, CIMultiDictProxy

from harness.transports.exchange import current
from harness.transports.response_parser import ResponseParser
from harness.transports.unasked import UnaskedResponseError, has_unacknowledged

_Messages = list[tuple[RawResponseMessage, StreamReader]]


class _MessageParser:
    """The interface of aiohttp's parser for one response."""

    def __init__(self, protocol: ResponseHandler, parser: ResponseParser, buffered: int) -> None:
        self._protocol = protocol
        self._parser = parser
        self._buffered = buffered
        self._payload: StreamReader | None = None
        self._ended = False

    def feed_data(self, data: bytes) -> tuple[_Messages, bool, bytes]:
        """Parse received bytes; return a message when its headers are complete."""
        if not data:  # aiohttp resumes reading
            return [], False, b""
        parser = self._parser
        if self._ended:
            raise UnaskedResponseError("bytes that no request asked for")
        try:
            parser.feed(data)
        except httpx2.RemoteProtocolError as error:
            if self._payload is not None:
                self._payload.set_exception(aiohttp.ClientPayloadError(str(error)))
            raise
        messages: _Messages = []
        payload = self._payload
        if payload is None:
            if not parser.status:
                return messages, False, b""
            loop = asyncio.get_running_loop()
            self._payload = payload = StreamReader(self._protocol, self._buffered, loop=loop)
            messages.append((_message(parser), payload))
        self._pass_on(payload)
        return messages, False, b""

    def feed_eof(self) -> None:
        """Process the end of the connection. Raises RemoteProtocolError within a response."""
        if not self._ended:
            self._parser.feed(b"")
            if self._payload is not None:
                self._pass_on(self._payload)

    def pause_reading(self) -> None:
        """Do nothing: aiohttp pauses the connection."""

    def _pass_on(self, payload: StreamReader) -> None:
        if body := self._parser.take_body():
            payload.feed_data(body)
        if self._parser.complete:
            self._ended = True
            if not self._parser.reusable:
                self._protocol.force_close()
            payload.feed_eof()


def _message(parser: ResponseParser) -> RawResponseMessage:
    headers = CIMultiDict(
        (name.decode("latin-1"), value.decode("utf-8", "surrogateescape"))
        for name, value in parser.headers
    )
    return RawResponseMessage(
        HttpVersion11, parser.status, "", CIMultiDictProxy(headers), tuple(parser.headers),
        not parser.reusable, None, False, False,
    )  # fmt: skip


class ResponseProtocol(ResponseHandler):
    """The connection of aiohttp, with our parser.

    `is_connected_through`: it reaches the server; before that, a proxy may be asked for a tunnel.
    """

    is_connected_through = False

    def set_response_params(self, *, skip_payload: bool = False, **parameters: Any) -> None:
        """Prepare for the response to the next request."""
        self._skip_payload = skip_payload
        self._read_bufsize = parameters.get("read_bufsize", self._read_bufsize)
        exchange, transport = current.get(), self.transport

        def is_early() -> bool:
            return (
                transport is None
                or (self.is_connected_through and exchange.is_unsent)
                or transport.get_write_buffer_size() > 0
                or has_unacknowledged(transport.get_extra_info("socket"))
            )

        parser = ResponseParser(exchange.terms.limits.head, is_early)
        self._parser = _MessageParser(self, parser, self._read_bufsize)  # type: ignore[assignment]
        self._drain_tail()
