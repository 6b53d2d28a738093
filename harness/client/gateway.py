"""A gateway: an HTTP server on this machine that sends what it is asked through a transport.

So a program in any language makes its calls as one in Python does. Its requests have no key, and
only a program that knows the gateway's URL can send any. Of a response that is read more slowly
than it arrives, at most `async_responses.MOST_WAITING` bytes wait in memory, beside the buffers of
the sockets; then no more is read from the endpoint until there is room.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from types import TracebackType
from typing import Protocol, Self
from urllib.parse import unquote

import httpx2
import msgspec
import openai

from harness.client.async_responses import MOST_WAITING, ArrivingBody, TakeResult
from harness.client.ended_attempts import FailedResponseError
from harness.client.hosted_calls import ARRIVAL_EXTENSION, PATH_EXTENSION, RefusedRequestError
from harness.engine.branches import do_nothing
from harness.engine.budget_gate import BudgetExhaustedError
from harness.engine.hosting import outside_hosted_code
from harness.network.http_server import (
    MOST_HEAD,
    REQUEST_SECONDS,
    Connection,
    HttpRequest,
    HttpResponse,
)
from harness.records.clock import ReadClock
from harness.records.keys import is_phase_name
from harness.transports.exchange import PHASE_HEADER
from harness.transports.other_apis import is_read

HOST = "127.0.0.1"
_BACKLOG = 1024
"""How many connections can wait until they are accepted."""
_MOST_BODY = 64 * 1024 * 1024
"""Bytes of a request; images are sent in the body."""
_UNREADABLE = {
    400: "the request is not valid HTTP",
    408: f"the request was not complete after {REQUEST_SECONDS:g} s",
    413: f"the body of the request has more than {_MOST_BODY // 1024**2} MiB",
    431: f"the headers of the request have more than {MOST_HEAD // 1024} KiB",
}
_JSON = {"content-type": "application/json"}
_OF_CONNECTION = frozenset(
    {
        "connection", "content-length", "keep-alive", "proxy-authenticate", "proxy-connection",
        "set-cookie", "trailer", "transfer-encoding", "upgrade",
    }
)  # fmt: skip
"""Headers of a response that are about one connection (RFC 9110, section 7.6.1), and cookies, which
the harness keeps."""


class StartCall(Protocol):
    """Makes the calls of a gateway."""

    def start(self, request: httpx2.Request, take: TakeResult, /) -> Callable[[], None]:
        """Start the call of a request; return the function that cancels it.

        `take` gets the result. Raises RefusedRequestError.
        """
        ...


class Gateway:
    """Answers requests with the responses to calls. Use it as an async context manager.

    A response is passed on as it arrives. A failure after its first byte closes the connection,
    where it does not end the response as the server has ended it. If a client disconnects, its
    request is cancelled. Once the budget has refused a request, all others are refused as well.

    `listener`: the socket at which it listens, a free port if absent. `token`: the secret part of
    its URL, a random one if absent. `now`: the clock of the arrivals. `say`: takes a line for the
    user. `exhausted`: the exception of the budget that has refused a request.
    """

    def __init__(
        self,
        calls: StartCall,
        listener: socket.socket | None = None,
        token: str | None = None,
        now: ReadClock | None = None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._calls = calls
        self._listener = listener
        self._port = 0
        self._token = secrets.token_urlsafe(24) if token is None else token
        self._now = now
        self._say = say
        self._ends = False
        self.exhausted: BudgetExhaustedError | None = None
        self._connections: set[Connection] = set()
        self._answering: set[_Answer] = set()
        self._all_answered: asyncio.Event | None = None
        self._context = outside_hosted_code()

    @property
    def url(self) -> str:
        """The URL that stands for the base URL of the endpoint. It is a secret."""
        return f"http://{HOST}:{self._port}/{self._token}"

    async def __aenter__(self) -> Self:
        """Begin to listen. Raises OSError if there is no free port."""
        self._loop = asyncio.get_running_loop()
        if self._listener is None:
            self._server = await self._loop.create_server(self._connection, HOST, 0)
        else:
            self._server = await self._loop.create_server(
                self._connection, sock=self._listener, backlog=_BACKLOG
            )
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
        for answer in list(self._answering):
            answer.vanished()
        for connection in list(self._connections):
            connection.abort()

    def stop(self) -> int:
        """Accept no more requests, and return how many are in flight."""
        self._ends = True
        self._server.close()
        return len(self._answering)

    async def drained(self, seconds: float) -> None:
        """Wait until no request is in flight, at most for some seconds."""
        self._all_answered = asyncio.Event()
        if self._answering:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._all_answered.wait(), seconds)

    def _connection(self) -> Connection:
        return Connection(
            self._handle, self._connections, self._loop.call_later, _MOST_BODY, MOST_WAITING,
            _refusal,
        )  # fmt: skip

    def _handle(self, request: HttpRequest, reply: HttpResponse) -> None:
        token, slash, path = request.path[1:].partition("/")
        if not slash or not hmac.compare_digest(token.encode(), self._token.encode()):
            reply.send(404, _JSON, _error_body("unknown path; use the URL of the gateway"))
            return
        below = path_below(path)
        if below is None:
            reply.send(400, _JSON, _error_body("invalid path"))
            return
        phase = request.headers.get(PHASE_HEADER.encode())
        if phase is not None and not is_phase_name(phase.decode("latin-1")):
            reply.send(400, _JSON, _error_body(f"{PHASE_HEADER}: give a name, such as 'plan'"))
            return
        if self._ends:
            reply.send(503, _JSON, _error_body("it is about to end"))
            return
        if self.exhausted is not None:
            reply.send(403, _JSON, _error_body(_used_up(self.exhausted)))
            return
        arrived = None if self._now is None else self._now()
        self._start(request, below, reply, arrived)

    def _start(
        self, request: HttpRequest, path: str, reply: HttpResponse, arrived: int | None
    ) -> None:
        """Start the call of a request; the request is in flight until its response ends."""
        answer = _Answer(reply, self._refused, self._answered)
        self._answering.add(answer)
        try:
            forwarded = _forwarded(request, path, arrived)
            cancel = self._context.run(self._calls.start, forwarded, answer.take)
        except httpx2.InvalidURL:
            answer.refuse(400, "invalid path")
        except RefusedRequestError as error:
            answer.refuse(400, str(error))
        else:
            answer.cancel = cancel
            if answer in self._answering:
                reply.on_close = answer.vanished

    def _answered(self, answer: _Answer) -> None:
        self._answering.discard(answer)
        if not self._answering and self._all_answered is not None:
            self._all_answered.set()

    def _refused(self, error: BudgetExhaustedError) -> None:
        """Note that the budget has refused a request."""
        if self.exhausted is None:
            self.exhausted = error
            self._say(f"{_used_up(error)}; requests get 403 from now on")


class _Answer:
    """The answer to one request: an outlet that writes a response as it arrives.

    `refused`: called with the refusal of the budget. `ended`: called once, at the end.
    """

    def __init__(
        self,
        reply: HttpResponse,
        refused: Callable[[BudgetExhaustedError], None],
        ended: Callable[[_Answer], None],
    ) -> None:
        self.on_room: Callable[[], None] = do_nothing
        self.cancel: Callable[[], None] = do_nothing
        self._reply = reply
        self._refused = refused
        self._ended = ended
        self._body: ArrivingBody | None = None
        self._is_over = False

    @property
    def is_full(self) -> bool:
        """Whether so much is written that the client has not read that no more should come."""
        return self._reply.is_full

    def take(self, result: httpx2.Response | Exception | None) -> None:
        """Answer with a response, as it arrives, or with what was raised instead of it."""
        if isinstance(result, BudgetExhaustedError):
            self._refused(result)
        if self._is_over:  # its client has disconnected
            return
        match result:
            case httpx2.Response():
                self._pass_on(result)
            case None:
                self.cut()
            case BudgetExhaustedError():
                self.refuse(403, _used_up(result))
            case FailedResponseError() if result.response is not None:
                self._pass_on(result.response)
            case httpx2.TimeoutException() | openai.APITimeoutError():
                self.refuse(504, str(result))
            case httpx2.RequestError() | openai.APIConnectionError() | FailedResponseError():
                self.refuse(502, str(result))
            case _:
                self.cut()
                what = {"message": "a request has no answer", "exception": result}
                asyncio.get_running_loop().call_exception_handler(what)

    def put_nowait(self, item: bytes | Exception | None, /) -> None:
        """Write bytes, or end the response as the server has ended it; nothing comes after that."""
        if self._is_over:
            return
        if isinstance(item, bytes):
            if item:
                self._reply.write(item)
        elif isinstance(item, Exception) and not _ends_as_received(item):
            self.cut()
        else:
            self._reply.end()
            self._finish()

    def refuse(self, status: int, message: str) -> None:
        """Answer with an error of the gateway."""
        self._send(status, _JSON, _error_body(message))

    def cut(self) -> None:
        """Close the connection, unless the response has ended."""
        if self._is_over:
            return
        self._reply.cut()
        self._finish()

    def vanished(self) -> None:
        """Cancel the call: its client has disconnected."""
        self.cancel()
        self._finish()

    def _pass_on(self, response: httpx2.Response) -> None:
        status, headers = response.status_code, passed_headers(response.headers)
        body = response.stream
        if isinstance(body, httpx2.ByteStream):
            self._send(status, headers, b"".join(body))
            return
        assert isinstance(body, ArrivingBody), "it is made for a program"
        self._reply.begin(status, headers)
        self._reply.on_room = self._go_on
        self._body = body  # as dropping it would cancel the call
        body.pieces.lead_to(self)

    def _go_on(self) -> None:
        self.on_room()

    def _send(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self._reply.send(status, headers, body)
        self._finish()

    def _finish(self) -> None:
        self._is_over = True
        self.cancel = self.on_room = do_nothing  # break the reference cycles
        self._reply.on_room = self._body = None
        self._ended(self)


def path_below(path: str) -> str | None:
    """Return a path below the base URL as the endpoint understands it; None if it leaves that URL.

    Escapes and empty parts would hide from the budget what is requested. An escaped slash is part
    of a name, so such a path stays as it is.
    """
    plain = unquote(path)
    if any(part in (".", "..") for part in plain.replace("\\", "/").split("/")):
        return None
    if "%2f" in path.lower() and is_read(f"/{plain}"):
        return None
    if "%2f" in path.lower() or not plain.isprintable() or set(plain) & set("?#%\\"):
        return f"/{path}"
    return "/" + "/".join(filter(None, plain.split("/")))


def _used_up(error: BudgetExhaustedError) -> str:
    return f"budget.{error.refusal.limit} leaves no room for another request"


def _forwarded(request: HttpRequest, path: str, arrived: int | None) -> httpx2.Request:
    """Return a request to `path` below the base URL. Raises httpx2.InvalidURL."""
    at = {} if arrived is None else {ARRIVAL_EXTENSION: arrived}
    return httpx2.Request(
        request.method,
        _url(path, request.query),
        headers=list(request.headers.items()),
        stream=httpx2.ByteStream(request.body),
        extensions={PATH_EXTENSION: path, **at},
    )


@lru_cache(maxsize=64)
def _url(path: str, query: str) -> httpx2.URL:
    """Return the URL of a request; most have the same. Parsing one takes 0.1 ms."""
    return httpx2.URL(f"http://{HOST}{path}?{query}" if query else f"http://{HOST}{path}")


def _ends_as_received(error: Exception) -> bool:
    """Return whether the program has got all that the server has sent before this error."""
    return isinstance(error, FailedResponseError) and error.response is not None


def passed_headers(headers: httpx2.Headers) -> Mapping[str, str]:
    """Return the headers of a response that are passed on: not those about its connection."""
    return {
        name: value
        for name, value in headers.items()
        if name not in _OF_CONNECTION and value.isascii() and value.isprintable()
    }


def _refusal(status: int) -> bytes:
    """Return the body of a response to a request that cannot be read."""
    return _error_body(_UNREADABLE[status])


def _error_body(message: str) -> bytes:
    """Return the body of a response that the gateway makes itself, in the form of the API."""
    error = {"message": f"gateway of the harness: {message}", "type": "gateway_error"}
    return msgspec.json.encode({"error": error})
