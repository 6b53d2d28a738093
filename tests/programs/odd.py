"""Programs that raise, catch or await what a workflow seldom does."""

# ruff: noqa: SIM105

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import harness

Ask = Any
ODD: dict[str, Callable[..., Any]] = {}


class OwnError(BaseException):
    pass


@harness.workflow
async def run_one(ask: Ask, topic: str) -> Any:
    """Run the program that the topic names."""
    return await ODD[topic](ask)


def odd(function: Callable[..., Any]) -> Callable[..., Any]:
    ODD[function.__name__] = function
    return function


async def one(ask: Ask, phase: str = "work") -> str:
    return str(await ask(phase, "x"))


async def fails(ask: Ask, error: BaseException) -> str:
    await ask("work", "x")
    raise error


# Results


@odd
async def never_asks(ask: Ask) -> str:
    return "done"


@odd
async def returns_none(ask: Ask) -> None:
    await ask("work", "x")


@odd
async def returns_number(ask: Ask) -> int:
    return 7


@odd
async def returns_scored(ask: Ask) -> harness.Scored:
    return harness.Scored("x", ok=False)


@odd
async def ask_never_awaited(ask: Ask) -> str:
    ask("work", "x")
    return "done"


@odd
async def gathers_nothing(ask: Ask) -> str:
    return repr(await harness.gather())


@odd
async def gathers_none_of_nothing(ask: Ask) -> str:
    return repr(await harness.gather(enough=0))


@odd
async def branch_never_asks(ask: Ask) -> str:
    async def quiet() -> str:
        return "quiet"

    found = await harness.gather(quiet(), one(ask), one(ask))
    return str(found[0])


@odd
async def many_branches(ask: Ask) -> str:
    return str(len(await harness.gather(*(one(ask) for _ in range(100)))))


@odd
async def deep(ask: Ask) -> str:
    async def level(depth: int) -> Any:
        if not depth:
            return await one(ask)
        found = await harness.gather(level(depth - 1), never_asks(ask))
        return found[1]

    return str(await level(50))


# Errors


@odd
async def raises_at_once(ask: Ask) -> str:
    raise ValueError("at once")


@odd
async def raises_after_a_call(ask: Ask) -> str:
    return await fails(ask, ValueError("after a call"))


@odd
async def raises_in_a_phase(ask: Ask) -> str:
    with harness.phase("plan"):
        return await fails(ask, KeyError("in a phase"))


@odd
async def raises_in_a_branch(ask: Ask) -> str:
    await harness.gather(one(ask), fails(ask, ValueError("in a branch")))
    return "no"


@odd
async def catches_a_branch(ask: Ask) -> str:
    try:
        await harness.gather(one(ask), fails(ask, ValueError("in a branch")))
    except ValueError as error:
        return f"caught {error}"
    return "no"


@odd
async def exits(ask: Ask) -> str:
    return await fails(ask, SystemExit(3))


@odd
async def exits_in_a_branch(ask: Ask) -> str:
    await harness.gather(one(ask), fails(ask, SystemExit(3)))
    return "no"


@odd
async def exits_while_closed(ask: Ask) -> str:
    async def stubborn() -> str:
        try:
            await ask("work", "x")
            await harness.sleep(0.05)
        finally:
            raise SystemExit(4)

    await harness.gather(stubborn(), fails(ask, SystemExit(3)))
    return "no"


@odd
async def raises_cancelled(ask: Ask) -> str:
    return await fails(ask, asyncio.CancelledError())


@odd
async def raises_generator_exit(ask: Ask) -> str:
    return await fails(ask, GeneratorExit())


@odd
async def raises_own_base_exception(ask: Ask) -> str:
    return await fails(ask, OwnError("mine"))


@odd
async def raises_stop_iteration(ask: Ask) -> str:
    return await fails(ask, StopIteration(1))


@odd
async def raises_lines(ask: Ask) -> str:
    raise ValueError("one\ntwo\x1b[31m")


@odd
async def raises_bad_text(ask: Ask) -> str:
    class BadError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    raise BadError


@odd
async def returns_bad_text(ask: Ask) -> Any:
    class Bad:
        def __str__(self) -> str:
            raise RuntimeError("no text")

    return Bad()


@odd
async def returns_surrogates(ask: Ask) -> str:
    raise ValueError("\ud800")


@odd
async def too_many_calls(ask: Ask) -> str:
    while True:
        try:
            await ask("work", "x", raises=False)
        except Exception:
            pass


@odd
async def too_many_calls_in_branches(ask: Ask) -> str:
    await harness.gather(*(too_many_calls(ask) for _ in range(3)), enough=1)
    return "no"


# Cancellation


@odd
async def continues_after_cancellation(ask: Ask) -> str:
    async def stubborn() -> str:
        while True:
            try:
                await ask("stubborn", "x")
                await harness.sleep(1000)
            except BaseException:
                await ask("stubborn", "again")

    found = await harness.gather(one(ask), stubborn(), enough=1)
    return "ended" if found[0] and found[1] is None else "no"


# Misuse


@odd
async def awaits_twice(ask: Ask) -> str:
    call = ask("work", "x")
    await call
    await call
    return "no"


@odd
async def gathers_twice(ask: Ask) -> str:
    branch = one(ask)
    try:
        await harness.gather(branch, branch)
    finally:
        branch.close()
    return "no"


@odd
async def gathers_awaited(ask: Ask) -> str:
    branch = one(ask)
    await branch
    await harness.gather(branch)
    return "no"


@odd
async def gathers_text(ask: Ask) -> str:
    await harness.gather("text")  # type: ignore[arg-type]
    return "no"


@odd
async def gathers_a_list(ask: Ask) -> str:
    await harness.gather([ask("work", "x")])  # type: ignore[arg-type]
    return "no"


@odd
async def awaits_text(ask: Ask) -> str:
    await "text"  # type: ignore[misc]
    return "no"


# The event loop of asyncio


@odd
async def sleeps_in_asyncio(ask: Ask) -> str:
    await asyncio.sleep(0.001)
    return await one(ask)


@odd
async def waits_for_a_future(ask: Ask) -> str:
    await asyncio.get_running_loop().create_future()
    return "no"


@odd
async def gathers_in_asyncio(ask: Ask) -> str:
    await asyncio.gather(ask("work", "x"), ask("work", "y"))
    return "no"


@odd
async def creates_a_task(ask: Ask) -> str:
    await asyncio.create_task(one(ask))
    return "no"


@odd
async def times_out(ask: Ask) -> str:
    try:
        async with asyncio.timeout(0.01):
            await ask("slow", "x")
    except TimeoutError:
        return "late, " + ("next" if await one(ask) else "")
    return "no"


@odd
async def times_out_in_a_gather(ask: Ask) -> str:
    try:
        async with asyncio.timeout(0.01):
            await harness.gather(ask("slow", "x"), ask("slow", "y"), one(ask))
    except TimeoutError:
        return "late, " + ("next" if await one(ask) else "")
    return "no"


@odd
async def times_out_twice(ask: Ask) -> str:
    try:
        async with asyncio.timeout(0.02):
            try:
                async with asyncio.timeout(0.01):
                    await ask("slow", "x")
            except TimeoutError:
                await ask("slow", "y")
    except TimeoutError:
        return "late twice, " + ("next" if await one(ask) else "")
    return "no"


@odd
async def times_out_asleep(ask: Ask) -> str:
    try:
        async with asyncio.timeout(0.01):
            await harness.sleep(1000)
    except TimeoutError:
        return "late, " + ("next" if await one(ask) else "")
    return "no"


@odd
async def cancels_its_task(ask: Ask) -> str:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await ask("work", "x")
    return "no"


@odd
async def cancels_in_a_branch(ask: Ask) -> str:
    found = await harness.gather(cancels_its_task(ask), one(ask), enough=1, wait_for_all=True)
    return "ended" if found[0] is None and found[1] else "no"
