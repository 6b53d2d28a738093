"""Programs that use the openai package, against a real server on this machine."""

from __future__ import annotations

import json
import logging
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from harness.records.errors import StorageError
from tests.programs.running import (
    EMBEDDED,
    ENDPOINT_KEY,
    FAILED,
    MODEL,
    PROGRAM_KEY,
    Answer,
    Ran,
    Seen,
    Server,
    completion,
    live,
    run,
    serving,
    streamed,
)


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OWN_KEY", ENDPOINT_KEY)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def measured(folder: Path, server: Server, program: str, more: str = "", **sets: Any) -> Ran:
    plain = {"load__warmup_calls": 0, **sets}
    return run(folder, program, live(server, more), "--no-preflight", **plain)


def always(answer: Answer) -> Any:
    return lambda seen, number: answer


ONE = """
    async def main(client, topic):
        reply = await client.chat.completions.create(
            model="mine", messages=[{"role": "user", "content": topic}], temperature=0.5,
            extra_headers={"x-secret": "sk-of-the-program"},
        )
        return reply.choices[0].message.content
"""


def test_a_request_goes_to_the_endpoint_with_its_key_and_its_model(tmp_path: Path) -> None:
    with serving(always(completion())) as server:
        ran = measured(
            tmp_path, server, ONE, 'headers = { "x-team" = "a" }\nextra_body = { top_k = 3 }'
        )
    assert (ran.status, ran.errors) == (0, [None])
    assert ran.calls == [("chat", 1, "ok")]
    [seen] = server.seen
    assert seen.path == "/v1/chat/completions"
    assert seen.headers["authorization"] == f"Bearer {ENDPOINT_KEY}"
    assert seen.headers["x-team"] == "a"
    assert "traceparent" in seen.headers
    assert PROGRAM_KEY not in json.dumps(dict(seen.headers))
    assert (seen.body["model"], seen.body["temperature"]) == (MODEL, 0.5)
    assert seen.body["top_k"] == 3
    assert seen.body["messages"][0]["content"].endswith("tides")
    [attempt] = ran.records.attempts
    assert attempt.tokens.output == 4
    assert attempt.sent is not None


def test_keep_model_leaves_the_model_of_the_program(tmp_path: Path) -> None:
    with serving(always(completion())) as server:
        measured(tmp_path, server, ONE, workflow__keep_model=True)
    assert [body["model"] for body in server.bodies()] == ["mine"]


CLIENTS = """
    import openai
    import harness

    early = openai.AsyncOpenAI()
    azure = openai.AsyncAzureOpenAI(azure_endpoint="https://a.invalid", api_version="1")

    async def main(topic):
        late = openai.AsyncOpenAI(api_key="sk-of-the-program", base_url="http://b.invalid/deep/v2")
        for client in (early, late, late.with_options(timeout=9), azure):
            with harness.phase(type(client).__name__):
                await client.chat.completions.create(
                    model="mine", messages=[{"role": "user", "content": topic}]
                )
"""


def test_clients_of_the_program_are_taken_over_in_every_trial(tmp_path: Path) -> None:
    with serving(always(completion())) as server:
        ran = measured(tmp_path, server, CLIENTS, sweep__repeats=2)
    assert ran.errors == [None, None]
    assert len(server.bodies()) == 8
    assert {seen.headers["authorization"] for seen in server.seen} == {f"Bearer {ENDPOINT_KEY}"}
    assert {call.phase for call in ran.records.calls} == {"AsyncOpenAI", "AsyncAzureOpenAI"}
    assert "OPENAI_API_KEY" not in os.environ


def test_a_key_that_is_there_is_not_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", PROGRAM_KEY)
    program = """
        import os

        async def main():
            assert os.environ["OPENAI_API_KEY"] == "sk-of-the-program"
    """
    with serving(always(completion())) as server:
        assert measured(tmp_path, server, program).errors == [None]
    assert os.environ["OPENAI_API_KEY"] == PROGRAM_KEY


def test_the_policy_retries_and_the_program_sees_the_last_response(tmp_path: Path) -> None:
    def answer(seen: Seen, number: int) -> Answer:
        return completion() if number == 2 else FAILED

    with serving(answer) as server:
        ran = measured(tmp_path, server, ONE, sweep__retry=["openai-sdk"])
    assert ran.calls == [("chat", 1, "ok")]
    assert [one.outcome for one in ran.records.attempts] == ["server_error", "ok"]


def test_the_retries_of_the_program_are_calls_of_their_own(tmp_path: Path) -> None:
    program = """
        import openai

        async def main(topic):
            client = openai.AsyncOpenAI(max_retries=1)
            try:
                await client.responses.create(model="mine", input=topic)
            except openai.InternalServerError as error:
                return f"{error.status_code} {error.request.headers['authorization'][:16]}"
    """
    with serving(always(FAILED)) as server:
        ran = measured(tmp_path, server, program)
    assert ran.calls == [("responses", 1, "server_error"), ("responses", 2, "server_error")]
    assert ran.errors == [None]


def test_streams_tools_and_raw_responses_pass_through(tmp_path: Path) -> None:
    tool = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}

    def answer(seen: Seen, number: int) -> Answer:
        if seen.body.get("stream"):
            return streamed("a", "b")
        if "tools" in seen.body:
            return completion("", tool_calls=[tool])
        if "response_format" in seen.body:
            return completion('{"value": 7}')
        if seen.path.endswith("embeddings"):
            return EMBEDDED
        return completion()

    program = """
        from pydantic import BaseModel

        class Number(BaseModel):
            value: int

        async def main(client, topic):
            given = {"model": "mine", "messages": [{"role": "user", "content": topic}]}
            chat = client.chat.completions
            texts = [
                chunk.choices[0].delta.content
                async for chunk in await chat.create(**given, stream=True)
            ]
            assert texts == ["a", "b", None], texts
            function = {"name": "f", "parameters": {"type": "object", "properties": {}}}
            called = await chat.create(**given, tools=[{"type": "function", "function": function}])
            assert called.choices[0].message.tool_calls[0].function.name == "f"
            raw = await chat.with_raw_response.create(**given)
            assert raw.status_code == 200 and raw.parse().choices[0].message.content == "an answer"
            assert raw.elapsed is not None
            parsed = await chat.parse(**given, response_format=Number)
            assert parsed.choices[0].message.parsed.value == 7
            async with chat.with_streaming_response.create(**given) as response:
                assert b"an answer" in await response.read()
            vectors = await client.embeddings.create(
                model="small", input=topic, encoding_format="float"
            )
            assert vectors.data[0].embedding == [0.5]
    """
    with serving(answer) as server:
        ran = measured(tmp_path, server, program)
    assert ran.errors == [None]
    assert server.bodies("/v1/embeddings")[0]["model"] == "small"
    assert [one.outcome for one in ran.records.calls] == ["ok"] * 6
    first = min(ran.records.attempts, key=lambda one: one.done)
    assert (first.chunks, first.first_answer is not None) == (2, True)


def test_the_budget_limits_what_the_endpoint_sees(tmp_path: Path) -> None:
    program = """
        import asyncio

        async def main(client, topic):
            async def ask():
                while True:
                    try:
                        await client.chat.completions.create(
                            model="m", messages=[{"role": "user", "content": topic}]
                        )
                    except Exception:
                        pass
            await asyncio.gather(ask(), ask(), ask())
    """
    with serving(always(FAILED)) as server:
        ran = measured(tmp_path, server, program, budget__attempts=7, workflow__most_calls=1000)
    assert len(server.seen) == 7
    assert len(ran.records.attempts) == 7
    run_file = json.loads((ran.out / "run.json").read_text())
    assert run_file["stopped"]["by"] == "budget"


def test_several_answers_reserve_several_limits(tmp_path: Path) -> None:
    program = """
        async def main(client, topic):
            await client.chat.completions.create(
                model="m", n=3, max_tokens=100, messages=[{"role": "user", "content": topic}]
            )
    """
    with serving(always(completion())) as server:
        ran = measured(tmp_path, server, program, budget__tokens=300)
        assert not server.seen
        assert json.loads((ran.out / "run.json").read_text())["stopped"]["by"] == "budget"
        (tmp_path / "more").mkdir()
        measured(tmp_path / "more", server, program, budget__tokens=1000)
        assert server.seen


def test_a_request_at_import_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = """
        import asyncio, openai
        client = openai.AsyncOpenAI(base_url="http://127.0.0.1:9/v1", max_retries=0)
        asyncio.run(client.models.retrieve("m"))

        async def main(topic):
            return topic
    """
    with serving(always(completion())) as server, pytest.raises(StorageError):
        measured(tmp_path, server, program)  # there is no run
    [line] = capsys.readouterr().err.splitlines()
    assert "cannot be imported: OpenAIError: a request outside of a workflow" in line
    assert not server.seen


def test_a_first_answer_that_is_hopeless_ends_the_run(tmp_path: Path) -> None:
    with serving(always(Answer(401, b"{}"))) as server:
        ran = measured(tmp_path, server, ONE, load__workflows=5)
    assert len(server.seen) == 1
    assert ran.status != 0


def test_blocking_clients_are_refused_in_one_line(tmp_path: Path) -> None:
    program = """
        import asyncio, openai

        async def main():
            messages = [{"role": "user", "content": "a"}]
            client = openai.OpenAI()
            ask = client.chat.completions.create
            try:
                await asyncio.to_thread(ask, model="m", messages=messages)
            except openai.OpenAIError as error:
                assert "use openai.AsyncOpenAI" in str(error)
            loop = asyncio.get_running_loop()
            other = openai.AsyncOpenAI().chat.completions.create
            def in_thread():
                asyncio.run(other(model="m", messages=messages))
            try:
                await loop.run_in_executor(None, in_thread)
            except openai.OpenAIError as error:
                assert "outside of a workflow" in str(error)
            ask(model="m", messages=messages)
    """
    with serving(always(completion())) as server:
        ran = measured(tmp_path, server, program)
    assert server.seen == []
    assert "use openai.AsyncOpenAI" in ran.error
    assert "\n" not in ran.error


def test_too_many_calls_end_the_workflow(tmp_path: Path) -> None:
    program = """
        async def main(client):
            while True:
                try:
                    await client.embeddings.create(model="m", input="a")
                except Exception:
                    pass
    """
    with serving(always(EMBEDDED)) as server:
        ran = measured(tmp_path, server, program, workflow__most_calls=3)
    assert len(server.seen) == 3
    assert "raise workflow.most_calls" in ran.error


def test_exceptions_and_exits_of_the_program_fail_its_workflow(tmp_path: Path) -> None:
    program = """
        import sys

        count = 0

        class Unusual(BaseException):
            pass

        async def main():
            global count
            count += 1
            if count == 1:
                raise ValueError("two\\nlines")
            if count == 2:
                sys.exit(4)
            if count == 3:
                raise Unusual("one\\nmore")
            print("x" * 100_000)
            return count
    """
    with serving(always(EMBEDDED)) as server:
        ran = measured(tmp_path, server, program, load__workflows=4)
    first, second, third, fourth = ran.errors
    assert first is not None
    assert first.startswith("ValueError: two lines (mine.py, line 13)")
    assert second == "the program called sys.exit(4)"
    assert third == "the program raised Unusual, which is no Exception: one more"
    assert fourth is None


def test_a_program_that_never_ends_is_ended(tmp_path: Path) -> None:
    program = """
        import asyncio

        async def main(client):
            await client.embeddings.create(model="m", input="a")
            await asyncio.get_running_loop().create_future()
    """
    with serving(always(EMBEDDED)) as server:
        ran = measured(tmp_path, server, program, workflow__own_time_limit="50ms")
        assert "workflow.own_time_limit" in ran.error


def test_what_a_program_leaves_running_is_cancelled_and_recorded(tmp_path: Path) -> None:
    released, arrived = threading.Event(), threading.Event()

    def answer(seen: Seen, number: int) -> Answer:
        if seen.body["input"] == "slow":
            arrived.set()
            released.wait(20)
        elif seen.body["input"] == "next":
            arrived.wait(20)
        return EMBEDDED

    program = """
        import asyncio

        async def main(client):
            asyncio.create_task(client.embeddings.create(model="m", input="slow"))
            await asyncio.sleep(0)
            await client.embeddings.create(model="m", input="next")
    """
    with serving(answer) as server:
        try:
            ran = measured(tmp_path, server, program)
        finally:
            released.set()
    assert ran.errors == [None]
    assert ran.calls == [("embeddings", 1, "cancelled"), ("embeddings", 2, "ok")]


def test_no_record_has_a_key(tmp_path: Path) -> None:
    with serving(always(completion(f"it is {ENDPOINT_KEY}"))) as server:
        ran = measured(tmp_path, server, ONE, transcripts=True)
    for file in ran.out.rglob("*"):
        if file.is_file():
            assert ENDPOINT_KEY.encode() not in file.read_bytes(), file
            assert PROGRAM_KEY.encode() not in file.read_bytes() or file.name == "mine.py", file


def test_the_endpoint_key_reaches_no_log_of_the_program(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    with serving(always(completion())) as server:
        measured(tmp_path, server, ONE, 'query = { "sig" = "env:OWN_KEY" }')
    assert server.seen[0].path.endswith(f"?sig={ENDPOINT_KEY}")
    assert ENDPOINT_KEY not in caplog.text


def test_no_file_has_a_key_that_the_program_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", PROGRAM_KEY)
    program = """
        import logging, os
        import harness
        logging.basicConfig(level=logging.DEBUG, force=True)

        async def main(client, topic):
            keys = os.environ["OWN_KEY"] + " " + os.environ["OPENAI_API_KEY"]
            with harness.phase(keys):
                await client.chat.completions.create(
                    model="mine", messages=[{"role": "user", "content": "use " + keys}]
                )
            logging.warning("it was %s", keys)
            raise ValueError(keys)
    """
    handlers = logging.root.handlers[:]
    try:
        with serving(always(completion())) as server:
            ran = measured(tmp_path, server, program, transcripts=True)
    finally:
        logging.root.handlers[:] = handlers
    assert ran.error.startswith("ValueError: [redacted] [redacted] (mine.py, line ")
    assert "it was [redacted] [redacted]" in (ran.out / "program-output.txt").read_text()
    for file in ran.out.rglob("*"):
        if file.is_file():
            assert ENDPOINT_KEY.encode() not in file.read_bytes(), file
            assert PROGRAM_KEY.encode() not in file.read_bytes(), file
    assert "Logging error" not in capfd.readouterr().err


def test_the_query_of_a_client_is_not_sent(tmp_path: Path) -> None:
    program = """
        import openai

        async def main(topic):
            client = openai.AsyncOpenAI(
                api_key="k", default_query={"sig": "sk-of-the-program"}
            )
            await client.models.list(extra_query={"limit": 2})
    """
    with serving(always(EMBEDDED)) as server:
        measured(tmp_path, server, program)
    assert [seen.path for seen in server.seen] == ["/v1/models?limit=2"]
