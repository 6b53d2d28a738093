"""A connection to a collector, by OTLP over HTTP.

https://opentelemetry.io/docs/specs/otlp/#otlphttp. The SDK's exporter is not used, because it
reports a partial success or a redirect as a full success, does not report which spans were lost,
and limits only each single read. Here, every operation on the socket is limited by what is left of
the whole exchange.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import socket
import ssl
import threading
import time
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException, HTTPResponse, responses
from typing import Any

from harness import __version__
from harness.telemetry.collector_reply import (
    REAL,
    RESPONSE_LIMIT,
    CollectorReply,
    DeliveryClock,
    later,
    not_otlp,
    read_reply,
    reason,
)
from harness.telemetry.otlp_target import OtlpTarget

CONTENT_TYPE = "application/x-protobuf"
CHECK = 0.5
"""Seconds for the check of a collector before a run."""

_RETRYABLE = (429, 502, 503, 504)
_ABOUT_THE_BODY = (400, 413, 422, 500)
"""Statuses that can concern a single request; the collector may accept another one."""
_UNSUPPORTED = (404, 405, 501)
_MOST_SENT = 65_536
"""Bytes for one operation on the socket."""


def check_collector(target: OtlpTarget) -> str | None:
    """Open one TCP connection; return the error in one line, None if it succeeded."""
    try:
        _open(target, CHECK, REAL).close()
    except OSError as error:
        return f"{target}: {reason(error, CHECK)}"
    return None


class HttpConnection:
    """A persistent connection; implements CollectorConnection."""

    def __init__(self, target: OtlpTarget, clock: DeliveryClock = REAL) -> None:
        self._target = target
        self._clock = clock
        self._socket: _LimitedSocket | None = None
        self._http: Any = HTTPConnection(target.host, target.port)
        self._http.auto_open = 0  # without the limits of this module
        self._headers = {
            **target.headers,
            "accept-encoding": "identity",
            "content-type": CONTENT_TYPE,
            "user-agent": f"harness/{__version__}",
            **({"content-encoding": "gzip"} if target.gzip else {}),
        }

    def close(self) -> None:
        """Close the connection; `post` opens it again."""
        self._http.close()

    def post(self, body: bytes, seconds: float) -> CollectorReply:
        """Send a request and read its answer within `seconds`. Raises nothing."""
        seconds = min(seconds, self._target.timeout)
        until = self._clock.now() + seconds
        is_reused = self._http.sock is not None
        try:
            try:
                return self._post(body, until)
            except ConnectionError:
                if not is_reused:
                    raise
                self.close()  # it was closed meanwhile, as between two trials
                return self._post(body, until)
        # What a collector can send makes the standard library raise these four.
        except (OSError, HTTPException, ValueError, OverflowError) as error:
            self.close()
            return later(self._target, reason(error, seconds, self._hint()))

    def _post(self, body: bytes, until: float) -> CollectorReply:
        if self._socket is None or self._http.sock is None:
            opened = _open(self._target, until - self._clock.now(), self._clock)
            self._http.sock = self._socket = _LimitedSocket(opened, self._clock, until)
            self._socket.secure(self._target)
        self._socket.until = until
        content = gzip.compress(body, compresslevel=1) if self._target.gzip else body
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may have answered
            self._http.request("POST", self._target.path, content, self._headers)
        with contextlib.closing(self._http.getresponse()) as response:
            answer = response.read(RESPONSE_LIMIT + 1)
            is_whole = len(answer) <= RESPONSE_LIMIT and not response.length
        reply = self._read(response, answer if is_whole else None)
        if not is_whole:
            self.close()
        return reply

    def _read(self, response: HTTPResponse, body: bytes | None) -> CollectorReply:
        """Return what an answer means. `body`: None if it was not read to its end."""
        target, status = self._target, response.status
        if not 200 <= status < 300:
            problem = f"answered {status} {responses.get(status, '')}".rstrip()
            if status in _RETRYABLE:
                return later(target, problem, retry_after(response.headers.get("retry-after", "")))
            said = f"{target}: {problem}"
            if status in _ABOUT_THE_BODY:
                return CollectorReply("refused", problem=said)
            is_missing = status in _UNSUPPORTED
            return CollectorReply("unsupported" if is_missing else "hopeless", problem=said)
        if body is None:
            return later(target, "its answer is incomplete or too long")
        kind = response.headers.get_content_type() if "content-type" in response.headers else ""
        if body and kind not in ("", CONTENT_TYPE):
            return not_otlp(target)
        return read_reply(target, body)

    def _hint(self) -> str:
        if self._target.port == 4317:
            return "; port 4317 is usually OTLP over gRPC: write grpc://host:4317, or use port 4318"
        return "; OTLP over HTTP is usually on port 4318"


class _LimitedSocket:
    """A socket for http.client; each operation has the time that is left until `until`."""

    def __init__(self, raw: socket.socket, clock: DeliveryClock, until: float) -> None:
        self._raw = raw
        self._clock = clock
        self._reader: _Reader | None = None
        self._is_closed = False
        self.until = until

    def secure(self, target: OtlpTarget) -> None:
        """Begin TLS if the target uses it."""
        if target.tls:
            given = target.certificates
            context = given.context if given else ssl.create_default_context()
            # The handshake as a whole has the timeout of the socket.
            self._raw = context.wrap_socket(self._limited(), server_hostname=target.host)

    def _limited(self) -> socket.socket:
        left = self.until - self._clock.now()
        if left <= 0:
            raise TimeoutError
        self._clock.limit(self._raw, left)
        return self._raw

    def sendall(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[self._limited().send(rest[:_MOST_SENT]) :]

    def makefile(self, mode: str) -> io.BufferedReader:
        self._reader = _Reader(self)
        return io.BufferedReader(self._reader)

    def read_into(self, buffer: Any) -> int:
        return self._limited().recv_into(buffer)

    def close(self) -> None:
        """Close the socket, after its reader: http.client closes it before it reads the body."""
        self._is_closed = True
        if self._reader is None or self._reader.closed:
            self._raw.close()

    def reader_closed(self) -> None:
        if self._is_closed:
            self._raw.close()


class _Reader(io.RawIOBase):
    def __init__(self, source: _LimitedSocket) -> None:
        self._source = source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._source.read_into(buffer)

    def close(self) -> None:
        super().close()
        self._source.reader_closed()


def _open(target: OtlpTarget, seconds: float, clock: DeliveryClock) -> socket.socket:
    """Open a TCP connection within `seconds`. Raises OSError."""
    until = clock.now() + seconds
    failed: OSError = TimeoutError()
    for family, kind, protocol, _, address in _addresses(target, seconds):
        opened = socket.socket(family, kind, protocol)
        try:
            left = until - clock.now()
            if left <= 0:
                raise TimeoutError
            clock.limit(opened, left)
            opened.connect(address)
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return opened
        except OSError as error:
            opened.close()
            failed = error
    raise failed


def _addresses(target: OtlpTarget, seconds: float) -> list[Any]:
    """Resolve the host. In a thread, because the system's resolver has no timeout."""
    found: list[list[Any] | OSError] = []

    def resolve() -> None:
        try:
            found.append(socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM))
        except OSError as error:
            found.append(error)

    thread = threading.Thread(target=resolve, daemon=True)
    thread.start()
    thread.join(seconds)
    if not found:
        raise TimeoutError
    if isinstance(found[0], OSError):
        raise found[0]
    return found[0]


def retry_after(text: str) -> float | None:
    """Read Retry-After: seconds or a date (RFC 9110, section 10.2.3); None if it is neither."""
    try:
        if text.isascii() and text.isdigit():
            return float(text)
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
