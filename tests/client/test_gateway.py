"""The gateway, over real connections, with a transport whose responses the test makes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import httpx2
import msgspec
import openai
import pytest

from harness.client.async_responses import ArrivingBody, ArrivingPieces, TakeResult
from harness.client.ended_attempts import FailedResponseError
from harness.client.gateway import Gateway, passed_headers, path_below
from harness.client.hosted_calls import PATH_EXTENSION

Respond = Callable[[httpx2.Request], Awaitable[httpx2.Response]]
ASKED = httpx2.Request("POST", "http://h/")


class Transport:
    """Notes the requests, and answers them as the test says."""

    def __init__(self, respond: Respond) -> None:
        self.asked: list[httpx2.Request] = []
        self.arrived = asyncio.Event()
        self._respond = respond
        self._body: Arriving | None = None

    def start(self, request: httpx2.Request, take: TakeResult) -> Callable[[], None]:
        request.read()
        self.asked.append(request)
        self.arrived.set()

        async def answer() -> None:
            try:
                response = await self._respond(request)
            except Exception as error:
                take(error)
            else:
                self._body = response.stream if isinstance(response.stream, Arriving) else None
                take(response)

        task = asyncio.create_task(answer())

        def cancel() -> None:
            task.cancel()
            if self._body is not None:
                self._body.closed.set()

        return cancel


class Call:
    """A call whose response arrives; it notes that it was closed."""

    abandoned = False

    def __init__(self) -> None:
        self.closed = asyncio.Event()

    def close(self) -> None:
        self.closed.set()


class Arriving(ArrivingBody):
    """A body whose pieces arrive when the test puts them into `queue`: None ends it."""

    def __init__(self) -> None:
        call: Any = Call()
        super().__init__(call, ArrivingPieces())
        self.queue, self.closed = self.pieces, call.closed


def whole(status: int = 200, body: bytes = b"{}", **headers: str) -> Respond:
    async def respond(request: httpx2.Request) -> httpx2.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx2.Response(status, headers=named, stream=httpx2.ByteStream(body))

    return respond


def arriving(body: Arriving) -> Respond:
    async def respond(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=body)

    return respond


def failing(error: Exception) -> Respond:
    async def respond(request: httpx2.Request) -> httpx2.Response:
        raise error

    return respond


async def asked(
    respond: Respond, path: str = "/chat/completions", method: str = "POST"
) -> tuple[httpx2.Response, Transport]:
    """Return the response of a gateway to one request, and its transport."""
    transport = Transport(respond)
    async with (
        asyncio.timeout(20),
        Gateway(transport) as gateway,
        httpx2.AsyncClient(trust_env=False) as client,
    ):
        return await client.request(method, gateway.url + path, content=b"body"), transport


async def test_a_request_has_its_path_below_the_url_its_query_and_its_body() -> None:
    response, transport = await asked(whole(201, b"[1]", x_own="a"), "/a/b?c=%20d", "PUT")
    assert (response.status_code, response.content) == (201, b"[1]")
    assert response.headers["x-own"] == "a"
    [request] = transport.asked
    assert request.extensions[PATH_EXTENSION] == "/a/b"
    assert (request.method, request.content, request.url.query) == ("PUT", b"body", b"c=%20d")


@pytest.mark.parametrize("path", ["/", "/v1/models", "/{token}", "/{token}x/models", "//models"])
async def test_a_request_without_the_token_is_refused_and_not_sent(path: str) -> None:
    transport = Transport(whole())
    async with Gateway(transport) as gateway, httpx2.AsyncClient(trust_env=False) as client:
        host, _, token = gateway.url.rpartition("/")
        response = await client.get(host + path.format(token=token))
    assert response.status_code == 404
    assert "URL of the gateway" in response.json()["error"]["message"]
    assert not transport.asked


@pytest.mark.parametrize(
    ("path", "below"),
    [
        ("chat/completions", "/chat/completions"),
        ("chat/%63ompletions", "/chat/completions"),
        ("chat//completions/", "/chat/completions"),
        ("chat%2Fcompletions", None),
        ("x/../chat/completions", None),
        ("%2e%2e/%2E%2e/admin", None),
        ("..\\admin", None),
        (".", None),
        ("files/a%2Fb", "/files/a%2Fb"),
        ("files/a%20b", "/files/a b"),
        ("files/a%3Fb", "/files/a%3Fb"),
        ("", "/"),
    ],
)
def test_a_path_is_what_the_endpoint_understands_and_stays_below_its_url(
    path: str, below: str | None
) -> None:
    assert path_below(path) == below


async def test_a_path_that_leaves_the_base_url_is_refused_and_not_sent() -> None:
    transport = Transport(whole())
    async with Gateway(transport) as gateway:
        host, port = gateway.url.removeprefix("http://").split("/")[0].split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        token = gateway.url.rpartition("/")[2]
        writer.write(f"GET /{token}/../../admin HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        assert (await reader.readline()).split()[1] == b"400"
        writer.close()
    assert not transport.asked


async def test_each_gateway_has_its_own_url() -> None:
    async with Gateway(Transport(whole())) as one, Gateway(Transport(whole())) as other:
        assert one.url.rpartition("/")[2] != other.url.rpartition("/")[2]
        assert one.url.startswith("http://127.0.0.1:")


async def test_the_bytes_of_a_response_are_passed_on_as_they_arrive() -> None:
    body = Arriving()
    async with (
        asyncio.timeout(20),
        Gateway(Transport(arriving(body))) as gateway,
        httpx2.AsyncClient(trust_env=False) as client,
        client.stream("POST", f"{gateway.url}/chat/completions") as response,
    ):
        pieces = response.aiter_raw()
        for piece in (b"one", b"two"):  # the second one is put when the first one is here
            body.queue.put_nowait(piece)
            assert await anext(pieces) == piece
        body.queue.put_nowait(None)
        assert [piece async for piece in pieces] == []
        assert response.headers["content-type"] == "text/event-stream"


@pytest.mark.parametrize(
    "error",
    [
        httpx2.ReadError("lost", request=ASKED),
        httpx2.ReadTimeout("late", request=ASKED),
        FailedResponseError("malformed_stream", "no protocol", ASKED),
    ],
    ids=["lost", "late", "left"],
)
async def test_a_failure_after_the_first_byte_closes_the_connection(error: Exception) -> None:
    body = Arriving()
    for item in (b"data: 1\n\n", error):
        body.queue.put_nowait(item)
    with pytest.raises(httpx2.RemoteProtocolError, match="incomplete"):
        await asked(arriving(body))


async def test_a_response_that_is_whole_but_a_failure_ends_as_the_server_has_ended_it() -> None:
    body = Arriving()
    failed = FailedResponseError("missing_done", "cut", ASKED, httpx2.Response(200))
    for item in (b"data: 1\n\n", failed):
        body.queue.put_nowait(item)
    response, _ = await asked(arriving(body))
    assert response.content == b"data: 1\n\n"


async def test_a_failure_without_a_byte_passed_on_has_a_response_of_the_gateway() -> None:
    for error, status in (
        (httpx2.ConnectError("refused", request=ASKED), 502),
        (httpx2.ReadTimeout("late", request=ASKED), 504),
        (openai.APITimeoutError(ASKED), 504),
        (FailedResponseError("too_large", "big", ASKED), 502),
    ):
        response, _ = await asked(failing(error))
        assert response.status_code == status
        assert response.json()["error"]["type"] == "gateway_error"


async def test_a_whole_body_that_is_a_failure_is_passed_on_as_it_is() -> None:
    received = httpx2.Response(200, stream=httpx2.ByteStream(b'{"error": "x"}'))
    response, _ = await asked(failing(FailedResponseError("error_in_body", "x", ASKED, received)))
    assert (response.status_code, response.content) == (200, b'{"error": "x"}')


async def test_a_client_that_vanishes_cancels_its_request_before_and_in_the_response() -> None:
    cancelled = asyncio.Event()

    async def never(request: httpx2.Request) -> httpx2.Response:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        raise AssertionError

    body = Arriving()
    body.queue.put_nowait(b"first")
    for respond, ended in ((never, cancelled), (arriving(body), body.closed)):
        transport = Transport(respond)
        async with asyncio.timeout(20), Gateway(transport) as gateway:
            url = httpx2.URL(f"{gateway.url}/chat/completions")
            reader, writer = await asyncio.open_connection(url.host, url.port)
            writer.write(b"GET " + url.raw_path + b" HTTP/1.1\r\n\r\n")
            await transport.arrived.wait()
            if respond is not never:
                await reader.readuntil(b"first")
            writer.close()
            await ended.wait()


async def test_the_end_of_the_gateway_ends_its_requests_and_connections() -> None:
    body = Arriving()
    body.queue.put_nowait(b"first")
    async with asyncio.timeout(20), Gateway(Transport(arriving(body))) as gateway:
        url = httpx2.URL(f"{gateway.url}/chat/completions")
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(b"GET " + url.raw_path + b" HTTP/1.1\r\n\r\n")
        await reader.readuntil(b"first")
    assert body.closed.is_set()
    with suppress(ConnectionResetError):
        assert await reader.read() in (b"", b"\r\n")
    writer.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(url.host, url.port)


def test_headers_about_the_connection_and_cookies_are_not_passed_on() -> None:
    received = httpx2.Headers(
        [
            (b"Connection", b"close"), (b"Transfer-Encoding", b"chunked"), (b"Set-Cookie", b"a=b"),
            (b"Content-Type", b"text/plain"), (b"X-Request-Id", b"1"), (b"X-Odd", b"\xfc"),
        ]
    )  # fmt: skip
    assert passed_headers(received) == {"content-type": "text/plain", "x-request-id": "1"}


async def test_an_error_of_the_gateway_has_the_form_of_the_api() -> None:
    response, _ = await asked(failing(httpx2.ConnectError("refused", request=ASKED)))
    assert msgspec.json.decode(response.content)["error"]["message"].endswith("refused")


class Endless(Arriving):
    """A body of many large pieces that are always there; it counts those that are taken."""

    PIECE, COUNT = b"x" * 2**20, 64

    def __init__(self) -> None:
        super().__init__()
        self.taken = 0
        self.pieces.on_room = self.go_on
        self.go_on()

    def go_on(self) -> None:
        """Put pieces until there is no room for more."""
        while self.taken < self.COUNT and not self.pieces.is_full:
            self.taken += 1
            self.pieces.put_nowait(self.PIECE)
            if self.taken == self.COUNT:
                self.pieces.put_nowait(None)


async def until_still(count: Callable[[], int]) -> int:
    """Run the event loop until a number has not changed for many iterations, and return it."""
    still, last = 0, count()
    while still < 500:
        await asyncio.sleep(0)
        still, last = (still + 1, last) if count() == last else (0, count())
    return last


async def test_a_slow_client_stops_the_reading_of_its_response_and_gets_all_of_it() -> None:
    body = Endless()
    async with (
        asyncio.timeout(60),
        Gateway(Transport(arriving(body))) as gateway,
        httpx2.AsyncClient(trust_env=False) as client,
        client.stream("POST", f"{gateway.url}/chat/completions") as response,
    ):
        assert await until_still(lambda: body.taken) < body.COUNT / 2
        size = 0
        async for piece in response.aiter_raw():
            size += len(piece)
    assert size == body.COUNT * len(body.PIECE)


@pytest.mark.parametrize("status", [200, 204, 304])
async def test_a_response_without_a_body_leaves_the_connection_usable(status: int) -> None:
    transport = Transport(arriving(Arriving()))

    async def respond(request: httpx2.Request) -> httpx2.Response:
        body = Arriving()
        body.queue.put_nowait(None)
        return httpx2.Response(status, headers={"x-own": "a"}, stream=body)

    transport = Transport(respond)
    async with Gateway(transport) as gateway:
        port = int(gateway.url.split(":")[2].split("/")[0])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        method = "HEAD" if status == 200 else "GET"
        path = gateway.url.partition(str(port))[2]
        writer.write(f"{method} {path}/models HTTP/1.1\r\nhost: h\r\n\r\n".encode() * 2)
        for _ in range(2):
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(f"HTTP/1.1 {status} ".encode())
            assert b"transfer-encoding" not in head
        writer.close()


@pytest.mark.parametrize(
    ("sent", "status", "said"),
    [
        (b"no HTTP\r\n\r\n", 400, "not valid HTTP"),
        (b"GET / HTTP/1.1\r\nx: " + b"y" * 2**17, 431, "headers of the request"),
        (b"POST / HTTP/1.1\r\ncontent-length: 67108865\r\n\r\n", 413, "more than 64 MiB"),
    ],
    ids=["400", "431", "413"],
)
async def test_a_request_that_cannot_be_read_has_an_error_of_the_api(
    sent: bytes, status: int, said: str
) -> None:
    async with asyncio.timeout(20), Gateway(Transport(whole())) as gateway:
        port = int(gateway.url.split(":")[2].split("/")[0])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        if status == 413:
            piece = bytes(2**20)
            with suppress(ConnectionError):
                for _ in range(65):
                    writer.write(piece)
                    await writer.drain()
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    error = msgspec.json.decode(body)["error"]
    assert error["type"] == "gateway_error"
    assert said in error["message"]
