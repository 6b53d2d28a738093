"""The bytes of faults: responses that replace a completion, and broken ends of a stream."""

from __future__ import annotations

from collections.abc import Mapping

from harness.config.faults import FaultKind
from harness.network.http_server import HttpResponse
from harness.records.clock import SECOND
from harness.simulator import wire
from harness.simulator.limits import Reason
from harness.simulator.simulation import Refused

_PLAIN = b"upstream connect error or disconnect/reset before headers\n\n"
_CUT = b'{"id": "chatcmpl-0", "object": "chat.compl'
_BUSY = wire.error_body("the simulated provider is overloaded", "server_error", "overloaded")
_BODIES = {
    "blank_body": b"",
    "not_json": b"<!doctype html>\n<title>Web server is returning an unknown error</title>\n",
    "error_in_body": _BUSY,
    "malformed_json": _CUT,
    "empty_choices": b'{"choices":[]}',
}
_STREAMS = {"blank_body": (b"", b""), "empty_choices": (b'data: {"choices":[]}\n\n', wire.DONE)}
"""The first and the last bytes, where a stream differs from a body."""
_OVER: Mapping[Reason, str] = {
    "concurrency": "too many requests at once: the simulated provider's concurrency cap is reached",
    "requests": "too many requests a minute for the simulated provider",
    "tokens": "too many tokens a minute for the simulated provider",
}
_TYPES = {
    401: "authentication_error", 402: "insufficient_balance", 403: "permission_error",
    429: "rate_limit_error",
}  # fmt: skip


def refuse(reply: HttpResponse, refused: Refused, stream: bool, time_scale: float) -> None:
    """Answer a request that is not admitted."""
    headers = retry_headers(refused.retry_after, time_scale)
    headers["x-request-id"] = wire.request_id(refused.name)
    if refused.fault is not None:
        instead(reply, refused.fault.kind, headers, stream)
    else:
        assert refused.reason is not None
        body = wire.error_body(_OVER[refused.reason], "rate_limit_error", "rate_limit_exceeded")
        reply.send(429, wire.JSON_HEADERS | headers, body)


def instead(reply: HttpResponse, kind: FaultKind, headers: dict[str, str], stream: bool) -> None:
    """Write the response that replaces a completion, or reset the connection."""
    if kind.status is not None:
        general = "invalid_request_error" if kind.status < 500 else "server_error"
        message = f"{kind.status}, caused by the fault {kind.name} (simulated)"
        body = wire.error_body(message, _TYPES.get(kind.status, general), kind.name)
        reply.send(kind.status, wire.JSON_HEADERS | headers, body)
    elif stream and kind.name in _STREAMS:
        first, last = _STREAMS[kind.name]
        reply.begin(200, wire.STREAM_HEADERS | headers, first)
        reply.end(last)
    elif kind.name in _BODIES:
        content_type = {"content-type": "text/html"} if kind.name == "not_json" else {}
        reply.send(200, wire.JSON_HEADERS | content_type | headers, _BODIES[kind.name])
    else:  # reset_before_head, and connections made before the listener was shut
        reply.reset()


def stream_end(kind: FaultKind) -> bytes:
    """Return the bytes that end a stream without a proper end."""
    match kind.name:
        case "malformed_stream":
            return _PLAIN
        case "malformed_chunk":
            return b"data: " + _CUT + b"\n\n"
        case "error_in_stream":
            return b"data: " + _BUSY + b"\n\n" + wire.DONE
        case _:  # missing_done and reset_in_body
            return b""


def retry_headers(retry_after: int | None, time_scale: float) -> dict[str, str]:
    """Return the headers that ask a client to retry after `retry_after` real nanoseconds.

    The openai package reads `retry-after-ms` first. The standard header (RFC 9110, section 10.2.3)
    is sent only for whole seconds at time scale 1, because it counts scenario seconds.
    """
    if retry_after is None:
        return {}
    milliseconds = f"{retry_after / 1e6:.3f}".rstrip("0").rstrip(".")
    headers = {"retry-after-ms": milliseconds}
    if time_scale == 1 and retry_after % SECOND == 0:
        headers["retry-after"] = str(retry_after // SECOND)
    return headers
