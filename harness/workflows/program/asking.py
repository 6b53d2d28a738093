"""What a program with the decorator `harness.workflow` awaits: calls, gathers, sleeps and phases.

Each is an object that can be awaited once. Nothing happens before it is awaited, or passed to
`gather`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import msgspec

from harness.engine.call import Completion
from harness.engine.deadlines import WORKFLOW_TIMEOUT
from harness.engine.effects import (
    NOW,
    Cancelled,
    Message,
    Program,
    Request,
    ToolCall,
    sleep,
)
from harness.records.clock import SECOND
from harness.records.failures import CANCELLED, OK
from harness.records.keys import is_phase_name
from harness.records.schema import Tokens
from harness.transports.messages import plain_text
from harness.workflows.context import WorkflowContext, failure_text
from harness.workflows.program.phases import check_phase
from harness.workflows.program.running import (
    DeadlinePassedError,
    ProgramStep,
    Strand,
)
from harness.workflows.program.section import ProgramSection

Messages = str | Sequence[Mapping[str, Any]]
"""A prompt: the text of a user message, or messages as chat completions take them."""

_OF_ENDPOINT = {
    "model": "[endpoint] model sets it",
    "stream": "[endpoint] stream sets it",
    "stream_options": "[endpoint] stream sets it",
    "messages": "give them as the second argument",
    "n": "ask several times instead",
    "best_of": "ask several times instead",
    "max_completion_tokens": "give max_tokens",
}


class CallFailedError(Exception):
    """A call failed after all its attempts. `outcome`: its failure class, as in the records."""

    def __init__(self, phase: str, completion: Completion) -> None:
        super().__init__(failure_text(phase, completion))
        self.phase = phase
        self.outcome = completion.outcome
        self.detail = completion.detail


class Scored(NamedTuple):
    """The result of a workflow with a judgement: `ok` says whether it is good enough.

    A workflow whose result is not ok counts as no success.
    """

    result: Any
    ok: bool


class Answer(NamedTuple):
    """The answer to a call. `text` and `reasoning` are empty if the call failed.

    `outcome`: "ok", or the failure class; `detail`: the failure in a few words.
    """

    text: str
    reasoning: str
    tool_calls: tuple[ToolCall, ...]
    usage: Tokens
    outcome: str
    detail: str

    @property
    def ok(self) -> bool:
        """Whether the call succeeded."""
        return self.outcome == OK

    def __str__(self) -> str:
        return self.text


class Ask(ProgramStep[Answer]):
    """One call of the model."""

    def __init__(self, phase: str, request: Request, *, raises: bool) -> None:
        self.phase = phase
        self._request = request
        self._raises = raises

    def __repr__(self) -> str:
        return f"ask({self.phase!r})"

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            raise AttributeError(f"{self!r} has no {name} yet; await it: (await ask(...)).{name}")

    def steps(self, strand: Strand) -> Program[Answer]:
        """Make the call; raise CallFailedError if it fails."""
        ready = yield from strand.begin_step()
        run = strand.run
        request = _as_sent(run.context, self.phase, self._request)
        run.count_call(self.phase, request.max_tokens)
        opened = None
        if not strand.is_in(self.phase):
            opened = run.begin_phase(self.phase, ready, strand)
        completion = yield from run.context.send(self.phase, request, ready, strand.branch)
        strand.since = completion.done
        if opened is not None:
            run.end_phase(opened, completion.done, "ok" if completion.outcome == OK else "failed")
        if completion.outcome == CANCELLED:
            raise Cancelled
        if completion.outcome == WORKFLOW_TIMEOUT:
            raise DeadlinePassedError(failure_text(self.phase, completion))
        if completion.outcome != OK and self._raises:
            raise CallFailedError(self.phase, completion)
        return Answer(
            completion.answer, completion.reasoning, completion.tool_calls, completion.tokens,
            completion.outcome, completion.detail,
        )  # fmt: skip


def _as_sent(context: WorkflowContext[ProgramSection], phase: str, request: Request) -> Request:
    """Return a request with the limit of its phase, and with a nonce where the endpoint needs it.

    See `workflows.prompts.Prompts` about the nonce.
    """
    limit = context.section.max_tokens.get(phase)
    json_mode = request.json_mode and context.json_mode
    if limit is None and json_mode == request.json_mode and not context.prompts.nonce:
        return request
    messages, body, begin = request.messages, request.body, f"[{context.prompts.nonce}] "
    if context.prompts.nonce:
        first = messages[0]
        messages = (first._replace(content=begin + first.content), *messages[1:])
        extra = msgspec.json.decode(body) if body else {}
        if "messages" in extra:
            _prepend(extra["messages"][0], begin)
            body = msgspec.json.encode(extra)
    return Request(messages, limit or request.max_tokens, json_mode, body)


def _prepend(message: dict[str, Any], begin: str) -> None:
    """Put a text at the beginning of a message."""
    content = message.get("content")
    if isinstance(content, str):
        message["content"] = begin + content
    elif isinstance(content, list):
        message["content"] = [{"type": "text", "text": begin}, *content]


def make_call(
    phase: str,
    messages: Messages | None = None,
    *,
    json: bool = False,
    max_tokens: int | None = None,
    raises: bool = True,
    **options: Any,
) -> Ask:
    """Return a call, to be awaited: its answer, or CallFailedError when its policy gives up.

    `phase`: the name under which the call is counted and shown. `messages`: the text of a prompt,
    or messages as chat completions take them. `json`: ask for a JSON object. `max_tokens`: of the
    answer, reasoning included; `workflow.max_tokens` of the scenario has priority. `raises`: with
    False, a failed call gives an answer whose `ok` is False. `options`: further keys of the
    request, such as `tools`, `response_format` and `temperature`.
    """
    if messages is None:
        raise TypeError(
            f"ask({phase!r}): messages are missing; give a name for the call, then its messages, "
            "as in ask('draft', 'Write about tides.')"
        )
    if not is_phase_name(phase):
        check_phase(phase, f"ask({phase!r})")
    if max_tokens is not None and (type(max_tokens) is not int or max_tokens < 1):
        raise ValueError(f"ask({phase!r}): max_tokens = {max_tokens!r}: give a number above 0")
    for name in options:
        if instead := _OF_ENDPOINT.get(name):
            raise TypeError(f"ask({phase!r}): {name} cannot be given; {instead}")
    plain, whole = _messages(phase, messages)
    extra = {"messages": whole, **options} if whole is not None else options
    try:
        body = msgspec.json.encode(extra) if extra else b""
    except (TypeError, ValueError) as error:
        raise TypeError(f"ask({phase!r}): the options cannot be sent as JSON ({error})") from None
    return Ask(phase, Request(plain, max_tokens, json, body), raises=raises)


def _messages(
    phase: str, messages: Messages
) -> tuple[tuple[Message, ...], list[Mapping[str, Any]] | None]:
    """Return messages as texts, and as they are sent if texts do not say all of them."""
    if isinstance(messages, str):
        return (Message("user", messages),), None
    texts, is_plain = [], True
    for message in messages:
        if type(message) is dict and len(message) == 2:  # the most frequent; 1 us less
            role, content = message.get("role"), message.get("content")
            if type(role) is str and type(content) is str:
                texts.append(Message(role, content))
                continue
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise TypeError(
                f"ask({phase!r}): {message!r} is no message; give {{'role', 'content'}}"
            )
        content = message.get("content")
        is_plain = is_plain and isinstance(content, str) and set(message) <= {"role", "content"}
        texts.append(Message(message["role"], plain_text(content)))
    if not texts:
        raise TypeError(f"ask({phase!r}): there is no message; give at least one")
    return tuple(texts), None if is_plain else list(messages)


class ProgramSleep(ProgramStep[None]):
    """A wait of some scenario seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __repr__(self) -> str:
        return f"harness.sleep({self._seconds:g})"

    def steps(self, strand: Strand) -> Program[None]:
        """Sleep, at most until the deadline of the workflow."""
        now = yield from strand.begin_step()
        context = strand.run.context
        until = now + round(self._seconds * context.time_scale * SECOND)
        end = context.end
        is_over = end is not None and end < until
        strand.since = yield from sleep(end if end is not None and is_over else until)
        if is_over:
            raise DeadlinePassedError


def sleep_for(seconds: float) -> ProgramSleep:
    """Return a wait, to be awaited. In virtual time it takes no real time."""
    if not seconds >= 0:
        raise ValueError(f"harness.sleep: seconds = {seconds!r}: give a number of at least 0")
    return ProgramSleep(seconds)


class ReadTime(ProgramStep[float]):
    """The time."""

    def __repr__(self) -> str:
        return "harness.now()"

    def steps(self, strand: Strand) -> Program[float]:
        """Read the clock."""
        now: int = yield NOW
        return now / SECOND / strand.run.context.time_scale


def read_time() -> ReadTime:
    """Return the time, to be awaited: scenario seconds since the start of the run."""
    return ReadTime()
