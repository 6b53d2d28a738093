"""Effects: what a program can ask of its interpreter.

A program is a generator. It yields an effect, receives the result of the effect, and returns its
own result. A program never waits, reads a clock or uses a socket itself. So one program runs in
every mode, and a test can run it step by step. Times are nanoseconds since the run's anchor.

Effects and their results are structs, because a NamedTuple takes five times as long to make.
Effects are final, so that `type(effect) is Emit` can replace `isinstance`, which takes 0.1 us for
each struct that it does not match: 4 us a call.

Use the functions at the end of this module with `yield from`: they preserve the types of results.
Where every call passes, an effect is yielded itself, which costs less.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Hashable, Mapping, Sequence
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    NamedTuple,
    Protocol,
    TypeAlias,
    TypeVar,
    final,
)

import msgspec

from harness.records.clock import ReadClock
from harness.records.keys import CallKey
from harness.records.schema import NO_TOKENS, Record, Tokens

if TYPE_CHECKING:
    from harness.engine.branches import Branch

_T = TypeVar("_T")


class Message(NamedTuple):
    """One chat message; `reasoning`: that of an earlier answer, sent in a field of its own."""

    role: str
    content: str
    reasoning: str = ""


class Request(msgspec.Struct, frozen=True, gc=False):
    """A request to the model, independent of the transport.

    `json_mode`: ask for a JSON object. `max_tokens`: reasoning included; None for no limit.
    `body`: further keys of the request, a JSON object; `messages` then has the texts of the
    messages. With a `path`, it is the whole request that a program sends to this path below the
    base URL, as in `/chat/completions`, and the other fields only describe it. `traceparent`: the
    trace context that the program sends with it.
    `lengths`: the tokens of reasoning and answer that a simulated provider writes; None to let it
    draw them.
    """

    messages: tuple[Message, ...]
    max_tokens: int | None = None
    json_mode: bool = False
    body: bytes = b""
    path: str | None = None
    traceparent: str | None = None
    lengths: tuple[int, int] | None = None


class Deadlines(msgspec.Struct, frozen=True, gc=False):
    """The deadlines of an attempt.

    `connect`, `first_token` and `idle` are durations in nanoseconds. `first_token` counts from
    sending the request, `idle` from the latest text chunk. `end` is a time, and `end_outcome` the
    outcome of an attempt that reaches it. `latest`: the deadline of the workflow. `send_by`: the
    time from which on the request is not sent any more.
    """

    connect: int
    first_token: int
    idle: int
    end: int
    end_outcome: str
    latest: int | None = None
    send_by: int | None = None


class Grant(msgspec.Struct, frozen=True, gc=False):
    """A permit: when it was requested and granted; `granted` is None if the deadline came first.

    `rings`: the number of bell rings up to that moment.
    """

    requested: int
    granted: int | None
    rings: int = 0


class ToolCall(msgspec.Struct, frozen=True, gc=False):
    """A call of a tool that the model asks for; `arguments`: JSON, as the model wrote it."""

    id: str
    name: str
    arguments: str


class Reply(msgspec.Struct, frozen=True, gc=False):
    """The result of one attempt. The fields are those of `records.schema.Attempt`.

    `reasoning` and `answer`: the two texts, always separate. `detail`: a short description of the
    failure, without keys or text of the model. `should_retry`: the `x-should-retry` header of the
    server, None without it. `budget_wait`: how long the attempt waited for room in the budget.
    `tool_calls`: those of the answer.
    """

    outcome: str
    sent: int | None
    headers: int | None
    first_reasoning: int | None
    first_answer: int | None
    last_token: int | None
    done: int
    status: int | None
    retry_after: int | None
    should_retry: bool | None
    request_id: str | None
    finish_reason: str | None
    tokens: Tokens
    chunks: int
    gaps: Mapping[int, int]
    reasoning: str
    answer: str
    detail: str
    response_id: str | None = None
    response_model: str | None = None
    marked_simulated: bool = False
    anomalies: tuple[str, ...] = ()
    first_chunk: int | None = None
    error_body: str | None = None
    location: str | None = None
    rate_limit_reset: int | None = None
    budget_wait: int = 0
    tool_calls: tuple[ToolCall, ...] = ()


def unsent(outcome: str, detail: str, done: int) -> Reply:
    """Return the reply of an attempt that was not sent."""
    return Reply(
        outcome=outcome,
        sent=None,
        headers=None,
        first_reasoning=None,
        first_answer=None,
        last_token=None,
        done=done,
        status=None,
        retry_after=None,
        should_retry=None,
        request_id=None,
        finish_reason=None,
        tokens=NO_TOKENS,
        chunks=0,
        gaps={},
        reasoning="",
        answer="",
        detail=detail,
    )


@final
class Now(msgspec.Struct, frozen=True, gc=False):
    """Read the clock. Result: the time."""


@final
class Acquire(msgspec.Struct, frozen=True, gc=False):
    """Wait for a permit, at most until `deadline` (None: without limit). Result: a Grant.

    `ready`: when the wait began. In sync mode the turn is the permit, and it was requested then.
    """

    ready: int
    deadline: int | None


@final
class Release(msgspec.Struct, frozen=True, gc=False):
    """Release the permit. Result: None."""


@final
class Send(msgspec.Struct, frozen=True, gc=False):
    """Send one attempt and read the whole response. Result: a Reply, also on failure.

    `key`: of the call; `attempt`: the number of the attempt, from 1.
    """

    key: CallKey
    attempt: int
    request: Request
    deadlines: Deadlines


@final
class Sleep(msgspec.Struct, frozen=True, gc=False):
    """Wait until a time. Result: the time at which the wait ended."""

    until: int


@final
class Park(msgspec.Struct, frozen=True, gc=False):
    """Wait for a bell or until a time, and then for a permit. Result: a Grant.

    The program releases its permit and acquires one again afterwards, at most until `deadline`;
    with `keep` it holds its permit. When the bell rings, the programs that wait for it queue for
    permits in the order in which they were parked. `Grant.requested` is the end of the parking.
    `rings`: the rings of the grant under which the policy decided to park. If any bell has rung
    since then, the wait ends at once, because it may have been this bell.
    """

    bell: Hashable
    until: int | None
    deadline: int | None
    keep: bool
    rings: int


@final
class Ring(msgspec.Struct, frozen=True, gc=False):
    """Wake all programs that are parked at a bell. Result: None."""

    bell: Hashable


EmitRecord = Callable[[Record], None]
"""Takes the records of a program when they end."""


@final
class Emit(msgspec.Struct, frozen=True, gc=False):
    """Emit a record. Result: None."""

    record: Record


@final
class FanOut(msgspec.Struct, frozen=True):
    """Run programs concurrently and wait for all. Result: their results in the same order.

    `enough`: called after each branch that ends, with the results so far (None for a running
    branch); if it returns True, the other branches are cancelled. `claims`: the first text of an
    attempt in one branch cancels the other branches. `hand_over`: the first branch takes over the
    permit of the program. A cancelled branch without a result has the result None.
    """

    branches: tuple[Generator[Effect, Any, Any], ...]
    enough: Callable[[Sequence[Any]], bool] | None = None
    claims: bool = False
    hand_over: bool = False


class Host(Protocol):
    """What hosted code can ask of the interpreter, from any task of its event loop."""

    now: ReadClock

    def spawn(self, steps: Coroutine[Any, Any, None], branch: Branch) -> None:
        """Run `steps` in a task of their own. When the hosted code ends, `branch` is cancelled."""

    async def run(self, program: Program[_T], branch: Branch, receiver: Any) -> _T:
        """Run a program, within `spawn`. `receiver`: gets the raw responses to its requests."""

    def end(self, why: str) -> None:
        """End the code for a reason, which is one line."""

    async def check(self) -> None:
        """Return at once, or wait for the cancellation if the code has been ended.

        So code that catches every exception and tries again cannot keep the event loop busy.
        """


StartHosted = Callable[[Host], Coroutine[Any, Any, Any]]


@final
class RunHosted(msgspec.Struct, frozen=True):
    """Run asynchronous code that is no program, in the event loop. Result: a HostedResult.

    At `until` the code is cancelled, and in real time also when it has run or waited for `idle`
    nanoseconds without a program of its own in progress. The tasks that it leaves running are
    cancelled. Interpreters without an event loop refuse it. `passes_on`: exceptions of the
    interpreter that end a program of the code alone, which gets them; others end the trial.
    """

    start: StartHosted
    until: int | None = None
    idle: int | None = None
    passes_on: tuple[type[Exception], ...] = ()


class HostedEndedError(Exception):
    """Hosted code was refused or ended by the interpreter; the text is the reason, in one line."""


class HostedResult(msgspec.Struct, frozen=True):
    """What hosted code has returned, or the exception that it has raised."""

    value: Any = None
    error: Exception | None = None


NO_EVENT_LOOP = HostedResult(
    error=HostedEndedError(
        "the program is asynchronous code, which needs an event loop; use the modes 'async' and "
        "'serial'"
    )
)


@final
class Foreign(msgspec.Struct, frozen=True, gc=False):
    """Wait for something that is no effect, such as a future of asyncio.

    `awaited`: what a coroutine yielded to its event loop. Result: what the event loop sends back,
    or Raised: an exception, also if there is no event loop. `until`: when the wait ends at the
    latest.
    """

    awaited: Any
    until: int


class Raised(msgspec.Struct, frozen=True):
    """The exception with which a Foreign wait ended; `is_late`: it did not end in time."""

    error: BaseException
    is_late: bool = False


def no_event_loop(effect: Foreign) -> Raised:
    """Return the result of a Foreign wait in a mode without an event loop."""
    what = type(effect.awaited).__name__
    return Raised(RuntimeError(f"awaits {what!r}, but {WITHOUT_EVENT_LOOP}"))


WITHOUT_EVENT_LOOP = (
    "this mode has no event loop; use harness.sleep and harness.gather, or mode = 'async' in real "
    "time"
)

NOW, RELEASE = Now(), Release()

Effect: TypeAlias = (
    Now | Acquire | Release | Send | Sleep | Park | Ring | Emit | FanOut | Foreign | RunHosted
)
AtOnce: TypeAlias = Now | Emit | Release | Ring
AT_ONCE = (Now, Emit, Release, Ring)
"""Effects that need no wait."""
Program: TypeAlias = Generator[Effect, Any, _T]


@final
class Cancelled(BaseException):
    """The branch was cancelled. Raised in its program at Acquire, Sleep and Park.

    A Send in flight returns what it has received, with the outcome `cancelled`. A FanOut cancels
    its branches and returns their results.
    """


@final
class Finished(msgspec.Struct, Generic[_T], frozen=True):
    """A program has returned `value`."""

    value: _T


def step(program: Program[_T], result: Any) -> Effect | Finished[_T]:
    """Send the result of an effect to `program`; return its next effect, or its own result.

    If `result` is Cancelled, it is raised in the program.
    """
    try:
        return program.throw(result) if type(result) is Cancelled else program.send(result)
    except StopIteration as end:
        return Finished(end.value)


def now() -> Program[int]:
    """Return the time."""
    time: int = yield NOW
    return time


def acquire(ready: int, deadline: int | None) -> Program[Grant]:
    """Return the permit; its `granted` is None if the deadline came first."""
    grant: Grant = yield Acquire(ready, deadline)
    return grant


def release() -> Program[None]:
    """Release the permit."""
    yield RELEASE


def sleep(until: int) -> Program[int]:
    """Return the time at which the sleep ended."""
    end: int = yield Sleep(until)
    return end


def park(
    bell: Hashable, until: int | None, deadline: int | None, *, keep: bool, rings: int
) -> Program[Grant]:
    """Return the permit that was granted after the bell rang or `until` was reached."""
    grant: Grant = yield Park(bell, until, deadline, keep, rings)
    return grant


def ring(bell: Hashable) -> Program[None]:
    """Wake all programs that are parked at a bell."""
    yield Ring(bell)


def emit(record: Record) -> Program[None]:
    """Emit a record."""
    yield Emit(record)


def fan_out(
    branches: Sequence[Program[_T]],
    enough: Callable[[Sequence[_T | None]], bool] | None = None,
) -> Program[list[_T]]:
    """Return the results of all branches, in their order."""
    results: list[_T] = yield FanOut(tuple(branches), enough)
    return results
