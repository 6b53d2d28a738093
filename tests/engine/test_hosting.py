"""Code that is no program, hosted by the interpreter for asyncio."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from harness.engine.async_interpreter import AsyncWorld, run_async
from harness.engine.blocking_interpreter import BlockingWorld, one_after_another, run_blocking
from harness.engine.branches import Branch
from harness.engine.call import Completion, complete
from harness.engine.effects import (
    Host,
    HostedEndedError,
    HostedResult,
    Program,
    Reply,
    Request,
    RunHosted,
    Send,
    fan_out,
)
from harness.engine.hosting import Hosting
from harness.engine.permits import AsyncPermits, Turns
from harness.records.schema import Attempt, Record
from tests.engine.scripted import CALL, Says, reply, terms

Code = Callable[[Host], Coroutine[Any, Any, Any]]


class Trial:
    """A trial whose attempts succeed, or last until they are cancelled, or raise `fails`."""

    def __init__(self, fails: BaseException | None = None) -> None:
        self.time = 0
        self.records: list[Record] = []
        self.fails = fails
        self.answers = True
        self.receivers: list[Any] = []

    def now(self) -> int:
        self.time += 1
        return self.time

    async def transmit(self, effect: Send, branch: Branch, receiver: Any) -> Reply:
        self.receivers.append(receiver)
        if self.fails is not None:
            raise self.fails
        stopped = asyncio.Event()
        with branch.waking(stopped.set):
            if self.answers:
                await asyncio.sleep(0)
            else:
                await stopped.wait()
        return reply(Says("cancelled" if branch.cancelled else "ok"), self.now())

    def run(self, *codes: Code, until: int | None = None, idle: int | None = None) -> list[Any]:
        async def whole() -> list[Any]:
            async def send(effect: Send, branch: Branch) -> Reply:
                raise AssertionError("no call comes from a program")

            world = AsyncWorld(
                self.now, AsyncPermits(9, self.now), send, self.records.append,
                hosting=Hosting(self.transmit),
            )  # fmt: skip
            return await run_async(fan_out([hosted(code, until, idle) for code in codes]), world)

        return asyncio.run(whole())

    @property
    def outcomes(self) -> list[str]:
        return [one.outcome for one in self.records if isinstance(one, Attempt)]


def hosted(code: Code, until: int | None = None, idle: int | None = None) -> Program[HostedResult]:
    result: HostedResult = yield RunHosted(code, until, idle)
    return result


def call(number: int = 1) -> Program[Completion]:
    return complete(terms(), CALL._replace(call=number), Request(()), 0)


async def made(host: Host, number: int = 1) -> str:
    """Make a call as a client does: in a task of its own, cancelled with its caller."""
    branch, found = Branch(), asyncio.get_running_loop().create_future()

    async def steps() -> None:
        completion = await host.run(call(number), branch, f"receiver {number}")
        if not found.done():
            found.set_result(completion.outcome)

    host.spawn(steps(), branch)
    try:
        return str(await found)
    except asyncio.CancelledError:
        branch.cancel()
        raise


def reason(result: HostedResult) -> str:
    assert isinstance(result.error, HostedEndedError)
    return str(result.error)


def test_the_result_of_the_code_is_the_result_of_the_effect() -> None:
    trial = Trial()

    async def code(host: Host) -> list[str]:
        return [*await asyncio.gather(made(host, 1), made(host, 2))]

    (result,) = trial.run(code)
    assert result.value == ["ok", "ok"]
    assert trial.outcomes == ["ok", "ok"]
    assert sorted(trial.receivers) == ["receiver 1", "receiver 2"]


def test_an_exception_of_the_code_is_a_value_and_ends_no_other_code() -> None:
    async def broken(host: Host) -> None:
        raise KeyError("broken")

    async def leaves(host: Host) -> None:
        raise SystemExit(3)

    first, second, third = Trial().run(broken, leaves, made)
    assert isinstance(first.error, KeyError)
    assert reason(second) == "the program called sys.exit(3)"
    assert third.value == "ok"


def test_a_call_whose_caller_is_cancelled_is_recorded_as_cancelled() -> None:
    trial = Trial()
    trial.answers = False

    async def code(host: Host) -> str:
        task = asyncio.create_task(made(host))
        await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return "cancelled it"

    assert trial.run(code)[0].value == "cancelled it"
    assert trial.outcomes == ["cancelled"]


def test_tasks_that_are_left_running_are_cancelled_and_their_calls_recorded() -> None:
    trial, seen = Trial(), []
    trial.answers = False

    async def forgotten(host: Host) -> None:
        try:
            await made(host)
        finally:
            seen.append("ended")

    async def code(host: Host) -> int:
        seen.append(str(asyncio.create_task(forgotten(host)).done()))
        await asyncio.sleep(0.001)
        return 7

    assert trial.run(code)[0].value == 7
    assert seen == ["False", "ended"]
    assert trial.outcomes == ["cancelled"]


def test_code_that_waits_for_ever_ends_at_the_deadline_of_its_workflow() -> None:
    async def waits(host: Host) -> None:
        await asyncio.get_running_loop().create_future()

    trial = Trial()
    assert reason(trial.run(waits, until=1)[0]) == "workflow_timeout (the deadline passed)"


def test_code_without_a_call_in_flight_ends_after_its_own_time() -> None:
    async def waits(host: Host) -> None:
        await made(host)
        await asyncio.get_running_loop().create_future()

    assert "workflow.own_time_limit" in reason(Trial().run(waits, idle=20)[0])


def test_code_that_swallows_its_cancellation_is_abandoned() -> None:
    async def stubborn(host: Host) -> None:
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(9)

    assert "workflow_timeout" in reason(Trial().run(stubborn, until=1)[0])


def test_an_error_of_the_interpreter_ends_the_trial_and_reaches_no_code() -> None:
    seen: list[BaseException] = []

    async def catches(host: Host) -> None:
        while True:
            try:
                await made(host)
            except Exception as error:
                seen.append(error)

    with pytest.raises(MemoryError):
        Trial(fails=MemoryError()).run(catches)
    assert seen == []


def test_code_that_cancels_its_own_task_is_told_from_a_cancelled_trial() -> None:
    async def code(host: Host) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    assert reason(Trial().run(code)[0]) == "the program cancelled itself"


def test_blocking_interpreters_refuse_the_code() -> None:
    async def code(host: Host) -> None:
        raise AssertionError("it does not run")

    def now() -> int:
        return 0

    world = BlockingWorld(
        now, Turns(now), lambda *_: pytest.fail("no call"), lambda _: None, one_after_another,
        threading.Event(),
    )  # fmt: skip
    assert "needs an event loop" in reason(run_blocking(hosted(code), world))


def test_a_serial_world_runs_the_branches_one_after_another() -> None:
    trial, order = Trial(), []

    def branch(name: str) -> Program[None]:
        yield from call()
        order.append(name)
        yield from call()
        order.append(name)

    async def send(effect: Send, branch: Branch) -> Reply:
        await asyncio.sleep(0)
        return reply(Says("ok"), trial.now())

    async def whole() -> None:
        world = AsyncWorld(trial.now, AsyncPermits(1, trial.now), send, lambda _: None, serial=True)
        await run_async(fan_out([branch("a"), branch("b")]), world)

    asyncio.run(whole())
    assert order == ["a", "a", "b", "b"]
