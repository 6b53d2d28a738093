"""The failure classes: what each looks like on the wire, and whether a retry can help.

The class is the `outcome` of the record of an attempt or call. Every outcome but `ok` and
`cancelled` is a failure: see `is_failure`. Which statuses can be retried follows the providers'
published error codes and RFC 9110, section 15.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

OK = "ok"
CANCELLED = "cancelled"
"""The harness stopped it because its result was no longer needed: not a failure."""


class FailureClass(NamedTuple):
    """One failure class.

    `name`: the outcome in the records. `seen`: what it looks like on the wire. `retryable`:
    whether the same request may succeed later. `advice`: what a person can do about it.
    `outage`: it means that the whole server is unavailable, so that other requests would fail too.
    `key`: the key of `[endpoint]` that the advice is about; None for advice for every endpoint.
    """

    name: str
    seen: str
    retryable: bool
    advice: str
    outage: bool = False
    key: str | None = None


def _lasting(name: str, seen: str, advice: str, key: str | None = None) -> FailureClass:
    return FailureClass(name, seen, False, advice, key=key)


def _passing(name: str, seen: str, advice: str, key: str | None = None) -> FailureClass:
    return FailureClass(name, seen, True, advice, key=key)


def _outage(name: str, seen: str, advice: str, key: str | None = None) -> FailureClass:
    return FailureClass(name, seen, True, advice, outage=True, key=key)


_ROWS = [
    _lasting("bad_request", "400", "the request itself is refused; read the message"),
    _lasting("unauthorized", "401", "check the API key", "api_key_env"),
    _lasting("insufficient_balance", "402", "top up the account", "api_key_env"),
    _lasting("forbidden", "403", "the key may not use this model or region", "api_key_env"),
    _lasting("not_found", "404", "check base_url and model", "base_url"),
    _passing("request_timeout", "408", "the server gave up waiting; retry"),
    _passing("conflict", "409", "retry"),
    _lasting("unprocessable", "422", "a parameter has a value the server refuses"),
    _lasting(
        "payload_too_large",
        "413",
        "the request is too long: shorten prompts, or raise the limit of the server or of a proxy",
    ),
    _passing("failed_dependency", "424", "a server behind it failed; retry with backoff"),
    _passing("too_early", "425", "the server is not ready; retry, or set wait_ready", "wait_ready"),
    _passing(
        "rate_limited",
        "429, with or without Retry-After",
        "use fewer permits, or retry with backoff",
    ),
    _lasting(
        "quota_exhausted",
        "an error object with insufficient_quota, or another code of that meaning",
        "the quota of the account is used up, and no wait restores it: raise it, or top up",
        "api_key_env",
    ),
    _passing(
        "client_closed_request", "499", "a gateway gave up waiting: raise its timeout, or retry"
    ),
    _outage(
        "server_error", "500, another 5xx, or a finish_reason of an error", "retry with backoff"
    ),
    _outage("bad_gateway", "502", "retry with backoff"),
    _outage("unavailable", "503", "the server is busy; retry with backoff"),
    _outage("gateway_timeout", "504", "retry; a shorter answer may help"),
    _lasting("http_error", "any other status of 300 or above", "check base_url", "base_url"),
    _outage(
        "connect_failed",
        "connection refused, or the name is unknown",
        "check base_url and that the server runs",
        "base_url",
    ),
    _lasting(
        "certificate_error",
        "the server's certificate is not trusted, has expired or has another name",
        "name the file of its authority in ca_file, and use the certificate's name in base_url",
        "ca_file",
    ),
    _outage(
        "proxy_error",
        "the proxy of the environment refuses, or cannot be reached",
        "check HTTPS_PROXY, HTTP_PROXY and ALL_PROXY; NO_PROXY lists servers to reach directly",
    ),
    _lasting(
        "wrong_protocol",
        "https to a port that speaks http, or the other way round",
        "change http:// or https:// in base_url",
        "base_url",
    ),
    _outage(
        "connect_timeout",
        "no connection within timeouts.connect",
        "check the network; raise timeouts.connect",
    ),
    _outage(
        "connection_lost",
        "reset or closed before the answer, or in the middle of it",
        "retry; a proxy may cut long responses",
    ),
    _passing(
        "unasked_response",
        "a response that began before the server had received the whole request",
        "the server or a proxy answers twice: set reuse_connections = false",
        "reuse_connections",
    ),
    _outage(
        "first_token_timeout",
        "no text within timeouts.first_token; keep-alives are no text",
        "the server queues: use fewer permits or wait longer",
    ),
    _passing(
        "idle_timeout",
        "no text for timeouts.idle in the middle of a stream, reasoning or answer",
        "retry; keep-alive comments do not count as text",
    ),
    _lasting(
        "call_timeout",
        "the call's deadline, timeouts.call",
        "raise timeouts.call or lower max_tokens",
    ),
    _lasting(
        "workflow_timeout", "the workflow's deadline, timeouts.workflow", "raise timeouts.workflow"
    ),
    _passing(
        "missing_done",
        "the stream ends cleanly without a finish_reason",
        "the answer is cut: a proxy or the server closed early; retry",
    ),
    _passing(
        "malformed_stream",
        "a line or chunk in the stream that is not the protocol",
        "retry; look at what stands between you and the server",
    ),
    _passing("error_in_stream", "an error object inside the stream", "retry with backoff"),
    _passing("error_in_body", "200 with an error object", "retry with backoff"),
    _passing("blank_body", "200 with nothing in it", "retry"),
    _passing(
        "not_json",
        "200 with HTML or other text",
        "check base_url; a proxy may be answering",
        "base_url",
    ),
    _passing("malformed_json", "200 with JSON that cannot be read", "retry"),
    _passing("empty_choices", "a response without a choice", "retry"),
    _passing(
        "empty_answer",
        "finish_reason stop and no answer text",
        "retry; the model may have reasoned only",
    ),
    _lasting(
        "too_large",
        "a response beyond endpoint.limits",
        "raise that limit of endpoint.limits, if such a response is expected",
        "limits",
    ),
    _lasting("truncated", "finish_reason length, or another of that meaning", "raise max_tokens"),
    _passing(
        "aborted", "finish_reason abort, or another of that meaning", "the server gave up; retry"
    ),
    _lasting(
        "unknown_finish",
        "a finish_reason of unknown meaning",
        "look it up in the server's documentation, and give its meaning in endpoint.finish_reasons",
        "finish_reasons",
    ),
    _passing("insufficient_system_resource", "that finish_reason", "retry with backoff"),
    _lasting(
        "content_filter", "that finish_reason, or another of that meaning", "change the prompt"
    ),
    _lasting(
        CANCELLED,
        "broken off by us: a sibling failed, enough others succeeded, or a hedge was faster",
        "nothing to do",
    ),
    _lasting("client_error", "the client itself failed", "please report it, with the record"),
]

FAILURES: dict[str, FailureClass] = {row.name: row for row in _ROWS}
"""Every failure class by its name."""

_BY_STATUS = {
    400: "bad_request", 401: "unauthorized", 402: "insufficient_balance", 403: "forbidden",
    404: "not_found", 408: "request_timeout", 409: "conflict", 413: "payload_too_large",
    422: "unprocessable", 424: "failed_dependency", 425: "too_early", 429: "rate_limited",
    499: "client_closed_request", 502: "bad_gateway", 503: "unavailable", 504: "gateway_timeout",
}  # fmt: skip


def advice_for(name: str, endpoint_keys: Collection[str]) -> str:
    """Return what a person can do about a failure, with an endpoint that has these keys."""
    row = FAILURES[name]
    if row.key is None or row.key in endpoint_keys:
        return row.advice
    return f"with your own endpoint: {row.advice}"


def advice_after_retries(name: str, endpoint_keys: Collection[str]) -> str:
    """Return the same where retries were made, and work was lost nevertheless."""
    row = FAILURES[name]
    if not row.retryable:
        return advice_for(name, endpoint_keys)
    if name == "rate_limited":
        return "use fewer permits, or retry for longer"
    if row.outage:
        return "check the server, or retry for longer"
    return "retries did not help"


def without_fewer_permits(advice: str) -> str:
    """Return the advice for what was met with the fewest permits that were tried."""
    return advice.removeprefix("use fewer permits, or ")


def of_status(status: int) -> str:
    """Return the outcome that an HTTP status of a response stands for."""
    if 200 <= status < 300:
        return OK
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    return "server_error" if status >= 500 else "http_error"


def is_failure(outcome: str) -> bool:
    """Return whether an attempt or call with this outcome failed; a cancelled one did not."""
    return outcome not in (OK, CANCELLED)


def is_outage(outcome: str) -> bool:
    """Return whether an attempt's outcome means that the whole server is unavailable."""
    return outcome != OK and FAILURES[outcome].outage


def is_retryable(outcome: str) -> bool:
    """Return whether the same request may succeed when it is sent again."""
    return FAILURES[outcome].retryable
