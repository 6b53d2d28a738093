from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.simulator.request_parser import MOST_ITEMS, BadRequestError, ChatRequest, parse_request


def ask(text: str, **more: Any) -> ChatRequest:
    body = {"model": "m", "messages": [{"role": "user", "content": text}], **more}
    return parse_request(json.dumps(body).encode())


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("Break it into exactly 7 sub-questions. Answer with JSON.\nTopic: tides", 7),
        ("Give me 12 independent sub-questions as json.", 12),
        # A repair names the wrong count before the right one.
        ("It had 2 distinct sub-questions. Send JSON with exactly 4 distinct sub-questions.", 4),
        ("Exactly 99999 sub-questions in JSON, please.", MOST_ITEMS),
    ],
)
def test_a_decomposition_is_known_by_its_number_of_sub_questions_and_json(
    text: str, count: int
) -> None:
    asked = ask(text)
    assert (asked.items, asked.key) == (count, "sub_questions")


@pytest.mark.parametrize(
    ("text", "count", "key"),
    [
        ("Split this up.", 3, "sub_questions"),
        ('Exactly 7 steps: {"steps": ["...", ...]}', 7, "steps"),
        ('Exactly 2 tries, exactly 5 sub-questions: {"parts": []}', 5, "parts"),
    ],
)
def test_a_request_for_a_json_object_is_answered_with_a_list(
    text: str, count: int, key: str
) -> None:
    asked = ask(text, response_format={"type": "json_object"})
    assert (asked.items, asked.key) == (count, key)


def test_the_phase_is_what_the_client_says_and_none_otherwise() -> None:
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "Hello"}]}).encode()
    assert parse_request(body).phase is None
    assert parse_request(body, "step").phase == "step"


@pytest.mark.parametrize(
    "text",
    [
        "Topic: JSON parsers\n\nAnswer this sub-question thoroughly: why?",
        "Topic: x\nWrite a report that brings these findings together.",
        "Which questions does JSON leave open?",
        "Hello",
    ],
)
def test_other_prompts_ask_for_text(text: str) -> None:
    assert ask(text).items is None


def test_only_the_last_message_decides_what_is_asked() -> None:
    messages = [
        {"role": "user", "content": "exactly 3 sub-questions in JSON\nTopic: ocean tides"},
        {"role": "assistant", "content": None},
        {"role": "user", "content": [{"type": "text", "text": "Now "}, {"text": "answer."}]},
    ]
    asked = parse_request(json.dumps({"model": "m", "messages": messages}).encode())
    assert asked.items is None
    assert asked.subject == "ocean tides"


def test_the_subject_is_the_topic_or_how_the_message_begins() -> None:
    assert ask("Do this.\nTopic: battery, recycling\nMore").subject == "battery recycling"
    assert ask(" ".join(f"w{n}" for n in range(20))).subject.split()[-1] == "w11"
    assert ask("?!").subject == "the subject"


def test_input_tokens_are_a_quarter_of_the_characters_and_four_a_message() -> None:
    assert ask("x" * 9).input_tokens == 3 + 4


def test_the_newer_name_of_the_token_limit_counts_first() -> None:
    assert ask("x", max_tokens=5, max_completion_tokens=3).max_tokens == 3
    assert ask("x", max_tokens=5).max_tokens == 5
    assert ask("x", max_tokens=None).max_tokens is None


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": ["x"]}, "messages.0"),
        ({"messages": [{"content": "x"}]}, "messages.0"),
        ({"messages": [{"role": "user", "content": 1}]}, "messages.0.content"),
        ({"model": None}, "model"),
        ({"model": ""}, "model"),
        ({"n": 2}, "n"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": 1}}, "include_usage"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_completion_tokens": 1.5}, "max_completion_tokens"),
    ],
)
def test_a_wrong_field_is_refused_by_name(change: dict[str, Any], param: str) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], **change}
    with pytest.raises(BadRequestError) as caught:
        parse_request(json.dumps(body).encode())
    assert caught.value.param == param


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"1", b'"x"', b"\xff", b'{"model":"\xff"}'])
def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequestError, match="body"):
        parse_request(body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=3,
)


@given(
    st.fixed_dictionaries(
        {"messages": st.lists(st.fixed_dictionaries({"role": JSON, "content": JSON}), max_size=2)},
        optional=dict.fromkeys(
            ("model", "stream", "stream_options", "max_tokens", "response_format", "n"), JSON
        ),
    )
)
def test_any_json_is_read_or_refused_and_never_breaks(body: dict[str, Any]) -> None:
    try:
        parse_request(json.dumps(body).encode())
    except BadRequestError as error:
        assert str(error)  # noqa: PT017 - most bodies are refused, some are not


@given(st.binary(max_size=60))
def test_any_bytes_are_refused_and_never_break(body: bytes) -> None:
    with pytest.raises(BadRequestError):
        parse_request(body)
