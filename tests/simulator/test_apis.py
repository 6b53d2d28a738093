from __future__ import annotations

import json
from typing import Any

import pytest

from harness.simulator.answer_form import ApiName
from harness.simulator.apis import read_request
from harness.simulator.request_parser import BadRequestError

ASK = [{"role": "user", "content": "Topic: tides"}]
TOOL = {"type": "function", "function": {"name": "f"}}


@pytest.mark.parametrize(
    ("api", "keys", "param"),
    [
        ("chat", {"tools": "f"}, "tools"),
        ("chat", {"tools": [1]}, "tools.0"),
        ("chat", {"tools": [{"type": "function"}]}, "tools.0"),
        ("chat", {"tools": [{"type": "function", "function": {"name": "f", "parameters": 1}}]},
         "tools.0.parameters"),
        ("chat", {"tools": [TOOL], "tool_choice": {"function": {"name": "g"}}}, "tool_choice"),
        ("chat", {"tools": [{"type": "custom"}], "tool_choice": "required"}, "tool_choice"),
        ("chat", {"messages": [{"role": "assistant", "tool_calls": 3}]}, "messages.0.tool_calls"),
        ("chat", {"messages": [{"role": "assistant", "tool_calls": [{"id": "a"}]}]},
         "messages.0.tool_calls"),
        ("chat", {"response_format": {"type": "json_schema", "json_schema": {"schema": "s"}}},
         "response_format"),
        ("responses", {}, "input"),
        ("responses", {"input": [3]}, "input.0"),
        ("responses", {"input": [{"content": "a"}]}, "input.0"),
        ("responses", {"input": [{"type": "item_reference", "id": "i"}]}, "input"),
        ("responses", {"input": [{"type": "function_call", "name": "f"}]}, "input.0"),
        ("responses", {"input": "a", "conversation": "c"}, "conversation"),
        ("responses", {"input": "a", "max_output_tokens": 0}, "max_output_tokens"),
        ("responses", {"input": "a", "text": {"format": {"type": "json_schema", "schema": 3}}},
         "text.format.schema"),
        ("embeddings", {"input": ""}, "input.0"),
        ("embeddings", {"input": []}, "input"),
        ("embeddings", {"input": [["a"]]}, "input.0"),
        ("embeddings", {"input": "a", "dimensions": 0}, "dimensions"),
        ("embeddings", {"input": "a", "encoding_format": "hex"}, "encoding_format"),
    ],
)  # fmt: skip
def test_a_request_that_cannot_be_read_says_where(
    api: ApiName, keys: dict[str, Any], param: str
) -> None:
    body = {"model": "m", **({"messages": ASK} if api == "chat" else {}), **keys}
    with pytest.raises(BadRequestError) as caught:
        read_request(api, json.dumps(body).encode(), None)
    assert caught.value.param == param


def test_tools_and_earlier_calls_count_as_input() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": "tides"}'}}
    plain = {"model": "m", "messages": ASK}
    asked = {**plain, "messages": [*ASK, {"role": "assistant", "tool_calls": [call]}]}
    first, second, third = (
        read_request("chat", json.dumps(body).encode(), None)
        for body in (plain, asked, {**asked, "tools": [TOOL]})
    )
    assert second.input_tokens == first.input_tokens + 4 + 4  # 15 characters, and one message
    assert third.input_tokens == second.input_tokens + 1
    assert third.form is not None
    assert (third.form.rounds, third.form.called) == (1, ("f",))


def test_the_same_words_are_the_same_prompt_in_both_apis() -> None:
    chat = read_request("chat", json.dumps({"model": "m", "messages": ASK}).encode(), None)
    response = {"model": "m", "input": "Topic: tides"}
    other = read_request("responses", json.dumps(response).encode(), None)
    assert (other.prompt, other.input_tokens, other.subject) == (
        chat.prompt, chat.input_tokens, chat.subject,
    )  # fmt: skip
