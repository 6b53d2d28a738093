"""One connection to a collector, by OTLP over HTTP.

https://opentelemetry.io/docs/specs/otlp/#otlphttp. The SDK's exporter is not used, because it
reports a partial success or a redirect as a full success and does not report which spans were lost.
A private event loop runs only within `post`: while the harness does something else, the operating
system buffers the answer. A failing collector raises no exception, and no error shows the value of
a header.
"""

from __future__ import annotations

import asyncio
import gzip
import os
import socket
import ssl
import time
from contextlib import aclosing
from email.utils import parsedate_to_datetime
from http.client import responses
from typing import Literal, NamedTuple

import httpx2
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from harness import __version__
from harness.telemetry.otlp_target import OtlpTarget

_RESPONSE_LIMIT = 65_536
_RETRYABLE = (429, 502, 503, 504)
_ABOUT_THE_BODY = (400, 413, 422, 500)
"""Statuses that can concern a single request; the collector may accept another one."""


class CollectorReply(NamedTuple):
    """The result of one request.

    `verdict`: `taken` (except `rejected` of its spans), `refused` (this request will never be
    accepted), `hopeless` (no request will be accepted) or `later` (a retry may be accepted).
    `retry_after`: seconds that the collector asks to wait, or None. `problem`: in one line.
    """

    verdict: Literal["taken", "refused", "hopeless", "later"]
    rejected: int = 0
    retry_after: float | None = None
    problem: str | None = None


def check_collector(target: OtlpTarget) -> str | None:
    """Open one TCP connection; return the error in one line, None if it succeeded."""
    try:
        socket.create_connection((target.host, target.port), target.connect).close()
    except OSError as error:
        return f"{target}: {_reason(error, target.connect)}"
    return None


class CollectorConnection:
    """One persistent connection to a collector, with at most one request in flight."""

    def __init__(self, target: OtlpTarget) -> None:
        self._target = target
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        tls = (target.tls or ssl.create_default_context()) if target.scheme == "https" else False
        # No timeout here: `post` has one for the whole request.
        self._client = httpx2.AsyncClient(verify=tls, trust_env=False, timeout=None)
        self._request: asyncio.Task[CollectorReply] | None = None
        self._sent_at = 0.0

    @property
    def is_pending(self) -> bool:
        """Whether a request has no reply yet."""
        return self._request is not None

    def close(self) -> None:
        """Close the connection; a pending answer is lost."""
        if not self._client.is_closed:
            self._cancel()
            self._runner.run(self._client.aclose())
            self._runner.close()

    def post(self, body: bytes, seconds: float) -> CollectorReply | None:
        """Send a request and wait up to `seconds` for its reply; None if it has not arrived.

        If a request is pending, `body` is ignored. The target's timeout counts from the sending. An
        answer that has arrived by then is read, even if it is read later.
        """
        if self._request is None:
            loop = self._runner.get_loop()
            loop.set_exception_handler(lambda *_: None)  # a run that fails leaves a request pending
            self._request = loop.create_task(self._sent(body))
            self._sent_at = time.monotonic()
        left = self._sent_at + self._target.timeout - time.monotonic()
        self._runner.run(_wait(self._request, min(seconds, max(left, 0.1))))
        if self._request.done():
            reply, self._request = self._request.result(), None
            return reply
        if seconds < left:
            return None
        self._cancel()
        return self._later(_reason(TimeoutError(), self._target.timeout))

    def _cancel(self) -> None:
        if self._request is not None:
            self._request.cancel()
            self._runner.run(_wait(self._request))
            self._request = None

    def _later(self, problem: str, retry_after: float | None = None) -> CollectorReply:
        return CollectorReply("later", 0, retry_after, f"{self._target}: {problem}")

    async def _sent(self, body: bytes) -> CollectorReply:
        target = self._target
        headers = {
            **target.headers,
            "accept-encoding": "identity",
            "content-type": "application/x-protobuf",
            "user-agent": f"harness/{__version__}",
        }
        if target.gzip:
            headers["content-encoding"] = "gzip"
            body = gzip.compress(body, compresslevel=1)
        response, answer, is_whole = None, b"", False
        sending = self._client.stream("POST", target.url, content=body, headers=headers)
        try:
            async with sending as response, aclosing(response.aiter_raw(_RESPONSE_LIMIT)) as parts:
                answer = await anext(parts, b"")
                is_whole = await anext(parts, None) is None
        except httpx2.TransportError as error:
            if response is None:
                return self._later(_reason(error))
        return self._read(response, answer if is_whole else None)

    def _read(self, response: httpx2.Response, body: bytes | None) -> CollectorReply:
        """Return what an answer means. `body`: None if it was not read to its end."""
        target, status = self._target, response.status_code
        if not response.is_success:
            problem = f"answered {status} {responses.get(status, '')}".rstrip()
            if status in _RETRYABLE:
                return self._later(problem, _seconds(response.headers.get("retry-after", "")))
            is_refused = status in _ABOUT_THE_BODY
            return CollectorReply(
                "refused" if is_refused else "hopeless", problem=f"{target}: {problem}"
            )
        if body is None:
            return self._later("its answer is incomplete or too long")
        try:
            rejected = ExportTraceServiceResponse.FromString(body).partial_success.rejected_spans
        except DecodeError:
            return CollectorReply(
                "hopeless", problem=f"{target}: its answer is not OTLP; check the address"
            )
        partly = f"{target}: accepted only a part of the spans" if rejected else None
        return CollectorReply("taken", rejected=rejected, problem=partly)


async def _wait(request: asyncio.Task[CollectorReply], seconds: float | None = None) -> None:
    await asyncio.wait([request], timeout=seconds)


def _seconds(text: str) -> float | None:
    """Read Retry-After: seconds or a date (RFC 9110, section 10.2.3)."""
    try:
        if text.isascii() and text.isdigit():
            return float(text)
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


def _reason(error: BaseException | None, seconds: float = 0.0) -> str:
    """Return the system's reason for an error, which httpx2 wraps. `seconds`: the timeout."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted ({error.verify_message})"
        if isinstance(error, OSError) and error.errno:
            is_text_own = isinstance(error, ssl.SSLError | socket.gaierror)
            return str(error.strerror if is_text_own else os.strerror(error.errno)).lower()
        if isinstance(error, TimeoutError):
            return f"no answer within {seconds:.3g} s"
        if isinstance(error, ExceptionGroup):  # one for each address of the host
            error = error.exceptions[0]
        else:
            error = error.__cause__ or error.__context__
    return "hangs up or does not speak HTTP; OTLP over HTTP is usually on port 4318 (4317 is gRPC)"
