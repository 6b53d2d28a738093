"""The HTTP API: routes, the timer that drives the simulation, and control requests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import msgspec

from harness.config.faults import FaultKind
from harness.records.clock import ReadClock
from harness.records.provider_log import Served
from harness.records.schema import Tokens
from harness.simulator import wire
from harness.simulator.fault_responses import refuse
from harness.simulator.http_server import Connection, HttpRequest, HttpResponse
from harness.simulator.listener import Listener
from harness.simulator.log import Log
from harness.simulator.model import ServedRequest
from harness.simulator.profiles import Profile
from harness.simulator.request_parser import BadRequestError, parse_request
from harness.simulator.response_writer import Caller, ResponseWriter, trace_context
from harness.simulator.simulation import Refused, Simulation


class TrialStart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of POST /simulator/trial: all later requests belong to this cell and repeat."""

    cell: str
    repeat: int


class Api:
    """Answers requests with the results of a simulation that one timer drives.

    Create it inside a running event loop. `now` returns nanoseconds since the log's anchor. Faults
    that prevent connections shut `listener`; without it, they have no effect.
    """

    def __init__(
        self,
        profile: Profile,
        seed: int,
        time_scale: float,
        log: Log,
        now: ReadClock,
        listener: Listener | None = None,
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
        self._simulation = Simulation(profile, seed, time_scale, None)
        self._routes: dict[str, tuple[str, Callable[[HttpRequest, HttpResponse], None]]] = {
            "/v1/chat/completions": ("POST", self._complete),
            "/v1/models": ("GET", self._models),
            "/health": ("GET", self._health),
            "/simulator/trial": ("POST", self._trial),
        }

    def connection(self) -> Connection:
        """Return the protocol of a new connection."""
        return Connection(self._handle, self._connections)

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self._connections)

    def stop(self) -> None:
        """Abort all requests in service and close all connections."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._cut_all("server_stopped")
        for connection in list(self._connections):
            connection.close()

    def _handle(self, request: HttpRequest, reply: HttpResponse) -> None:
        known = self._routes.get(request.path)
        if known is None:
            message = f"no such path: {request.path}; try {', '.join(self._routes)}"
            body = wire.error_body(message, "invalid_request_error", "not_found")
            reply.send(404, wire.JSON_HEADERS, body)
            return
        method, act = known
        if request.method != method:
            body = wire.error_body(f"{request.path} takes {method} only", "invalid_request_error")
            reply.send(405, wire.JSON_HEADERS | {"allow": method}, body)
            return
        act(request, reply)

    def _complete(self, request: HttpRequest, reply: HttpResponse) -> None:
        trace, span = trace_context(request.headers)
        caller = Caller(trace, span, self._cell, 0, self._now())
        try:
            caller = caller._replace(repeat=_repeat(request))
            ask = parse_request(request.body, _phase(request))
        except BadRequestError as error:
            arrival = self._simulation.count(caller.repeat, request.body)
            body = wire.error_body(str(error), "invalid_request_error", None, error.param)
            reply.send(400, wire.JSON_HEADERS, body)
            active = self._simulation.active
            self._log_refusal(caller, arrival, active, False, "bad_request", 400)
            return
        answer = self._simulation.arrive(caller.arrived, ask, caller.repeat)
        if isinstance(answer, Refused):
            refuse(reply, answer, ask.stream, self._time_scale)
            fault = None if answer.fault is None else answer.fault.kind.name
            outcome = "connection_lost" if _prevents_connection(answer) else answer.outcome
            self._log_refusal(
                caller, answer.arrival, answer.active, ask.stream, outcome, answer.status, fault
            )
            self._set_timer()
            return
        exchange = ResponseWriter(
            reply, answer, caller, self._now, int(time.time()), self._time_scale
        )
        reply.on_close = lambda: self._client_closed(exchange)
        self._open[answer.job] = exchange
        self._set_timer()

    def _client_closed(self, exchange: ResponseWriter) -> None:
        if self._open.pop(exchange.completion.job, None) is not None:
            self._simulation.cancel(self._now(), exchange.completion)
            self._log.write(exchange.served("client_closed"))
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
                trace_id=caller.trace_id,
                span_id=caller.span_id,
                cell=caller.cell,
                repeat=caller.repeat,
                arrival=arrival,
                streamed=streamed,
                arrived=caller.arrived,
                first_scheduled=None,
                first_written=None,
                first_answer_written=None,
                last_scheduled=None,
                last_written=None,
                done=self._now(),
                outcome=outcome,
                status=status,
                active=active,
                tokens=Tokens(),
                chunks=0,
                gaps={},
                lateness={},
                fault=fault,
            )
        )

    def _set_timer(self) -> None:
        """Set the timer to the next event."""
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
            exchange = self._open[job]
            exchange.deliver(scheduled, job.gone)
            if job.gone:
                del self._open[job]
                self._log.write(exchange.served(exchange.completion.outcome))
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

    def _trial(self, request: HttpRequest, reply: HttpResponse) -> None:
        try:
            trial = msgspec.json.decode(request.body, type=TrialStart)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            body = wire.error_body(
                f'{error}; send {{"cell": "…", "repeat": 0}}', "invalid_request_error"
            )
            reply.send(400, wire.JSON_HEADERS, body)
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
        for exchange in cut:
            self._simulation.cancel(self._now(), exchange.completion)
            exchange.abort()
            self._log.write(exchange.served(outcome, by))


def _prevents_connection(refused: Refused) -> bool:
    """Return whether a fault prevents the connection that the request came over."""
    return refused.fault is not None and refused.fault.kind.place == "connection"


def _repeat(request: HttpRequest) -> int:
    text = request.headers.get(b"x-harness-repeat", b"0")
    if not text.isdigit() or len(text) > 9:
        raise BadRequestError("x-harness-repeat must be a whole number of at least 0")
    return int(text)


def _phase(request: HttpRequest) -> str | None:
    """Return the phase in the request's header; None if there is none."""
    text = request.headers.get(b"x-harness-phase", b"")
    return text.decode(errors="replace") or None
