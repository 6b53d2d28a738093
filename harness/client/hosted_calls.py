"""The calls of code that makes them as HTTP requests: of one workflow, or of a gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import httpx2
import msgspec

from harness.client.async_responses import TakeResult, respond, start_call
from harness.client.calls import ClientCall
from harness.client.settings import with_timeout
from harness.client.target_requests import CHAT_PATH
from harness.engine.attempt import CallTerms
from harness.engine.branches import Branch
from harness.engine.call import Completion
from harness.engine.effects import Host, Message, Program, Request
from harness.engine.program_limits import ProgramLimits
from harness.records.ids import ids_in
from harness.records.keys import MOST_PHASE_NAME, CallKey, is_phase_name
from harness.transports.exchange import PHASE_HEADER
from harness.transports.messages import plain_text
from harness.transports.other_apis import has_text, is_read

PATH_EXTENSION = "harness_path"
"""The extension of a request that holds its path below the base URL."""
ARRIVAL_EXTENSION = "harness_arrival"
"""The extension that holds the time at which a request arrived; absent for the present."""

_RETRY_HEADER = "x-stainless-retry-count"
"""In this header the package says how often it has sent a request before."""

_PHASES = {CHAT_PATH: "chat"}
_LIMITS = {
    CHAT_PATH: ("max_completion_tokens", "max_tokens"),
    "/completions": ("max_tokens",),
    "/responses": ("max_output_tokens",),
}
"""The keys that limit an answer, by path; the last one is set where a program sets none."""


class RefusedRequestError(Exception):
    """A request that is not sent; the text is the reason, in one line."""


class HostedTerms(NamedTuple):
    """The terms of the calls of one workflow, or of a gateway whose requests are workflows.

    `end`: the deadline of the workflow. `next_key`: returns the key of the next call in a phase.
    `named_phase`: returns the phase that the program has named, or None. `limits`: the most tokens
    of an answer by phase. `keeps_model`: whether the program's model is requested. `allowed`: which
    calls can be made. `nonce`: begins each prompt. `passes_unread`: a response of another API is
    passed on while it arrives, as streams are; otherwise it can be retried until it is complete.
    `as_workflow`: makes the program of a call, which begins at a time, that of a workflow of its
    own; such a call that is not allowed is refused with RefusedRequestError, and the code goes on.
    """

    terms: CallTerms
    end: int | None
    next_key: Callable[[str], CallKey]
    named_phase: Callable[[], str | None]
    limits: Mapping[str, int | None]
    keeps_model: bool
    allowed: ProgramLimits
    nonce: str = ""
    passes_unread: bool = False
    as_workflow: Callable[[ClientCall, int], Program[Completion]] | None = None


class HostedCalls(httpx2.AsyncBaseTransport):
    """Makes a call of each request of a workflow: a transport.

    `own_retries`: the calls that are retries of the package itself.
    """

    def __init__(self, host: Host, terms: HostedTerms) -> None:
        self._host = host
        self._terms = terms
        self._made = 0
        self._running = 0
        self._since = host.now()
        self._own = 0
        self.own_retries = 0
        self._loop = asyncio.get_running_loop()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Return the response of the attempt that ended the call, or raise its error.

        Raises RefusedRequestError.
        """
        content = await request.aread()
        call = self._call(request, content)
        await self._host.check()
        return await respond(call, self._run, self._host.spawn)

    def start(self, request: httpx2.Request, take: TakeResult) -> Callable[[], None]:
        """Start the call of a request; return the function that cancels it.

        `take` gets the result. Raises RefusedRequestError.
        """
        return start_call(self._call(request, request.read()), self._run, self._host.spawn, take)

    def is_in_its_loop(self) -> bool:
        """Return whether the caller runs in the event loop of the workflow."""
        return asyncio.get_running_loop() is self._loop

    def own_time(self) -> int:
        """Return the nanoseconds in which no call was in progress."""
        self._note_own_time()
        return self._own

    def _note_own_time(self) -> None:
        now = self._host.now()
        if not self._running:
            self._own += now - self._since
        self._since = now

    async def _run(self, call: ClientCall, branch: Branch) -> Completion:
        ready = call.request.extensions.get(ARRIVAL_EXTENSION, self._host.now())
        as_workflow = self._terms.as_workflow
        program = call.program(ready) if as_workflow is None else as_workflow(call, ready)
        self._note_own_time()
        self._running += 1
        try:  # until the last byte of a stream, of which the program gets the first one long before
            completion: Completion = await self._host.run(program, branch, call)
        finally:
            self._note_own_time()
            self._running -= 1
        return completion

    def _call(self, request: httpx2.Request, content: bytes) -> ClientCall:
        mine, path = self._terms, request.extensions[PATH_EXTENSION]
        phase = mine.named_phase() or _phase_of(request, path)
        self._made += 1
        self.own_retries += is_own_retry(request)
        asked, streams = self._asked(path, phase, content)
        context = request.headers.get("traceparent")
        if context is not None and ids_in(context):
            asked = msgspec.structs.replace(asked, traceparent=context)
        refusal = mine.allowed.refusal(self._made, phase, asked.max_tokens)
        if refusal is not None:
            if mine.as_workflow is not None:
                raise RefusedRequestError(refusal)
            self._host.end(refusal)
        classified = request.method == "POST" and is_read(path)
        limits = mine.terms.limits
        if not classified or not has_text(path):
            limits = limits._replace(first_token=limits.call)
        limits = with_timeout(limits, request.extensions.get("timeout", {}))
        return ClientCall(
            request,
            content,
            mine.next_key(phase),
            mine.terms._replace(limits=limits),
            classified=classified,
            streams=streams,
            passes_on=streams or (mine.passes_unread and not classified),
            asked=asked,
            workflow_end=mine.end,
            shows_causes=False,
            keeps_model=mine.keeps_model,
        )

    def _asked(self, path: str, phase: str, content: bytes) -> tuple[Request, bool]:
        """Return the request as it is sent and described, and whether it asks for a stream."""
        mine, keys = self._terms, _LIMITS.get(path, ())
        value = _object(content)
        if value is None or not keys:
            texts = () if value is None else _messages(value)
            return Request(texts, 0, body=content, path=path), False
        given = [value[key] for key in keys if isinstance(value.get(key), int)]
        limit = mine.limits.get(phase)
        if limit is not None:
            for key in keys:
                value.pop(key, None)
            value[keys[-1]] = limit
        elif given:
            limit = given[0]
        if mine.nonce:
            _begin_with(value, f"[{mine.nonce}] ")
        body = msgspec.json.encode(value)
        wants_json = isinstance(value.get("response_format"), dict)
        most = None if limit is None else limit * _answers(value)
        asked = Request(_messages(value), most, wants_json, body, path)
        return asked, value.get("stream") is True


def is_own_retry(request: httpx2.Request) -> bool:
    """Return whether the client of the program says that it has sent a request before."""
    return request.headers.get(_RETRY_HEADER, "0") != "0"


def _phase_of(request: httpx2.Request, path: str) -> str:
    """Return the phase that a header names, or that of the path."""
    named = request.headers.get(PHASE_HEADER)
    if is_phase_name(named):
        return str(named)
    return _PHASES.get(path) or path.rstrip("/").rsplit("/", 1)[-1][:MOST_PHASE_NAME]


def _answers(value: Mapping[str, Any]) -> int:
    """Return how many answers a request asks for, each of which can have the most tokens."""
    counts = [value.get(key) for key in ("n", "best_of")]
    return max([1, *(count for count in counts if isinstance(count, int))])


def _object(content: bytes) -> dict[str, Any] | None:
    try:
        value = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _messages(value: Mapping[str, Any]) -> tuple[Message, ...]:
    """Return the texts of a request, for its transcript."""
    found = [Message("system", value["instructions"])] if value.get("instructions") else []
    given = value.get("messages", value.get("input", value.get("prompt")))
    if isinstance(given, str):
        return (*found, Message("user", given))
    for item in given if isinstance(given, list) else ():
        if isinstance(item, str):
            found.append(Message("user", item))
        elif isinstance(item, dict):
            text = plain_text(item.get("content", item.get("output", item.get("arguments"))))
            found.append(Message(str(item.get("role") or item.get("type") or "user"), text))
    return tuple(found)


def _begin_with(value: dict[str, Any], begin: str) -> None:
    """Put a text at the beginning of the prompt."""
    for key in ("instructions", "input", "prompt"):
        if isinstance(value.get(key), str):
            value[key] = begin + value[key]
            return
    items = value.get("messages", value.get("input"))
    if not isinstance(items, list) or not items or not isinstance(items[0], dict):
        return
    content = items[0].get("content")
    if isinstance(content, str):
        items[0]["content"] = begin + content
    elif isinstance(content, list):
        kind = "text" if "messages" in value else "input_text"
        items[0]["content"] = [{"type": kind, "text": begin}, *content]
