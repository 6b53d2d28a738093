"""Takes over the requests of the openai package while programs run.

The place is the one method through which every client of the package sends a request: below its
retries, above its HTTP client. So a client can be made at any time and be shared by event loops.
The package does not document it; `tests/programs` notices a change.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, cast

import httpx2
import openai
from openai import _base_client
from openai._base_client import AsyncAPIClient, SyncAPIClient

from harness.client.hosted_calls import PATH_EXTENSION, HostedCalls
from harness.config.overlapping import OverlappingContexts
from harness.engine.own_time import is_own_code
from harness.transports.exchange import OfHarness, current

current_calls: ContextVar[HostedCalls | None] = ContextVar("current_calls", default=None)
"""The calls of the workflow to which the current task belongs."""

_BLOCKING = (
    "the program uses openai.OpenAI, whose requests block the event loop and pass no budget; "
    "use openai.AsyncOpenAI"
)
_OUTSIDE = (
    "a request outside of a workflow, at import, in a thread or besides ask(...) passes no budget; "
    "make it in the function, or in a task that it starts; with harness.workflow, use ask(...)"
)
_AZURE_DEPLOYMENTS = "/deployments/"

_LOGGER = logging.getLogger("httpx2")

_undo: list[Callable[[], None]] = []
_threads: set[threading.Thread] = set()
"""The threads that programs have started."""


def _replace_sending() -> None:
    if _undo:  # a thread of a program still runs
        return
    _base_client.get_platform()  # is kept; it can start a process
    _replace(threading.Thread, "start", _noting(threading.Thread.start))
    _replace(AsyncAPIClient, "_send_request", _async_sending(AsyncAPIClient._send_request))
    _replace(SyncAPIClient, "_send_request", _refusing(SyncAPIClient._send_request))
    _replace(_base_client, "asyncify", _without_thread)
    _LOGGER.addFilter(_is_of_program)
    _undo.append(lambda: _LOGGER.removeFilter(_is_of_program))


def _restore_sending() -> None:
    if _has_left_threads():
        return
    while _undo:
        _undo.pop()()
    _threads.clear()


_contexts = OverlappingContexts(_replace_sending, _restore_sending)


def instrumented() -> AbstractContextManager[None]:
    """Take over the requests of all clients in this context; it can be entered several times."""
    return _contexts.entered()


def _has_left_threads() -> bool:
    """Return whether threads run that a program has started. Their requests stay refused."""
    return not _threads.isdisjoint(threading.enumerate())


def _noting(original: Any) -> Any:
    def start(self: threading.Thread) -> None:
        is_of_workflow = current_calls.get() is not None or is_own_code()
        if is_of_workflow or threading.current_thread() in _threads:
            _threads.add(self)
        original(self)

    return start


def _is_of_program(record: logging.LogRecord) -> bool:
    """Drop the lines about attempts: their URLs can have secrets of the endpoint."""
    return current.get(None) is None


def _replace(holder: Any, name: str, new: Any) -> None:
    before = getattr(holder, name)
    setattr(holder, name, new)
    _undo.append(lambda: setattr(holder, name, before))


def _refusing(original: Any) -> Any:
    def _send_request(self: SyncAPIClient, request: httpx2.Request, **options: Any) -> Any:
        if not isinstance(self, OfHarness):
            raise openai.OpenAIError(_BLOCKING)
        return original(self, request, **options)

    return _send_request


def _without_thread(function: Callable[[], Any]) -> Callable[[], Awaitable[Any]]:
    """Call a function in the event loop: it is only used for one whose result is kept."""

    async def called() -> Any:
        return function()

    return called


def _async_sending(original: Any) -> Any:
    async def _send_request(
        self: AsyncAPIClient, request: httpx2.Request, *, stream: bool, **options: Any
    ) -> httpx2.Response:
        if not isinstance(self, OfHarness):
            return await send_hosted(self, request, stream=stream)
        response: httpx2.Response = await original(self, request, stream=stream, **options)
        return response

    return _send_request


async def send_hosted(
    client: AsyncAPIClient, request: httpx2.Request, *, stream: bool
) -> httpx2.Response:
    """Send a request of a client as a call of the current workflow."""
    calls = current_calls.get()
    if calls is None or not calls.is_in_its_loop():  # asyncio.to_thread copies the context
        raise openai.OpenAIError(_OUTSIDE)
    base = client.base_url.path.rstrip("/")
    path = request.url.path.removeprefix(base)
    if path.startswith(_AZURE_DEPLOYMENTS):
        path = "/" + path.removeprefix(_AZURE_DEPLOYMENTS).partition("/")[2]
    if default := client.default_query:  # can hold a key
        own = httpx2.QueryParams(cast("dict[str, str]", default))
        sent = request.url.params.multi_items()
        request.url = request.url.copy_with(
            params=[(name, value) for name, value in sent if own.get(name) != value]
        )
    request.extensions = {**request.extensions, PATH_EXTENSION: path}
    began = time.perf_counter()
    response = await calls.handle_async_request(request)
    response.request = request
    if not stream:
        await response.aread()
    response.elapsed = timedelta(seconds=time.perf_counter() - began)
    return response


class HostedOpenAI(openai.AsyncOpenAI):
    """The client that a program gets. It works as part of a workflow, and has no server."""

    def __init__(self, calls: HostedCalls) -> None:
        super().__init__(
            api_key="none",
            base_url="http://harness.invalid/v1",
            max_retries=0,
            timeout=None,
            http_client=httpx2.AsyncClient(transport=calls, trust_env=False),
        )
        self._platform = _base_client.get_platform()

    async def _send_request(
        self, request: httpx2.Request, *, stream: bool, **options: Any
    ) -> httpx2.Response:
        return await send_hosted(self, request, stream=stream)
