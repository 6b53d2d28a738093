"""A gateway: an HTTP server on this machine that sends what it is asked through a transport.

So a program in any language makes its calls as one in Python does. Its requests have no key, and
only a program that knows the gateway's URL can send any.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections.abc import Mapping
from functools import partial
from types import TracebackType
from typing import Self

import httpx2
import msgspec
import openai

from harness.client.ended_attempts import FailedResponseError
from harness.client.hosted_calls import PATH_EXTENSION
from harness.network.http_server import Connection, HttpRequest, HttpResponse
from harness.records.keys import is_phase_name
from harness.transports.exchange import PHASE_HEADER

HOST = "127.0.0.1"
_MOST_BODY = 64 * 1024 * 1024
"""Bytes of a request; images are sent in the body."""
_JSON = {"content-type": "application/json"}
_OF_CONNECTION = frozenset(
    {
        "connection", "content-length", "keep-alive", "proxy-authenticate", "proxy-connection",
        "set-cookie", "trailer", "transfer-encoding", "upgrade",
    }
)  # fmt: skip
"""Headers of a response that are about one connection (RFC 9110, section 7.6.1), and cookies, which
the harness keeps."""


class Gateway:
    """Answers requests with the responses of a transport. Use it as an async context manager.

    A response is passed on as it arrives. A failure after its first byte closes the connection,
    where it does not end the response as the server has ended it. If a client disconnects, its
    request is cancelled.
    """

    def __init__(self, transport: httpx2.AsyncBaseTransport) -> None:
        self._transport = transport
        self._port = 0
        self._token = secrets.token_urlsafe(24)
        self._connections: set[Connection] = set()
        self._answering: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """The URL that stands for the base URL of the endpoint. It is a secret."""
        return f"http://{HOST}:{self._port}/{self._token}"

    async def __aenter__(self) -> Self:
        """Begin to listen on a free port. Raises OSError if there is none."""
        self._loop = asyncio.get_running_loop()
        self._server = await self._loop.create_server(self._connection, HOST, 0)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Cancel all requests, and close all connections."""
        self._server.close()
        for task in self._answering:
            task.cancel()
        for connection in list(self._connections):
            connection.abort()
        if self._answering:
            await asyncio.wait(self._answering)

    def _connection(self) -> Connection:
        return Connection(self._handle, self._connections, self._loop.call_later, _MOST_BODY)

    def _handle(self, request: HttpRequest, reply: HttpResponse) -> None:
        token, slash, path = request.path[1:].partition("/")
        if not slash or not hmac.compare_digest(token.encode(), self._token.encode()):
            reply.send(404, _JSON, _error_body("unknown path; use the URL of the gateway"))
            return
        phase = request.headers.get(PHASE_HEADER.encode())
        if phase is not None and not is_phase_name(phase.decode("latin-1")):
            reply.send(400, _JSON, _error_body(f"{PHASE_HEADER}: give a name, such as 'plan'"))
            return
        task = self._loop.create_task(self._answer(request, f"/{path}", reply))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)
        reply.on_close = partial(_cancel, task)

    async def _answer(self, request: HttpRequest, path: str, reply: HttpResponse) -> None:
        try:
            response = await self._transport.handle_async_request(_forwarded(request, path))
        except httpx2.InvalidURL:
            reply.send(400, _JSON, _error_body("invalid path"))
        except FailedResponseError as error:
            if error.response is None:
                reply.send(502, _JSON, _error_body(str(error)))
            else:
                await _pass_on(error.response, reply)
        except (httpx2.TimeoutException, openai.APITimeoutError) as error:
            reply.send(504, _JSON, _error_body(str(error)))
        except (httpx2.RequestError, openai.APIConnectionError) as error:
            reply.send(502, _JSON, _error_body(str(error)))
        except Exception:
            reply.cut()
            raise
        else:
            await _pass_on(response, reply)


def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()


def _forwarded(request: HttpRequest, path: str) -> httpx2.Request:
    """Return a request to `path` below the base URL. Raises httpx2.InvalidURL."""
    query = f"?{request.query}" if request.query else ""
    return httpx2.Request(
        request.method,
        f"http://{HOST}{path}{query}",
        headers=list(request.headers.items()),
        content=request.body,
        extensions={PATH_EXTENSION: path},
    )


async def _pass_on(response: httpx2.Response, reply: HttpResponse) -> None:
    """Write a response as it arrives."""
    status, headers = response.status_code, passed_headers(response.headers)
    body = response.stream
    if isinstance(body, httpx2.ByteStream):
        reply.send(status, headers, b"".join(body))
        return
    assert isinstance(body, httpx2.AsyncByteStream)
    reply.begin(status, headers)
    try:
        async for data in body:
            reply.write(data)
    except FailedResponseError as error:
        if error.response is None:
            reply.cut()
            return
    except (httpx2.RequestError, openai.APIConnectionError):
        reply.cut()
        return
    finally:
        await body.aclose()
    reply.end()


def passed_headers(headers: httpx2.Headers) -> Mapping[str, str]:
    """Return the headers of a response that are passed on: not those about its connection."""
    return {
        name: value
        for name, value in headers.items()
        if name not in _OF_CONNECTION and value.isascii() and value.isprintable()
    }


def _error_body(message: str) -> bytes:
    """Return the body of a response that the gateway makes itself, in the form of the API."""
    error = {"message": f"gateway of the harness: {message}", "type": "gateway_error"}
    return msgspec.json.encode({"error": error})
