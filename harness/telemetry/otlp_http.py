"""One request to a collector and its answer, by OTLP over HTTP.

https://opentelemetry.io/docs/specs/otlp/#otlphttp. The SDK's exporter is not used, because it
reports a partial success or a redirect as a full success and does not report which spans were lost.
Sending and reading the answer are separate steps, so that a slow collector can answer while the
harness continues. A failing collector raises no exception, and no error shows the value of a
header.
"""

from __future__ import annotations

import contextlib
import gzip
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection, responses
from typing import Literal, NamedTuple

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


class CollectorRequest:
    """One persistent connection to a collector, with at most one request in flight."""

    def __init__(self, target: OtlpTarget) -> None:
        self._target = target
        self._connection = _connection(target)
        self._sent_at = 0.0

    def close(self) -> None:
        """Close the connection; a pending answer is lost."""
        self._connection.close()

    def send(self, body: bytes, seconds: float) -> CollectorReply | None:
        """Send one request within `seconds`; return None on success, else the failure."""
        target = self._target
        headers = {
            **target.headers,
            "content-type": "application/x-protobuf",
            "user-agent": f"harness/{__version__}",
        }
        if target.gzip:
            headers["content-encoding"] = "gzip"
            body = gzip.compress(body, compresslevel=1)
        seconds = min(seconds, target.timeout)
        try:
            self._connected(seconds).settimeout(seconds)
            self._connection.request("POST", target.path, body, headers)
        except (OSError, HTTPException) as error:
            return self._failed(error, seconds)
        self._sent_at = time.monotonic()
        return None

    def answer(self, seconds: float) -> CollectorReply | None:
        """Wait up to `seconds` for the answer; None if it has not arrived.

        The target's timeout counts from the sending. An answer that has arrived by then is read.
        """
        target = self._target
        left = self._sent_at + target.timeout - time.monotonic()
        if not self._readable(max(0.0, min(seconds, left))):
            return None if seconds < left else self._failed(TimeoutError(), target.timeout)
        late = threading.Event()
        allowed = max(left, 0.1)
        try:
            with self._cut_after(allowed, late):
                response = self._connection.getresponse()
                text = response.read(_RESPONSE_LIMIT)
                whole = not response.read(1) and not response.length
            if late.is_set():  # http.client reads a cut in the headers as their end
                raise TimeoutError
        except (OSError, HTTPException) as error:
            return self._failed(TimeoutError() if late.is_set() else error, target.timeout)
        return self._read(response, text, whole)

    def _read(self, response: HTTPResponse, body: bytes, whole: bool) -> CollectorReply:
        target, status = self._target, response.status
        if not whole:
            self.close()
        if not 200 <= status < 300:
            problem = f"{target}: answered {status} {responses.get(status, '')}".rstrip()
            if status in _RETRYABLE:
                return CollectorReply("later", retry_after=_seconds(response), problem=problem)
            return CollectorReply(
                "refused" if status in _ABOUT_THE_BODY else "hopeless", problem=problem
            )
        if not whole:
            return CollectorReply("later", problem=f"{target}: its answer is cut, or far too long")
        try:
            rejected = ExportTraceServiceResponse.FromString(body).partial_success.rejected_spans
        except DecodeError:
            return CollectorReply(
                "hopeless", problem=f"{target}: its answer is not OTLP; check the address"
            )
        partly = f"{target}: took a part of the spans only" if rejected else None
        return CollectorReply("taken", rejected=rejected, problem=partly)

    def _connected(self, seconds: float) -> socket.socket:
        """Return the open connection; reconnect if the collector has closed it."""
        if self._connection.sock is not None and self._readable(0):
            self.close()
        if self._connection.sock is None:
            self._connection.timeout = seconds
            self._connection.connect()
        sock: socket.socket = self._connection.sock
        return sock

    def _readable(self, seconds: float) -> bool:
        sock = self._connection.sock
        if sock is None or (isinstance(sock, ssl.SSLSocket) and sock.pending()):
            return True
        poll = select.poll()  # select() supports no descriptor above 1023
        poll.register(sock, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def _failed(self, error: Exception, seconds: float) -> CollectorReply:
        self.close()
        return CollectorReply("later", problem=f"{self._target}: {_reason(error, seconds)}")

    @contextlib.contextmanager
    def _cut_after(self, seconds: float, late: threading.Event) -> Iterator[None]:
        """Return a context in which `late` is set and the connection shut down after `seconds`.

        A socket's own timeout restarts with every byte, so a slow peer would never exceed it.
        """
        sock: socket.socket | None = self._connection.sock
        if sock is None:
            raise ConnectionResetError(None, "hung up")
        sock.settimeout(seconds)

        def cut() -> None:
            late.set()
            with contextlib.suppress(OSError):  # already closed
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

        timer = threading.Timer(seconds, cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


def _connection(target: OtlpTarget) -> HTTPConnection:
    if target.scheme == "https":
        return HTTPSConnection(target.host, target.port, context=target.tls)
    return HTTPConnection(target.host, target.port)


def _seconds(response: HTTPResponse) -> float | None:
    """Read Retry-After: seconds or a date (RFC 9110, section 10.2.3)."""
    text = response.getheader("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


def _reason(error: Exception, seconds: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {seconds:.3g} s"
    if isinstance(error, HTTPException):
        return (
            "hangs up or does not speak HTTP; OTLP over HTTP is usually on port 4318 (4317 is gRPC)"
        )
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message})"
    return str(error.strerror).lower() if isinstance(error, OSError) else "failed"
