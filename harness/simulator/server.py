"""Runs the simulated provider as a process, until a signal or the end of standard input."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import uvloop

from harness.records.clock import monotonic_since, take_anchor
from harness.records.errors import InputError
from harness.records.provider_log import ProviderHead
from harness.simulator.api import Api
from harness.simulator.listener import BACKLOG, Listener
from harness.simulator.log import Log
from harness.simulator.profiles import Profile

_OTHER_FILES = 128
"""Open files beside connections: the log, the event loop's own, connections that are refused."""


def serve(
    profile: Profile,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    seed: int = 0,
    time_scale: float = 1.0,
    log: Path | None,
    ready: Callable[[str], None],
    warn: Callable[[str], None] = lambda message: None,
    until_stdin_closes: bool = False,
) -> None:
    """Serve `profile` until a signal, or with `until_stdin_closes` until stdin ends.

    The signals are SIGINT, SIGTERM and SIGHUP. `host`: an address of this machine; `0.0.0.0` or
    `::` for all of them. One scenario second lasts `time_scale` real seconds. `log`: the path of
    provider.jsonl, None for no log. `ready` is called with the base URL when connections are
    accepted, `warn` when some are refused. Raises InputError if the port or the log cannot be
    opened, StorageError if the log cannot be written any more. With `until_stdin_closes`, the
    server belongs to a run and continues without its log, because the run itself reports a full
    disk. Call it in the main thread, which receives the signals.
    """
    anchor, most = take_anchor(), _most_connections()
    head = ProviderHead(anchor=anchor, profile=profile.as_dict(), seed=seed, time_scale=time_scale)

    async def run(sock: socket.socket, log_writer: Log) -> None:
        listener = Listener(sock)
        now = monotonic_since(anchor)
        api = Api(profile, seed, time_scale, log_writer, now, listener, most, host=host)
        await listener.start(api.connection)
        stopped = _stop_conditions(asyncio.get_running_loop(), until_stdin_closes)
        ready(base_url(sock))
        gc.collect()
        gc.freeze()  # later collections skip the objects that exist now
        try:
            await stopped
        finally:
            listener.close()
            api.stop()
            with contextlib.suppress(TimeoutError):  # do not wait for a client that does not read
                await asyncio.wait_for(listener.wait_closed(), 1)

    with (
        closing(bind(host, port)) as sock,
        closing(Log(log, head, may_end_early=until_stdin_closes)) as log_writer,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(run(sock, log_writer))


def _most_connections() -> int:
    """Raise the limit of open files, and return how many connections it allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):  # some systems have a lower limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    if soft == resource.RLIM_INFINITY:
        return sys.maxsize
    return max(1, soft - _OTHER_FILES)


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens on `host` and `port` (0: any free one). Raises InputError."""
    where = f"{host}:{port}"
    if not 0 <= port <= 65535:  # some resolvers reduce it modulo 65536
        raise InputError(f"{where}: a port is 0 to 65535; choose another port, or 0 for a free one")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
    except (OSError, OverflowError, UnicodeError) as error:
        raise InputError(f"{where}: no such address ({error}); use 127.0.0.1") from None
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except (OSError, OverflowError) as error:
        sock.close()
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(
            f"{where}: cannot listen there ({reason}); choose another port, or 0 for any free one"
        ) from None
    return sock


def base_url(sock: socket.socket) -> str:
    """Return the base URL of the API on this socket."""
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}/v1" if ":" in host else f"http://{host}:{port}/v1"


def _stop_conditions(
    loop: asyncio.AbstractEventLoop, until_stdin_closes: bool
) -> asyncio.Future[None]:
    """Return a future that ends when the server has to stop; it raises unexpected errors."""
    stopped: asyncio.Future[None] = loop.create_future()

    def stop() -> None:
        if not stopped.done():
            stopped.set_result(None)

    def fail(_: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        error = context.get("exception")
        if not stopped.done():
            known = error if isinstance(error, Exception) else RuntimeError(context["message"])
            stopped.set_exception(known)

    loop.set_exception_handler(fail)
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup
                loop.add_signal_handler(number, stop)
    if until_stdin_closes:

        def watch() -> None:
            while os.read(sys.stdin.fileno(), 4096):
                pass
            with contextlib.suppress(RuntimeError):  # the loop has already stopped
                loop.call_soon_threadsafe(stop)

        threading.Thread(target=watch, name="stdin", daemon=True).start()
    return stopped
