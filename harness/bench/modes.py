"""The modes in real time: each runs a whole program against a target."""

from __future__ import annotations

import asyncio
import functools
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import NoReturn, Protocol, assert_never

import uvloop

from harness.client.target_requests import TargetTransport
from harness.config.network import tls_context
from harness.engine.adaptive_limit import AdaptiveLimit
from harness.engine.async_interpreter import AsyncWorld, run_async
from harness.engine.blocking_interpreter import (
    BlockingWorld,
    a_thread_each,
    one_after_another,
    run_blocking,
)
from harness.engine.budget_gate import Gate, through_gate, through_gate_async
from harness.engine.effects import EmitRecord, Program
from harness.engine.hosting import Hosting, Transmit, lasting_locks, transmitting
from harness.engine.loop_lag import LoopProbe, ReadProbe, ThreadProbe
from harness.engine.own_time import InterruptibleCode
from harness.engine.permits import AsyncPermits, ThreadPermits, Turns, Turnstile
from harness.records.clock import ReadClock
from harness.records.errors import InputError
from harness.records.schema import Record
from harness.records.timer_lag import TimerLag
from harness.transports.async_transport import AsyncClient
from harness.transports.sockets import receive_bytes
from harness.transports.sync_transport import SyncClient
from harness.transports.target import Target
from harness.transports.wire_client import WireClient

LookAtOthers = Callable[[Turnstile], None]
"""Takes over what other processes of a trial have done; given the permits of this one."""

LOOK_EVERY = 0.01
"""Seconds between two looks at what other processes have done."""


class RunMode(Protocol):
    """A mode in real time."""

    def __call__(
        self,
        program: Program[None],
        target: Target,
        permits: int,
        now: ReadClock,
        emit: EmitRecord,
        gate: Gate,
        adaptive: AdaptiveLimit | None = None,
        look: LookAtOthers | None = None,
        /,
    ) -> TimerLag:
        """Run a program. `adaptive`: the limit that adapts, None for a fixed number of permits.

        `look`: called often, to take over what other processes of the trial have done. Raises the
        errors of the gate. Returns how late the client ran timers, or in sync read the first texts.
        """


def prepare_client(target: Target) -> None:
    """Load what clients of `target` share, so that it is not part of the first trial's time."""
    tls_context(target.trust_env, target.request.ca_file, verify=target.request.verify)


def _blocking_mode(
    program: Program[None],
    target: Target,
    permits: int,
    now: ReadClock,
    emit: EmitRecord,
    gate: Gate,
    adaptive: AdaptiveLimit | None = None,
    look: LookAtOthers | None = None,
    *,
    threads: bool,
) -> TimerLag:
    """Run `program` with openai.OpenAI.

    `threads`: with a thread for each workflow in flight and each branch. Otherwise with a single
    permit, one call after another.
    """
    assert threads or permits == 1, "a sync setting has one permit"
    stop, writing = threading.Event(), threading.Lock()
    permitted = ThreadPermits(adaptive.permits if adaptive else permits, now)
    passing = gate.emitting(adaptive.feeding(permitted, emit) if adaptive and threads else emit)

    def emit_locked(record: Record) -> None:
        with writing:
            passing(record)

    def emit_noted(record: Record) -> None:
        reads.note(record)
        passing(record)

    with ReadProbe(now) as reads, ExitStack() as ending:
        receive = receive_bytes if threads else reads.receive
        client = ending.enter_context(SyncClient(target, now, receive=receive))
        send = through_gate(gate, client.send)
        probe: ThreadProbe | ReadProbe = reads
        if threads:
            probe = ending.enter_context(ThreadProbe(now))
            if look is not None:
                ending.enter_context(looking_in_thread(look, permitted))
            world = BlockingWorld(now, permitted, send, emit_locked, a_thread_each, stop)
        else:
            send = reads.sending(send)
            world = BlockingWorld(now, Turns(now), send, emit_noted, one_after_another, stop)
        try:
            run_blocking(program, world)
        except BaseException:
            stop.set()
            _join_branches()
            raise
        return probe.lag()


@contextmanager
def looking_in_thread(look: LookAtOthers, permits: Turnstile) -> Iterator[None]:
    """Look at other processes in a thread, every `LOOK_EVERY` seconds."""
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(LOOK_EVERY):
            look(permits)

    thread = threading.Thread(target=run, name="look-at-others", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def looking_in_loop(look: LookAtOthers | None, permits: Turnstile) -> Iterator[None]:
    """Look at other processes in the running event loop, every `LOOK_EVERY` seconds."""
    if look is None:
        yield
        return
    loop, handle = asyncio.get_running_loop(), None

    def run() -> None:
        nonlocal handle
        handle = loop.call_later(LOOK_EVERY, run)
        look(permits)

    run()
    try:
        yield
    finally:
        assert handle is not None, "it has looked once"
        handle.cancel()


def _join_branches() -> None:
    """Wait until every branch has noticed that it is stopped.

    A branch whose thread has not started yet has no records and ends at its first step.
    """
    for thread in threading.enumerate():
        if thread.name.startswith("branch-") and thread.is_alive():
            thread.join(1.0)


def _async_mode(
    program: Program[None],
    target: Target,
    permits: int,
    now: ReadClock,
    emit: EmitRecord,
    gate: Gate,
    adaptive: AdaptiveLimit | None = None,
    look: LookAtOthers | None = None,
    *,
    serial: bool,
) -> TimerLag:
    """Run `program` with openai.AsyncOpenAI on uvloop, a task for each workflow and branch.

    `serial`: with a single permit, one workflow and one call after another.
    """
    assert not serial or permits == 1, "a serial setting has one permit"

    async def whole() -> TimerLag:
        main = asyncio.current_task()
        assert main is not None, "it runs in a task"
        failed = asyncio.Event()

        def is_running() -> bool:
            return not failed.is_set() and not main.cancelling()  # Ctrl-C cancels it first

        def interrupt() -> None:
            if is_running():
                signal.raise_signal(signal.SIGINT)  # the handler of the event loop cancels main

        async with (
            _client(target, now) as client,
            TargetTransport(target, now) as own_requests,
        ):
            send = through_gate_async(gate, client.send)
            permitted = AsyncPermits(adaptive.permits if adaptive else permits, now)
            hosting = Hosting(transmitting(gate, _transmit(target, own_requests)))
            passing = gate.emitting(adaptive.feeding(permitted, emit) if adaptive else emit)
            world = AsyncWorld(
                now, permitted, send, passing, is_running, failed.set, serial, hosting, interrupt
            )
            with LoopProbe(now) as probe, InterruptibleCode(), looking_in_loop(look, permitted):
                # In a task of its own, because a program may cancel the task that it runs in.
                await asyncio.create_task(run_async(program, world))
                return probe.lag()

    with lasting_locks(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(whole())


def _client(target: Target, now: ReadClock) -> AsyncClient | WireClient:
    match target.client:
        case "openai":
            return AsyncClient(target, now)
        case "wire":
            return WireClient(target, now)
        case _:
            assert_never(target.client)


def _transmit(target: Target, own_requests: TargetTransport) -> Transmit:
    """Return how requests of a program's own client are sent."""
    if target.client == "openai":
        return own_requests.transmit
    return _refuse_own_client


def _refuse_own_client(*_: object) -> NoReturn:
    raise InputError(
        "endpoint.client = 'wire' does not send what a program sends with its own client; use "
        "'openai', or make its calls with ask (docs/your-program.md)"
    )


MODES: Mapping[str, RunMode] = {
    "sync": functools.partial(_blocking_mode, threads=False),
    "threads": functools.partial(_blocking_mode, threads=True),
    "serial": functools.partial(_async_mode, serial=True),
    "async": functools.partial(_async_mode, serial=False),
}
