"""Requests of programs that would pass no budget: none reaches a server."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from harness.client.instrumentation import instrumented
from tests.programs.running import ENDPOINT_KEY, Ran, Server, completion, live, run, serving

RELEASED = threading.Event()
"""The thread of a program makes its request when this is set."""

CLIENT = """
    import asyncio, contextlib, threading
    import openai
    import harness
    from tests.programs import test_requests_without_budget as test

    client = openai.AsyncOpenAI(api_key="sk-of-the-program", base_url="{own}", max_retries=5)

    async def ask(topic):
        await client.chat.completions.create(
            model="m", messages=[{{"role": "user", "content": topic}}]
        )
"""


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OWN_KEY", ENDPOINT_KEY)


def measured(folder: Path, server: Server, main: str, **sets: Any) -> Ran:
    """Run a program that has a client with a server of its own, below the path `/own`."""
    program = CLIENT.format(own=server.base_url.replace("/v1", "/own")) + main
    sets = {"load__warmup_calls": 0, **sets}
    return run(folder, program, live(server), "--no-preflight", **sets)


def paths(server: Server) -> set[str]:
    return {seen.path for seen in server.seen}


def test_a_program_that_ignores_its_cancellation_sends_nothing_after_the_run(
    tmp_path: Path,
) -> None:
    main = """
    async def main(topic):
        for _ in range(20):
            try:
                await ask(topic)
            except BaseException:
                pass
    """
    with serving(lambda seen, number: completion()) as server:
        measured(tmp_path, server, main, budget__attempts=5, load__workflows=4, load__in_flight=2)
    assert paths(server) == {"/v1/chat/completions"}
    assert len(server.seen) == 5


def test_a_thread_of_a_program_sends_nothing_after_the_run(tmp_path: Path) -> None:
    main = """
    def later():
        test.RELEASED.wait(60)
        with contextlib.suppress(openai.OpenAIError):
            asyncio.run(ask("late"))

    async def main(topic):
        threading.Thread(target=later, name="later", daemon=True).start()
        await ask(topic)
    """
    before = set(threading.enumerate())
    with serving(lambda seen, number: completion()) as server:
        ran = measured(tmp_path, server, main)
        RELEASED.set()
        for thread in set(threading.enumerate()) - before:
            if thread.name == "later":
                thread.join()
    with instrumented():
        pass  # undoes what is kept while the thread runs
    assert ran.errors == [None]
    assert paths(server) == {"/v1/chat/completions"}


def test_a_request_in_a_thread_with_the_context_of_its_workflow_is_refused(tmp_path: Path) -> None:
    main = """
    async def main(topic):
        await asyncio.to_thread(lambda: asyncio.run(ask(topic)))
    """
    with serving(lambda seen, number: completion()) as server:
        ran = measured(tmp_path, server, main)
    assert "in a thread or besides ask(...) passes no budget" in ran.error
    assert not server.seen


@pytest.mark.parametrize(
    ("mode", "request_"),
    [
        ("async", "await ask(topic)"),
        ("async", "openai.OpenAI(api_key='k').models.list()"),
        ("threads", "openai.OpenAI(api_key='k').models.list()"),
    ],
)
def test_a_request_besides_ask_is_refused(tmp_path: Path, mode: str, request_: str) -> None:
    main = f"""
    @harness.workflow
    async def main(send, topic):
        await send("plan", topic)
        {request_}
    """
    with serving(lambda seen, number: completion()) as server:
        ran = measured(tmp_path, server, main, sweep__mode=[mode])
    assert "passes no budget" in ran.error or "pass no budget" in ran.error
    assert paths(server) == {"/v1/chat/completions"}


def test_a_program_can_be_left_alone(tmp_path: Path) -> None:
    main = """
    @harness.workflow
    async def main(send, topic):
        await send("plan", topic)
        async with client:
            await ask(topic)
    """
    with serving(lambda seen, number: completion()) as server:
        ran = measured(tmp_path, server, main, workflow__instrument=False)
    assert ran.errors == [None]
    assert paths(server) == {"/v1/chat/completions", "/own/chat/completions"}
