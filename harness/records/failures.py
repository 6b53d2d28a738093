"""The failure classes: what each looks like on the wire, and whether a retry can help.

The class is the `outcome` of the record of an attempt or call. Every outcome but `ok` and
`cancelled` is a failure: see `is_failure`. Which statuses can be retried follows the providers'
published error codes and RFC 9110, section 15.
"""

from __future__ import annotations

from typing import NamedTuple

OK = "ok"
CANCELLED = "cancelled"
"""The harness stopped it because its result was no longer needed: not a failure."""


class FailureClass(NamedTuple):
    """One failure class.

    `name`: the outcome in the records. `seen`: what it looks like on the wire. `retryable`:
    whether the same request may succeed later. `advice`: what a person can do about it.
    `outage`: it means that the whole server is unavailable, so that other requests would fail too.
    """

    name: str
    seen: str
    retryable: bool
    advice: str
    outage: bool = False


_ROWS = [
    FailureClass("bad_request", "400", False, "the request itself is refused; read the message"),
    FailureClass("unauthorized", "401", False, "check the API key"),
    FailureClass("insufficient_balance", "402", False, "top up the account"),
    FailureClass("forbidden", "403", False, "the key may not use this model or region"),
    FailureClass("not_found", "404", False, "check base_url and model"),
    FailureClass("request_timeout", "408", True, "the server gave up waiting; retry"),
    FailureClass("conflict", "409", True, "retry"),
    FailureClass("unprocessable", "422", False, "a parameter has a value the server refuses"),
    FailureClass(
        "rate_limited",
        "429, with or without Retry-After",
        True,
        "use fewer permits, or retry with backoff",
    ),
    FailureClass("server_error", "500, or another 5xx", True, "retry with backoff", outage=True),
    FailureClass("bad_gateway", "502", True, "retry with backoff", outage=True),
    FailureClass("unavailable", "503", True, "the server is busy; retry with backoff", outage=True),
    FailureClass("gateway_timeout", "504", True, "retry; a shorter answer may help", outage=True),
    FailureClass("http_error", "any other status of 300 or above", False, "check base_url"),
    FailureClass(
        "connect_failed",
        "connection refused, or the name is unknown",
        True,
        "check base_url and that the server runs",
        outage=True,
    ),
    FailureClass(
        "connect_timeout",
        "no connection within timeouts.connect",
        True,
        "check the network; raise timeouts.connect",
        outage=True,
    ),
    FailureClass(
        "connection_lost",
        "reset or closed before the answer, or in the middle of it",
        True,
        "retry; a proxy may cut long responses",
        outage=True,
    ),
    FailureClass(
        "first_token_timeout",
        "no text within timeouts.first_token; keep-alives are no text",
        True,
        "the server queues: use fewer permits or wait longer",
        outage=True,
    ),
    FailureClass(
        "idle_timeout",
        "no text for timeouts.idle in the middle of a stream, reasoning or answer",
        True,
        "retry; keep-alive comments do not count as text",
    ),
    FailureClass(
        "call_timeout",
        "the call's deadline, timeouts.call",
        False,
        "raise timeouts.call or lower max_tokens",
    ),
    FailureClass(
        "workflow_timeout",
        "the workflow's deadline, timeouts.workflow",
        False,
        "raise timeouts.workflow",
    ),
    FailureClass(
        "missing_done",
        "the stream ends cleanly without [DONE]",
        True,
        "the answer is cut: a proxy or the server closed early; retry",
    ),
    FailureClass(
        "malformed_stream",
        "a line or chunk in the stream that is not the protocol",
        True,
        "retry; look at what stands between you and the server",
    ),
    FailureClass(
        "error_in_stream", "an error object inside the stream", True, "retry with backoff"
    ),
    FailureClass("error_in_body", "200 with an error object", True, "retry with backoff"),
    FailureClass("blank_body", "200 with nothing in it", True, "retry"),
    FailureClass(
        "not_json", "200 with HTML or other text", True, "check base_url; a proxy may be answering"
    ),
    FailureClass("malformed_json", "200 with JSON that cannot be read", True, "retry"),
    FailureClass("empty_choices", "a response without a choice", True, "retry"),
    FailureClass(
        "empty_answer",
        "finish_reason stop and no answer text",
        True,
        "retry; the model may have reasoned only",
    ),
    FailureClass("truncated", "finish_reason length", False, "raise max_tokens"),
    FailureClass("insufficient_system_resource", "that finish_reason", True, "retry with backoff"),
    FailureClass("content_filter", "that finish_reason", False, "change the prompt"),
    FailureClass(
        CANCELLED,
        "broken off by us: a sibling failed, enough others succeeded, or a hedge was faster",
        False,
        "nothing to do",
    ),
    FailureClass(
        "client_error", "the client itself failed", False, "please report it, with the record"
    ),
]

FAILURES: dict[str, FailureClass] = {row.name: row for row in _ROWS}
"""Every failure class by its name."""

_BY_STATUS = {
    400: "bad_request", 401: "unauthorized", 402: "insufficient_balance", 403: "forbidden",
    404: "not_found", 408: "request_timeout", 409: "conflict", 422: "unprocessable",
    429: "rate_limited", 502: "bad_gateway", 503: "unavailable", 504: "gateway_timeout",
}  # fmt: skip


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
