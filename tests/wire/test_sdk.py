"""The typed client of the openai package against the simulated provider."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import pydantic_function_tool
from pydantic import BaseModel

from tests.wire.provider import serving

PROFILE = {"reasoning_tokens.median": 4, "answer_tokens.median": 20, "tokens_per_chunk": 3}
ASK: Any = [{"role": "user", "content": "Topic: tides. Which three steps are next?"}]


class Search(BaseModel):
    text: str
    limit: int


class Report(BaseModel):
    """The result."""

    summary: str
    done: bool


class Step(BaseModel):
    title: str
    hours: float
    after: list[str]


class Plan(BaseModel):
    goal: str
    steps: list[Step]


@contextlib.asynccontextmanager
async def client_of(folder: Path, **overrides: Any) -> AsyncIterator[openai.AsyncOpenAI]:
    async with (
        serving(folder, {**PROFILE, **overrides}) as provider,
        openai.AsyncOpenAI(api_key="k", base_url=provider.url, max_retries=0) as client,
    ):
        yield client


async def test_a_tool_is_called(tmp_path: Path) -> None:
    async with client_of(tmp_path) as client:
        completion = await client.chat.completions.parse(
            model="m", messages=ASK, tools=[pydantic_function_tool(Search)], tool_choice="required"
        )
    choice = completion.choices[0]
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    assert choice.message.tool_calls is not None
    (call,) = choice.message.tool_calls
    assert call.id.startswith("call_")
    assert isinstance(call.function.parsed_arguments, Search)


async def test_a_streamed_tool_call_is_that_of_a_whole_response(tmp_path: Path) -> None:
    tools: Any = [pydantic_function_tool(Search)]
    async with client_of(tmp_path) as client:
        asked: Any = {"model": "m", "messages": ASK, "tools": tools}
        asked["tool_choice"] = {"type": "function", "function": {"name": "Search"}}
        whole = (await client.chat.completions.create(**asked)).choices[0].message
        seen = []
        async with client.chat.completions.stream(
            **asked, stream_options={"include_usage": True}
        ) as stream:
            async for event in stream:
                seen.append(event.type)
            completion = await stream.get_final_completion()
    message = completion.choices[0].message
    assert message.tool_calls is not None
    assert whole.tool_calls is not None
    assert message.tool_calls[0].function.arguments == whole.tool_calls[0].function.arguments
    assert message.tool_calls[0].id == whole.tool_calls[0].id
    assert message.tool_calls[0].function.parsed_arguments is not None
    assert completion.choices[0].finish_reason == "tool_calls"
    assert "tool_calls.function.arguments.delta" in seen
    assert completion.usage is not None
    assert completion.usage.completion_tokens > 4


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
async def test_a_loop_of_tool_calls_ends(tmp_path: Path, share: float) -> None:
    tools: Any = [pydantic_function_tool(Search), pydantic_function_tool(Report)]
    messages: list[Any] = list(ASK)
    async with client_of(tmp_path, tool_call_share=share, tool_rounds=4) as client:
        for rounds in range(6):
            created = await client.chat.completions.create(
                model="m", messages=messages, tools=tools
            )
            message = created.choices[0].message
            if not message.tool_calls:
                break
            messages.append(message.model_dump(exclude_none=True))
            for call in message.tool_calls:
                found = f"result {rounds}"
                messages.append({"role": "tool", "tool_call_id": call.id, "content": found})
        ids = [one["tool_call_id"] for one in messages if one["role"] == "tool"]
    assert message.content
    assert len(set(ids)) == len(ids) == rounds
    assert (rounds == 0) if share == 0 else (rounds <= 4)
    assert share < 1 or rounds == 4


async def test_a_forced_loop_ends_with_the_last_tool(tmp_path: Path) -> None:
    tools: Any = [pydantic_function_tool(Search), pydantic_function_tool(Report)]
    messages: list[Any] = list(ASK)
    async with client_of(tmp_path, tool_rounds=2) as client:
        for _ in range(3):
            created = await client.chat.completions.create(
                model="m", messages=messages, tools=tools, tool_choice="required"
            )
            message = created.choices[0].message
            assert message.tool_calls
            (call,) = message.tool_calls
            assert call.type == "function"
            if call.function.name == "Report":
                break
            messages.append(message.model_dump(exclude_none=True))
            messages.append({"role": "tool", "tool_call_id": call.id, "content": "found"})
    assert call.type == "function"
    assert call.function.name == "Report"
    Report.model_validate_json(call.function.arguments)


async def test_no_tool_is_called_against_the_choice(tmp_path: Path) -> None:
    tools: Any = [pydantic_function_tool(Search)]
    async with client_of(tmp_path, tool_call_share=1.0) as client:
        created = await client.chat.completions.create(
            model="m", messages=ASK, tools=tools, tool_choice="none"
        )
        assert created.choices[0].message.content
        with pytest.raises(openai.BadRequestError, match="tool_choice"):
            await client.chat.completions.create(
                model="m", messages=ASK, tools=tools,
                tool_choice={"type": "function", "function": {"name": "other"}},
            )  # fmt: skip


async def test_an_answer_conforms_to_a_model_of_pydantic(tmp_path: Path) -> None:
    async with client_of(tmp_path) as client:
        completion = await client.chat.completions.parse(
            model="m", messages=ASK, response_format=Plan
        )
        plan = completion.choices[0].message.parsed
        assert plan is not None
        assert len(plan.steps) in (3, 4)
        async with client.chat.completions.stream(
            model="m", messages=ASK, response_format=Plan
        ) as stream:
            streamed = await stream.get_final_completion()
    assert streamed.choices[0].message.parsed == plan


async def test_a_list_of_strings_is_the_list_of_other_formats(tmp_path: Path) -> None:
    strings = {"type": "array", "items": {"type": "string"}}
    schema = {"type": "object", "properties": {"sub_questions": strings}}
    async with client_of(tmp_path) as client:
        answers = []
        for format in (
            {"type": "json_object"},
            {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}},
        ):
            messages: Any = [{"role": "user", "content": "Topic: tides. Give exactly 5 in JSON."}]
            created = await client.chat.completions.create(
                model="m",
                messages=messages,
                response_format=format,  # type: ignore[call-overload]
            )
            answers.append(json.loads(created.choices[0].message.content))
    assert [len(answer["sub_questions"]) for answer in answers] == [5, 5]
    assert answers[0] == answers[1]
