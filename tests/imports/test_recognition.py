"""Each format is read, and an unknown file gets one line."""

from __future__ import annotations

import json
from typing import Any

import pytest

from harness.imports.recognition import recording_of
from harness.imports.recorded import UnreadableRecordError


def span(name: str, parent: str, times: tuple[int, int], **values: Any) -> dict[str, Any]:
    def typed(value: Any) -> dict[str, Any]:
        return {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}

    attributes = [{"key": k.replace("__", "."), "value": typed(v)} for k, v in values.items()]
    return {
        "traceId": "t", "spanId": name, "parentSpanId": parent, "name": name,
        "startTimeUnixNano": str(times[0]), "endTimeUnixNano": str(times[1]),
        "attributes": attributes,
    }  # fmt: skip


def otlp(*spans: dict[str, Any]) -> bytes:
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}).encode()


ROOT = span("root", "", (0, 100))
CALLS = {
    "current": {
        "gen_ai__operation__name": "chat", "gen_ai__usage__input_tokens": 7,
        "gen_ai__usage__output_tokens": 5, "gen_ai__usage__cache_read__input_tokens": 2,
        "gen_ai__usage__reasoning__output_tokens": 3,
    },
    "openllmetry": {
        "llm__request__type": "chat", "gen_ai__usage__prompt_tokens": 7,
        "gen_ai__usage__completion_tokens": 5, "gen_ai__usage__cache_read_input_tokens": 2,
        "gen_ai__usage__reasoning_tokens": 3,
    },
    "openinference": {
        "openinference__span__kind": "LLM", "llm__token_count__prompt": 7,
        "llm__token_count__completion": 5, "llm__token_count__prompt_details__cache_read": 2,
        "llm__token_count__completion_details__reasoning": 3,
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", CALLS)
def test_otlp(kind: str) -> None:
    content = otlp(ROOT, span("call", "root", (10, 90), **CALLS[kind]))
    (trace,) = recording_of(content).traces
    (call,) = trace.calls
    assert (trace.arrival, call.start, call.end) == (0, 10, 90)
    assert (call.input, call.output, call.cached, call.reasoning) == (7, 5, 2, 3)


def test_otlp_lines_and_nested_calls() -> None:
    outer = span("outer", "root", (10, 90), **CALLS["current"])
    inner = span("inner", "outer", (11, 89), **CALLS["openllmetry"])
    found = recording_of(otlp(ROOT) + b"\n" + otlp(outer, inner))
    assert [call.id for call in found.traces[0].calls] == ["outer"]
    assert found.left_out == {"spans of calls within a call": 1}


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"input": 5, "input_cached_tokens": 2, "output": 4, "output_reasoning_tokens": 3}, (7, 7)),
        ({"input": 7, "output": 5, "total": 12, "input_cached_tokens": 2}, (7, 5)),
        ({"promptTokens": 7, "completionTokens": 5}, (7, 5)),
    ],
)
def test_langfuse(usage: dict[str, int], tokens: tuple[int, int]) -> None:
    one = {
        "id": "o", "type": "GENERATION", "startTime": "2026-01-01T00:00:00.500Z",
        "endTime": "2026-01-01T00:00:02Z", "usageDetails": usage,
    }  # fmt: skip
    trace = {"id": "t", "observations": [one]}
    (call,) = recording_of(json.dumps(trace).encode()).traces[0].calls
    assert (call.input, call.output) == tokens
    assert call.end - call.start == 1_500_000_000


def test_azure() -> None:
    text = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,4808,10\n"
    found = recording_of(text.encode() + b"2023-11-16 18:17:04.0319600,110,27\n")
    assert [one.calls[0].input for one in found.traces] == [4808, 110]
    assert found.traces[1].arrival - found.traces[0].arrival == 52_000_000


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"hello", "is no file that can be imported"),
        (b'{"a": 1}', "is no file that can be imported"),
        (b'{"resourceSpans": [{"scopeSpans": [{"spans": [{}]}]}]}', "is no valid OTLP JSON"),
        (otlp(ROOT), "has no span of a call"),
        (b'{"a": 1}\n{oops', "line 2: is not valid JSON"),
        (b"TIMESTAMP,ContextTokens,GeneratedTokens\nnow,1,2", "line 2"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_bad_input_is_one_line(content: bytes, words: str) -> None:
    with pytest.raises(UnreadableRecordError, match=words) as raised:
        recording_of(content)
    assert "\n" not in str(raised.value)
