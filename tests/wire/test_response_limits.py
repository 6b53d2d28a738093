"""What one response may be: limits, and deadlines within one read."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from typing import Any

import pytest

from harness.config.response_reading import ReadingTerms, ResponseLimits
from harness.records.clock import SECOND
from harness.records.failures import OK
from harness.transports.sse import EventDecoder
from tests.transports.attempts import make_deadlines, make_send, make_target
from tests.transports.bodies import DONE, EVENT_STREAM, JSON, chunk, whole
from tests.wire.clients import BOTH, Sending, now
from tests.wire.fault_server import END, FaultServer, Hold, Pause, Step, Write, framed, head
from tests.wire.faults import GOOD

STREAM_HEAD = head(200, ("content-type", EVENT_STREAM))
GOOD_ANSWER = STREAM_HEAD + framed(b"".join(GOOD)) + END


def within(**limits: int) -> ReadingTerms:
    return ReadingTerms(limits=ResponseLimits(**limits))


@BOTH
@pytest.mark.parametrize(
    ("limits", "piece"),
    [
        ({"body": 5000}, chunk(content="hi")),
        ({"text": 5000}, chunk(content="x" * 500)),
        ({"text": 5000}, chunk(reasoning_content="x" * 500)),
        ({"line": 5000}, b"x" * 1000),
        ({"line": 5000}, b"data: x" * 100 + b"\n"),
    ],
    ids=["body", "answer", "reasoning", "a line without an end", "data lines without an end"],
)
def test_a_stream_beyond_a_limit_is_aborted_while_it_goes_on(
    limits: dict[str, int], piece: bytes, sending: Sending
) -> None:
    endless: Sequence[Step] = [Write(STREAM_HEAD), Write(framed(piece) * 300), Hold()]
    with FaultServer(lambda _: endless) as server:
        [reply] = sending(make_target(server.base_url, reading=within(**limits)), make_send())
        assert server.settled(lambda: server.open == 0)
    assert reply.outcome == "too_large"


@BOTH
def test_a_whole_body_is_limited_after_decompression(sending: Sending) -> None:
    packed = gzip.compress(whole(content="x" * 1_000_000))
    said = head(200, ("content-type", JSON), ("content-encoding", "gzip")) + framed(packed) + END
    with FaultServer(lambda _: [Write(said)]) as server:
        target = make_target(server.base_url, stream=False, reading=within(body=100_000))
        [reply] = sending(target, make_send())
        assert reply.outcome == "too_large"
        target = target._replace(reading=within(body=2_000_000))
        [reply] = sending(target, make_send())
        assert (reply.outcome, len(reply.answer)) == (OK, 1_000_000)


@BOTH
@pytest.mark.parametrize(("most", "outcome"), [(20_000, OK), (5000, "connection_lost")])
def test_the_headers_are_limited_in_every_mode(most: int, outcome: str, sending: Sending) -> None:
    long = head(200, ("content-type", EVENT_STREAM), ("x", "y" * 10_000))
    with FaultServer(lambda _: [Write(long + framed(b"".join(GOOD)) + END)]) as server:
        [reply] = sending(make_target(server.base_url, reading=within(head=most)), make_send())
    assert reply.outcome == outcome


@BOTH
@pytest.mark.parametrize(("levels", "outcome"), [(20, OK), (40, "malformed_stream")])
def test_the_levels_of_json_are_limited(levels: int, outcome: str, sending: Sending) -> None:
    nested = json.dumps({"choices": [], "extra": 0}).replace("0", "[" * levels + "]" * levels)
    said = STREAM_HEAD + framed(b"data: " + nested.encode() + b"\n\n" + b"".join(GOOD)) + END
    with FaultServer(lambda _: [Write(said)]) as server:
        [reply] = sending(make_target(server.base_url, reading=within(nesting=30)), make_send())
    assert reply.outcome == outcome


@BOTH
def test_a_deadline_holds_while_a_small_response_inflates(sending: Sending) -> None:
    """The limits would let all of it pass; each piece takes time."""
    bomb = gzip.compress(b": keep-alive\n\n" * 30_000_000, 1)
    assert len(bomb) < 4_000_000
    said = head(200, ("content-type", EVENT_STREAM), ("content-encoding", "gzip"))
    with FaultServer(lambda _: [Write(said + framed(bomb) + END)]) as server:
        limits = make_deadlines(end=now() + SECOND // 4)
        target = make_target(server.base_url, reading=within(body=2**40))
        [reply] = sending(target, make_send(limits))
    assert reply.outcome == "call_timeout"


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_a_long_line_in_small_pieces_is_joined_once(line_end: bytes) -> None:
    """Pieces are kept apart until the line ends, so that each byte is copied once."""
    decoder, size = EventDecoder(), 1400
    decoder.feed(b"data: ")
    for _ in range(2000):
        assert decoder.feed(b"x" * size) == []
        assert sum(map(len, decoder._pieces)) == decoder.held
    [event] = decoder.feed(line_end * 2)
    assert len(event[0]) == 2000 * size
    assert decoder._pieces == []


@BOTH
@pytest.mark.parametrize(
    "thought",
    [
        {"reasoning_content": "hm"},
        {"reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}]},
        {"content": "[THINK]hm"},
        {"content": [{"type": "thinking", "thinking": "hm"}]},
    ],
    ids=["reasoning_content", "reasoning_details", "[THINK]", "parts"],
)
def test_reasoning_of_any_kind_is_a_first_token(thought: dict[str, Any], sending: Sending) -> None:
    later = (
        chunk(content="[/THINK]hi")
        if thought.get("content") == "[THINK]hm"
        else chunk(content="hi")
    )
    said: Sequence[Step] = [
        Write(STREAM_HEAD + framed(chunk(**thought))),
        Pause(0.6),
        Write(framed(later + chunk("stop") + DONE) + END),
    ]
    with FaultServer(lambda _: said) as server:
        limits = make_deadlines(first_token=SECOND // 2)
        [reply] = sending(make_target(server.base_url), make_send(limits))
    assert (reply.outcome, reply.answer) == (OK, "hi")
    assert reply.first_reasoning is not None
    assert reply.first_answer is not None
    assert reply.first_answer - reply.first_reasoning > SECOND // 2
