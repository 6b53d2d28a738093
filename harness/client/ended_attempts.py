"""What a program gets from an attempt that has ended: its response, or an error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import httpx2
import openai

from harness.engine.effects import Reply
from harness.records.failures import CANCELLED, OK, is_retryable, of_status

CLOSED = "the client is closed"

_CHANGED_HEADERS = {"content-encoding", "content-length", "transfer-encoding"}
"""Headers that no longer describe a body that has been decoded."""


class FailedResponseError(openai.APIError):
    """A response with status 200 that is a failure, after the policy has given up.

    `outcome`: its failure class, such as `error_in_stream` or `missing_done`. `response`: what was
    received, without what the program has got before; None if that is not all that was sent.
    """

    def __init__(
        self,
        outcome: str,
        detail: str,
        request: httpx2.Request,
        response: httpx2.Response | None = None,
    ) -> None:
        super().__init__(f"{outcome}: {detail}", request, body=None)
        self.outcome = outcome
        self.response = response


class EndedAttempt(NamedTuple):
    """An attempt that has ended. `head`: status and headers; None without a response.

    `cause`: the exception that ended it early, if the program may see it. `is_whole`: the response
    was received to its end.
    """

    reply: Reply
    head: httpx2.Response | None
    body: bytes
    cause: Exception | None = None
    is_whole: bool = True

    def error(self, request: httpx2.Request) -> Exception | None:
        """Return what the program gets instead of the response; None for the response itself.

        It gets responses with another status, which the package raises as errors, and complete
        responses that no retry would change, such as one that ends at `max_tokens`.
        """
        outcome, detail, status = self.reply.outcome, self.reply.detail, self.reply.status
        refused = status is not None and of_status(status) != OK
        if outcome == OK or refused:
            return None
        if outcome in _NETWORK:
            return _NETWORK[outcome](detail, request=request)
        if outcome == "client_error":
            return self.cause or httpx2.TransportError(detail, request=request)
        if outcome == CANCELLED:
            return openai.APIConnectionError(message=CLOSED, request=request)
        if not is_retryable(outcome):
            return None
        received = self.response() if self.is_whole and self.head is not None else None
        return FailedResponseError(outcome, detail, request, received)

    def response(self) -> httpx2.Response:
        """Return the response with the body that has arrived."""
        assert self.head is not None, "a reply with a status has a head"
        return response_of(self.head, self.body)


def response_of(
    head: httpx2.Response, body: bytes | httpx2.AsyncByteStream | httpx2.SyncByteStream
) -> httpx2.Response:
    """Return a response with status and headers of `head`, and a decoded body."""
    headers = [
        (name, value)
        for name, value in head.headers.multi_items()
        if name.lower() not in _CHANGED_HEADERS
    ]
    if isinstance(body, bytes):
        headers.append(("content-length", str(len(body))))
        body = httpx2.ByteStream(body)
    kept = ("http_version", "reason_phrase")
    extensions = {name: head.extensions[name] for name in kept if name in head.extensions}
    return httpx2.Response(head.status_code, headers=headers, stream=body, extensions=extensions)


_NETWORK: Mapping[str, type[httpx2.RequestError]] = {
    "certificate_error": httpx2.ConnectError,
    "proxy_error": httpx2.ProxyError,
    "wrong_protocol": httpx2.ConnectError,
    "connect_failed": httpx2.ConnectError,
    "connect_timeout": httpx2.ConnectTimeout,
    "connection_lost": httpx2.ReadError,
    "unasked_response": httpx2.RemoteProtocolError,
    "first_token_timeout": httpx2.ReadTimeout,
    "idle_timeout": httpx2.ReadTimeout,
    "call_timeout": httpx2.ReadTimeout,
    "workflow_timeout": httpx2.ReadTimeout,
}
"""The exception of each failure without a complete response; the package wraps it in its own."""
