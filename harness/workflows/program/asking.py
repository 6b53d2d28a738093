"""What a program with the decorator `harness.workflow` awaits: calls, gathers, sleeps and phases.

Each is an object that can be awaited once. Nothing happens before it is awaited, or passed to
`gather`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine, Mapping, Sequence
from inspect import CORO_CREATED, getcoroutinestate
from types import CoroutineType
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
    fan_out,
    sleep,
)
from harness.records.clock import SECOND
from harness.records.failures import CANCELLED, OK
from harness.records.schema import Tokens, WorkflowOutcome
from harness.workflows.context import WorkflowContext, WorkflowFailedError, failure_text
from harness.workflows.partial_failure import Partial, fail_fast, quorum
from harness.workflows.program.phases import check_phase, is_phase_name
from harness.workflows.program.running import (
    DeadlinePassedError,
    ProgramStep,
    Strand,
    driven,
    steps_of,
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


class GatherFailedError(Exception):
    """Fewer branches of a gather succeeded than were needed."""


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
        run.count_call()
        opened = None
        if not strand.is_in(self.phase):
            opened = run.begin_phase(self.phase, ready, strand)
        request = _as_sent(run.context, self.phase, self._request)
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
        texts.append(Message(message["role"], _text_of(content)))
    if not texts:
        raise TypeError(f"ask({phase!r}): there is no message; give at least one")
    return tuple(texts), None if is_plain else list(messages)


def _text_of(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list | tuple) else []
    texts = (part.get("text") for part in parts if isinstance(part, Mapping))
    return "".join(text for text in texts if isinstance(text, str))


class _Branch(NamedTuple):
    """How a branch ended: with a value, or with an error at a time."""

    value: Any
    error: Exception | None
    at: int

    @property
    def ok(self) -> bool:
        return self.error is None and not (isinstance(self.value, Answer) and not self.value.ok)


class Gather(ProgramStep[list[Any]]):
    """Several awaitables that run at the same time."""

    def __init__(self, members: Sequence[Awaitable[Any]], partial: Partial) -> None:
        self._members = members
        self._partial = partial
        self._ends_all = False

    def __repr__(self) -> str:
        return f"harness.gather of {len(self._members)}"

    def steps(self, strand: Strand) -> Program[list[Any]]:
        """Run all members; return their results, None for one that failed or was cancelled."""
        start = yield from strand.begin_step()
        run, partial = strand.run, self._partial
        name = self._phase()
        phase = run.begin_phase(name, start, strand)
        lanes = [Strand(run, start, phase, index) for index in range(len(self._members))]
        branches = [self._branch(*pair) for pair in zip(lanes, self._members, strict=True)]

        def enough(found: Sequence[_Branch | None]) -> bool:
            if self._ends_all or not partial.stops:
                return self._ends_all
            return partial.is_enough([None if one is None else one.ok for one in found])

        try:
            found: Sequence[_Branch | None] = yield from fan_out(branches, enough)
        except Cancelled:
            run.end_phase(phase, (yield NOW), "failed")
            raise
        finally:
            _close_unbegun(self._members)
        end: int = yield NOW
        strand.since = end
        succeeded = [one is not None and one.ok for one in found]
        good = sum(succeeded)
        run.note_branches(len(found), good)
        suffices = partial.suffices(good)
        outcome: WorkflowOutcome = "degraded" if suffices else "failed"
        run.end_phase(phase, end, "ok" if good == len(found) else outcome)
        if good < len(found):
            errors = (one.error for one in found if one is not None)
            fatal = next((error for error in errors if _is_fatal(error)), None)
            if fatal is not None:
                raise fatal
        if not suffices:
            raise self._failure(found)
        return [
            one.value if one is not None and ok else None
            for one, ok in zip(found, succeeded, strict=True)
        ]

    def _branch(self, strand: Strand, member: Awaitable[Any]) -> Program[_Branch]:
        """Run a member. Raises nothing but Cancelled."""
        try:
            if isinstance(member, ProgramStep):
                value = yield from steps_of(member, strand)
            else:
                value = yield from driven(strand, _fresh(member))
        except Exception as error:
            if _is_fatal(error) and not isinstance(error, DeadlinePassedError):
                self._ends_all = True  # others that reach the deadline end by themselves
            return _Branch(None, error, (yield NOW))
        return _Branch(value, None, 0)

    def _phase(self) -> str:
        """Return the name of the phase: that of all members if they have the same."""
        names = {_name_of(member) for member in self._members}
        return names.pop() if len(names) == 1 else "gather"

    def _failure(self, found: Sequence[_Branch | None]) -> Exception:
        failed = [one for one in found if one is not None and one.error is not None]
        if not failed:
            return GatherFailedError("gather: no branch could succeed")
        first = min(failed, key=lambda one: one.at).error
        assert first is not None, "it failed"
        needed = self._partial.needed
        if not self._partial.stops or needed == len(found):
            return first
        failure = GatherFailedError(
            f"{first}; {len(failed)} of {len(found)} failed, {needed} had to succeed"
        )
        failure.__cause__ = first
        return failure


def _is_fatal(error: Exception | None) -> bool:
    return isinstance(error, WorkflowFailedError)


def _name_of(member: Awaitable[Any]) -> str:
    if isinstance(member, Ask):
        return member.phase
    if isinstance(member, Coroutine):
        code = getattr(member, "cr_code", None)
        return str(getattr(code, "co_name", "gather"))
    return "gather"


async def _await(member: Awaitable[Any]) -> Any:
    return await member


def _fresh(member: Awaitable[Any]) -> Coroutine[Any, Any, Any]:
    """Return a coroutine that has not begun. Raises RuntimeError if it has."""
    if not isinstance(member, Coroutine):
        return _await(member)
    if isinstance(member, CoroutineType) and getcoroutinestate(member) != CORO_CREATED:
        raise RuntimeError(
            f"gather: {_name_of(member)}() was awaited before; call the function for each await"
        )
    return member


def _close_unbegun(members: Sequence[Awaitable[Any]]) -> None:
    """Close the coroutines whose branch never began, or Python warns about them."""
    for member in members:
        if isinstance(member, CoroutineType) and getcoroutinestate(member) == CORO_CREATED:
            member.close()


def gather(
    *members: Awaitable[Any], enough: int | float | None = None, wait_for_all: bool = False
) -> Gather:
    """Return a gather, to be awaited: run calls or coroutines at the same time.

    Its result is the list of their results, in their order. `enough`: how many have to succeed, as
    a number or as a fraction; None for all of them. The gather ends as soon as that is decided, and
    cancels the rest; with `wait_for_all`, it waits for all. The result of a member that failed or
    was cancelled is None. If too few succeed, the first failure is raised, or GatherFailedError.
    """
    if len({id(member) for member in members}) < len(members):
        raise ValueError("gather: a member is given twice; make another one for each branch")
    for member in members:
        if not isinstance(member, (ProgramStep, CoroutineType, Awaitable)):
            raise TypeError(
                f"gather: {member!r} cannot be awaited; give calls such as ask(...), or coroutines"
            )
    if enough is None:
        return Gather(members, fail_fast(len(members))._replace(stops=not wait_for_all))
    is_share = isinstance(enough, float) and 0 < enough <= 1
    is_count = type(enough) is int and 0 <= enough <= len(members)
    if not (is_share or is_count):
        raise ValueError(
            f"gather: enough = {enough!r}: give a fraction such as 0.8, or a whole number from 0 "
            f"to {len(members)}"
        )
    partial = quorum(len(members), enough) if enough else Partial(needed=0, stops=True)
    return Gather(members, partial._replace(stops=not wait_for_all))


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
