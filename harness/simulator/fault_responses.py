"""The bytes of faults: responses that replace a completion, and broken ends of a stream."""

from __future__ import annotations

from collections.abc import Mapping

from harness.config.faults import FaultKind
from harness.records.clock import SECOND
from harness.simulator import wire
from harness.simulator.http_server import HttpResponse
from harness.simulator.limits import Reason
from harness.simulator.simulation import Refused

_HTML = b"<!doctype html>\n<title>Web server is returning an unknown error</title>\n"
_PLAIN = b"upstream connect error or disconnect/reset before headers\n\n"
_CUT = b'{"id": "chatcmpl-0", "object": "chat.compl'
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
    json = wire.JSON_HEADERS | headers
    if kind.status is not None:
        code = _TYPES.get(kind.status)
        kind_of_error = code or ("invalid_request_error" if kind.status < 500 else "server_error")
        said = f"{kind.status}, as the fault {kind.name} has it (simulated)"
        reply.send(kind.status, json, wire.error_body(said, kind_of_error, kind.name))
        return
    match kind.name:
        case "blank_body" if stream:
            reply.begin(200, wire.STREAM_HEADERS | headers)
            reply.end()
        case "blank_body":
            reply.send(200, json, b"")
        case "not_json":
            reply.send(200, {"content-type": "text/html"} | headers, _HTML)
        case "error_in_body":
            reply.send(200, json, _busy())
        case "malformed_json":
            reply.send(200, json, _CUT)
        case "empty_choices" if stream:
            reply.begin(200, wire.STREAM_HEADERS | headers, b'data: {"choices":[]}\n\n')
            reply.end(wire.DONE)
        case "empty_choices":
            reply.send(200, json, b'{"choices":[]}')
        case _:  # reset_before_head, and connections made before the listener was shut
            reply.reset()


def stream_end(kind: FaultKind) -> bytes:
    """Return the bytes that end a stream without a proper end."""
    match kind.name:
        case "malformed_stream":
            return _PLAIN
        case "malformed_chunk":
            return b"data: " + _CUT + b"\n\n"
        case "error_in_stream":
            return b"data: " + _busy() + b"\n\n" + wire.DONE
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


def _busy() -> bytes:
    return wire.error_body("the simulated provider is overloaded", "server_error", "overloaded")
