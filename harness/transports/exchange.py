"""The state of one attempt in flight, shared by both transports.

It takes the time stamps, classifies exceptions and makes the Reply. Functions build the body and
the headers of a run's request.
"""

from __future__ import annotations

import email.utils
import math
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC
from typing import Any, NamedTuple

import aiohttp
import httpx2
import openai
from openai import RequestOptions

from harness.config.response_reading import DEFAULT_TERMS, ReadingTerms
from harness.engine.branches import do_nothing
from harness.engine.deadlines import DEADLINE_PASSED, TOO_LATE, UNWANTED, Limit, next_limit
from harness.engine.effects import Deadlines, Reply, Send, ToolCall
from harness.records.clock import SECOND, Anchor, ReadClock
from harness.records.error_bodies import is_quota_exhausted, kept_body
from harness.records.failures import CANCELLED, OK, of_status
from harness.records.ids import attempt_span, traceparent, workflow_trace
from harness.records.keys import AttemptKey
from harness.records.provider_log import SIMULATED_HEADER
from harness.records.redaction import NO_SECRETS, Redactor
from harness.records.schema import NO_TOKENS
from harness.transports.other_apis import translator_of
from harness.transports.rate_limits import rate_limit_reset
from harness.transports.reading import Reading
from harness.transports.request_bodies import request_body
from harness.transports.target import Target
from harness.transports.unasked import UnaskedResponseError

REPEAT_HEADER = "x-harness-repeat"
PHASE_HEADER = "x-harness-phase"
LENGTHS_HEADER = "x-harness-lengths"

LINGER = SECOND // 4
"""Nanoseconds to wait for the end of a body after its last expected byte."""

current: ContextVar[Exchange] = ContextVar("current")
"""The exchange of the current task or thread, for the hooks of the transport."""


class OfHarness:
    """Marks the clients of the openai package through which the harness sends its attempts."""


class ReceivedTexts(NamedTuple):
    """How received texts are recorded. `keep_bodies`: those of refusals are kept."""

    redactor: Redactor = NO_SECRETS
    keep_bodies: bool = True

    def body(self, body: bytes) -> str | None:
        """Return the body of a refusal as it is recorded."""
        if not self.keep_bodies or not body:
            return None
        return kept_body(body.decode("utf-8", "replace"), self.redactor)


class RedirectRefusedError(Exception):
    """A redirect that is not followed."""


def same_origin(one: httpx2.URL, other: httpx2.URL) -> bool:
    """Return whether two URLs have the same scheme, host and port (RFC 6454, section 5)."""

    def origin(url: httpx2.URL) -> tuple[str, str, int | None]:
        return url.scheme, url.host, url.port or {"http": 80, "https": 443}.get(url.scheme)

    return origin(one) == origin(other)


class Exchange:
    """The state of one attempt in flight.

    `stream`: whether it asks for a stream. `anchor`: the zero of `now`. `terms`: how the response
    is read. `texts`: how received texts are recorded. `rearm` is called when the next deadline has
    become earlier; a later one is noticed when the old one passes. `release` is called when the
    attempt no longer needs its connection, `reopen` before it needs another one for a redirect,
    `first_text` when the first text has arrived. `catch_up` processes what has arrived; it is
    called before a deadline is checked.
    """

    def __init__(
        self,
        stream: bool,
        deadlines: Deadlines,
        now: ReadClock,
        anchor: Anchor,
        terms: ReadingTerms = DEFAULT_TERMS,
        texts: ReceivedTexts = ReceivedTexts(),  # noqa: B008 - immutable
    ) -> None:
        self.stream = stream
        self.terms = terms
        self.texts = texts
        self.deadlines = deadlines
        self.now = now
        self.anchor = anchor
        self.handed: int | None = None
        self._first: httpx2.Request | None = None
        self.connecting: int | None = None
        self.sent: int | None = None
        self.headers: int | None = None
        self.reading: Reading | None = None
        self.response_headers: Mapping[str, str] = {}
        self.status: int | None = None
        self.decodes = False
        self.expired: str | None = None
        self._paused, self._resumed = False, 0
        self.rearm: Callable[[], None] = do_nothing
        self.release: Callable[[], None] = do_nothing
        self.reopen: Callable[[], None] = do_nothing
        self.first_text: Callable[[], None] = do_nothing
        self.catch_up: Callable[[], None] = do_nothing

    def limit(self) -> Limit:
        """Return the next deadline."""
        reading = self.reading
        if reading is not None and reading.ended is not None:
            return Limit(reading.ended + LINGER, "")
        if self.headers is not None and self._refused():
            return Limit(self.headers + LINGER, "")
        last_text = None if reading is None else reading.last_token
        if self._paused:
            last_text = self.now()
        elif last_text is not None and self._resumed > last_text:
            last_text = self._resumed
        return next_limit(self.deadlines, self.connecting, self.sent, last_text)

    def overdue(self) -> bool:
        """Return whether a deadline has passed, and remember which one."""
        self.catch_up()
        limit = self.limit()
        if limit.at > self.now():
            return False
        self.expired = limit.outcome
        return True

    def pause_reading(self) -> None:
        """Suspend the idle deadline: nothing is read because the program is behind."""
        self._paused = True

    def resume_reading(self) -> None:
        """Let the idle deadline run again, from now."""
        self._paused, self._resumed = False, self.now()

    @contextmanager
    def reading_paused(self) -> Iterator[None]:
        """Suspend the idle deadline in a context."""
        self.pause_reading()
        try:
            yield
        finally:
            self.resume_reading()

    def seconds_left(self) -> float:
        """Return the seconds to the next deadline, for the timeout of a socket: never 0."""
        return max((self.limit().at - self.now()) / SECOND, 0.001)

    def note_connecting(self) -> None:
        """Stamp the start of a connection attempt."""
        self.connecting = self.now()
        self.rearm()

    def check_budget(self) -> None:
        """Raise ConnectionAbortedError if the time in which the request may be sent is over."""
        send_by = self.deadlines.send_by
        if send_by is not None and self.now() >= send_by:
            self.expired = TOO_LATE
            raise ConnectionAbortedError

    def note_sent(self) -> None:
        """Stamp the sending of the request."""
        if self.sent is None:
            self.sent = self.now()
            self.rearm()

    @property
    def is_unsent(self) -> bool:
        """Whether the body is not sent yet; the sending of a request without one has no stamp."""
        if self.sent is not None or self._first is None:
            return False
        headers = self._first.headers
        return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers

    def note_response(self, status: int, headers: Mapping[str, str], at: int | None = None) -> None:
        """Stamp the end of the response headers: `at`, or now.

        `headers`: by name in lower case.
        """
        self.headers = self.now() if at is None else at
        had_stamp = self.sent is not None
        if not had_stamp:  # a transport without an event for sending
            self.sent = self.handed
        self.status = status
        self.response_headers = headers
        if not had_stamp or self._refused():  # otherwise the next deadline is the same
            self.rearm()

    def begin_request(self, request: httpx2.Request) -> None:
        """Stamp that a request is handed to the transport, also one that follows a redirect.

        Raises RedirectRefusedError for a redirect that would take the key to another origin, or
        change the request.
        """
        if self.handed is None:
            self.handed, self._first = self.now(), request
            return
        assert self._first is not None, "it is set with the stamp"
        if request.method != self._first.method or not same_origin(request.url, self._first.url):
            raise RedirectRefusedError("a redirect to another origin, or without the body")
        self.status = self.headers = None
        self.reopen()

    def _refused(self) -> bool:
        return self.status is not None and of_status(self.status) != OK

    def begin_reading(self, path: str) -> None:
        """Prepare to read the body of a successful response. `path`: that of its request."""
        headers = self.response_headers
        content_type = headers.get("content-type", "").lower()
        self.reading = Reading(self.stream, content_type, self.terms, translator_of(path))
        self.decodes = is_encoded(headers)
        if "content-length" in headers and "transfer-encoding" in headers:
            self.reading.note("framing")

    def received(self, data: bytes, at: int, *, is_last: bool = False) -> bool:
        """Process bytes of the body that arrived at `at`; return whether to continue reading.

        `is_last`: they complete the body, so that no deadline is needed any more.

        After the last event of a stream, reading continues to the end of the body, so that the
        connection can be reused. A broken stream is not read further.
        """
        reading = self.reading
        assert reading is not None, "begin_reading() comes first"
        had_text = reading.last_token is not None
        reading.feed(data, at)
        began = reading.last_token is not None and not had_text
        if (reading.ended is not None or began) and not is_last:
            self.rearm()
        if began:
            self.first_text()
        if self.decodes and self.overdue():  # a few bytes can become many
            return False
        return reading.ended is None or reading.complete

    def finish(self) -> Reply:
        """Return the reply for a body that is complete or is not read further."""
        reading = self.reading
        assert reading is not None, "begin_reading() comes first"
        if self.expired and reading.ended is None:  # an aborted body looks like a clean end
            return self.reply(self.expired, _why(self.expired))
        reading.close(self.now())
        assert reading.outcome is not None, "a closed reading has an outcome"
        return self.reply(reading.outcome, reading.detail, reading.ended)

    def fail(self, error: Exception) -> Reply:
        """Return the reply for an exception, or for the deadline that caused it."""
        if self.reading is not None and self.reading.ended is not None:
            return self.finish()
        if self._refused():
            return self.refused(_body_of(error))
        if self.expired is not None:
            return self.reply(self.expired, _why(self.expired))
        if isinstance(error, httpx2.DecodingError):
            outcome = "malformed_stream" if self.stream else "malformed_json"
            return self.reply(outcome, "a content encoding that cannot be undone")
        return self.reply(*classify(error, self.sent is not None, self.limit().outcome))

    def refused(self, body: bytes) -> Reply:
        """Return the reply for a status that is a failure; `body`: as far as it was received."""
        assert self.status is not None, "a refusal has a status"
        outcome = "quota_exhausted" if is_quota_exhausted(body) else of_status(self.status)
        return self.reply(outcome, f"HTTP {self.status}", body=body)

    def reply(
        self, outcome: str, detail: str = "", done: int | None = None, body: bytes = b""
    ) -> Reply:
        """Return the reply of the attempt; it ends at `done`, or now if `done` is None.

        `body`: of a refusal.
        """
        redact, optional = self.texts.redactor.text, self.texts.redactor.optional
        headers, status = self.response_headers, self.status
        reading = self.reading or Reading(self.stream, "")
        if reading.tokens is NO_TOKENS:
            reading.settle()
        now = self.now()
        unix = (self.anchor.unix_ns + now) / SECOND
        location = headers.get("location", "") if self._refused() else ""
        # By position: keywords take 1 us more.
        return Reply(
            outcome, self.sent, self.headers, reading.first_reasoning, reading.first_answer,
            reading.last_token, now if done is None else done, status, retry_after(headers, unix),
            _BOOLEANS.get(headers.get("x-should-retry", "")),
            optional(headers.get("x-request-id")), optional(reading.finish_reason),
            reading.tokens, reading.chunks, reading.gaps, redact(reading.reasoning),
            redact(reading.answer), redact(detail), optional(reading.response_id),
            optional(reading.response_model), headers.get(SIMULATED_HEADER) == "true",
            reading.anomalies, reading.first_chunk, self.texts.body(body),
            kept_body(location, self.texts.redactor), rate_limit_reset(status, headers, unix),
            tool_calls=tuple([
                ToolCall(call.id, call.name, redact(call.arguments)) for call in reading.tool_calls
            ]),
        )  # fmt: skip


def _body_of(error: Exception) -> bytes:
    """Return the body of the response that an error of the SDK is about, if it was read."""
    response = getattr(error, "response", None)
    if not isinstance(response, httpx2.Response) or not response.is_stream_consumed:
        return b""
    try:
        return response.content
    except httpx2.ResponseNotRead:
        return b""


def is_encoded(headers: Mapping[str, str]) -> bool:
    """Return whether a body has to be decoded; otherwise its stream is read, which is faster."""
    return "content-encoding" in headers


_BOOLEANS = {"true": True, "false": False}


def post_arguments(target: Target, effect: Send) -> dict[str, Any]:
    """Return the arguments for `post` of the SDK's client.

    It returns the response itself, unread. A redirect that is followed belongs to the attempt.
    """
    body = request_body(target, effect.request)
    body.update(target.extra_body_by_phase.get(effect.key.phase, {}))
    headers: dict[str, str | openai.Omit] = {**attempt_headers(target, effect)}
    for name, value in target.request.key_headers(target.api_key).items():
        headers[name] = openai.Omit() if value is None else value  # the client takes no Omit
    follow = target.request.follow_redirects
    options: RequestOptions = {"headers": headers, "follow_redirects": follow}
    options["timeout"] = httpx2.Timeout(None)
    return {
        "path": "/chat/completions",
        "cast_to": httpx2.Response,
        "body": body,
        "stream": True,
        "options": options,
    }


def client_arguments(target: Target) -> dict[str, Any]:
    """Return the arguments of the SDK's client for a target."""
    return {
        "api_key": target.api_key,
        "base_url": target.base_url,
        "max_retries": 0,
        "default_headers": dict(target.request.headers),
        "default_query": dict(target.request.query),
    }


def received_texts(target: Target) -> ReceivedTexts:
    """Return how the texts of a target's responses are recorded."""
    return ReceivedTexts(Redactor(target.secrets), target.keep_error_bodies)


def attempt_headers(target: Target, effect: Send) -> dict[str, str]:
    """Return the headers of an attempt: trace context, repeat, phase and lengths."""
    key, run_id = effect.key, target.run_id
    attempt = AttemptKey(*key, effect.attempt)
    ids = workflow_trace(run_id, key), attempt_span(run_id, attempt)
    headers = {"traceparent": traceparent(*ids)}
    if target.simulated:
        headers[REPEAT_HEADER] = str(key.repeat)
        headers[PHASE_HEADER] = target.settings.get(key.phase, key.phase)
        if effect.request.lengths is not None:
            headers[LENGTHS_HEADER] = ",".join(map(str, effect.request.lengths))
    if not target.reuse_connections:
        headers["connection"] = "close"
    return headers


def retry_after(headers: Mapping[str, str], unix_seconds: float) -> int | None:
    """Return the wait that the server asks for, in nanoseconds; None if there is none.

    `retry-after-ms` (milliseconds) has priority over `Retry-After`, which is seconds or a date
    (RFC 9110, section 10.2.3). `unix_seconds`: the current time, for a date. An invalid value is
    ignored. A date in the past gives 0. The result is at most 10**9 seconds.
    """
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        if name not in headers:
            continue
        try:
            seconds = float(headers[name]) * unit
        except ValueError:
            continue
        if math.isfinite(seconds) and seconds >= 0:
            return round(min(seconds, _LONGEST_WAIT) * SECOND)
    if "retry-after" not in headers:
        return None
    try:
        date = email.utils.parsedate_to_datetime(headers["retry-after"])
    except (ValueError, OverflowError):  # not a date, or a date out of range
        return None
    if date.tzinfo is None:  # "-0000": UTC without a time zone
        date = date.replace(tzinfo=UTC)
    seconds = min(date.timestamp() - unix_seconds, _LONGEST_WAIT)
    return max(0, round(seconds * SECOND))


_LONGEST_WAIT = 1e9


def classify(error: Exception, was_sent: bool, limit: str) -> tuple[str, str]:
    """Return the outcome and a short detail for an exception of the transport.

    `limit`: the next deadline. The root of the chain of causes decides, because the layers above
    change the type: over aiohttp, a reset arrives as a connect timeout. Invalid HTTP arrives as an
    error of aiohttp.
    """
    root = _root(error)
    name = type(root).__name__
    if any(isinstance(one, _PROXY_ERRORS) for one in _chain(error)):
        return "proxy_error", name
    if isinstance(root, UnaskedResponseError):
        return "unasked_response", str(root)
    if isinstance(root, ssl.SSLCertVerificationError):
        return "certificate_error", name
    if isinstance(root, ssl.SSLError) and root.reason in _NOT_TLS:
        return "wrong_protocol", name
    if not isinstance(root, OSError) and TLS_RECORD in str(root):
        return "wrong_protocol", "a TLS record instead of HTTP"
    if isinstance(root, TimeoutError) and root.errno is not None:  # of the operating system
        return ("connection_lost" if was_sent else "connect_timeout"), type(root).__name__
    if is_timeout(error):
        return limit, DEADLINE_PASSED
    if isinstance(error, openai.APIConnectionError | httpx2.TransportError | aiohttp.ClientError):
        return ("connection_lost" if was_sent else "connect_failed"), type(root).__name__
    return "client_error", type(root).__name__


_PROXY_ERRORS = (
    httpx2.ProxyError,
    aiohttp.ClientProxyConnectionError,
    aiohttp.ClientHttpProxyError,
)
_NOT_TLS = frozenset(
    {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "PACKET_LENGTH_TOO_LONG"}
)
"""Reasons of OpenSSL for bytes that are no TLS: the server speaks plain HTTP."""
TLS_RECORD = "\\x15\\x03"
"""The beginning of a TLS alert, as the errors of both HTTP clients show it."""


def is_timeout(error: Exception) -> bool:
    """Return whether an exception stands for a timeout of a client, and not of the system."""
    root = _root(error)
    if isinstance(root, TimeoutError):
        return root.errno is None
    return isinstance(root, httpx2.TimeoutException)


def _root(error: BaseException) -> BaseException:
    return list(_chain(error))[-1]


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and its causes."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _why(expired: str) -> str:
    return UNWANTED if expired == CANCELLED else DEADLINE_PASSED
