"""The simulated provider over real sockets, as clients meet it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from harness.records.schema import Tokens
from tests.wire.provider import serving

TRACE, SPAN = "0123456789abcdef" * 2, "fedcba9876543210"
FOREVER = "24h"


def events(body: bytes) -> list[Any]:
    """Return the data of each event of a stream; `[DONE]` stays text."""
    found = re.findall(rb"^data: (.*)$", body, re.MULTILINE)
    return [text.decode() if text == b"[DONE]" else json.loads(text) for text in found]


async def test_the_official_client_reads_a_stream(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, profile="deepseek-reasoner", scale=0.001) as provider,
        openai.AsyncOpenAI(base_url=provider.url, api_key="none", max_retries=0) as client,
    ):
        stream = await client.chat.completions.create(
            model="some-model",
            messages=[{"role": "user", "content": "Topic: ocean tides"}],
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
    *texts, finish, usage = chunks
    thoughts = [getattr(chunk.choices[0].delta, "reasoning_content", None) for chunk in texts]
    answers = [chunk.choices[0].delta.content for chunk in texts]
    assert texts[0].choices[0].delta.role == "assistant"
    assert "ocean tides" in "".join(filter(None, thoughts))
    assert "ocean tides" in "".join(filter(None, answers))
    assert finish.choices[0].finish_reason == "stop"
    assert usage.choices == []
    assert usage.usage is not None
    assert usage.usage.completion_tokens == len(texts) - 1
    details = usage.usage.completion_tokens_details
    assert details is not None
    assert details.reasoning_tokens == len([text for text in thoughts if text])
    assert {chunk.model for chunk in chunks} == {"some-model"}
    assert len({chunk.id for chunk in chunks}) == 1


async def test_the_official_client_reads_a_whole_response(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, profile="deepseek-reasoner", scale=0.001) as provider,
        openai.AsyncOpenAI(base_url=provider.url, api_key="none", max_retries=0) as client,
    ):
        raw = await client.chat.completions.with_raw_response.create(
            model="m", messages=[{"role": "user", "content": "Topic: ocean tides"}]
        )
        completion = raw.parse()
    message = completion.choices[0].message
    assert message.content is not None
    assert "ocean tides" in message.content
    assert message.model_extra is not None
    assert "ocean tides" in message.model_extra["reasoning_content"]
    assert completion.choices[0].finish_reason == "stop"
    assert completion.system_fingerprint == "simulated"
    assert completion.usage is not None
    assert completion.usage.total_tokens == (
        completion.usage.prompt_tokens + completion.usage.completion_tokens
    )
    assert raw.request_id is not None
    assert raw.request_id.startswith("req-")


async def test_a_stream_is_role_then_reasoning_then_answer_then_finish_usage_done(
    tmp_path: Path,
) -> None:
    overrides = {"reasoning_tokens.median": 2, "answer_tokens.median": 3}
    async with serving(tmp_path, overrides) as provider:
        body = provider.ask(stream=True, stream_options={"include_usage": True})
        async with provider.post(body) as response:
            assert response.content_type == "text/event-stream"
            role, *texts, finish, usage, done = events(await response.read())
    assert role["choices"][0]["delta"] == {
        "role": "assistant", "content": None, "reasoning_content": "",
    }  # fmt: skip
    deltas = [event["choices"][0]["delta"] for event in texts]
    assert [delta["content"] is None for delta in deltas] == [True] * 2 + [False] * 3
    assert [delta["reasoning_content"] is None for delta in deltas] == [False] * 2 + [True] * 3
    assert finish["choices"][0]["finish_reason"] == "stop"
    assert usage["choices"] == []
    tokens = usage["usage"]
    assert tokens["completion_tokens"] == 5
    assert tokens["completion_tokens_details"] == {"reasoning_tokens": 2}
    assert tokens["prompt_cache_hit_tokens"] == 0
    assert tokens["prompt_cache_miss_tokens"] == tokens["prompt_tokens"] == 3 + 4
    assert done == "[DONE]"


async def test_a_model_without_reasoning_has_no_such_field_and_usage_comes_only_when_asked(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as provider:
        async with provider.post(provider.ask(stream=True)) as response:
            streamed = await response.read()
        async with provider.post(provider.ask()) as response:
            whole = await response.read()
    assert b"reasoning_content" not in streamed + whole
    assert b"usage" not in streamed
    texts = [event["choices"][0]["delta"].get("content") for event in events(streamed)[1:-2]]
    assert len(texts) == 100
    assert "".join(texts) == json.loads(whole)["choices"][0]["message"]["content"]


async def test_a_decomposition_is_valid_json_on_the_wire(tmp_path: Path) -> None:
    text = 'Break it into exactly 5 sub-questions. Answer with JSON.\nTopic: "ocean\\tides"'
    async with (
        serving(tmp_path, profile="deepseek-reasoner", scale=0.001) as provider,
        provider.post(provider.ask(text, response_format={"type": "json_object"})) as response,
    ):
        content = (await response.json())["choices"][0]["message"]["content"]
    assert len(set(json.loads(content)["sub_questions"])) == 5


async def test_a_request_can_set_the_lengths_of_its_answer(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, profile="deepseek-reasoner", scale=0.001) as provider,
        openai.AsyncOpenAI(base_url=provider.url, api_key="none", max_retries=0) as client,
    ):
        completion = await client.chat.completions.create(
            model="m",
            messages=[{"role": "user", "content": "Topic: ocean tides"}],
            extra_headers={"x-harness-lengths": "12,34"},
        )
        with pytest.raises(openai.BadRequestError, match="x-harness-lengths must be two whole"):
            await client.chat.completions.create(
                model="m",
                messages=[{"role": "user", "content": "Topic: ocean tides"}],
                extra_headers={"x-harness-lengths": "12"},
            )
    assert completion.usage is not None
    assert completion.usage.completion_tokens == 12 + 34
    details = completion.usage.completion_tokens_details
    assert details is not None
    assert details.reasoning_tokens == 12


async def test_a_request_over_the_cap_gets_429_with_the_hint_in_real_time(tmp_path: Path) -> None:
    limits = {"concurrency_cap": 1, "retry_after": "2s", "ttft.median": FOREVER}
    async with serving(tmp_path, overrides=limits, scale=0.5) as provider:
        async with provider.post(provider.ask(stream=True)) as first:
            assert first.status == 200
            async with provider.post(provider.ask()) as response:
                assert response.status == 429
                assert response.headers["retry-after-ms"] == "1000"
                assert "retry-after" not in response.headers
                assert (await response.json())["error"]["code"] == "rate_limit_exceeded"
            async with openai.AsyncOpenAI(
                base_url=provider.url, api_key="none", max_retries=0
            ) as client:
                with pytest.raises(openai.RateLimitError, match="concurrency cap"):
                    await client.chat.completions.create(
                        model="m", messages=[{"role": "user", "content": "x"}]
                    )
        refused = [served for served in provider.log() if served.outcome == "rate_limited"]
    assert [(served.status, served.active) for served in refused] == [(429, 1)] * 2


@pytest.mark.parametrize(("wait", "header"), [("3s", "3"), ("1.5s", None)])
async def test_retry_after_in_seconds_is_sent_when_they_are_real_and_whole(
    tmp_path: Path, wait: str, header: str | None
) -> None:
    limits = {"concurrency_cap": 1, "retry_after": wait, "ttft.median": FOREVER}
    async with (
        serving(tmp_path, overrides=limits, scale=1) as provider,
        provider.post(provider.ask(stream=True)),
        provider.post(provider.ask()) as response,
    ):
        assert response.headers.get("retry-after") == header
        assert float(response.headers["retry-after-ms"]) == float(wait[:-1]) * 1000


async def test_a_place_is_free_as_soon_as_the_response_has_ended(tmp_path: Path) -> None:
    async with serving(tmp_path, overrides={"concurrency_cap": 1}, scale=0.001) as provider:
        for stream in (True, False, True, False):
            async with provider.post(provider.ask(stream=stream)) as response:
                assert response.status == 200
                await response.read()


async def test_a_place_is_free_after_its_client_has_gone(tmp_path: Path) -> None:
    async with serving(tmp_path, {"concurrency_cap": 1, "ttft.median": FOREVER}) as provider:
        for count in range(1, 4):
            async with provider.post(provider.ask(stream=True)) as response:
                assert response.status == 200
                await response.content.readuntil(b"\n\n")
                response.close()
            served = (await provider.logged(count))[-1]
            assert (served.outcome, served.active) == ("client_closed", 0)


async def test_a_client_that_goes_in_the_middle_is_logged_with_what_it_got(tmp_path: Path) -> None:
    async with serving(tmp_path, {"itl_a": FOREVER}) as provider:
        async with provider.post(provider.ask(stream=True)) as response:
            await response.content.readuntil(b"\n\n")
            await response.content.readuntil(b"\n\n")
            response.close()
        (served,) = await provider.logged(1)
    assert (served.outcome, served.status, served.chunks) == ("client_closed", 200, 1)
    assert served.tokens == Tokens(input=7, cached=0, output=1, reasoning=0)
    assert served.first_written == served.last_written is not None


async def test_a_stream_without_text_yet_is_kept_alive_with_comments(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, {"ttft.median": FOREVER, "keep_alive_every": "1s"}) as provider,
        provider.post(provider.ask(stream=True)) as response,
    ):
        assert b'"role":"assistant"' in await response.content.readuntil(b"\n\n")
        for _ in range(3):
            assert await response.content.readuntil(b"\n\n") == b": keep-alive\n\n"
        response.close()


async def test_a_whole_response_is_kept_alive_with_blank_lines(tmp_path: Path) -> None:
    waits = {"ttft.median": "20s", "keep_alive_every": "1s"}
    async with (
        serving(tmp_path, waits) as provider,
        provider.post(provider.ask()) as response,
    ):
        assert response.status == 200
        body = await response.read()
    assert body.startswith(b"\n")
    assert json.loads(body)["object"] == "chat.completion"


async def test_the_log_tells_what_happened_when_and_is_joined_by_traceparent(
    tmp_path: Path,
) -> None:
    headers = {"traceparent": f"00-{TRACE}-{SPAN}-01", "x-harness-repeat": "2"}
    async with serving(tmp_path, {"reasoning_tokens.median": 4}) as provider:
        for stream in (True, False):
            async with provider.post(provider.ask(stream=stream), headers) as response:
                await response.read()
        streamed, whole = await provider.logged(2)
    for number, served in enumerate((streamed, whole), start=1):
        assert (served.trace_id, served.span_id, served.repeat) == (TRACE, SPAN, 2)
        assert (served.outcome, served.arrival, served.cell) == ("ok", number, None)
        assert served.tokens == Tokens(input=7, cached=0, output=104, reasoning=4)
        assert served.first_scheduled is not None
        assert served.first_written is not None
        assert served.first_answer_written is not None
        assert served.last_scheduled is not None
        assert served.last_written is not None
        assert served.arrived < served.first_scheduled <= served.first_written
        assert served.first_written <= served.first_answer_written <= served.last_written
        assert served.last_scheduled <= served.last_written <= served.done
        assert sum(served.lateness.values()) == served.chunks
        assert sum(served.gaps.values()) == served.chunks - 1
    assert streamed.first_scheduled == streamed.arrived + 2_000_000
    assert streamed.last_scheduled == streamed.first_scheduled + 103 * 100_000
    assert (streamed.chunks, whole.chunks) == (104, 1)
    assert whole.first_scheduled == whole.last_scheduled == whole.arrived + 2_000_000 + 10_300_000


async def test_without_reasoning_the_first_text_is_the_first_answer(tmp_path: Path) -> None:
    async with serving(tmp_path) as provider:
        async with provider.post(provider.ask(stream=True)) as response:
            await response.read()
        (served,) = await provider.logged(1)
    assert served.first_answer_written == served.first_written is not None


async def test_a_traceparent_that_is_none_joins_to_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path, scale=0.001) as provider:
        async with provider.post(provider.ask(), {"traceparent": "00-xyz-1-01"}) as response:
            await response.read()
        (served,) = await provider.logged(1)
    assert (served.trace_id, served.span_id, served.repeat) == (None, None, 0)


async def test_a_new_trial_forgets_the_old_one_and_cuts_what_is_left_of_it(tmp_path: Path) -> None:
    async with serving(tmp_path, {"concurrency_cap": 1, "ttft.median": FOREVER}) as provider:
        control = provider.url.removesuffix("/v1") + "/simulator/trial"
        async with provider.post(provider.ask(stream=True)) as left_over:
            async with provider.session.post(control, json={"cell": "c", "repeat": 1}) as response:
                assert response.status == 200
            with pytest.raises(aiohttp.ClientError):
                await left_over.read()
        async with provider.post(provider.ask(stream=True)) as response:
            assert response.status == 200
            response.close()
        old, new = await provider.logged(2)
    assert (old.outcome, old.cell, old.arrival) == ("trial_ended", None, 1)
    assert (new.outcome, new.cell, new.arrival) == ("client_closed", "c", 1)


@pytest.mark.parametrize("body", ["{", "[]", '{"cell": 1, "repeat": 0}', '{"cell": "c"}'])
async def test_a_trial_that_cannot_be_read_is_refused(tmp_path: Path, body: str) -> None:
    async with serving(tmp_path) as provider:
        control = provider.url.removesuffix("/v1") + "/simulator/trial"
        async with provider.session.post(control, data=body) as response:
            assert response.status == 400
            assert "cell" in (await response.json())["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/models", 200),
        ("GET", "/health", 200),
        ("POST", "/health", 405),
        ("GET", "/v1/chat/completions", 405),
        ("POST", "/v1/completions", 404),
        ("GET", "/", 404),
    ],
)
async def test_every_path_answers_in_json(
    tmp_path: Path, method: str, path: str, status: int
) -> None:
    async with serving(tmp_path) as provider:
        url = provider.url.removesuffix("/v1") + path
        async with provider.session.request(method, url) as response:
            assert response.status == status
            body = await response.json()
            assert ("allow" in response.headers) == (status == 405)
        assert provider.log() == []
    if status == 200:
        assert "streams" in json.dumps(body)
        assert "simulated" in json.dumps(body)
    else:
        assert set(body["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("body", "headers", "said"),
    [
        ("{", {}, "not valid JSON"),
        ('{"model": "m"}', {}, "messages must be a list"),
        ("{}", {"x-harness-repeat": "one"}, "x-harness-repeat must be"),
    ],
)
async def test_a_bad_request_says_why_and_is_logged(
    tmp_path: Path, body: str, headers: dict[str, str], said: str
) -> None:
    async with serving(tmp_path) as provider:
        url = f"{provider.url}/chat/completions"
        async with provider.session.post(url, data=body, headers=headers) as response:
            assert response.status == 400
            error = (await response.json())["error"]
        (served,) = provider.log()
    assert said in error["message"]
    assert error["type"] == "invalid_request_error"
    assert (served.outcome, served.status, served.arrival) == ("bad_request", 400, 1)


async def test_a_rate_that_is_spent_says_why_and_in_how_long_it_has_room(tmp_path: Path) -> None:
    limit = {"requests_per_minute": 60, "burst": "1s", "retry_after": "exact"}
    async with serving(tmp_path, limit, scale=1.0) as provider:
        async with provider.post(provider.ask(stream=True)) as response:
            assert response.status == 200
            async with provider.post(provider.ask()) as second:
                assert second.status == 429
                assert 0 < float(second.headers["retry-after-ms"]) <= 1000
                error = (await second.json())["error"]
        refused = (await provider.logged(1))[0]
    assert "too many requests a minute" in error["message"]
    assert error["code"] == "rate_limit_exceeded"
    assert (refused.outcome, refused.status, refused.fault) == ("rate_limited", 429, None)
