"""One attempt as it goes: what both clients note, and the reply they make of it.

Everything the two adapters would otherwise do alike is here: the request's body and headers, the
stamps, which failure an exception stands for, and the Reply.
"""

from __future__ import annotations

import email.utils
import functools
import math
import ssl
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from datetime import UTC
from types import MappingProxyType
from typing import Any, NamedTuple

import aiohttp
import httpx2
import openai
from openai import RequestOptions

from harness.engine.deadlines import Limit, next_limit
from harness.engine.effects import Reply, Request, Send
from harness.records.clock import SECOND, Anchor, ReadClock
from harness.records.failures import CANCELLED, OK, of_status
from harness.records.ids import attempt_span, traceparent, workflow_trace
from harness.records.schema import Tokens
from harness.transports.reading import Reading

COMPLETIONS_PATH = "/chat/completions"
REPEAT_HEADER = "x-harness-repeat"

KEEP_ALIVE_SECONDS = 60
"""How long a connection that nobody uses is kept, the same in every mode."""

LINGER = SECOND // 4
"""How long to wait for the end of a body from which nothing more is expected, nanoseconds."""

current: ContextVar[Exchange] = ContextVar("current")
"""The exchange that the transport's hooks belong to, in this task or thread."""


@functools.cache
def tls_context(trust_env: bool) -> ssl.SSLContext:
    """Return what connections are secured with; reading the certificates takes a while, so once.

    `trust_env`: obey the environment's SSL_CERT_FILE and SSL_CERT_DIR.
    """
    return httpx2.create_ssl_context(trust_env=trust_env)


class Target(NamedTuple):
    """Where attempts go and what every request carries.

    `extra_body` is added to each request's body, then `extra_body_by_phase` to those of the phase
    that each of its keys names. `simulated`: the repeat travels in a header, so that the
    simulator's draws can differ between repeats and be equal between cells. `reuse_connections`:
    False for servers that close after a response without saying so. `own_server`: the run has
    started the server itself, on this machine.
    """

    base_url: str
    api_key: str
    model: str
    stream: bool
    extra_body: Mapping[str, Any]
    run_id: str
    anchor: Anchor
    simulated: bool
    extra_body_by_phase: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
    reuse_connections: bool = True
    own_server: bool = False

    @property
    def trust_env(self) -> bool:
        """Whether to obey the environment's proxies and certificates: not on this machine."""
        return not (self.simulated or self.own_server)


class Exchange:
    """What is known of one attempt so far.

    `rearm` is called when the next deadline has become earlier (one that moves later is found out
    when the old one comes), `release` when the attempt is through with its connection,
    `first_text` when the first text has come.
    """

    def __init__(self, target: Target, effect: Send, now: ReadClock) -> None:
        self.target = target
        self.effect = effect
        self.now = now
        self.handed: int | None = None
        self.connecting: int | None = None
        self.sent: int | None = None
        self.headers: int | None = None
        self.reading: Reading | None = None
        self.response_headers: Mapping[str, str] = {}
        self.status: int | None = None
        self.expired: str | None = None
        self.rearm: Callable[[], None] | None = None
        self.release: Callable[[], None] = _nothing
        self.first_text: Callable[[], None] = _nothing

    def body(self) -> dict[str, Any]:
        """Return the request's JSON body."""
        body = request_body(self.target, self.effect.request)
        body.update(self.target.extra_body_by_phase.get(self.effect.key.phase, {}))
        return body

    def extra_headers(self) -> dict[str, str]:
        """Return the headers of this attempt: its trace context, and the simulator's repeat."""
        key, run_id = self.effect.key, self.target.run_id
        ids = workflow_trace(run_id, key), attempt_span(run_id, key)
        headers = {"traceparent": traceparent(*ids)}
        if self.target.simulated:
            headers[REPEAT_HEADER] = str(key.repeat)
        if not self.target.reuse_connections:
            headers["connection"] = "close"
        return headers

    def options(self, timeout: httpx2.Timeout) -> RequestOptions:
        """Return what the SDK is told about this request.

        A redirect is not followed: it would be a second request under the name of one attempt.
        """
        return {"headers": self.extra_headers(), "timeout": timeout, "follow_redirects": False}

    def limit(self) -> Limit:
        """Return the deadline that is next."""
        reading = self.reading
        if reading is not None and reading.ended is not None:
            return Limit(reading.ended + LINGER, "")
        if self.headers is not None and self._refused():
            return Limit(self.headers + LINGER, "")
        last_text = None if reading is None else reading.last_token
        return next_limit(self.effect.deadlines, self.connecting, self.sent, last_text)

    def overdue(self) -> bool:
        """Return whether a deadline has passed, and if so keep which."""
        limit = self.limit()
        if limit.at > self.now():
            return False
        self.expired = limit.outcome
        return True

    def cancelled(self) -> Reply:
        """Return the reply of an attempt that was cancelled before it began."""
        return self.reply(CANCELLED, _why(CANCELLED))

    def note_connecting(self) -> None:
        """The transport begins to make a connection now."""
        self.connecting = self.now()
        self._limit_is_earlier()

    def note_sent(self) -> None:
        """The request's bytes go out now."""
        if self.sent is None:
            self.sent = self.now()
            self._limit_is_earlier()

    def note_step(self, event: str, info: Mapping[str, Any]) -> str:
        """Note an event of httpx2's trace extension; return it without the layer's name.

        A proxy is first asked for a tunnel: that request is a part of connecting.
        """
        step = event.partition(".")[2]
        if step == "connect_tcp.started":
            self.note_connecting()
        elif step == "send_request_body.started" and info["request"].method != b"CONNECT":
            self.note_sent()
        return step

    def note_response(self, response: httpx2.Response) -> None:
        """The status line and headers have been read now."""
        self.headers = self.now()
        if self.sent is None:  # a transport that does not say when the bytes went out
            self.sent = self.handed
        self.status = response.status_code
        self.response_headers = response.headers
        self._limit_is_earlier()

    def _limit_is_earlier(self) -> None:
        if self.rearm is not None:
            self.rearm()

    def _refused(self) -> bool:
        return self.status is not None and of_status(self.status) != OK

    def begin_reading(self, response: httpx2.Response) -> None:
        """The response is a success; its body comes next."""
        content_type = response.headers.get("content-type", "").lower()
        self.reading = Reading(self.target.stream, content_type)

    def received(self, data: bytes, at: int) -> bool:
        """Take a piece of the body that arrived at `at`; return whether to go on reading.

        After the last event of a stream reading goes on to the end of the body, so that the
        connection can be used again; in a broken one there is nothing worth waiting for.
        """
        reading = self.reading
        assert reading is not None, "begin_reading() comes first"
        had_text = reading.last_token is not None
        reading.feed(data, at)
        began = reading.last_token is not None and not had_text
        if reading.ended is not None or began:
            self._limit_is_earlier()
        if began:
            self.first_text()
        return reading.ended is None or reading.whole

    def finish(self) -> Reply:
        """Return the reply of a body that has been read, or that is not worth reading on."""
        reading = self.reading
        assert reading is not None, "begin_reading() comes first"
        if self.expired and reading.ended is None:  # what we broke off looks like a clean end
            return self.reply(self.expired, _why(self.expired))
        reading.close(self.now())
        assert reading.outcome is not None, "a closed reading has an outcome"
        return self.reply(reading.outcome, reading.detail, reading.ended)

    def fail(self, error: Exception) -> Reply:
        """Return the reply that an exception stands for, or the deadline that caused it."""
        if self.reading is not None and self.reading.ended is not None:
            return self.finish()
        if self.status is not None and self._refused():
            return self.reply(of_status(self.status), f"HTTP {self.status}")
        if self.expired is not None:
            return self.reply(self.expired, _why(self.expired))
        if isinstance(error, httpx2.DecodingError):
            outcome = "malformed_stream" if self.target.stream else "malformed_json"
            return self.reply(outcome, "a content encoding that cannot be undone")
        return self.reply(*classify(error, self.sent is not None, self.limit().outcome))

    def reply(self, outcome: str, detail: str = "", done: int | None = None) -> Reply:
        """Return what the attempt came to; it is done now unless `done` says when."""
        reading = self.reading or Reading(self.target.stream, "")
        return Reply(
            outcome=outcome,
            sent=self.sent,
            headers=self.headers,
            first_reasoning=reading.first_reasoning,
            first_answer=reading.first_answer,
            last_token=reading.last_token,
            done=self.now() if done is None else done,
            status=self.status,
            retry_after=retry_after(
                self.response_headers, (self.target.anchor.unix_ns + self.now()) / SECOND
            ),
            should_retry=_BOOLEANS.get(self.response_headers.get("x-should-retry", "")),
            request_id=self.response_headers.get("x-request-id"),
            finish_reason=reading.finish_reason,
            tokens=reading.tokens if self.reading else Tokens(),
            chunks=reading.chunks,
            gaps=reading.gaps,
            reasoning=reading.reasoning,
            answer=reading.answer,
            detail=detail,
            response_id=reading.response_id,
            response_model=reading.response_model,
        )


def _nothing() -> None:
    """Stand in for a hook that is not needed."""


_BOOLEANS = {"true": True, "false": False}


def request_body(target: Target, request: Request) -> dict[str, Any]:
    """Return the JSON body of a request: the OpenAI chat completions API."""
    body: dict[str, Any] = {
        "model": target.model,
        "messages": [message._asdict() for message in request.messages],
        "stream": target.stream,
    }
    if target.stream:
        body["stream_options"] = {"include_usage": True}
    if request.max_tokens is not None:
        body["max_tokens"] = request.max_tokens
    if request.json_mode:
        body["response_format"] = {"type": "json_object"}
    body.update(target.extra_body)
    return body


def retry_after(headers: Mapping[str, str], unix_seconds: float) -> int | None:
    """Return the nanoseconds the server asks us to wait, None when it does not say.

    `retry-after-ms` (milliseconds) goes before `Retry-After`, which is seconds or a date
    (RFC 9110, section 10.2.3). `unix_seconds` is the time now, for a date. What cannot be read
    counts as not said; a date that has passed is 0. More than 10**9 seconds count as so many.
    """
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * unit
        except ValueError:
            continue
        if math.isfinite(seconds) and seconds >= 0:
            return round(min(seconds, _LONGEST_WAIT) * SECOND)
    if "retry-after" not in headers:
        return None
    try:
        date = email.utils.parsedate_to_datetime(headers["retry-after"])
    except (ValueError, OverflowError):  # no date, or one with a number that no date can have
        return None
    if date.tzinfo is None:  # "-0000": UTC without a place
        date = date.replace(tzinfo=UTC)
    seconds = min(date.timestamp() - unix_seconds, _LONGEST_WAIT)
    return max(0, round(seconds * SECOND))


_LONGEST_WAIT = 1e9


def classify(error: Exception, was_sent: bool, limit: str) -> tuple[str, str]:
    """Return the outcome and a short detail for an exception of the transport.

    `limit`: the deadline that is next. The root of the chain of causes is what decides, because
    the layers above rename what happened: over aiohttp a reset reaches us as a connect timeout.
    What is no HTTP they let through as aiohttp's own error.
    """
    root: BaseException = error
    while (cause := root.__cause__ or root.__context__) is not None:
        root = cause
    if isinstance(root, TimeoutError) and root.errno is not None:  # the system's, not ours
        return ("connection_lost" if was_sent else "connect_timeout"), type(root).__name__
    if isinstance(root, TimeoutError | httpx2.TimeoutException):
        return limit, _DEADLINE
    if isinstance(error, openai.APIConnectionError | httpx2.TransportError | aiohttp.ClientError):
        return ("connection_lost" if was_sent else "connect_failed"), type(root).__name__
    return "client_error", type(root).__name__


_DEADLINE = "the deadline passed"


def _why(expired: str) -> str:
    return "no longer wanted" if expired == CANCELLED else _DEADLINE
