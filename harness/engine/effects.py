"""What a program may ask of the interpreter that runs it.

A program is a generator: it yields an effect, is sent that effect's result, and returns its own.
It never waits, reads a clock or touches a socket itself, so one program serves every mode and a
test can drive it by hand. Times are nanoseconds since the run's anchor.

Use the small functions below with `yield from`: they keep the result's type.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Sequence
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

from harness.records.histogram import Histogram
from harness.records.keys import AttemptKey
from harness.records.schema import Record, Tokens

T = TypeVar("T")


class Message(NamedTuple):
    """One chat message."""

    role: str
    content: str


class Request(NamedTuple):
    """What is asked of the model, whatever the transport.

    `json_mode`: ask for a JSON object. `max_tokens`: reasoning included; None for no limit.
    """

    messages: tuple[Message, ...]
    max_tokens: int | None = None
    json_mode: bool = False


class Deadlines(NamedTuple):
    """When an attempt must give up.

    `connect`, `first_token`, `idle` are durations in nanoseconds: `first_token` counts from the
    request going out, `idle` between text chunks. `end` is a moment; `end_outcome` names the
    deadline that it is.
    """

    connect: int
    first_token: int
    idle: int
    end: int
    end_outcome: str


class Grant(NamedTuple):
    """A permit: when it was asked for and when it came; `granted` is None if it came too late.

    `rings`: how often any bell had been rung by then.
    """

    requested: int
    granted: int | None
    rings: int = 0


class Reply(NamedTuple):
    """What one attempt came to; the fields are those of `records.Attempt`.

    `reasoning` and `answer` are the two texts, always apart. `detail` says in a few words what
    failed; it never holds a key or the model's text. `should_retry` is the server's
    `x-should-retry` header, None without it.
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
    gaps: Histogram
    reasoning: str
    answer: str
    detail: str
    response_id: str | None = None
    response_model: str | None = None


class Now(NamedTuple):
    """Read the clock. Result: the time."""


class Acquire(NamedTuple):
    """Wait for a permit, until `deadline` at most (None: for ever). Result: a Grant.

    `ready`: when the wait began for the program; where calls run one after another (sync), the
    turn itself is the permit and it was asked for then.
    """

    ready: int
    deadline: int | None


class Release(NamedTuple):
    """Give the permit back. Result: None."""


class Send(NamedTuple):
    """Send one attempt and read the whole response. Result: a Reply, whatever happens."""

    key: AttemptKey
    request: Request
    deadlines: Deadlines


class Sleep(NamedTuple):
    """Wait until a moment. Result: the time when the wait ended."""

    until: int


class Park(NamedTuple):
    """Wait for a bell, or until a moment; then have a permit again. Result: a Grant.

    The permit that the program holds goes back at once and is waited for again afterwards, until
    `deadline` at most, or is kept all the while (`keep`). When the bell is rung, those who wait on
    it stand in line for permits in the order in which they were parked. The grant's `requested`
    is when the parking ended. `rings`: those of the grant under which it was decided to park; a
    bell that was rung since then ends the wait at once, because it may have been this one.
    """

    bell: Hashable
    until: int | None
    deadline: int | None
    keep: bool
    rings: int


class Ring(NamedTuple):
    """Wake everybody who is parked at a bell. Result: None."""

    bell: Hashable


class Emit(NamedTuple):
    """Hand over a record of what has ended. Result: None."""

    record: Record


class FanOut(NamedTuple):
    """Run programs side by side and wait for all. Result: their results in the same order.

    `enough` is asked after each branch that ends, with the results so far, None for a branch that
    still runs: once it says yes, the others are cancelled. `claims`: the first text of any
    branch's attempt cancels its siblings. `hand_over`: the first branch takes over the permit that
    the program holds. The result of a branch that did not come to one when cancelled is None.
    """

    branches: tuple[Generator[Effect, Any, Any], ...]
    enough: Callable[[Sequence[Any]], bool] | None = None
    claims: bool = False
    hand_over: bool = False


_NOW, _RELEASE = Now(), Release()

Effect: TypeAlias = Now | Acquire | Release | Send | Sleep | Park | Ring | Emit | FanOut
AtOnce: TypeAlias = Now | Emit | Release | Ring
AT_ONCE = (Now, Emit, Release, Ring)
"""Effects that nobody waits for."""
Program: TypeAlias = Generator[Effect, Any, T]


class Cancelled(BaseException):
    """The branch is no longer wanted: raised in its program where that would wait, or waits.

    That is at Acquire, Sleep and Park. A Send in flight returns what had come by then, with the
    outcome `cancelled`; a FanOut's branches are cancelled, and it returns their results.
    """


class Finished(NamedTuple, Generic[T]):
    """A program has returned `value`."""

    value: T


def step(program: Program[T], result: Any) -> Effect | Finished[T]:
    """Send an effect's result into `program` and return its next effect, or its own result.

    A result that is `Cancelled` is raised there instead.
    """
    try:
        return program.throw(result) if isinstance(result, Cancelled) else program.send(result)
    except StopIteration as end:
        return Finished(end.value)


def now() -> Program[int]:
    """Return the time."""
    time: int = yield _NOW
    return time


def acquire(ready: int, deadline: int | None) -> Program[Grant]:
    """Return the permit, or one whose `granted` is None when the deadline passed first."""
    grant: Grant = yield Acquire(ready, deadline)
    return grant


def release() -> Program[None]:
    """Give the permit back."""
    yield _RELEASE


def send(key: AttemptKey, request: Request, deadlines: Deadlines) -> Program[Reply]:
    """Return what the attempt came to."""
    reply: Reply = yield Send(key, request, deadlines)
    return reply


def sleep(until: int) -> Program[int]:
    """Return the time when the sleep ended."""
    end: int = yield Sleep(until)
    return end


def park(
    bell: Hashable, until: int | None, deadline: int | None, *, keep: bool, rings: int
) -> Program[Grant]:
    """Return the permit that was had after the bell had been rung, or `until` had come."""
    grant: Grant = yield Park(bell, until, deadline, keep, rings)
    return grant


def ring(bell: Hashable) -> Program[None]:
    """Wake everybody who is parked at a bell."""
    yield Ring(bell)


def emit(record: Record) -> Program[None]:
    """Hand over a record."""
    yield Emit(record)


def fan_out(
    branches: Sequence[Program[T]],
    enough: Callable[[Sequence[T | None]], bool] | None = None,
) -> Program[list[T]]:
    """Return the results of all branches, in their order."""
    results: list[T] = yield FanOut(tuple(branches), enough)
    return results
