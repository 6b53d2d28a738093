"""What servers do beside the API, and how it is read: one table for the tests and the documents."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from harness.records.schema import Tokens
from tests.transports.bodies import DONE, EVENT_STREAM, JSON, chunk, event, usage_chunk
from tests.wire.fault_server import END, Cut, Step, Write, framed, head

USAGE: Mapping[str, Any] = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
READ = Tokens(input=10, output=5)
UNKNOWN = Tokens()
HM = "hm"
ANSWER = "because"


class Form(NamedTuple):
    """What the server does for one form of request, and how that is read.

    `tokens`, `answer` and `reasoning` are those of a successful attempt.
    """

    steps: Sequence[Step]
    outcome: str = "ok"
    anomalies: tuple[str, ...] = ()
    tokens: Tokens = READ
    answer: str = ANSWER
    reasoning: str = ""


class Quirk(NamedTuple):
    """One behaviour; None where a form of request does not show it."""

    behaviour: str
    streamed: Form | None
    whole: Form | None


def respond(
    *pieces: bytes, content_type: str = EVENT_STREAM, headers: Sequence[tuple[str, str]] = ()
) -> Sequence[Step]:
    said = head(200, ("content-type", content_type), *headers)
    return [Write(said + b"".join(map(framed, pieces)) + END)]


def stream(
    *texts: bytes,
    finish: str | None = "stop",
    usage: Any = USAGE,
    done: bytes = DONE,
    **more: Any,
) -> Sequence[Step]:
    """A stream with these chunks of text, a finish reason, usage and its end."""
    ends = [chunk(finish)] if finish is not None else []
    counts = [usage_chunk(usage)] if usage is not None else []
    return respond(*texts, *ends, *counts, done, **more)


def body(
    fields: Mapping[str, Any], finish: str | None = "stop", usage: Any = USAGE, **more: Any
) -> Sequence[Step]:
    """A whole response with these fields of its message."""
    message = {"role": "assistant", **fields}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    whole = {"object": "chat.completion", "choices": [choice], "usage": usage}
    return respond(json.dumps(whole).encode(), content_type=more.pop("content_type", JSON), **more)


def finish(reason: str, outcome: str, *anomalies: str) -> Quirk:
    texts = chunk(content=ANSWER)
    return Quirk(
        f'`"finish_reason": "{reason}"`',
        Form(stream(texts, finish=reason), outcome, anomalies),
        Form(body({"content": ANSWER}, reason), outcome, anomalies),
    )


def usage(behaviour: str, counts: Any, tokens: Tokens, *anomalies: str) -> Quirk:
    return Quirk(
        behaviour,
        Form(stream(chunk(content=ANSWER), usage=counts), anomalies=anomalies, tokens=tokens),
        Form(body({"content": ANSWER}, usage=counts), anomalies=anomalies, tokens=tokens),
    )


def fields(
    behaviour: str, *deltas: Mapping[str, Any], anomalies: tuple[str, ...] = (), hm: str = HM
) -> Quirk:
    """The deltas of a stream; a whole message has their fields together."""
    together: dict[str, Any] = {}
    for delta in deltas:
        for name, value in delta.items():
            together[name] = together[name] + value if name in together else value
    return Quirk(
        behaviour,
        Form(stream(*(chunk(**delta) for delta in deltas)), "ok", anomalies, reasoning=hm),
        Form(body(together), "ok", anomalies, reasoning=hm),
    )


def streamed(behaviour: str, steps: Sequence[Step], *anomalies: str, **more: Any) -> Quirk:
    return Quirk(behaviour, Form(steps, anomalies=anomalies, **more), None)


def raw(behaviour: str, lines: bytes, *anomalies: str, closes: bool = False) -> Quirk:
    """A stream and a whole response with these lines in their heads."""

    def steps(content_type: str, pieces: Sequence[bytes]) -> Sequence[Step]:
        start = b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\n" % content_type.encode() + lines + b"\r\n"
        if closes:
            return [Write(start + b"".join(pieces)), Cut()]
        return [Write(start + b"".join(map(framed, pieces)) + END)]

    choice = {"index": 0, "message": {"content": ANSWER}, "finish_reason": "stop"}
    whole = json.dumps({"choices": [choice], "usage": USAGE}).encode()
    pieces = [chunk(content=ANSWER), chunk("stop"), usage_chunk(dict(USAGE)), DONE]
    return Quirk(
        behaviour,
        Form(steps(EVENT_STREAM, pieces), anomalies=anomalies),
        Form(steps(JSON, [whole]), anomalies=anomalies),
    )


TEXT = chunk(content=ANSWER)
BESIDE = {**USAGE, "total_tokens": 315, "completion_tokens_details": {"reasoning_tokens": 300}}
THINKING = [
    {"type": "thinking", "thinking": [{"type": "text", "text": HM}]},
    {"type": "text", "text": ANSWER},
]
HARMONY = "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>"
NAN = (
    b'data: {"choices":[{"index":0,"delta":{"content":"because"},"logprobs":{"content":'
    b'[{"token":"because","logprob":-Infinity}]}}]}\n\n'
)
HALVES = (
    b'data: {"choices":[{"index":0,"delta":{"content":"because \\ud83d"}}]}\n\n',
    b'data: {"choices":[{"index":0,"delta":{"content":"\\ude00"}}]}\n\n',
)
OTHER_CHOICE = event({"choices": [{"index": 1, "delta": {"content": "since"}}]})
IN_CHOICE = event({"choices": [{"index": 0, "delta": {}, "usage": USAGE}]})
AS_MESSAGE = event({"choices": [{"index": 0, "message": {"content": ANSWER}}]})

QUIRKS: Sequence[Quirk] = (
    finish("eos_token", "ok"),
    finish("STOP", "ok"),
    finish("abort", "aborted"),
    finish("model_length", "truncated"),
    finish("max_tokens", "truncated"),
    finish("network_error", "server_error"),
    finish("sensitive", "content_filter"),
    finish("", "ok", "missing_finish"),
    finish("fin", "unknown_finish"),
    usage("reasoning counted beside the output", BESIDE,
          Tokens(input=10, output=305, reasoning=300), "usage"),
    usage("reasoning counted in the total alone", {**USAGE, "total_tokens": 315},
          Tokens(input=10, output=305), "usage"),
    usage("negative token counts", {"prompt_tokens": -1, "completion_tokens": -5}, UNKNOWN,
          "usage"),
    usage("token counts of 0 beside text", dict.fromkeys(USAGE, 0), UNKNOWN, "usage"),
    usage("token counts that overflowed", {"prompt_tokens": 10, "completion_tokens": 2**32 - 5},
          Tokens(input=10), "usage"),
    usage("token counts as floats", {"prompt_tokens": 10.0, "completion_tokens": 5.0}, READ,
          "usage"),
    usage("token counts as text", {"prompt_tokens": "10", "completion_tokens": "5"}, READ, "usage"),
    usage("usage that is a list", [], UNKNOWN, "usage"),
    streamed("usage of 0 after the right one",
             stream(TEXT, usage_chunk(dict(USAGE)), usage=dict.fromkeys(USAGE, 0)), "usage"),
    streamed("usage within the choice", stream(TEXT, IN_CHOICE, usage=None)),
    streamed("finish reason and a clean end without `[DONE]`", stream(TEXT, done=b""),
             "missing_done"),
    streamed("text and a clean end without a finish reason",
             stream(TEXT, finish=None, usage=None, done=b""), outcome="missing_done"),
    streamed("`[DONE]` without a finish reason", stream(TEXT, finish=None), "missing_finish"),
    streamed("a stream as `application/json`", stream(TEXT, content_type=JSON), "content_type"),
    streamed("a stream as `text/plain`", stream(TEXT, content_type="text/plain"), "content_type"),
    Quirk("JSON as `text/html`", None,
          Form(body({"content": ANSWER}, content_type="text/html"), anomalies=("content_type",))),
    Quirk("the other form than was asked for",
          Form(body({"content": ANSWER}), anomalies=("wrong_form",)),
          Form(stream(TEXT), anomalies=("wrong_form",))),
    fields("`reasoning_content`", {"reasoning_content": HM}, {"content": ANSWER}),
    fields("`reasoning`", {"reasoning": HM}, {"content": ANSWER}),
    fields("`reasoning_details`", {"reasoning_details": [{"type": "reasoning.text", "text": HM}]},
           {"content": ANSWER}),
    fields("encrypted `reasoning_details`",
           {"reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}]},
           {"content": ANSWER}, hm=""),
    fields("`thinking`", {"thinking": HM}, {"content": ANSWER}),
    fields("content as parts, one of them `thinking`", {"content": THINKING}),
    fields("content as a list of texts", {"content": ["bec", "ause"]}, hm=""),
    fields("content as parts of an unknown type", {"content": [{"type": "prose", "text": ANSWER}]},
           anomalies=("unknown_shape",), hm=""),
    fields("`<think>` in the content", {"content": "<thi"}, {"content": "nk>hm</thi"},
           {"content": "nk>\n\nbecause"}),
    fields("`</think>` without `<think>`", {"content": "hm</think>"}, {"content": ANSWER}),
    fields("`<thinking>` in the content", {"content": "<thinking>hm</thinking>"},
           {"content": ANSWER}),
    fields("`[THINK]` in the content", {"content": "[THINK]h"}, {"content": "m[/THINK]because"}),
    fields("`<|channel|>analysis` in the content", {"content": HARMONY[:40]},
           {"content": HARMONY[40:] + ANSWER}),
    streamed("a surrogate pair split over two chunks", stream(*HALVES), "surrogate",
             answer="because \N{GRINNING FACE}"),
    streamed("half of a surrogate pair", stream(HALVES[0]), "surrogate",
             answer="because \N{REPLACEMENT CHARACTER}"),
    streamed("`-Infinity` in the JSON", stream(NAN), "not_quite_json"),
    streamed("a byte order mark", stream(b"\xef\xbb\xbf" + TEXT), "byte_order_mark"),
    streamed("an event without data", stream(TEXT, b"data:\n\n"), "empty_event"),
    streamed("a ping that is no JSON", stream(b"event: ping\ndata: ping\n\n", TEXT), "empty_event"),
    streamed("a line with an unknown field", stream(b"upstream: east\n", TEXT), "unknown_field"),
    streamed("an error as a line of JSON without `data:`",
             stream(TEXT, b'{"error": {"message": "overloaded"}}\n\n'), outcome="error_in_stream"),
    streamed("a second choice that was not asked for", stream(TEXT, OTHER_CHOICE)),
    streamed("`message` in place of `delta`", stream(AS_MESSAGE), "unknown_shape"),
    raw("`Content-Length` beside `Transfer-Encoding`",
        b"content-length: 5\r\ntransfer-encoding: chunked\r\n", "framing"),
    raw("150 response headers",
        b"".join(b"x-%d: y\r\n" % n for n in range(150)) + b"transfer-encoding: chunked\r\n"),
    raw("a body that ends with the connection", b"", closes=True),
    streamed("a compressed stream",
             respond(gzip.compress(TEXT + chunk("stop") + usage_chunk(dict(USAGE)) + DONE),
                     headers=[("content-encoding", "gzip")])),
)  # fmt: skip
