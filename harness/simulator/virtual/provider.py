"""The provider as a client in virtual time meets it: attempts go in, replies come out, on time.

Nothing here waits. Whoever drives it asks when the next thing happens, puts the clock there, and
calls `advance`. At one moment text comes before a deadline that it still keeps, and what is due
for several attempts comes in the order in which they arrived at the model.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from heapq import heappop, heappush, heapreplace
from typing import NamedTuple

from harness.config.faults import FaultKind
from harness.engine.deadlines import Limit, next_limit
from harness.engine.effects import Reply, Send
from harness.records.failures import CANCELLED, FAILURES
from harness.simulator.model import ServedRequest
from harness.simulator.rates import Rates
from harness.simulator.request_parser import make_ask
from harness.simulator.simulation import Refused, Simulation
from harness.simulator.virtual.replies import (
    DEADLINE,
    UNWANTED,
    Coming,
    Manner,
    refusal,
    without_text,
)


class ServedTrial(NamedTuple):
    """The trial that a provider serves.

    `settings`: the setting of each phase. `slowest_chunk`: the most nanoseconds between two chunks.
    Where that is less than a deadline between chunks, the deadline cannot pass and need not be
    watched chunk by chunk. `has_door`: faults may keep connections from being made.
    """

    model: str
    settings: Mapping[str, str]
    repeat: int
    slowest_chunk: int
    has_door: bool


class Flight:
    """One attempt under way; `reply` is there once it has ended. `waker`: who waits for it.

    `began`: when it began to make its connection. `coming` is None until that is made. `limit_at`:
    when its next deadline passes; `looked_at`: when that is looked at, None for never as yet.
    `first_text` is called when the first text has come.
    """

    __slots__ = ("began", "coming", "effect", "first_text", "limit_at", "looked_at", "reply",
                 "waker")  # fmt: skip

    def __init__(self, effect: Send, began: int, first_text: Callable[[], None]) -> None:
        self.effect = effect
        self.began = began
        self.limit_at = 0
        self.looked_at: int | None = None
        self.first_text = first_text
        self.coming: Coming | None = None
        self.reply: Reply | None = None
        self.waker: asyncio.Future[None] | None = None

    def limit(self) -> Limit:
        """Return the deadline that is next."""
        if self.coming is None:
            return next_limit(self.effect.deadlines, self.began, None, None)
        return self.coming.limit(self.effect.deadlines)


class VirtualProvider:
    """Serves the attempts of one trial. Every time is nanoseconds of the virtual clock.

    To connect takes no time. While a fault lets nobody connect an attempt waits outside, and goes
    out as soon as that is over; where connections are refused it fails at once.
    """

    def __init__(
        self, simulation: Simulation, rates: Rates, place: ServedTrial, manner: Manner
    ) -> None:
        self._simulation = simulation
        self._rates = rates
        self._place = place
        self._manner = manner
        self._open: dict[ServedRequest, Flight] = {}
        self._outside: list[Flight] = []
        self._shut_by: FaultKind | None = None
        self._change: int | None = None
        self._ended: list[Flight] = []
        self._limits: list[tuple[int, int, Flight]] = []
        self._count = 0

    def begin(
        self, now: int, effect: Send, first_text: Callable[[], None] = lambda: None
    ) -> Flight:
        """Send an attempt; one that is refused has ended at once."""
        flight = Flight(effect, now, first_text)
        if self._place.has_door:
            self._attend(now)
        if self._shut_by is None:
            self._enter(now, flight)
        elif self._shut_by.name == "connect_failed":
            flight.reply = without_text("connect_failed", sent=None, done=now)
        else:
            self._outside.append(flight)
            self._watch(flight)
        return flight

    def next_at(self) -> int | None:
        """Return the moment of the next thing that happens by itself; None when there is none."""
        if self._ended:
            return 0  # some time ago
        limits = self._limits
        while limits:
            at, count, flight = limits[0]
            if flight.reply is not None:
                heappop(limits)
            elif flight.limit_at > at:  # it has moved meanwhile
                flight.looked_at = flight.limit_at
                heapreplace(limits, (flight.limit_at, count, flight))
            else:
                break
        due = self._simulation.next_due()
        if limits and (due is None or limits[0][0] < due):
            due = limits[0][0]
        if self._change is not None and limits and due is not None and self._change < due:
            return self._change
        return due

    def advance(self, now: int) -> list[Flight]:
        """Let happen what is due until `now`; return the attempts that ended, in order."""
        for job, moments in self._simulation.pop_due(now).items():
            self._hear(job, moments)
        if self._place.has_door:
            self._attend(now)
        while self._limits and self._limits[0][0] <= now:
            _, _, flight = heappop(self._limits)
            if flight.reply is not None:
                continue
            if flight.limit_at > now:
                flight.looked_at = None
                self._watch(flight)
            else:
                self._leave(now, flight, flight.limit().outcome, DEADLINE)
                self._ended.append(flight)
        ended, self._ended = self._ended, []
        return ended

    def give_up(self, now: int, flight: Flight) -> Reply:
        """Return the reply of an attempt that is cancelled at `now`, or what it has come to."""
        if flight.reply is None:
            self._leave(now, flight, CANCELLED, UNWANTED)
        assert flight.reply is not None, "it has ended"
        return flight.reply

    def _enter(self, now: int, flight: Flight) -> None:
        """Send an attempt whose connection has been made."""
        request, manner = flight.effect.request, self._manner
        phase = flight.effect.key.phase
        ask = make_ask(
            request.messages,
            model=self._place.model,
            phase=self._place.settings.get(phase, phase),
            wants_json=request.json_mode,
            max_tokens=request.max_tokens,
            stream=manner.stream,
            include_usage=True,
        )
        watched = manner.stream and flight.effect.deadlines.idle <= self._place.slowest_chunk
        answer = self._simulation.arrive(now, ask, self._place.repeat, every_chunk=watched)
        if isinstance(answer, Refused):
            flight.reply = refusal(answer, now)
            return
        flight.coming = Coming(answer, now, manner, self._rates, watched)
        self._open[answer.job] = flight
        self._watch(flight)

    def _hear(self, job: ServedRequest, moments: list[int]) -> None:
        """Take the moments at which text came; none for a keep-alive."""
        flight = self._open.get(job)
        if flight is None:
            return  # given up at this very moment: a sibling's text came first
        coming = flight.coming
        assert coming is not None, "it has a connection"
        is_first = bool(moments) and not coming.moments
        coming.moments += moments
        if is_first and coming.completion.script.first:
            flight.first_text()
        if job.gone:
            del self._open[job]
            flight.reply = coming.whole()
            self._ended.append(flight)
        elif is_first or coming.has_stalled:
            self._watch(flight)  # the deadline may be an earlier one now
        elif coming.watched:
            flight.limit_at = flight.limit().at

    def _attend(self, now: int) -> None:
        """Do what the faults do to connections, those there are and those to come."""
        strike, self._change = self._simulation.connection(now)
        kind = None if strike is None else strike.kind
        if kind is self._shut_by:
            return
        self._shut_by = kind
        outside, self._outside = self._outside, []
        if kind is None:
            for flight in outside:
                self._enter(now, flight)
                if flight.reply is not None:
                    self._ended.append(flight)
            return
        for flight in list(self._open.values()):
            self._leave(now, flight, "connection_lost", FAILURES["connection_lost"].seen)
            self._ended.append(flight)
        for flight in outside:
            if kind.name == "connect_failed":
                flight.reply = without_text("connect_failed", sent=None, done=now)
                self._ended.append(flight)
            else:
                self._outside.append(flight)

    def _leave(self, now: int, flight: Flight, outcome: str, detail: str) -> None:
        """Hang up: the provider's place is free, and what had come by now is kept."""
        coming = flight.coming
        if coming is None:
            self._outside.remove(flight)
            flight.reply = without_text(outcome, sent=None, done=now, detail=detail)
            return
        told = self._simulation.told(now, coming.completion)
        self._simulation.cancel(now, coming.completion)
        del self._open[coming.completion.job]
        flight.reply = coming.broken_off(outcome, detail, now, told)

    def _watch(self, flight: Flight) -> None:
        """Look at its deadline when that passes; one that is looked at before has moved then."""
        flight.limit_at = at = flight.limit().at
        if flight.looked_at is None or at < flight.looked_at:
            flight.looked_at = at
            self._count += 1
            heappush(self._limits, (at, self._count, flight))
