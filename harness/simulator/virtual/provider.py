"""The provider in virtual time: it takes attempts and returns their replies at the right times.

Nothing in this module waits. The caller asks for the time of the next event, sets the clock to it
and calls `advance`. At equal times, text comes before a deadline, and events of several attempts
come in the order in which the attempts arrived at the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from heapq import heapify, heappop, heappush, heapreplace
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

from harness.config.faults import FaultKind
from harness.engine.branches import do_nothing
from harness.engine.deadlines import DEADLINE_PASSED, TOO_LATE, UNWANTED, Limit, next_limit
from harness.engine.effects import Reply, Request, Send, unsent
from harness.records.clock import SECOND
from harness.records.connections import KEEP_ALIVE_SECONDS, leaves_connection
from harness.records.failures import CANCELLED, FAILURES
from harness.simulator.memo import Memo, PromptMemory
from harness.simulator.model import ServedRequest
from harness.simulator.profiles import Profile
from harness.simulator.rates import Rates
from harness.simulator.request_parser import BadRequestError, ChatRequest, make_request
from harness.simulator.simulation import Refused, Simulation
from harness.simulator.virtual.replies import (
    IncomingResponse,
    bad_request,
    not_completed,
    without_text,
)
from harness.simulator.virtual.requests import read_sent

_NEVER = 1 << 63
"""Later than any time."""

_OUTDATED = 1000
"""The number of outdated deadlines that may stay in memory, besides as many as are in flight."""


class VirtualTarget(NamedTuple):
    """The simulated provider of a run.

    `thoughts`: whether the reasoning and the text of broken responses are needed. `settings`: the
    setting of each phase, under which the profile has lengths for it. `ids`: whether the records
    keep the ids that the provider gives to responses.
    """

    profile: Profile
    seed: int
    time_scale: float
    model: str
    stream: bool
    thoughts: bool
    settings: Mapping[str, str] = MappingProxyType({})
    ids: bool = True


GivenLengths = Mapping[tuple[int, str, int | None, int], tuple[int, int]]
"""The tokens of reasoning and answer by workflow, phase, branch and call."""


class VirtualTrial(NamedTuple):
    """One trial with a VirtualTarget. `memory`: shared with other trials, or None.

    `lengths`: of the responses to some calls; those of the others are drawn.
    """

    target: VirtualTarget
    cell: str
    repeat: int
    permits: int
    memory: PromptMemory | None = None
    lengths: GivenLengths | None = None


class Flight(msgspec.Struct, eq=False):
    """One attempt in flight. `reply` is set when it has ended. `owner`: who waits for it.

    `number`: by order of `begin`. `began`: when the connection attempt began; `connected`: when it
    ends, for an attempt that opens a connection. `response`: None until there is a connection.
    `limit_at`: the time of its next deadline; `checked_at`: when that is checked, None for no check
    scheduled. `first_text` is called when the first text arrives.
    """

    number: int
    effect: Send
    began: int
    first_text: Callable[[], None]
    connected: int = 0
    limit_at: int = 0
    checked_at: int | None = None
    response: IncomingResponse | None = None
    reply: Reply | None = None
    owner: Any = None

    def limit(self) -> Limit:
        """Return the next deadline."""
        if self.response is None:
            return next_limit(self.effect.deadlines, self.began, None, None)
        return self.response.limit(self.effect.deadlines)


class VirtualProvider:
    """Serves the attempts of one trial. All times are nanoseconds of the virtual clock.

    An attempt reuses an idle connection, or opens one, which takes the `connect` of the profile. A
    connection is idle after a complete response, for `KEEP_ALIVE_SECONDS` at most. While a fault
    leaves connections without an answer, an attempt waits, and it connects when the fault ends. If
    a fault refuses connections, an attempt fails at once.
    """

    def __init__(self, trial: VirtualTrial) -> None:
        target, profile = trial.target, trial.target.profile
        self._trial = trial
        self._rates = Rates()
        memory = (trial.memory or PromptMemory()).of(
            (profile, target.seed, target.model, target.stream)
        )
        self._simulation = Simulation(
            profile, target.seed, target.time_scale, trial.cell, self._rates, memory.scripts,
            has_names=target.ids,
        )  # fmt: skip
        # An idle deadline that is longer cannot pass, and is not checked for each chunk.
        self._slowest_chunk = self._simulation.slowest_chunk(trial.permits)
        self._prompts_slow = profile.prompts_slow
        self._longest = 0  # input tokens of a request
        self._connection_faults = any(fault.row.place == "connection" for fault in profile.faults)
        self._requests: Memo[tuple[Request, str], ChatRequest] = memory.requests
        self._open: dict[ServedRequest, Flight] = {}
        self._unconnected: list[Flight] = []
        nanoseconds = SECOND * target.time_scale
        self._connect = round(profile.connect * nanoseconds)
        self._keep_alive = round(KEEP_ALIVE_SECONDS * nanoseconds)
        self._idle: list[int] = []  # since when each idle connection is; the latest is used first
        self._connecting: dict[int, Flight] = {}  # by number, in the order in which they connect
        self._shut_by: FaultKind | None = None
        self._change: int | None = None
        self._ended: list[Flight] = []
        # The deadlines as (time, order, number of the flight). Few of them pass: new ones are put
        # into the heap only when one may be next, and most attempts have ended by then. With the
        # number, an attempt that has ended does not stay in memory. Both take 5 us less among 512.
        self._limits: list[tuple[int, int, int]] = []
        self._new_limits: list[tuple[int, int, int]] = []
        self._limits_from = _NEVER  # no deadline is earlier
        self._count = 0
        self._flights: dict[int, Flight] = {}  # those that wait, by number
        self._begun = 0

    def begin(self, now: int, effect: Send, first_text: Callable[[], None] = do_nothing) -> Flight:
        """Send an attempt. A refused attempt has ended when this returns."""
        self._begun = number = self._begun + 1
        flight = Flight(number, effect, now, first_text)
        if self._connection_faults:
            self._apply_faults(now)
        if self._shut_by is None:
            if self._connect and not self._reuse(now):
                self._open_connection(now, flight)
            else:
                self._enter(now, flight)
        elif self._shut_by.name == "connect_failed":
            self._end(flight, without_text("connect_failed", sent=None, done=now))
        else:
            self._unconnected.append(flight)
            self._watch(flight, flight.limit().at)
        return flight

    def next_at(self) -> int | None:
        """Return the time of the next event; None if there is none."""
        if self._ended:
            return 0  # in the past
        due = self._simulation.next_due()
        if self._connecting:
            connected = next(iter(self._connecting.values())).connected
            due = connected if due is None else min(due, connected)
        if due is None or self._limits_from <= due:
            limit = self._next_limit()
            if due is None or limit < due:
                due = None if limit == _NEVER else limit
        if self._change is not None and due is not None and self._change < due:
            return self._change if self._flights else due
        return due

    def advance(self, now: int) -> list[Flight]:
        """Process the events until `now`; return the attempts that have ended, in order."""
        for job, moments in self._simulation.pop_due(now).items():
            self._receive(job, moments)
        if self._connection_faults:
            self._apply_faults(now)
        if self._connecting:
            self._enter_connected(now)
        if self._limits_from <= now:
            self._check_limits(now)
        ended = self._ended
        if ended:
            self._ended = []
        return ended

    def give_up(self, now: int, flight: Flight) -> Reply:
        """Cancel an attempt at `now`, unless it has ended, and return its reply."""
        if flight.reply is None:
            self._leave(now, flight, CANCELLED, UNWANTED)
        assert flight.reply is not None, "it has ended"
        return flight.reply

    def _reuse(self, now: int) -> bool:
        """Take an idle connection, if there is one."""
        if not self._idle:
            return False
        if self._idle.pop() + self._keep_alive >= now:
            return True
        self._idle.clear()  # the others are idle for longer
        return False

    def _open_connection(self, now: int, flight: Flight) -> None:
        flight.connected = now + self._connect
        self._connecting[flight.number] = flight
        self._watch(flight, flight.limit().at)

    def _enter_connected(self, now: int) -> None:
        """Send the attempts whose connection is open."""
        for flight in list(self._connecting.values()):
            if flight.connected > now:
                return
            del self._connecting[flight.number]
            self._enter(now, flight)
            if flight.reply is not None:
                self._ended.append(flight)

    def _enter(self, now: int, flight: Flight) -> None:
        deadlines = flight.effect.deadlines
        if deadlines.send_by is not None and now >= deadlines.send_by:
            self._end(flight, unsent(TOO_LATE, DEADLINE_PASSED, now))
            return
        target = self._trial.target
        asked = (flight.effect.request, flight.effect.key.phase)
        chat = self._requests.get(asked)
        if chat is None:
            try:
                chat = self._parse(*asked)
            except BadRequestError as error:
                self._end(flight, bad_request(str(error), now))
                return
        if self._trial.lengths is not None:
            key = flight.effect.key
            given = self._trial.lengths.get((key.workflow, key.phase, key.branch, key.call))
            if given is not None:
                chat = msgspec.structs.replace(chat, lengths=given)
        if self._prompts_slow and chat.input_tokens > self._longest:
            self._longest = chat.input_tokens
            permits = self._trial.permits
            self._slowest_chunk = self._simulation.slowest_chunk(permits, self._longest)
        watched = chat.stream and deadlines.idle <= self._slowest_chunk
        answer = self._simulation.arrive(now, chat, self._trial.repeat, every_chunk=watched)
        if isinstance(answer, Refused):
            self._end(flight, not_completed(answer, answer.retry_after, now, now))
            return
        flight.response = IncomingResponse(
            answer, now, self._simulation, self._rates, target.thoughts, watched
        )
        self._open[answer.job] = flight
        self._watch(flight, next_limit(deadlines, None, now, None).at)

    def _parse(self, request: Request, phase: str) -> ChatRequest:
        target = self._trial.target
        setting = target.settings.get(phase, phase)
        if request.body:
            chat = read_sent(request, target.model, target.stream, setting)
        else:
            chat = make_request(
                [(one.role, one.reasoning + one.content) for one in request.messages],
                model=target.model,
                phase=setting,
                wants_json=request.json_mode,
                max_tokens=request.max_tokens,
                stream=target.stream,
                include_usage=True,
            )
        if request.lengths is not None:
            chat = msgspec.structs.replace(chat, lengths=request.lengths)
        return self._requests.keep((request, phase), chat, chat.input_tokens)

    def _receive(self, job: ServedRequest, moments: list[int]) -> None:
        """Process the times at which text came; an empty list means a keep-alive."""
        flight = self._open.get(job)
        if flight is None:
            return  # cancelled at this time, because the text of its sibling came first
        response = flight.response
        assert response is not None, "it has a connection"
        is_first = bool(moments) and not response.moments
        response.moments += moments
        if is_first and response.completion.script.first:
            flight.first_text()
        if job.gone:
            del self._open[job]
            self._end(flight, response.ended())
            self._ended.append(flight)
        elif response.watched or response.completion.fault is not None:
            self._watch(flight, flight.limit().at)  # the deadline can be earlier now
        else:
            flight.limit_at = flight.effect.deadlines.end  # the only deadline from now on

    def _apply_faults(self, now: int) -> None:
        if self._change is not None and self._change <= now:
            self._idle.clear()  # there may have been a whole outage, with nothing in flight
        strike, self._change = self._simulation.connection(now)
        kind = None if strike is None else strike.kind
        if kind is self._shut_by:
            return
        self._shut_by = kind
        unconnected, self._unconnected = self._unconnected, []
        if kind is None:
            for flight in unconnected:
                if self._connect:
                    self._open_connection(now, flight)
                    continue
                self._enter(now, flight)
                if flight.reply is not None:
                    self._ended.append(flight)
            return
        unconnected += self._connecting.values()
        self._connecting.clear()
        for flight in list(self._open.values()):
            self._leave(now, flight, "connection_lost", FAILURES["connection_lost"].seen)
            self._ended.append(flight)
        if kind.name != "connect_failed":
            self._unconnected += unconnected
            return
        for flight in unconnected:
            self._end(flight, without_text("connect_failed", sent=None, done=now))
        self._ended += unconnected

    def _leave(self, now: int, flight: Flight, outcome: str, detail: str) -> None:
        """End an attempt: the provider stops serving it, and its reply has the text so far."""
        response = flight.response
        if response is None:
            if self._connecting.pop(flight.number, None) is None:
                self._unconnected.remove(flight)
            self._end(flight, without_text(outcome, sent=None, done=now, detail=detail))
            return
        made = self._simulation.tokens_made(now, response.completion)
        self._simulation.cancel(now, response.completion)
        del self._open[response.completion.job]
        self._end(flight, response.aborted(outcome, detail, now, made))

    def _check_limits(self, now: int) -> None:
        """End the attempts whose deadline has passed."""
        self._sort_limits()
        limits = self._limits
        while limits and limits[0][0] <= now:
            flight = self._flights.get(heappop(limits)[2])
            if flight is None:
                continue
            if flight.limit_at > now:
                flight.checked_at = None
                self._watch(flight, flight.limit().at)
                self._sort_limits()
            else:
                self._leave(now, flight, flight.limit().outcome, DEADLINE_PASSED)
                self._ended.append(flight)
        self._limits_from = limits[0][0] if limits else _NEVER

    def _next_limit(self) -> int:
        """Return the next deadline of an attempt in flight; `_NEVER` without one."""
        self._sort_limits()
        limits = self._limits
        while limits:
            at, count, number = limits[0]
            flight = self._flights.get(number)
            if flight is None:
                heappop(limits)
            elif flight.limit_at > at:  # the deadline has moved
                flight.checked_at = flight.limit_at
                heapreplace(limits, (flight.limit_at, count, number))
            else:
                break
        self._limits_from = limits[0][0] if limits else _NEVER
        return self._limits_from

    def _sort_limits(self) -> None:
        """Put the new deadlines of attempts in flight into the heap."""
        for entry in self._new_limits:
            if entry[2] in self._flights:
                heappush(self._limits, entry)
        self._new_limits.clear()

    def _watch(self, flight: Flight, at: int) -> None:
        """Schedule a check of the deadline `at`, unless an earlier check is scheduled."""
        flight.limit_at = at
        if flight.checked_at is None or at < flight.checked_at:
            flight.checked_at = at
            self._flights[flight.number] = flight
            self._count += 1
            self._new_limits.append((at, self._count, flight.number))
            if at < self._limits_from:
                self._limits_from = at
            scheduled = len(self._limits) + len(self._new_limits)
            if scheduled > 2 * len(self._flights) + _OUTDATED:
                self._sort_limits()
                self._limits[:] = [entry for entry in self._limits if entry[2] in self._flights]
                heapify(self._limits)

    def _end(self, flight: Flight, reply: Reply) -> None:
        flight.reply = reply
        self._flights.pop(flight.number, None)
        if self._connect and leaves_connection(reply.outcome, reply.status, reply.finish_reason):
            self._idle.append(reply.done)
