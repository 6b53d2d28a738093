"""Chunks whose form is known are read without decoding, and mean the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.config.response_reading import ReadingTerms, ResponseLimits
from harness.transports.plain_chunks import PlainChunks, text_of_parts
from harness.transports.reading import Reading
from harness.transports.sse import Data, Stray
from tests.transports.bodies import DONE, EVENT_STREAM

TEXTS = st.text(st.sampled_from('ab é☃😀<think>/"\\\n\t\x7f\u2028'), max_size=8)
FIELDS = st.sampled_from(["content", "reasoning_content", "reasoning", "refusal"])
OTHERS: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [
        {}, {"finish_reason": "stop"}, {"index": 1}, {"logprobs": {"content": "a"}},
        {"usage": {"completion_tokens": 3}}, {"message": {"content": "b"}},
    ]
)  # fmt: skip


def event(delta: dict[str, str], changed: dict[str, Any], *, separators: tuple[str, str]) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": None} | changed
    message = {"id": "chatcmpl-1", "model": "m", "choices": [choice]}
    text = json.dumps(message, ensure_ascii=False, separators=separators)
    return b"data: " + text.encode() + b"\n\n"


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    """Return events: most have the same form, some have anything else."""
    field = draw(FIELDS)
    separators = draw(st.sampled_from([(",", ":"), (", ", ": ")]))
    every: list[bytes] = []
    for text in draw(st.lists(TEXTS, min_size=6, max_size=16)):
        one = event({field: text}, {}, separators=separators)
        odd = draw(st.integers(0, 12))
        if odd == 0:
            one = event({field: text}, draw(OTHERS), separators=separators)
        elif odd == 1:
            one = event({field: text, draw(FIELDS): "a"}, {}, separators=separators)
        elif odd == 2:
            one = event({field: f"{text}Z"}, {}, separators=separators)
            one = one.replace(b"Z", b"\t")  # which JSON does not allow in a text
        elif odd == 3:
            one = one.replace(b"\n", b"\r\n")
        elif odd == 4:
            one = b": ping\n" + one
        elif odd == 5:
            one = one.replace(b'"id": ', b'"error": ').replace(b'"id":', b'"error":')
        every.append(one)
    return every


class _Nothing(PlainChunks):
    def text_of(self, event: bytes) -> str:
        return ""


def read(pieces: list[bytes], *, is_plain: bool, most_text: int = 1_000_000) -> dict[str, Any]:
    """Return all that is known of a stream whose pieces come at 10, 20, 30 …"""
    reading = Reading(True, EVENT_STREAM, ReadingTerms(limits=ResponseLimits(text=most_text)))
    if not is_plain:
        reading._chunks_alike = _Nothing(0)
    for number, piece in enumerate(pieces, 1):
        reading.feed(piece, number * 10)
    reading.close(len(pieces) * 10 + 10)
    known = [name for name in vars(reading) if not name.startswith("_")]
    return {
        name: getattr(reading, name)
        for name in (*known, "reasoning", "answer", "tool_calls", "anomalies")
    }


@settings(max_examples=200)
@given(streams(), st.integers(1, 3), st.sampled_from([20, 1_000_000]))
def test_a_known_form_changes_nothing_but_the_time(
    found: list[bytes], together: int, most_text: int
) -> None:
    """Several events may come at once."""
    every = [*found, DONE]
    pieces = [b"".join(every[at : at + together]) for at in range(0, len(every), together)]
    plain, decoded = (read(pieces, is_plain=one, most_text=most_text) for one in (True, False))
    assert plain == decoded


def chunk_of(**fields: Any) -> bytes:
    message = {"id": "c", "choices": [{"index": 0, "delta": fields, "finish_reason": None}]}
    return b"data: " + json.dumps(message, separators=(",", ":")).encode() + b"\n\n"


@pytest.mark.parametrize("field", ["content", "reasoning_content"])
def test_most_chunks_of_a_stream_are_known_without_decoding(
    field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[object] = []
    original = Reading._event

    def counted(self: Reading, event: Data | Stray, at: int) -> None:
        decoded.append(event)
        original(self, event, at)

    monkeypatch.setattr(Reading, "_event", counted)
    pieces = [chunk_of(**{field: f"word {number} "}) for number in range(50)]
    assert read(pieces, is_plain=True)["chunks"] == 50
    assert len(decoded) < 5


def test_the_text_of_another_field_is_not_taken_for_that_of_the_delta() -> None:
    twice = [
        b'data: {"id":"c","logprobs":{"content":"a"},"choices":[{"index":0,'
        b'"delta":{"content":"\\u0061"}}]}\n\n',
        b'data: {"id":"c","logprobs":{"content":"b"},"choices":[{"index":0,'
        b'"delta":{"content":"\\u0061"}}]}\n\n',
    ]
    assert read(twice, is_plain=True)["answer"] == "aa"


def test_a_large_first_piece_that_is_no_json_is_a_stream_if_it_says_so() -> None:
    reading = Reading(True, EVENT_STREAM)
    reading.feed(b"x" * 100_000, 10)
    reading.feed(b"\n", 20)
    assert reading.outcome == "malformed_stream"


@pytest.mark.parametrize(
    ("encoded", "text"),
    [
        ([b"a", b"b"], "ab"),
        ([b"\\n", b'\\"', b""], '\n"'),
        ([b'a","b'], ""),
        ([b'a","b\\n'], ""),
        ([b"a\\", b'c"b'], ""),
        ([b"\xc3", b"\xa9"], ""),
        ([b"\\ud83d", b"\\ude00"], ""),
        ([b"\t"], ""),
    ],
)
def test_texts_are_read_together_if_each_is_valid(encoded: list[bytes], text: str) -> None:
    assert text_of_parts(encoded) == text
