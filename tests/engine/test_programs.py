"""One program runs the same in every mode: what it asks for is done, and nothing outlives it."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, NamedTuple

import pytest

from harness.engine.async_interpreter import AsyncWorld, run_async
from harness.engine.blocking_interpreter import (
    BlockingWorld,
    Stopped,
    a_thread_each,
    one_after_another,
    run_blocking,
)
from harness.engine.branches import Branch
from harness.engine.effects import (
    Grant,
    Program,
    Reply,
    Send,
    acquire,
    emit,
    fan_out,
    now,
    release,
    sleep,
)
from harness.engine.permits import AsyncPermits, ThreadPermits, Turns
from harness.records.clock import SECOND
from harness.records.schema import Attempt
from tests.analysis.builders import make_attempt
from tests.engine.worlds import (
    EVERY_WAY,
    MS,
    PATIENCE,
    SIDE_BY_SIDE,
    Way,
    World,
    clock,
    in_tasks,
    in_threads,
    in_turn,
)
from tests.transports.attempts import KEY, make_deadlines, make_send

RECORD: Attempt = make_attempt()


class Stamps(NamedTuple):
    """What each effect gave."""

    ready: int
    grant: Grant
    reply: Reply
    slept: int
    results: list[str]


def named(name: str) -> Program[str]:
    yield from now()
    return name


def everything() -> Program[Stamps]:
    ready = yield from now()
    grant = yield from acquire(ready, None)
    said = yield Send(KEY, 1, make_send().request, make_deadlines())
    yield from release()
    slept = yield from sleep(said.done + 5 * MS)
    yield from emit(RECORD)
    results = yield from fan_out([named("a"), named("b")])
    return Stamps(ready, grant, said, slept, results)


@EVERY_WAY
def test_every_effect_has_its_result(run: Way) -> None:
    world = World(permits=1)
    began = clock()
    stamps: Stamps = run(everything(), world)
    assert stamps.grant.granted is not None
    assert began <= stamps.ready <= stamps.grant.requested <= stamps.grant.granted
    assert stamps.grant.granted <= stamps.reply.done <= stamps.slept - 5 * MS
    assert stamps.slept <= clock()
    assert stamps.results == ["a", "b"]
    assert [effect.key for effect in world.sent] == [KEY]
    assert world.records == [RECORD]


def test_in_sync_mode_a_call_has_asked_for_its_turn_since_it_was_ready() -> None:
    stamps: Stamps = in_turn(everything(), World(permits=1))
    assert stamps.grant.requested == stamps.ready


@EVERY_WAY
def test_a_sleep_that_is_over_already_ends_at_once(run: Way) -> None:
    def program() -> Program[tuple[int, int]]:
        before = yield from now()
        return before, (yield from sleep(before - SECOND))

    before, ended = run(program(), World(permits=1))
    assert ended >= before


@SIDE_BY_SIDE
def test_results_are_in_the_order_of_the_branches_however_they_end(run: Way) -> None:
    def branch(index: int) -> Program[int]:
        yield Send(KEY._replace(branch=index), 1, make_send().request, make_deadlines())
        return index

    def last_first(effect: Send) -> bool:
        return effect.key.branch == 4 - len(world.returned)

    world = World(1, last_first)
    assert run(fan_out([branch(index) for index in range(5)]), world) == [0, 1, 2, 3, 4]
    assert [effect.key.branch for effect in world.returned] == [4, 3, 2, 1, 0]


def attempt() -> Program[None]:
    ready = yield from now()
    yield from acquire(ready, None)
    yield Send(KEY, 1, make_send().request, make_deadlines())
    yield from release()


def tree(width: int, depth: int) -> Program[None]:
    """Fan-outs in fan-outs, with attempts at the ends."""
    yield from (fan_out([tree(width, depth - 1) for _ in range(width)]) if depth else attempt())


@pytest.mark.parametrize(
    ("run", "permits"),
    [(in_turn, 1), (in_threads, 1), (in_threads, 5), (in_tasks, 1), (in_tasks, 5), (in_tasks, 27)],
)
def test_permits_and_nothing_else_limit_the_attempts_of_nested_fan_outs(
    run: Way, permits: int
) -> None:
    """No attempt comes back before as many are out as there are permits."""
    world = World(permits, lambda _: world.most_out >= permits)
    run(tree(3, 3), world)
    assert (len(world.sent), world.most_out, world.out) == (27, permits, 0)


class OddError(Exception):
    """What no program expects."""


def closing(log: list[str], name: str, body: Program[Any]) -> Program[Any]:
    try:
        return (yield from body)
    finally:
        log.append(name)


def odd() -> Program[None]:
    ready = yield from now()
    yield from acquire(ready, None)
    raise OddError


@EVERY_WAY
def test_what_a_branch_raises_reaches_whoever_runs_it_and_the_permit_goes_back(run: Way) -> None:
    log: list[str] = []

    def program() -> Program[None]:
        yield from fan_out([fan_out([closing(log, "inner", odd())])])

    with pytest.raises(OddError):
        run(closing(log, "outer", program()), World(permits=1))
    assert log == ["inner", "outer"]


@SIDE_BY_SIDE
def test_a_branch_that_raises_ends_its_siblings_wherever_they_wait(run: Way) -> None:
    """One waits for a permit, one sleeps, one is deep in a fan-out of its own."""
    log: list[str] = []

    def sleeping() -> Program[None]:
        time = yield from now()
        yield from sleep(time + PATIENCE * SECOND)

    def waiting() -> Program[None]:
        ready = yield from now()
        yield from acquire(ready, None)
        yield from attempt()

    def last() -> Program[None]:
        ready = yield from now()
        yield from sleep(ready + 20 * MS)
        raise OddError

    def holding() -> Program[None]:
        ready = yield from now()
        yield from acquire(ready, None)
        yield from sleeping()

    branches = {
        "holding": holding(),
        "waiting": waiting(),
        "sleeping": sleeping(),
        "deep": fan_out([sleeping(), sleeping()]),
        "last": last(),
    }
    world = World(permits=1)
    began = clock()
    with pytest.raises(OddError):
        run(fan_out([closing(log, name, body) for name, body in branches.items()]), world)
    assert clock() - began < PATIENCE * SECOND
    assert sorted(log) == sorted(branches)
    assert world.sent == []


@EVERY_WAY
def test_a_permit_that_came_too_late_is_not_given_back(run: Way) -> None:
    def program() -> Program[int | None]:
        ready = yield from now()
        grant = yield from acquire(ready, ready - 1)
        return grant.granted

    assert run(program(), World(permits=1)) is None


async def test_cancelling_a_run_ends_its_branches_and_gives_their_permits_back() -> None:
    log: list[str] = []
    line = AsyncPermits(2, clock)
    world = World(permits=2, may_return=lambda _: False)
    programs = [closing(log, name, attempt()) for name in "abc"]
    task = asyncio.create_task(
        run_async(
            fan_out(programs), AsyncWorld(clock, line, world.send_async, world.records.append)
        )
    )
    while world.out < 2:  # noqa: ASYNC110 - the loop is all there is to wait for
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(log) == ["a", "b", "c"]
    for _ in range(2):
        assert (await line.acquire(clock() + PATIENCE * SECOND)).granted is not None


@pytest.mark.parametrize("branches", [one_after_another, a_thread_each])
def test_once_stopped_nothing_is_sent_or_waited_for_but_what_has_ended_is_recorded(
    branches: Any,
) -> None:
    world = World(permits=1)
    stop = threading.Event()

    def program() -> Program[None]:
        ready = yield from now()
        yield from acquire(ready, None)
        stop.set()
        yield from now()
        yield from emit(RECORD)
        yield from release()
        yield Send(KEY, 1, make_send().request, make_deadlines())

    line = ThreadPermits(1, clock)
    blocking = BlockingWorld(clock, line, world.send, world.records.append, branches, stop)
    with pytest.raises(Stopped):
        run_blocking(fan_out([program()]), blocking)
    with pytest.raises(Stopped):
        run_blocking(attempt(), blocking)
    assert (world.sent, world.records) == ([], [RECORD])
    assert line.acquire(0, clock() + SECOND).granted is not None


def test_a_sleep_ends_when_the_run_is_stopped() -> None:
    stop, branch = threading.Event(), Branch()
    world = BlockingWorld(clock, Turns(clock), World(1).send, print, one_after_another, stop)
    outcome: list[BaseException] = []

    def run() -> None:
        try:
            run_blocking(sleep(clock() + PATIENCE * SECOND), world, branch)
        except Stopped as stopped:
            outcome.append(stopped)

    thread = threading.Thread(target=run)
    thread.start()
    stop.set()
    branch.cancel()
    thread.join(PATIENCE / 2)
    assert len(outcome) == 1
