"""Runs asynchronous code that is no program: the effect RunHosted.

The code runs in a task of the event loop. It can create further tasks, and it makes its calls as
programs, each in a task of the interpreter. So a call that the code no longer wants is cancelled
as a branch is, and its attempt is recorded.
"""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import signal
from asyncio import mixins
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeVar

from harness.engine.branches import Branch
from harness.engine.budget_gate import Gate, through_gate_async
from harness.engine.deadlines import DEADLINE_PASSED, WORKFLOW_TIMEOUT
from harness.engine.effects import (
    Cancelled,
    HostedEndedError,
    HostedResult,
    Program,
    Reply,
    RunHosted,
    Send,
    StartHosted,
)
from harness.engine.own_time import (
    OwnTimeExceededError,
    begin_own_code,
    end_own_code,
    take_interrupt,
)
from harness.engine.program_limits import (
    CANCELLED_ITSELF,
    OWN_TIME_EXCEEDED,
    exited,
    made_no_call,
    raised_unusual,
)
from harness.records.clock import SECOND, ReadClock

_T = TypeVar("_T")

SendAttempt = Callable[[Send, Branch], Awaitable[Reply]]
Transmit = Callable[[Send, Branch, Any], Awaitable[Reply]]
"""Sends an attempt as `AsyncWorld.send` does; its third argument gets the raw response."""
RunProgram = Callable[[Program[Any], SendAttempt, Branch], Awaitable[Any]]


def transmitting(gate: Gate, transmit: Transmit) -> Transmit:
    """Return a function that passes the gate before it sends."""

    def passing(effect: Send, branch: Branch, receiver: Any) -> Awaitable[Reply]:
        def send(to_send: Send, own: Branch) -> Awaitable[Reply]:
            return transmit(to_send, own, receiver)

        return through_gate_async(gate, send)(effect, branch)

    return passing


@contextmanager
def lasting_locks() -> Iterator[None]:
    """Let hosted code use the locks, semaphores, events and queues that it keeps in every trial.

    Each trial has an event loop of its own, and asyncio refuses a lock in any loop but the first
    that waited for it. So one that is made at import would work in the first trial only. Here a
    lock whose loop is closed belongs to the loop that uses it next.
    """
    kind: Any = mixins._LoopBoundMixin
    before = kind._get_loop

    def get_loop(lock: Any) -> asyncio.AbstractEventLoop:
        if lock._loop is not None and lock._loop.is_closed():
            lock._loop = None
        loop: asyncio.AbstractEventLoop = before(lock)
        return loop

    kind._get_loop = get_loop
    try:
        yield
    finally:
        kind._get_loop = before


_GRACE = 0.5
"""Seconds in which code that is cancelled has to end; after that it is abandoned."""
_LAST_CALLS = 0.25
"""Seconds in which calls that reach the deadline of their workflow end by themselves."""

_owner: ContextVar[HostedRun | None] = ContextVar("_owner", default=None)
"""The hosted code that the current task belongs to."""


def in_hosted_code() -> bool:
    """Return whether the current task belongs to hosted code."""
    return _owner.get() is not None


def outside_hosted_code() -> contextvars.Context:
    """Return a copy of the current context in which new tasks belong to no hosted code.

    Whoever makes them ends them. Their steps are not watched, which takes time.
    """
    context = contextvars.copy_context()
    context.run(_owner.set, None)
    return context


class HostedRun:
    """Hosted code while it runs: its tasks and its calls. It is the Host of this code."""

    def __init__(
        self,
        now: ReadClock,
        transmit: Transmit,
        run: RunProgram,
        hosting: Hosting,
        passes_on: tuple[type[Exception], ...] = (),
    ) -> None:
        self.now = now
        self.hosting = hosting
        self._passes_on = passes_on
        self._transmit = transmit
        self._run = run
        self._loop = asyncio.get_running_loop()
        self._calls: dict[asyncio.Task[None], Branch] = {}
        self._idle_since = now()
        self.tasks: set[asyncio.Task[Any]] = set()
        self.ended: asyncio.Future[HostedResult] = self._loop.create_future()
        """What ends the code: its own end, or an error of the interpreter."""

    def spawn(self, steps: Coroutine[Any, Any, None], branch: Branch) -> None:
        """Run the steps of a call in a task that is not one of the hosted code."""
        task = asyncio.Task(steps, loop=self._loop, context=outside_hosted_code())
        self._calls[task] = branch
        task.add_done_callback(self._call_ended)

    def _call_ended(self, task: asyncio.Task[None]) -> None:
        del self._calls[task]
        self._idle_since = self.now()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    async def run(self, program: Program[_T], branch: Branch, receiver: Any) -> _T:
        """Run a program. An exception ends the trial, and the caller is cancelled.

        Raises those exceptions that the code gets itself.
        """

        def send(effect: Send, own: Branch) -> Awaitable[Reply]:
            return self._transmit(effect, own, receiver)

        if self.ended.done():
            raise asyncio.CancelledError
        try:
            result: _T = await self._run(program, send, branch)
        except Cancelled:
            raise asyncio.CancelledError from None
        except self._passes_on:
            raise
        except Exception as error:
            self._fail(error)
            raise asyncio.CancelledError from None
        return result

    def _fail(self, error: BaseException) -> None:
        if not self.ended.done():
            self.ended.set_exception(error)

    def end(self, why: str) -> None:
        """End the code for a reason, which is one line."""
        if not self.ended.done():
            self.ended.set_result(HostedResult(error=HostedEndedError(why)))

    def begin(self, start: StartHosted) -> None:
        """Begin to run the code, in a task of its own."""
        context = contextvars.copy_context()
        context.run(_owner.set, self)
        task = asyncio.Task(self._code(start), loop=self._loop, context=context)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _code(self, start: StartHosted) -> None:
        try:
            result = HostedResult(await _noted(start(self), self))
        except Exception as error:
            result = HostedResult(error=error)
        except SystemExit as error:
            result = HostedResult(error=HostedEndedError(exited(error.code)))
        except OwnTimeExceededError:
            result = HostedResult(error=HostedEndedError(OWN_TIME_EXCEEDED))
        except asyncio.CancelledError:
            result = HostedResult(error=HostedEndedError(CANCELLED_ITSELF))
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # without a result the workflow would never end
            result = HostedResult(error=HostedEndedError(raised_unusual(error)))
        if not self.ended.done():
            self.ended.set_result(result)

    async def check(self) -> None:
        """Return at once, or wait for the cancellation if the code has been ended."""
        if self.ended.done():
            await self._loop.create_future()

    async def result(self, until: int | None, idle: int | None) -> HostedResult:
        """Wait for the end of the code, or end it when its time is over."""
        while True:
            now = self.now()
            over = None if idle is None or self._calls else self._idle_since + idle
            if until is not None and now >= until:
                await self._let_calls_end()
                self.end(f"{WORKFLOW_TIMEOUT} ({DEADLINE_PASSED})")
            elif over is not None and idle is not None and now >= over:
                self.end(made_no_call(idle / SECOND))
            if self.ended.done():
                return self.ended.result()
            if idle is not None and over is None:  # look again
                over = now + idle
            times = [time for time in (until, over) if time is not None]
            pause = (min(times) - now) / SECOND if times else None
            await asyncio.wait((self.ended,), timeout=pause)

    async def _let_calls_end(self) -> None:
        """Let calls end that reach the same deadline at this moment, with its outcome."""
        if self._calls:
            await asyncio.wait(tuple(self._calls), timeout=_LAST_CALLS)

    async def close(self) -> None:
        """Cancel what the code has left running, and wait until it has ended.

        A cancellation of the caller is raised after that: code that ignores its own cancellation
        would otherwise keep the event loop from its end.
        """
        if not self.ended.done():
            self.ended.cancel()
        elif not self.ended.cancelled():
            self.ended.exception()  # is known, also if nobody waited for it
        cancelled: asyncio.CancelledError | None = None
        for _ in range(2):  # a call that is cancelled can wake a task, and the other way round
            for branch in self._calls.values():
                branch.cancel()
            for task in self.tasks:
                task.cancel()
            if not (left := (*self._calls, *self.tasks)):
                break
            try:
                await asyncio.wait(left, timeout=_GRACE)
            except asyncio.CancelledError as error:
                cancelled = error
        for call in self._calls:
            call.cancel()
        for task in self.tasks:
            _abandon(task)
        if cancelled is not None:
            raise cancelled


def _abandon(task: asyncio.Task[Any]) -> None:
    """Forget a task that ignores its cancellation, so that the event loop can end without it.

    It is never freed: freeing a coroutine closes it, which it would ignore too, in a loop.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(task))
    asyncio.tasks._unregister_task(task)
    task._log_destroy_pending = False  # type: ignore[attr-defined]


async def _noted(steps: Coroutine[Any, Any, Any], owner: HostedRun) -> Any:
    """Run a coroutine of hosted code, and note when its code runs: see `engine.own_time`."""
    if owner.hosting.is_interrupted:
        steps.close()
        raise asyncio.CancelledError
    return await _Noted(steps, owner.hosting)


class _Noted:
    """Runs a coroutine step by step."""

    def __init__(self, steps: Coroutine[Any, Any, Any], hosting: Hosting) -> None:
        self._steps = steps
        self._hosting = hosting

    def _interrupt(self) -> None:
        """Let the handler of the event loop cancel the trial."""
        end_own_code()
        take_interrupt()
        if not self._hosting.is_interrupted:
            self._hosting.is_interrupted = True
            signal.raise_signal(signal.SIGINT)

    def __await__(self) -> Generator[Any, Any, Any]:
        steps, result = self._steps, None
        error: BaseException | None = None
        while True:
            if self._hosting.is_interrupted and error is None:
                error = asyncio.CancelledError()  # before the trial is cancelled, others would run
            begin_own_code()
            try:
                awaited = steps.send(result) if error is None else steps.throw(error)
            except StopIteration as end:
                return end.value
            except KeyboardInterrupt:
                self._interrupt()
                raise asyncio.CancelledError from None
            finally:
                end_own_code()
                if take_interrupt():  # also if the code has caught it
                    self._interrupt()
            result = error = None
            try:
                result = yield awaited
            except GeneratorExit:
                steps.close()
                raise
            except BaseException as raised:
                error = raised


class Hosting:
    """Hosts the code of one trial in the running event loop.

    `transmit`: sends the attempts of its calls. `limits_idle`: whether the code may only be idle
    for a time; not in virtual time, where waits pass at once. `is_interrupted`: Ctrl-C has
    interrupted the code, and no other code begins.
    """

    def __init__(self, transmit: Transmit, *, limits_idle: bool = True) -> None:
        self._transmit = transmit
        self._limits_idle = limits_idle
        self._running: set[HostedRun] = set()
        self.is_interrupted = False
        asyncio.get_running_loop().set_task_factory(_new_task)

    async def perform(
        self, effect: RunHosted, now: ReadClock, run: RunProgram, branch: Branch
    ) -> HostedResult:
        """Run the code of an effect to its end, and cancel what it leaves running."""
        hosted = HostedRun(now, self._transmit, run, self, effect.passes_on)
        self._running.add(hosted)
        hosted.begin(effect.start)
        try:
            with branch.waking(partial(hosted.end, "the workflow was cancelled")):
                return await hosted.result(effect.until, effect.idle if self._limits_idle else None)
        finally:
            self._running.discard(hosted)
            await hosted.close()

    def end_all(self, why: str) -> bool:
        """End all code that runs, for a reason; return whether there was any."""
        running = [hosted for hosted in self._running if not hosted.ended.done()]
        for hosted in running:
            hosted.end(why)
        return bool(running)


def _new_task(loop: asyncio.AbstractEventLoop, steps: Any, /, **options: Any) -> asyncio.Task[Any]:
    """Create a task; note it if hosted code creates it."""
    owner = _owner.get()
    own = steps if owner is None else _noted(steps, owner)
    task: asyncio.Task[Any] = asyncio.Task(own, loop=loop, **options)
    if owner is not None:
        owner.tasks.add(task)
        task.add_done_callback(owner.tasks.discard)
    return task
