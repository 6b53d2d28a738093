"""The HTTP API: routes, the timer that drives the simulation, and control requests."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import Callable, Mapping
from functools import partial
from ipaddress import ip_address

import msgspec

from harness.config.faults import FaultKind
from harness.network.http_server import Connection, HttpRequest, HttpResponse, Refusal
from harness.records.clock import ReadClock
from harness.records.ids import ids_in
from harness.records.provider_log import Served
from harness.records.schema import Tokens
from harness.simulator import wire
from harness.simulator.answer_form import PATHS, ApiName
from harness.simulator.apis import read_request
from harness.simulator.fault_responses import refuse
from harness.simulator.listener import Listener
from harness.simulator.log import Log
from harness.simulator.model import ServedRequest
from harness.simulator.profiles import Profile
from harness.simulator.request_parser import BadRequestError
from harness.simulator.response_writer import Caller, ResponseWriter, Writes
from harness.simulator.simulation import Refused, Simulation

_PORT = re.compile(rb":\d{1,5}\Z")
_LOCAL = re.compile(rb"(127\.0\.0\.1|localhost|\[::1\])(:\d{1,5})?", re.IGNORECASE)
_MOST_HOSTS = 100


class TrialStart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of POST /simulator/trial: all later requests belong to this cell and repeat."""

    cell: str
    repeat: int


class Api:
    """Answers requests with the results of a simulation that one timer drives.

    Create it inside a running event loop. `now` returns nanoseconds since the log's anchor. Faults
    that prevent connections shut `listener`; without it, they have no effect. Connections above
    `most_connections` are answered with 503; `warn` is told once.
    """

    def __init__(
        self,
        profile: Profile,
        seed: int,
        time_scale: float,
        log: Log,
        now: ReadClock,
        listener: Listener | None = None,
        most_connections: int | None = None,
        warn: Callable[[str], None] = lambda message: None,
        host: str = "127.0.0.1",
    ) -> None:
        self._profile = profile
        self._seed = seed
        self._time_scale = time_scale
        self._log = log
        self._now = now
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0
        self._cell: str | None = None
        self._open: dict[ServedRequest, ResponseWriter] = {}
        self._connections: set[Connection] = set()
        self._most_connections = most_connections
        self._warn = warn
        self._has_refused = False
        self._own_hosts = set[bytes]()
        self._host = host
        self._simulation = Simulation(profile, seed, time_scale, None)
        self._routes: dict[str, tuple[str, Callable[[HttpRequest, HttpResponse], None]]] = {
            **{f"/v1{path}": ("POST", partial(self._complete, api)) for path, api in PATHS.items()},
            "/v1/models": ("GET", self._models),
            "/health": ("GET", self._health),
            "/metrics": ("GET", self._metrics),
            "/simulator/trial": ("POST", self._trial),
        }

    def connection(self) -> Connection | Refusal:
        """Return the protocol of a new connection."""
        most = self._most_connections
        if most is not None and len(self._connections) >= most:
            message = (
                f"{most} connections are open, and the limit of open files allows no more; raise "
                "it (ulimit -n)"
            )
            if not self._has_refused:
                self._has_refused = True
                self._warn(f"{message}; more are refused")
            return Refusal(wire.error_body(message, "server_error", "too_many_connections", None))
        return Connection(self._handle, self._connections, self._loop.call_later)

    def stop(self) -> None:
        """Abort all requests in service and close all connections."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._cut_all("server_stopped")
        for connection in list(self._connections):
            connection.close()

    def _handle(self, request: HttpRequest, reply: HttpResponse) -> None:
        method, act = self._routes.get(request.path, ("", None))
        host = request.headers.get(b"host")
        if host is not None and not self._is_own(host):
            # A page in a browser can make its own host name point to this address.
            message = f"this is not {host.decode('latin-1')}; use 127.0.0.1 or localhost"
            _send_error(reply, 421, message, "wrong_host")
        elif act is None:
            message = f"no such path: {request.path}; try {', '.join(self._routes)}"
            _send_error(reply, 404, message, "not_found")
        elif request.method != method:
            message = f"{request.path} takes {method} only"
            _send_error(reply, 405, message, headers={"allow": method})
        else:
            act(request, reply)

    def _is_own(self, host: bytes) -> bool:
        """Return whether a Host header names this machine."""
        if host in self._own_hosts:
            return True
        if _LOCAL.fullmatch(host) is None and not self._is_served(host):
            return False
        if len(self._own_hosts) < _MOST_HOSTS:
            self._own_hosts.add(host)
        return True

    def _is_served(self, host: bytes) -> bool:
        """Return whether a Host header is the address that is served, or any if all are."""
        name = _PORT.sub(b"", host).decode("latin-1").strip("[]")
        if name == self._host:
            return True
        try:
            ip_address(name)
            return ip_address(self._host).is_unspecified
        except ValueError:  # a name: a page can make it point here
            return False

    def _complete(self, api: ApiName, request: HttpRequest, reply: HttpResponse) -> None:
        header = request.headers.get(b"traceparent", b"").decode("latin-1")
        trace, span = ids_in(header) or (None, None)
        caller = Caller(trace, span, self._cell, 0, self._now())
        try:
            caller = caller._replace(repeat=_repeat(request))
            phase = request.headers.get(b"x-harness-phase", b"").decode(errors="replace")
            chat = read_request(api, request.body, phase or None)
            if (lengths := _lengths(request)) is not None:
                chat = msgspec.structs.replace(chat, lengths=lengths)
        except BadRequestError as error:
            body = hashlib.blake2b(request.body).digest()  # it can be large
            arrival = self._simulation.count(caller.repeat, body)
            _send_error(reply, 400, str(error), None, error.param)
            active = self._simulation.active
            self._log_refusal(caller, arrival, active, False, "bad_request", 400)
            return
        answer = self._simulation.arrive(caller.arrived, chat, caller.repeat)
        if isinstance(answer, Refused):
            refuse(reply, answer, chat.stream, self._time_scale)
            fault = None if answer.fault is None else answer.fault.kind.name
            self._log_refusal(
                caller, answer.arrival, answer.active, chat.stream,
                answer.outcome, answer.status, fault,
            )  # fmt: skip
        else:
            created = int(time.time())
            writer = ResponseWriter(reply, answer, caller, self._now, created, self._time_scale)
            reply.on_close = lambda: self._client_closed(writer)
            self._open[answer.job] = writer
        self._set_timer()

    def _client_closed(self, writer: ResponseWriter) -> None:
        if self._open.pop(writer.completion.job, None) is not None:
            self._simulation.cancel(self._now(), writer.completion)
            self._log.write(writer.served("client_closed"))
            self._set_timer()

    def _log_refusal(
        self,
        caller: Caller,
        arrival: int,
        active: int,
        streamed: bool,
        outcome: str,
        status: int | None,
        fault: str | None = None,
    ) -> None:
        self._log.write(
            Served(
                **caller._asdict(),
                **vars(Writes()),
                arrival=arrival,
                streamed=streamed,
                done=self._now(),
                outcome=outcome,
                status=status,
                active=active,
                tokens=Tokens(),
                fault=fault,
            )
        )

    def _set_timer(self) -> None:
        change = None if self._listener is None else self._apply_faults(self._listener)
        due = self._simulation.next_due()
        if change is not None:
            due = change if due is None else min(due, change)
        if self._timer is not None:
            if due is not None and self._timer_at <= due:
                return  # the timer fires early enough, and is set again then
            self._timer.cancel()
            self._timer = None
        if due is not None:
            self._timer_at = due
            # The loop rounds to milliseconds; rounded down, the timer would fire too early.
            milliseconds = -(-max(0, due - self._now()) // 1_000_000)
            self._timer = self._loop.call_later(milliseconds / 1000, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        for job, scheduled in self._simulation.pop_due(self._now()).items():
            writer = self._open[job]
            writer.deliver(scheduled, job.gone)
            if job.gone:
                del self._open[job]
                self._log.write(writer.served(writer.completion.outcome))
        self._set_timer()

    def _apply_faults(self, listener: Listener) -> int | None:
        """Open or shut the listener according to the faults; return the time of the next change."""
        strike, change = self._simulation.connection(self._now())
        kind = None if strike is None else strike.kind
        if kind is not listener.shut_by:
            if kind is None:
                listener.open()
            else:
                listener.shut(kind)
                self._cut_all("connection_lost", kind)
                for connection in list(self._connections):
                    if not connection.for_control:
                        connection.abort()
        return change

    def _models(self, _: HttpRequest, reply: HttpResponse) -> None:
        reply.send(200, wire.JSON_HEADERS, wire.models(self._profile.name))

    def _health(self, _: HttpRequest, reply: HttpResponse) -> None:
        health = {"status": "ok", "simulated": True, "profile": self._profile.name}
        reply.send(200, wire.JSON_HEADERS, wire.encode(health))

    def _metrics(self, _: HttpRequest, reply: HttpResponse) -> None:
        waiting = self._simulation.waiting
        reply.send(
            200, wire.METRICS_HEADERS, wire.metrics(self._simulation.active - waiting, waiting)
        )

    def _trial(self, request: HttpRequest, reply: HttpResponse) -> None:
        if b"origin" in request.headers or b"sec-fetch-site" in request.headers:
            _send_error(reply, 403, "a page in a browser cannot begin a trial", "cross_site")
            return
        try:
            trial = msgspec.json.decode(request.body, type=TrialStart)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            _send_error(reply, 400, f'{error}; send {{"cell": "…", "repeat": 0}}')
            return
        reply.keep()
        self._cut_all("trial_ended")
        if self._listener is not None:
            self._listener.open()
        self._cell = trial.cell
        self._simulation = Simulation(self._profile, self._seed, self._time_scale, trial.cell)
        self._set_timer()
        reply.send(200, wire.JSON_HEADERS, wire.encode(trial))

    def _cut_all(self, outcome: str, by: FaultKind | None = None) -> None:
        cut, self._open = list(self._open.values()), {}
        for writer in cut:
            self._simulation.cancel(self._now(), writer.completion)
            writer.abort()
            self._log.write(writer.served(outcome, by))


def _send_error(
    reply: HttpResponse,
    status: int,
    message: str,
    code: str | None = None,
    param: str | None = None,
    headers: Mapping[str, str] = {},
) -> None:
    body = wire.error_body(message, "invalid_request_error", code, param)
    reply.send(status, {**wire.JSON_HEADERS, **headers}, body)


def _lengths(request: HttpRequest) -> tuple[int, int] | None:
    """Return the tokens of reasoning and answer that a replay asks for; None to draw them."""
    text = request.headers.get(b"x-harness-lengths")
    if text is None:
        return None
    reasoning, _, answer = text.partition(b",")
    if not all(part.isdigit() and len(part) <= 9 for part in (reasoning, answer)):
        raise BadRequestError("x-harness-lengths must be two whole numbers")
    return int(reasoning), int(answer)


def _repeat(request: HttpRequest) -> int:
    text = request.headers.get(b"x-harness-repeat", b"0")
    if not text.isdigit() or len(text) > 9:
        raise BadRequestError("x-harness-repeat must be a whole number of at least 0")
    return int(text)
