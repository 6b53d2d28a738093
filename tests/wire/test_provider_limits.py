"""What the simulated provider refuses, over HTTP: it says so, and goes on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from harness.records.clock import monotonic_since, take_anchor
from harness.records.provider_log import ProviderHead
from harness.simulator.api import Api
from harness.simulator.listener import Listener
from harness.simulator.log import Log
from harness.simulator.profiles import load_profile
from harness.simulator.server import bind
from tests.wire.provider import Provider, serving


async def said(provider: Provider, path: str, body: bytes, headers: Mapping[str, str]) -> int:
    url = provider.url.removesuffix("/v1") + path
    async with provider.session.post(url, data=body, headers=headers) as response:
        error = json.loads(await response.read()).get("error")
        assert error is None or error["message"]
        return response.status


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/simulator/trial"])
@pytest.mark.parametrize("nested", [b"[" * 5000 + b"]" * 5000, b'{"a":' * 5000, b"[" * 200_000])
def test_a_body_that_is_nested_too_deeply_is_400(tmp_path: Path, path: str, nested: bytes) -> None:
    async def whole() -> None:
        async with serving(tmp_path) as provider:
            assert await said(provider, path, nested, {}) == 400
            async with provider.post(provider.ask()) as response:
                assert response.status == 200

    asyncio.run(whole())


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("evil.test", 421), ("evil.test:80", 421), ("127.0.0.1.test", 421), ("127.0.0.1@e", 421),
        ("localhost", 200), ("LOCALHOST:1", 200), ("[::1]:9", 200), ("127.0.0.1", 200),
    ],
)  # fmt: skip
def test_only_names_of_this_machine_are_served(tmp_path: Path, host: str, status: int) -> None:
    async def whole() -> None:
        async with serving(tmp_path) as provider:
            body = json.dumps(provider.ask()).encode()
            headers = {"host": host, "content-type": "application/json"}
            assert await said(provider, "/v1/chat/completions", body, headers) == status

    asyncio.run(whole())


@pytest.mark.parametrize(
    ("bound", "host", "status"),
    [
        ("10.0.0.5", "10.0.0.5:8000", 200), ("10.0.0.5", "10.0.0.6", 421),
        ("10.0.0.5", "localhost", 200), ("0.0.0.0", "10.0.0.6:8000", 200),
        ("0.0.0.0", "evil.test", 421), ("::", "[fd00::1]:8000", 200), ("node1", "node1:8000", 200),
    ],
)  # fmt: skip
def test_the_address_that_is_served_is_a_name_of_this_machine(
    tmp_path: Path, bound: str, host: str, status: int
) -> None:
    async def whole() -> None:
        async with serving(tmp_path, host=bound) as provider:
            body = json.dumps(provider.ask()).encode()
            headers = {"host": host, "content-type": "application/json"}
            assert await said(provider, "/v1/chat/completions", body, headers) == status

    asyncio.run(whole())


@pytest.mark.parametrize(
    "header", [{"origin": "http://evil.test"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}]
)
def test_a_page_in_a_browser_cannot_begin_a_trial(tmp_path: Path, header: dict[str, str]) -> None:
    async def whole() -> None:
        async with serving(tmp_path) as provider:
            trial = b'{"cell": "c", "repeat": 0}'
            assert await said(provider, "/simulator/trial", trial, header) == 403
            assert await said(provider, "/simulator/trial", trial, {}) == 200

    asyncio.run(whole())


def test_a_connection_above_the_limit_is_told_so_and_the_others_go_on(tmp_path: Path) -> None:
    warnings: list[str] = []

    async def whole() -> None:
        anchor, profile = take_anchor(), load_profile("streams")
        head = ProviderHead(anchor=anchor, profile=profile.as_dict(), seed=3, time_scale=1.0)
        log = Log(tmp_path / "provider.jsonl", head)
        sock = bind("127.0.0.1", 0)
        port = sock.getsockname()[1]
        listener = Listener(sock)
        now = monotonic_since(anchor)
        api = Api(profile, 3, 1.0, log, now, listener, 2, warnings.append)
        await listener.start(api.connection)
        request = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
        opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(4)]
        answers = []
        for number, (reader, writer) in enumerate(opened):
            if number < 2:
                writer.write(request)
            answers.append(await reader.readline())
        assert [answer.split()[1] for answer in answers] == [b"200", b"200", b"503", b"503"]
        refused = await opened[2][0].read()
        assert b"the limit of open files" in refused
        opened[0][1].close()
        await opened[0][1].wait_closed()
        while len(api._connections) > 1:  # noqa: ASYNC110 - no event
            await asyncio.sleep(0)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        assert (await reader.readline()).split()[1] == b"200"
        for _, each in opened[1:]:
            each.close()
        writer.close()
        listener.close()
        api.stop()
        await listener.wait_closed()
        log.close()

    asyncio.run(whole())
    assert len(warnings) == 1
    assert "2 connections are open" in warnings[0]
