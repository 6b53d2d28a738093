"""The typed client of the openai package against the simulated provider."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import pydantic_function_tool
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

import harness
from harness.records.schema import Attempt, Record
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


async def test_a_response_is_whole_or_streamed(tmp_path: Path) -> None:
    async with client_of(tmp_path) as client:
        asked: Any = {"model": "m", "input": "Topic: tides", "instructions": "Be brief."}
        whole = await client.responses.create(**asked)
        assert whole.output_text
        assert (whole.status, whole.id[:5]) == ("completed", "resp_")
        assert [item.type for item in whole.output] == ["reasoning", "message"]
        assert whole.usage is not None
        assert whole.usage.output_tokens > whole.usage.output_tokens_details.reasoning_tokens > 0
        Response.model_validate_json(whole.model_dump_json())
        events = []
        async with client.responses.stream(**asked) as stream:
            async for event in stream:
                events.append(event)
            streamed = await stream.get_final_response()
        messages: Any = [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Topic: tides"},
        ]
        chat = await client.chat.completions.create(model="m", messages=messages)
    assert streamed.output_text == whole.output_text == chat.choices[0].message.content
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = list(dict.fromkeys(event.type.removeprefix("response.") for event in events))
    assert kinds == [
        "created", "in_progress", "output_item.added", "content_part.added",
        "reasoning_text.delta", "reasoning_text.done", "content_part.done", "output_item.done",
        "output_text.delta", "output_text.done", "completed",
    ]  # fmt: skip


async def test_a_raw_stream_of_a_response_has_the_shapes_of_the_package(tmp_path: Path) -> None:
    adapter: Any = TypeAdapter(ResponseStreamEvent)
    async with client_of(tmp_path) as client:
        for more in ({}, {"tools": [RESPONSES_TOOL], "tool_choice": "required"}):
            asked: Any = {"model": "m", "input": "Topic: tides", "stream": True, **more}
            count = 0
            async for event in await client.responses.create(**asked):
                adapter.validate_json(event.model_dump_json(exclude_unset=True))
                count += 1
            assert count > 8


RESPONSES_TOOL: Any = {
    "type": "function", "name": "search", "strict": True,
    "parameters": {
        "type": "object", "properties": {"text": {"type": "string"}},
        "required": ["text"], "additionalProperties": False,
    },
}  # fmt: skip


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_loop_of_function_calls_ends(tmp_path: Path, stream: bool) -> None:
    items: list[Any] = [{"role": "user", "content": "Topic: tides"}]
    async with client_of(tmp_path, tool_call_share=1.0, tool_rounds=2) as client:
        for rounds in range(4):
            asked: Any = {"model": "m", "input": items, "tools": [RESPONSES_TOOL]}
            if stream:
                async with client.responses.stream(**asked) as events:
                    response: Any = await events.get_final_response()
            else:
                response = await client.responses.create(**asked)
            calls = [item for item in response.output if item.type == "function_call"]
            if not calls:
                assert rounds == 2
                break
            items += [item.model_dump(exclude_none=True) for item in response.output]
            assert json.loads(calls[0].arguments).keys() == {"text"}
            items.append(
                {"type": "function_call_output", "call_id": calls[0].call_id, "output": "found"}
            )
    assert response.output_text


async def test_a_response_conforms_to_a_model_of_pydantic(tmp_path: Path) -> None:
    async with client_of(tmp_path) as client:
        parsed = await client.responses.parse(model="m", input="Topic: tides", text_format=Plan)
        assert parsed.output_parsed is not None
        assert parsed.output_parsed.steps
        tools: Any = [pydantic_function_tool(Search)["function"] | {"type": "function"}]
        called = await client.responses.parse(
            model="m", input="Topic: tides", tools=tools, tool_choice="required"
        )
    (call,) = [item for item in called.output if item.type == "function_call"]
    Search.model_validate_json(call.arguments)


async def test_a_response_that_is_cut_is_incomplete(tmp_path: Path) -> None:
    async with client_of(tmp_path) as client:
        cut = await client.responses.create(model="m", input="Topic: tides", max_output_tokens=7)
        assert (cut.status, cut.incomplete_details and cut.incomplete_details.reason) == (
            "incomplete", "max_output_tokens",
        )  # fmt: skip
        with pytest.raises(openai.BadRequestError, match="send the whole input"):
            await client.responses.create(model="m", input="a", previous_response_id="resp_1")


async def test_vectors_have_length_1_and_depend_on_the_input(tmp_path: Path) -> None:
    async with client_of(tmp_path) as client:
        both = await client.embeddings.create(model="m", input=["tides", "waves"])
        floats = await client.embeddings.create(model="m", input="tides", encoding_format="float")
        short = await client.embeddings.create(model="m", input=[[1, 2], [3]], dimensions=8)
    vectors = [one.embedding for one in both.data]
    assert [len(vector) for vector in vectors] == [64, 64]
    assert math.hypot(*vectors[0]) == pytest.approx(1)
    assert floats.data[0].embedding == pytest.approx(vectors[0])
    assert vectors[0] != vectors[1]
    assert [len(one.embedding) for one in short.data] == [8, 8]
    assert both.usage.prompt_tokens == both.usage.total_tokens > 0


FAULTS = [
    {"kind": "error_in_stream", "probability": 1, "arrivals": 1},
    {"kind": "error_in_body", "probability": 1, "arrivals": 2},
]


async def test_the_client_of_the_harness_retries_all_apis(tmp_path: Path) -> None:
    records: list[Record] = []
    retry = harness.policies.Exponential(attempts=4, base=0.001, cap=0.01)
    async with (
        serving(tmp_path, {**PROFILE, "faults": FAULTS}) as provider,
        harness.AsyncOpenAI(
            api_key="k", base_url=provider.url, retry=retry, whole_responses=True,
            on_record=records.append,
        ) as client,
    ):  # fmt: skip
        async with client.responses.stream(model="m", input="Topic: tides") as stream:
            response = await stream.get_final_response()
        vectors = await client.embeddings.create(model="m", input="tides")
        asked: Any = {"model": "m", "input": "Why?", "tools": [RESPONSES_TOOL]}
        await client.responses.create(**asked, tool_choice="required")
    assert response.output_text
    assert len(vectors.data) == 1
    attempts = [record for record in records if isinstance(record, Attempt)]
    assert [attempt.outcome for attempt in attempts] == [
        "error_in_stream", "error_in_body", "ok", "error_in_body", "error_in_body", "ok",
        "error_in_body", "error_in_body", "ok",
    ]  # fmt: skip
    streamed, embedded, called = attempts[2], attempts[5], attempts[8]
    assert response.usage is not None
    assert streamed.tokens.output == response.usage.output_tokens
    assert streamed.first_answer is not None
    assert (embedded.tokens.output, embedded.first_answer) == (0, None)
    assert (called.finish_reason, called.first_answer is None) == ("tool_calls", False)
