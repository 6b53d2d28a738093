"""What servers do to clients, in one table for every client and transport."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

from harness.engine.effects import Reply
from harness.records.clock import SECOND
from harness.records.failures import OK
from tests.transports.bodies import (
    BODIES,
    DONE,
    EVENT_STREAM,
    JSON,
    STREAMS,
    chunk,
    outcome_of,
    whole,
)
from tests.wire.fault_server import END, Cut, Reset, Slowly, Step, Write, framed, head

Ending = Literal["end", "cut", "reset"]
HALF = (chunk(reasoning_content="hm"), chunk(content="hi"))
GOOD = (*HALF, chunk("stop"), DONE)


class Fault(NamedTuple):
    """One way to answer, and the record that it must lead to.

    `status` None: the connection ends before any answer. `ending`: how the body ends. `retry_after`
    in seconds. `reusable`: whether the connection serves the next request, too.
    """

    name: str
    outcome: str
    pieces: Sequence[bytes]
    stream: bool = True
    status: int | None = 200
    content_type: str = EVENT_STREAM
    headers: Callable[[], Sequence[tuple[str, str]]] = tuple
    ending: Ending = "end"
    retry_after: float | None = None
    reusable: bool = False

    def __str__(self) -> str:
        return self.name

    def all_headers(self) -> list[tuple[str, str]]:
        """Every header of the answer but for those of the framing."""
        return [("content-type", self.content_type), *self.headers()]


def _in_30_seconds() -> Sequence[tuple[str, str]]:
    return [("retry-after", email.utils.formatdate(time.time() + 30, usegmt=True))]


def _refusal(name: str, status: int, outcome: str, **fields: Any) -> Fault:
    body = b'{"error": {"message": "no", "code": "no"}}'
    fault = Fault(name, outcome, [body], status=status, content_type=JSON, reusable=True)
    return fault._replace(**fields)


def _streams() -> list[Fault]:
    faults = []
    for case, pieces in STREAMS.items():
        # What fails before its end is not read to its end, so its connection is lost.
        read_on = not outcome_of(case).startswith(("error", "malformed"))
        faults.append(Fault(f"stream, {case}", outcome_of(case), pieces, reusable=read_on))
    return faults


FAULTS: list[Fault] = [
    Fault("a stream with both texts", "ok", GOOD, reusable=True),
    Fault("a body with both texts", "ok", [whole(content="hi", reasoning_content="hm")],
          stream=False, content_type=JSON, reusable=True),
    *_streams(),
    *(
        Fault(f"body, {case}", outcome_of(case), [body], stream=False, content_type=content_type,
              reusable=True)
        for case, (body, content_type) in BODIES.items()
    ),
    _refusal("429", 429, "rate_limited"),
    _refusal("429, seconds", 429, "rate_limited", retry_after=2.5,
             headers=lambda: [("retry-after", "2.5")]),
    _refusal("429, milliseconds", 429, "rate_limited", retry_after=0.25,
             headers=lambda: [("retry-after-ms", "250"), ("retry-after", "1")]),
    _refusal("429, date", 429, "rate_limited", retry_after=30, headers=_in_30_seconds),
    _refusal("429, nonsense", 429, "rate_limited", headers=lambda: [("retry-after", "soon")]),
    _refusal("400", 400, "bad_request"),
    _refusal("402", 402, "insufficient_balance"),
    _refusal("500", 500, "server_error"),
    _refusal("503", 503, "unavailable", retry_after=1, headers=lambda: [("retry-after", "1")]),
    _refusal("307", 307, "http_error", headers=lambda: [("location", "/v1/chat/completions")]),
    Fault("500 without a body", "server_error", [], status=500, content_type="text/plain",
          reusable=True),
    _refusal("a refusal that is cut", 503, "unavailable", ending="cut", reusable=False),
    Fault("a stream that is reset", "connection_lost", HALF, ending="reset"),
    Fault("a stream that is cut", "connection_lost", HALF, ending="cut"),
    Fault("a body that is cut", "connection_lost", [whole(content="hi")], stream=False,
          content_type=JSON, ending="cut"),
    Fault("no stream at all, reset", "connection_lost", [], ending="reset"),
    Fault("no answer, reset", "connection_lost", [], status=None, ending="reset"),
    Fault("no answer, closed", "connection_lost", [], status=None, ending="cut"),
    Fault("an encoding that is a lie", "malformed_stream", GOOD,
          headers=lambda: [("content-encoding", "gzip")]),
]  # fmt: skip


def script(fault: Fault, slowly: bool = False) -> Sequence[Step]:
    """What the fault server does, with every byte in a packet of its own if `slowly`."""
    ends: dict[Ending, list[Step]] = {"end": [Write(END)], "cut": [Cut()], "reset": [Reset()]}
    if fault.status is None:
        return ends[fault.ending]
    said = [head(fault.status, *fault.all_headers()), *map(framed, fault.pieces)]
    return [*((Slowly if slowly else Write)(piece) for piece in said), *ends[fault.ending]]


def check(fault: Fault, reply: Reply, began: int, ended: int) -> None:
    """Hold a reply to what its fault says, and its stamps to their order."""
    assert reply.outcome == fault.outcome, reply
    # A reset throws away what the client has not read yet, be it the head.
    assert reply.status == fault.status or (fault.ending == "reset" and reply.status is None)
    assert (reply.detail == "") == (reply.outcome == OK)
    if fault.retry_after is None:
        assert reply.retry_after is None
    else:
        assert reply.retry_after is not None
        # A date in whole seconds is up to one of them early, and the attempt takes a while.
        slack = 2 * SECOND if fault.retry_after == 30 else 0
        wanted = round(fault.retry_after * SECOND)
        assert wanted - slack <= reply.retry_after <= wanted
    assert reply.sent is not None
    firsts = [time for time in (reply.first_reasoning, reply.first_answer) if time is not None]
    stamps = [
        began,
        reply.sent,
        reply.headers,
        *sorted(firsts),
        reply.last_token,
        reply.done,
        ended,
    ]
    reached = [stamp for stamp in stamps if stamp is not None]
    assert reached == sorted(reached), stamps
    assert (reply.headers is None) == (reply.status is None)
    if reply.outcome == OK:
        assert reply.answer
        assert reply.first_answer is not None
