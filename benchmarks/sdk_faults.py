"""What servers do wrong, each as a script for a stream and for a whole response.

The bytes are those that the client's own tests hold it to, so the two can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from tests.transports.bodies import DONE, EVENT_STREAM, HTML, JSON, KEEP_ALIVE, chunk, event, whole
from tests.wire.fault_server import END, Cut, Hold, Pause, Reset, Step, Until, Write, framed, head

PATIENCE = 0.4
"""The client's timeout, in seconds, where it is to be reached."""

ROUNDS = 40
"""Keep-alives or pieces of text, each 50 ms after the last: five times `PATIENCE` in all."""

ERROR = b'{"error": {"message": "overloaded", "type": "server_error", "code": "overloaded"}}'
TEXT = chunk(content="hi")
THOUGHT = chunk(reasoning_content="hm")
ENDING = chunk("stop")

Script = Callable[[Callable[[], bool]], Sequence[Step]]
"""Is told how to find out whether the client has read something; returns what the server does."""


class Case(NamedTuple):
    """One fault: the harness's class of it, and what the server does.

    None where there is no such fault. `timed`: the client's timeout is `PATIENCE`. `drips`: it
    takes longer than that however fast the machine is, and nothing ever fails of itself.
    """

    fault: str
    outcome: str
    stream: Script | None
    body: Script | None
    timed: bool = False
    drips: bool = False


def _said(content_type: str, *pieces: bytes, status: int = 200) -> Sequence[Step]:
    return [Write(head(status, ("content-type", content_type)) + b"".join(map(framed, pieces)))]


def _stream(*pieces: bytes) -> Script:
    return lambda _: [*_said(EVENT_STREAM, *pieces), Write(END)]


def _body(body: bytes, content_type: str = JSON) -> Script:
    return lambda _: [*_said(content_type, body), Write(END)]


def _then(content_type: str, pieces: Sequence[bytes], last: Step) -> Script:
    return lambda is_read: [*_said(content_type, *pieces), Until(is_read), last]


def _both(fault: str, outcome: str, script: Script, timed: bool = False) -> Case:
    return Case(fault, outcome, script, script, timed)


def _refusal(status: int, outcome: str, retry_after: str | None = None) -> Case:
    hint = () if retry_after is None else (("retry-after", retry_after),)
    script = [Write(head(status, ("content-type", JSON), *hint) + framed(ERROR) + END)]
    asks = "" if retry_after is None else f" with Retry-After: {retry_after}"
    return _both(f"{status}{asks}", outcome, lambda _: script)


def _finish(reason: str, outcome: str) -> Case:
    return Case(
        f"`finish_reason` `{reason}`", outcome,
        _stream(TEXT, chunk(reason), DONE), _body(whole(reason, content="hi")),
    )  # fmt: skip


def _drip(content_type: str, piece: bytes, last: bytes) -> Script:
    rounds: list[Step] = [Pause(0.05), Write(framed(piece))] * ROUNDS
    return lambda _: [*_said(content_type), *rounds, Write(framed(last) + END)]


CASES: Sequence[Case] = (
    _refusal(400, "bad_request"),
    _refusal(401, "unauthorized"),
    _refusal(402, "insufficient_balance"),
    _refusal(403, "forbidden"),
    _refusal(404, "not_found"),
    _refusal(408, "request_timeout"),
    _refusal(409, "conflict"),
    _refusal(422, "unprocessable"),
    _refusal(429, "rate_limited"),
    _refusal(429, "rate_limited", "2"),
    _refusal(429, "rate_limited", "200"),
    _refusal(500, "server_error"),
    _refusal(502, "bad_gateway"),
    _refusal(503, "unavailable"),
    _refusal(504, "gateway_timeout"),
    Case("connection refused", "connect_failed", None, None),
    Case("no connection in time", "connect_timeout", None, None, timed=True),
    _both("reset before the answer", "connection_lost", lambda _: [Reset()]),
    Case("reset in the middle", "connection_lost", _then(EVENT_STREAM, [THOUGHT, TEXT], Reset()),
         lambda _: [*_said(JSON, whole(content="hi")[:40]), Reset()]),
    Case("cut in the middle", "connection_lost", _then(EVENT_STREAM, [THOUGHT, TEXT], Cut()),
         lambda _: [*_said(JSON, whole(content="hi")[:40]), Cut()]),
    _both("no answer in time", "first_token_timeout", lambda _: [Hold()], timed=True),
    Case("stall in the middle of the reasoning", "idle_timeout",
         lambda _: [*_said(EVENT_STREAM, THOUGHT), Hold()],
         lambda _: [*_said(JSON, whole(content="hi")[:40]), Hold()], timed=True),
    Case("keep-alives five times as long as the timeout", "first_token_timeout",
         _drip(EVENT_STREAM, KEEP_ALIVE, TEXT + ENDING + DONE),
         _drip(JSON, b"\n", whole(content="hi")), timed=True, drips=True),
    Case("text that goes on past any deadline", "call_timeout",
         _drip(EVENT_STREAM, TEXT, ENDING + DONE), None, timed=True, drips=True),
    Case("clean end without a `finish_reason`", "missing_done", _stream(THOUGHT, TEXT), None),
    Case("a line of plain text in the stream", "malformed_stream",
         _stream(TEXT, b"upstream timed out\n\n"), None),
    Case("a chunk that is cut JSON", "malformed_stream", _stream(TEXT, TEXT[:-9] + b"\n\n"), None),
    Case("an error object in the stream", "error_in_stream",
         _stream(TEXT, event({"error": {"message": "overloaded"}}), DONE), None),
    Case("200 with an error object", "error_in_body", _body(ERROR), _body(ERROR)),
    Case("blank 200", "blank_body", _stream(), _body(b"")),
    Case("200 with HTML", "not_json", _body(HTML, "text/html"), _body(HTML, "text/html")),
    Case("200 with cut JSON", "malformed_json", None, _body(whole(content="hi")[:-9])),
    Case("no choices", "empty_choices", _stream(event({"choices": []}), DONE),
         _body(b'{"choices": []}')),
    Case("no answer text, `finish_reason` `stop`", "empty_answer", _stream(THOUGHT, ENDING, DONE),
         _body(whole(content="", reasoning_content="hm"))),
    _finish("length", "truncated"),
    _finish("abort", "aborted"),
    _finish("network_error", "server_error"),
    _finish("fin", "unknown_finish"),
    _finish("insufficient_system_resource", "insufficient_system_resource"),
    _finish("content_filter", "content_filter"),
)  # fmt: skip
