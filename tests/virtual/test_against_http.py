"""What an attempt comes to in virtual time is what it comes to over HTTP, but for the moments."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest
from msgspec.structs import asdict

from harness.config.faults import KINDS, FaultKind
from harness.engine.effects import Deadlines, Message, Reply, Request, Send
from harness.records.clock import SECOND
from harness.records.keys import CallKey
from harness.simulator.profiles import load_profile
from harness.simulator.virtual.clients import BlockingVirtualClient
from harness.simulator.virtual.clock import VirtualClock
from harness.simulator.virtual.provider import VirtualProvider, VirtualTarget, VirtualTrial
from harness.simulator.virtual.requests import render_reply
from harness.transports.async_transport import AsyncClient
from harness.transports.exchange import Exchange
from harness.transports.other_apis import translator_of
from harness.transports.reading import Reading
from tests.transports.attempts import ANCHOR, make_target
from tests.wire.clients import now
from tests.wire.provider import serving

SEED, SCALE = 3, 0.01
MS = SECOND // 1000
PROFILE = {
    "reasoning_tokens": {"median": 4}, "answer_tokens.median": 40, "tokens_per_chunk": 3,
    "cached_share": 0.5,
}  # fmt: skip
MOMENTS = ("sent", "headers", "first_reasoning", "first_answer", "last_token")


def attempts(since: int, body: bytes = b"") -> list[Send]:
    """Two of the same, one after the other; `body`: further keys."""
    deadlines = Deadlines(300 * MS, 600 * MS, 300 * MS, since + 30 * SECOND, "call_timeout")
    request = Request((Message("user", "Topic: tides\nWhy?"),), max_tokens=60, body=body)
    return [
        Send(CallKey("cell", 0, 0, 0, "fan_out", 0, 1), number, request, deadlines)
        for number in (1, 2)
    ]


def encoded(further: Mapping[str, object]) -> bytes:
    return json.dumps(further).encode() if further else b""


async def over_http(
    folder: Path,
    overrides: Mapping[str, object],
    stream: bool,
    further: Mapping[str, object] = {},
) -> list[Reply]:
    async with serving(folder, overrides) as provider:
        target = make_target(provider.url)._replace(stream=stream, model="m")
        async with AsyncClient(target, now) as client:
            return [await client.send(send) for send in attempts(now(), encoded(further))]


def in_virtual_time(
    overrides: Mapping[str, object], stream: bool, further: Mapping[str, object] = {}
) -> list[Reply]:
    body = encoded(further)
    profile = load_profile("streams", overrides)
    target = VirtualTarget(profile, SEED, SCALE, "m", stream, thoughts=True)
    clock = VirtualClock()
    client = BlockingVirtualClient(VirtualProvider(VirtualTrial(target, "None", 0, 1)), clock)
    return [client.send(send) for send in attempts(0, body)]


def shape(reply: Reply) -> dict[str, Any]:
    """Leave out the moments but for which there are, and the words of an error."""
    seen = asdict(reply)
    left_out = {
        "done",
        "gaps",
        "detail",
        "marked_simulated",
        "error_body",
        "anomalies",
        "first_chunk",
        *MOMENTS,
    }
    there = {name: seen[name] is not None for name in MOMENTS}
    gaps = sum(reply.gaps.values())
    return {name: value for name, value in seen.items() if name not in left_out} | there | {
        "gaps": gaps
    }  # fmt: skip


def faulty(kind: FaultKind) -> dict[str, object]:
    if kind.place == "connection":
        return {"kind": kind.name, "outage": {"start": 0, "duration": "1h"}}
    return {"kind": kind.name, "probability": 1}


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("name", [*KINDS, "none"])
def test_an_attempt_comes_to_the_same(tmp_path: Path, name: str, stream: bool) -> None:
    faults = [faulty(KINDS[name])] if name in KINDS else []
    overrides = {**PROFILE, "faults": faults}
    real = asyncio.run(over_http(tmp_path, overrides, stream))
    virtual = in_virtual_time(overrides, stream)
    assert list(map(shape, virtual)) == list(map(shape, real))


LOOK_UP = {
    "name": "look_up",
    "parameters": {
        "type": "object",
        "properties": {"text": {"type": "string"}, "most": {"type": "integer"}},
        "required": ["text", "most"],
    },
}
TOOLS = [{"type": "function", "function": LOOK_UP}]
CALLED = {"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}
CONVERSATION = [
    {"role": "system", "content": None},
    {"role": "user", "content": [
        {"type": "text", "text": "Topic: tides"},
        {"type": "image_url", "image_url": {"url": "data:,"}},
    ]},
    {"role": "assistant", "content": None, "tool_calls": [CALLED]},
    {"role": "tool", "tool_call_id": "call_1", "content": "high"},
]  # fmt: skip
SCHEMA = {"type": "json_schema", "json_schema": {"name": "s", "schema": LOOK_UP["parameters"]}}
FORMS: Mapping[str, Mapping[str, Any]] = {
    "a call": {"tools": TOOLS, "tool_choice": "required", "max_tokens": 900},
    "a cut call": {"tools": TOOLS, "tool_choice": "required", "max_tokens": 7},
    "no call begun": {"tools": TOOLS, "tool_choice": "required", "max_tokens": 2},
    "the last round": {"tools": TOOLS, "messages": CONVERSATION},
    "a schema": {"response_format": SCHEMA, "max_tokens": 900},
}


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("name", FORMS)
def test_an_answer_in_a_form_comes_to_the_same(tmp_path: Path, name: str, stream: bool) -> None:
    overrides = {**PROFILE, "tool_rounds": 1}
    real = asyncio.run(over_http(tmp_path, overrides, stream, FORMS[name]))
    virtual = in_virtual_time(overrides, stream, FORMS[name])
    assert list(map(shape, virtual)) == list(map(shape, real))
    calls = real[0].tool_calls
    assert [call.name for call in calls] == ["look_up"] * (name in ("a call", "a cut call"))
    if name == "a call":
        assert json.loads(calls[0].arguments).keys() == {"text", "most"}
        assert (real[0].finish_reason, real[0].answer) == ("tool_calls", "")
    if name == "a schema":
        assert json.loads(real[0].answer).keys() == {"text", "most"}


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("kind", ["empty_answer", "missing_done", "reset_in_body", "stall"])
def test_a_fault_in_a_tool_call_comes_to_the_same(tmp_path: Path, kind: str, stream: bool) -> None:
    overrides = {**PROFILE, "faults": [faulty(KINDS[kind])]}
    real = asyncio.run(over_http(tmp_path, overrides, stream, FORMS["a call"]))
    virtual = in_virtual_time(overrides, stream, FORMS["a call"])
    assert list(map(shape, virtual)) == list(map(shape, real))


FLAT = {"type": "function", **LOOK_UP}
ITEMS = [
    {"role": "user", "content": [{"type": "input_text", "text": "Topic: tides"}]},
    {"type": "reasoning", "id": "rs_1", "summary": []},
    {"type": "function_call", "call_id": "call_1", "name": "look_up", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "call_1", "output": "high"},
]
FORMAT = {"format": {"type": "json_schema", "name": "s", "schema": LOOK_UP["parameters"]}}
SENT: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "chat": ("/chat/completions", {"messages": CONVERSATION}),
    "text": ("/responses", {"input": "Topic: tides", "instructions": "Be brief."}),
    "items": ("/responses", {"input": ITEMS, "tools": [FLAT]}),
    "a call": ("/responses", {"input": "Why?", "tools": [FLAT], "tool_choice": "required"}),
    "a named call": (
        "/responses",
        {"input": "Why?", "tools": [FLAT], "tool_choice": {"type": "function", "name": "look_up"}},
    ),
    "a schema": ("/responses", {"input": "Why?", "text": FORMAT}),
    "cut": ("/responses", {"input": "Why?", "max_output_tokens": 7}),
    "a cut call": (
        "/responses",
        {"input": "Why?", "tools": [FLAT], "tool_choice": "required", "max_output_tokens": 7},
    ),
    "vectors": ("/embeddings", {"input": ["tides", "waves"]}),
    "refused": ("/responses", {"input": [], "stream": False}),
}
FAULTS_OF_PATHS = [
    "none", "empty_choices", "error_in_body", "empty_answer", "truncated", "content_filter",
    "insufficient_system_resource", "missing_done", "malformed_chunk", "error_in_stream",
    "blank_body", "not_json", "unavailable",
]  # fmt: skip


async def sent_over_http(
    folder: Path, overrides: Mapping[str, object], body: bytes, path: str
) -> Reply:
    async with (
        serving(folder, overrides) as provider,
        httpx2.AsyncClient(base_url=provider.url) as http,
    ):
        exchange = Exchange(b'"stream": true' in body, attempts(now())[0].deadlines, now, ANCHOR)
        async with http.stream("POST", path, content=body) as response:
            exchange.note_sent()
            exchange.note_response(response.status_code, response.headers)
            if response.status_code != 200:
                return exchange.refused(await response.aread())
            exchange.begin_reading(response.request.url.path)
            async for data in response.aiter_bytes():
                if not exchange.received(data, now()):
                    break
            return exchange.finish()


def sent_in_virtual_time(overrides: Mapping[str, object], body: bytes, path: str) -> Reply:
    target = VirtualTarget(
        load_profile("streams", overrides), SEED, SCALE, "", False, thoughts=True
    )
    clock, send = VirtualClock(), attempts(0)[0]
    client = BlockingVirtualClient(VirtualProvider(VirtualTrial(target, "None", 0, 1)), clock)
    request = Request((), body=body, path=path)
    return client.send(Send(CallKey("cell", 0, 0, 0, "", None, 1), 1, request, send.deadlines))


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize(
    ("name", "fault"),
    [*((name, "none") for name in SENT), *(("text", fault) for fault in FAULTS_OF_PATHS[1:]),
     ("vectors", "empty_choices"), ("vectors", "truncated"), ("a call", "missing_done")],
)  # fmt: skip
def test_a_sent_request_comes_to_the_same(
    tmp_path: Path, name: str, fault: str, stream: bool
) -> None:
    path, keys = SENT[name]
    body = json.dumps({"model": "m", "stream": stream, **keys}).encode()
    faults = [faulty(KINDS[fault])] if fault in KINDS else []
    overrides = {**PROFILE, "tool_rounds": 1, "faults": faults}
    real = asyncio.run(sent_over_http(tmp_path, overrides, body, path))
    virtual = sent_in_virtual_time(overrides, body, path)
    assert shape(virtual) == shape(real)
    if fault == "none" and name not in ("refused", "cut", "a cut call"):
        assert real.outcome == "ok"
        assert not real.anomalies or name == "vectors"  # they are never streamed
        rendered = render_reply(path, body, virtual)
        reading = Reading(stream, rendered.headers["content-type"], translator=translator_of(path))
        reading.feed(rendered.body, 1)
        reading.close(1)
        assert (reading.outcome, reading.answer, reading.reasoning, reading.tool_calls) == (
            "ok", real.answer, real.reasoning, real.tool_calls,
        )  # fmt: skip
        assert (reading.tokens, reading.response_id) == (real.tokens, real.response_id)
