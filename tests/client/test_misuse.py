"""What programs do to a client: cancel, abandon, interrupt, overload. Every permit comes back."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import re
import select
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx2
import openai
import pytest

import harness
from harness.client.settings import ClientOptions, with_timeout
from harness.engine.attempt import CallTimeouts
from harness.transports.sync_transport import exchange_blocking
from tests.client.talking import MESSAGES, SOON, body_of, calls, good, in_turn, outcomes, refused
from tests.transports.bodies import EVENT_STREAM, chunk, whole
from tests.wire.fault_server import (
    FaultServer,
    Hold,
    Pause,
    Step,
    Until,
    Write,
    framed,
    head,
)  # fmt: skip

HEADERS = Write(head(200, ("content-type", EVENT_STREAM)))
TEXT = Write(framed(chunk(content="Be")))
STALLED: Sequence[Step] = [HEADERS, Hold()]
BEGUN: Sequence[Step] = [HEADERS, TEXT, Hold()]
PATIENCE = 60


@asynccontextmanager
async def client_of(server: FaultServer, **keywords: Any) -> AsyncIterator[harness.AsyncOpenAI]:
    keywords = {"api_key": "k", "base_url": server.base_url, "retry": SOON, **keywords}
    async with asyncio.timeout(PATIENCE), harness.AsyncOpenAI(**keywords) as client:
        yield client


@contextmanager
def sync_client_of(server: FaultServer, **keywords: Any) -> Iterator[harness.OpenAI]:
    keywords = {"api_key": "k", "base_url": server.base_url, "retry": SOON, **keywords}
    with harness.OpenAI(**keywords) as client:
        yield client


async def ask(client: openai.AsyncOpenAI) -> str:
    reply = await client.chat.completions.create(model="m", messages=MESSAGES)
    return reply.choices[0].message.content or ""


async def stream(client: openai.AsyncOpenAI) -> openai.AsyncStream[Any]:
    return await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)


async def seen_by(server: FaultServer, count: int) -> None:
    await asyncio.to_thread(server.settled, lambda: len(server.seen) >= count)


async def test_a_cancelled_call_is_aborted_and_releases_its_permit() -> None:
    records: list[Any] = []
    with FaultServer(in_turn(STALLED, [Hold()])) as server:
        async with client_of(server, permits=1, on_record=records.append) as client:
            for count in (1, 2):
                task = asyncio.create_task(ask(client))
                await seen_by(server, count)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            assert await ask(client) == "Because"
        assert server.settled(lambda: server.in_service == 0)
    assert outcomes(records) == ["cancelled", "cancelled", "ok"]


async def test_a_call_that_is_cancelled_in_the_queue_sends_nothing() -> None:
    with FaultServer(in_turn(STALLED)) as server:
        async with client_of(server, permits=1) as client:
            first = asyncio.create_task(ask(client))
            await seen_by(server, 1)
            second = asyncio.create_task(ask(client))
            await asyncio.sleep(0.01)
            second.cancel()
            await asyncio.sleep(0.01)
            first.cancel()
            assert await ask(client) == "Because"
            assert len(server.seen) == 2


async def test_a_cancelled_probe_does_not_block_the_breaker() -> None:
    policy = [harness.policies.Breaker(failures=1, pause=0.01, cap=0.01), SOON]
    with FaultServer(in_turn(refused(), STALLED)) as server:
        async with client_of(server, retry=policy) as client:
            probe = asyncio.create_task(ask(client))
            await seen_by(server, 2)
            probe.cancel()
            assert await ask(client) == "Because"


async def test_a_thousand_calls_never_exceed_the_permits() -> None:
    with FaultServer(good) as server:
        async with client_of(server, permits=8) as client:
            answers = await asyncio.gather(*(ask(client) for _ in range(500)), *(
                reading(client) for _ in range(500)))  # fmt: skip
        assert set(answers) == {"Because"}
        assert server.most_in_service <= 8
        assert server.connections <= 16


async def reading(client: openai.AsyncOpenAI) -> str:
    return "".join([one.choices[0].delta.content or "" async for one in await stream(client)])


async def test_a_stall_after_the_headers_is_retried_at_the_deadline() -> None:
    timeouts = harness.Timeouts(first_token=0.1)
    for whole_responses in (True, False):
        with FaultServer(in_turn(STALLED)) as server:
            keywords: Any = {"timeouts": timeouts, "whole_responses": whole_responses}
            async with client_of(server, permits=1, **keywords) as client:
                assert await reading(client) == "Because"


async def test_an_unread_stream_that_is_dropped_gives_its_permit_back() -> None:
    dropped = threading.Event()
    more: list[Step] = [Write(framed(chunk(content="x"))), Pause(0.01)]
    slow: Sequence[Step] = [HEADERS, TEXT, Until(dropped.is_set), *more * 500]
    with FaultServer(in_turn(slow)) as server:
        async with client_of(server, permits=1) as client:
            unread = await stream(client)
            assert not client.is_closed()
            del unread
            gc.collect()
            server.tell(dropped.set)
            assert await ask(client) == "Because"


async def test_an_unread_stream_that_is_complete_holds_no_permit() -> None:
    with FaultServer(good) as server:
        async with client_of(server, permits=1) as client:
            unread = [await stream(client) for _ in range(5)]
            texts = ["".join([c.choices[0].delta.content or "" async for c in s]) for s in unread]
            assert texts == ["Because"] * 5


async def test_an_exception_within_a_stream_aborts_it() -> None:
    records: list[Any] = []
    with FaultServer(in_turn(BEGUN)) as server:
        async with client_of(server, permits=1, on_record=records.append) as client:
            with pytest.raises(ZeroDivisionError):
                await failing(client)
            assert await ask(client) == "Because"
        assert server.settled(lambda: server.in_service == 0)
    assert outcomes(records) == ["cancelled", "ok"]


async def failing(client: openai.AsyncOpenAI) -> None:
    async with await stream(client) as begun:
        async for _ in begun:
            raise ZeroDivisionError


async def test_closing_the_client_ends_its_calls() -> None:
    with FaultServer(in_turn(STALLED)) as server:
        async with client_of(server) as client:
            waiting = asyncio.create_task(ask(client))
            await seen_by(server, 1)
            await client.close()
            with pytest.raises(openai.APIConnectionError, match="closed"):
                await waiting


def test_a_second_event_loop_is_refused_in_one_line() -> None:
    with FaultServer(good) as server:
        client = harness.AsyncOpenAI(api_key="k", base_url=server.base_url)
        assert asyncio.run(ask(client)) == "Because"
        with pytest.raises(RuntimeError, match="one client in each loop"):
            asyncio.run(ask(client))


def test_a_program_that_never_closes_its_client_is_not_scolded(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with FaultServer(good) as server:
        assert asyncio.run(ask(harness.AsyncOpenAI(api_key="k", base_url=server.base_url)))
        gc.collect()
        assert server.settled(lambda: server.open == 0)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_fifty_threads_share_the_permits() -> None:
    answers: list[str] = []
    with FaultServer(good) as server, sync_client_of(server, permits=8) as client:

        def work() -> None:
            for number in range(6):
                ask_sync(client) if number % 2 else read_sync(client)
                answers.append("done")

        run_all([work] * 50)
        assert len(answers) == 300
        assert server.most_in_service <= 8


def ask_sync(client: openai.OpenAI) -> str:
    reply = client.chat.completions.create(model="m", messages=MESSAGES)
    return reply.choices[0].message.content or ""


def read_sync(client: openai.OpenAI) -> str:
    chunks = client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
    return "".join(one.choices[0].delta.content or "" for one in chunks)


def failing_sync(client: openai.OpenAI) -> None:
    chunks = client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
    with chunks as begun:
        for _ in begun:
            raise ZeroDivisionError


def run_all(works: Sequence[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_streams_that_threads_drop_or_break_off_give_their_permits_back() -> None:
    dropped = threading.Event()
    more: list[Step] = [Write(framed(chunk(content="x"))), Pause(0.01)]
    slow: Sequence[Step] = [HEADERS, TEXT, Until(dropped.is_set), *more * 500]
    records: list[Any] = []
    with (
        FaultServer(in_turn(BEGUN, slow)) as server,
        sync_client_of(server, permits=1, on_record=records.append) as client,
    ):
        with pytest.raises(ZeroDivisionError):
            failing_sync(client)
        unread = client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
        assert not client.is_closed()
        del unread
        gc.collect()
        server.tell(dropped.set)
        assert ask_sync(client) == "Because"
    assert outcomes(records) == ["cancelled", "cancelled", "ok"]


def test_an_interrupt_releases_the_permit_and_the_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = [harness.policies.Breaker(failures=1, pause=0.01, cap=0.01), SOON]
    interrupted: list[bool] = []

    def interrupt(*arguments: Any) -> Any:
        if not interrupted and len(server.seen) == 1:
            interrupted.append(True)
            raise KeyboardInterrupt
        return exchange_blocking(*arguments)

    monkeypatch.setattr("harness.client.sync_client.exchange_blocking", interrupt)
    with (
        FaultServer(in_turn(refused())) as server,
        sync_client_of(server, permits=1, retry=policy) as client,
    ):
        with pytest.raises(KeyboardInterrupt):
            ask_sync(client)
        assert ask_sync(client) == "Because"


def test_closing_a_sync_client_ends_its_streams() -> None:
    with FaultServer(in_turn(BEGUN)) as server, sync_client_of(server) as client:
        begun = client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
        assert next(begun).choices[0].delta.content == "Be"
        client.close()
        with pytest.raises(openai.APIConnectionError):
            next(begun)
    assert not [
        one for one in threading.enumerate() if one.name in ("deadlines", "harness-response")
    ]


def test_a_client_that_is_dropped_without_being_closed_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    with FaultServer(good) as server:
        client = harness.OpenAI(api_key="k", base_url=server.base_url)
        client.chat.completions.create(model="m", messages=MESSAGES)
        (thread,) = (one for one in set(threading.enumerate()) - before if one.name == "deadlines")
        del client
        gc.collect()
        thread.join(PATIENCE)
        assert not thread.is_alive()


def in_fork(work: Callable[[], str]) -> str:
    """Do something in a forked process and return its result."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, work().encode())
        finally:
            os._exit(0)
    os.close(writing)
    if not select.select([reading], [], [], PATIENCE)[0]:
        os.kill(child, signal.SIGKILL)
    result = os.read(reading, 100).decode()
    os.close(reading)
    os.waitpid(child, 0)
    return result


def test_a_forked_process_has_connections_permits_and_deadlines_of_its_own() -> None:
    def ask() -> str:
        return client.chat.completions.create(model="m", messages=MESSAGES).choices[0].finish_reason

    def work() -> str:
        with pytest.raises(openai.APITimeoutError):
            ask()
        return ask()

    answers = in_turn(body_of(whole(content="Because")), STALLED)
    timeouts, never = harness.Timeouts(call=0.5), harness.policies.NoRetry()
    with (
        FaultServer(answers) as server,
        sync_client_of(server, permits=1, timeouts=timeouts, retry=never) as client,
    ):
        assert ask() == "stop"
        permits = client._client._transport._permits  # type: ignore[attr-defined]
        permits.acquire(0, None)  # as a call in another thread of the parent does
        assert in_fork(work) == "stop"
        permits.release()
        assert ask() == "stop"
        first, *of_child, last = [seen.connection for seen in server.seen]
        assert first == last
        assert first not in of_child


@pytest.mark.parametrize("aiohttp", [True, False])
async def test_a_client_of_the_program_sends_the_attempts(aiohttp: bool) -> None:
    sent: list[str | None] = []

    async def note(request: httpx2.Request) -> None:
        sent.append(request.headers.get("x-mine"))

    cls = openai.DefaultAioHttpClient if aiohttp else httpx2.AsyncClient
    http = cls(headers={"x-mine": "1"}, event_hooks={"request": [note]})
    with FaultServer(in_turn(refused(), STALLED)) as server:
        timeouts = harness.Timeouts(first_token=0.2)
        async with client_of(server, http_client=http, timeouts=timeouts) as client:
            assert await reading(client) == "Because"
            assert client.with_options(timeout=3)._client is client._client
            assert [one.header("x-mine") for one in server.seen] == ["1"] * 3
        assert http.is_closed
    assert sent == ["1"] * 3


def test_a_sync_client_of_the_program_sends_the_attempts() -> None:
    http = httpx2.Client(headers={"x-mine": "1"}, timeout=httpx2.Timeout(5, read=0.2))
    with FaultServer(in_turn(refused(), STALLED)) as server:
        with sync_client_of(server, http_client=http) as client:
            assert read_sync(client) == "Because"
            assert [one.header("x-mine") for one in server.seen] == ["1"] * 3
        assert http.is_closed


async def test_other_paths_have_permits_and_retries_and_uploads_are_sent_once() -> None:
    models = b'{"object": "list", "data": [{"id": "m", "object": "model"}]}'
    answers = in_turn(refused(), body_of(models), refused())
    records: list[Any] = []
    with FaultServer(answers) as server:
        async with client_of(server, on_record=records.append) as client:
            assert [model.id async for model in client.models.list()] == ["m"]
            assert len(server.seen) == 2
            # an upload: its body can be read only once
            with pytest.raises(openai.InternalServerError):
                await client.files.create(file=b"text", purpose="assistants")
            assert len(server.seen) == 3
    assert outcomes(records) == ["unavailable", "ok", "unavailable"]


async def test_the_phase_of_a_request_chooses_the_state_of_a_layer() -> None:
    budget = harness.policies.RetryBudget(burst=1, ratio=0.001, scope="phase")
    records: list[Any] = []
    with FaultServer(in_turn(*[refused()] * 4)) as server:
        async with client_of(server, retry=[budget, SOON], on_record=records.append) as client:
            for phase in ("a", "b"):
                mine = client.with_options(default_headers={"x-harness-policy-phase": phase})
                with pytest.raises(openai.InternalServerError):
                    await ask(mine)
        assert len(server.seen) == 4
        assert {one.header("x-harness-policy-phase") for one in server.seen} == {None}
    assert [call.phase for call in calls(records)] == ["a", "b"]


async def test_options_of_a_copy_keep_the_settings_with_another_http_client() -> None:
    with FaultServer(good) as server:
        async with client_of(server, permits=1, whole_responses=True) as client:
            other = client.with_options(http_client=httpx2.AsyncClient())
            assert await reading(other) == "Because"
            assert other._client is not client._client
            assert other._settings == client._settings
            await other.close()


BAD_URLS = ["127.0.0.1:9/v1", "ftp://127.0.0.1:9/v1", "http://[::1", "http://h:99999", "a b"]


@pytest.mark.parametrize("url", [*BAD_URLS, "https://me:secret@h:x/v1", "x?key=secret"])
@pytest.mark.parametrize("cls", [harness.AsyncOpenAI, harness.OpenAI])
def test_a_base_url_that_is_no_http_is_refused_in_one_line(
    cls: Any, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = "" if "secret" in url else f"='{url}'"
    for name in ("base_url", "OPENAI_BASE_URL"):
        with pytest.raises(ValueError, match=r"must be a URL") as refused:
            cls(api_key="k", **({"base_url": url} if name == "base_url" else {}))
        said = f'{name}{shown}: must be a URL such as "https://api.example.com/v1"'
        assert str(refused.value) == said
        monkeypatch.setenv("OPENAI_BASE_URL", url)
    with pytest.raises(ValueError, match="base_url"):
        cls(api_key="k", base_url="http://127.0.0.1:9").with_options(base_url=url)


@pytest.mark.parametrize("where", ["client", "copy", "request"])
@pytest.mark.parametrize("limit", [0.1, httpx2.Timeout(None, read=0.1)], ids=["float", "read"])
async def test_a_timeout_limits_each_attempt(where: str, limit: Any) -> None:
    of = {where: {"timeout": limit}}
    records: list[Any] = []
    once = harness.policies.Fixed(attempts=2, delay=0.001)
    keywords = {"retry": once, "on_record": records.append, **of.get("client", {})}
    with FaultServer(in_turn(STALLED, STALLED)) as server:
        async with client_of(server, **keywords) as client:
            mine = client.with_options(**of.get("copy", {}))
            with pytest.raises(openai.APITimeoutError):
                await mine.chat.completions.create(
                    model="m", messages=MESSAGES, **of.get("request", {})
                )
        records.append(None)
        with sync_client_of(server, **keywords) as plain:
            create: Any = plain.with_options(**of.get("copy", {})).chat.completions.create
            request = of.get("request", {})
            assert await asyncio.to_thread(create, model="m", messages=MESSAGES, **request)
    assert outcomes(records[: records.index(None)]) == ["first_token_timeout"] * 2


def test_the_shorter_of_two_timeouts_holds() -> None:
    limits = CallTimeouts.of(harness.Timeouts(connect=5, idle=60, call=600), 1.0)
    assert with_timeout(limits, {}) == with_timeout(limits, {"read": None}) == limits
    assert with_timeout(limits, {"connect": 9.0, "read": 700.0}) == limits
    shorter = with_timeout(limits, {"connect": 1.0, "read": 2.0, "pool": 0.1})
    assert shorter == CallTimeouts(10**9, 2 * 10**9, 2 * 10**9, 600 * 10**9)


def test_the_public_names_can_be_listed() -> None:
    assert {"AsyncOpenAI", "OpenAI", "Timeouts", "policies"} <= set(dir(harness))
    assert {"Breaker", "Exponential", "NoRetry"} <= set(dir(harness.policies))


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"permits": 0}, "permits=0: give a whole number"),
        ({"permits": True}, "permits=True: give a whole number"),
        (
            {"max_retries": -1},
            r"max_retries=-1: the policy retries; use retry=harness.policies.NoRetry",
        ),
        ({"permit_scope": "phase"}, "permit_scope='phase': use 'attempt' or 'call'"),
        ({"max_retries": 3}, r"use retry=harness.policies.OpenAISdk\(max_retries=3\)"),
        ({"retry": "full-jitter"}, "give a policy, such as"),
        ({"retry": []}, "give a policy, such as"),
        ({"retry": harness.policies.Hedge(after=1)}, "cannot be the last layer"),
        ({"retry": [SOON, SOON]}, "cannot wrap another policy"),
        ({"timeouts": 30}, "timeouts=30: use harness.Timeouts"),
        ({"timeout": 0}, "timeout=0: give seconds above 0"),
        ({"timeout": "3"}, "timeout='3': give seconds above 0"),
        ({"http_client": object()}, "give an httpx2"),
        ({"whole_responses": "no"}, "whole_responses='no': use True or False"),
        ({"on_record": 3}, "on_record=3: give a function of one record"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("cls", [harness.AsyncOpenAI, harness.OpenAI])
def test_a_wrong_keyword_is_one_line(cls: Any, keywords: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        cls(api_key="k", **keywords)
    assert "\n" not in str(raised.value)


def test_an_unknown_keyword_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="permit"):
        harness.AsyncOpenAI(api_key="k", permit=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="permit"):
        harness.OpenAI(api_key="k", permit=3)  # type: ignore[call-arg]


@pytest.mark.parametrize("cls", [openai.AsyncOpenAI, openai.OpenAI])
def test_all_keywords_of_the_package_are_accepted(cls: type) -> None:
    ours = {"self", "api_key", "max_retries", "http_client"}
    assert set(inspect.signature(cls).parameters) - ours == set(ClientOptions.__annotations__)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: harness.Timeouts(call=-1), "Timeouts: call = -1: must be greater than 0"),
        (
            lambda: harness.policies.Exponential(attempts=0),
            "Exponential: attempts = 0: must be at least 2",
        ),
        (
            lambda: harness.policies.Fixed(dely=1),  # type: ignore[call-arg]
            "Fixed: dely: unknown key (did you mean 'delay'?); known here: ",
        ),
        (lambda: harness.policies.Hedge(), "Hedge: after: missing; add it"),  # type: ignore[call-arg]
    ],
)
def test_a_wrong_value_of_a_policy_is_one_line(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as raised:
        make()
    assert "\n" not in str(raised.value)


async def test_a_raw_response_has_what_a_raw_response_has() -> None:
    with FaultServer(in_turn(refused())) as server:
        async with client_of(server) as client:
            api = client.chat.completions.with_raw_response
            raw = await api.create(model="m", messages=MESSAGES)
            assert raw.status_code == 200
            assert raw.elapsed.total_seconds() > 0
            assert raw.parse().choices[0].message.content == "Because"
            lines = client.chat.completions.with_streaming_response
            async with lines.create(model="m", messages=MESSAGES, stream=True) as response:
                assert [line async for line in response.iter_lines()][-2] == "data: [DONE]"
