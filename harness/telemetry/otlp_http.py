"""A connection to a collector, by OTLP over HTTP.

https://opentelemetry.io/docs/specs/otlp/#otlphttp. The SDK's exporter is not used, because it
reports a partial success or a redirect as a full success, does not report which spans were lost,
and limits only each single read.
"""

from __future__ import annotations

import gzip
import ssl
import time
from email.utils import parsedate_to_datetime
from http.client import responses

from harness import __version__
from harness.network.limited_http import (
    HTTP_ERRORS,
    HttpAnswer,
    LimitedHttp,
    SocketClock,
    open_socket,
)
from harness.telemetry.collector_reply import (
    REAL_WAITS,
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


def check_collector(target: OtlpTarget) -> str | None:
    """Open one TCP connection; return the error in one line, None if it succeeded."""
    try:
        open_socket(target.host, target.port, CHECK).close()
    except OSError as error:
        return f"{target}: {reason(error, CHECK)}"
    return None


class HttpConnection:
    """A persistent connection; implements CollectorConnection."""

    def __init__(self, target: OtlpTarget, clock: DeliveryClock = REAL_WAITS) -> None:
        self._target = target
        given = target.certificates
        tls = (given.context if given else ssl.create_default_context()) if target.tls else None
        limits = SocketClock(clock.now, clock.limit)
        self._http = LimitedHttp(target.host, target.port, tls, limits)
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
        target, seconds = self._target, min(seconds, self._target.timeout)
        content = gzip.compress(body, compresslevel=1) if target.gzip else body
        try:
            answer = self._http.exchange(
                "POST", target.path, content, self._headers, seconds, RESPONSE_LIMIT
            )
        except HTTP_ERRORS as error:
            return later(target, reason(error, seconds, self._hint()))
        return self._read(answer)

    def _read(self, answer: HttpAnswer) -> CollectorReply:
        target, status, headers = self._target, answer.status, answer.headers
        if not 200 <= status < 300:
            problem = f"answered {status} {responses.get(status, '')}".rstrip()
            if status in _RETRYABLE:
                return later(target, problem, collector_retry_after(headers.get("retry-after", "")))
            said = f"{target}: {problem}"
            if status in _ABOUT_THE_BODY:
                return CollectorReply("refused", problem=said)
            is_missing = status in _UNSUPPORTED
            return CollectorReply("unsupported" if is_missing else "hopeless", problem=said)
        if answer.body is None:
            return later(target, "its answer is incomplete or too long")
        kind = headers.get_content_type() if "content-type" in headers else ""
        if answer.body and kind not in ("", CONTENT_TYPE):
            return not_otlp(target)
        return read_reply(target, answer.body)

    def _hint(self) -> str:
        if self._target.port == 4317:
            return "; port 4317 is usually OTLP over gRPC: write grpc://host:4317, or use port 4318"
        return "; OTLP over HTTP is usually on port 4318"


def collector_retry_after(text: str) -> float | None:
    """Read Retry-After: seconds or a date (RFC 9110, section 10.2.3); None if it is neither."""
    try:
        if text.isascii() and text.isdigit():
            return float(text)
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
