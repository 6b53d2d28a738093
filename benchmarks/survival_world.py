"""The world of `benchmarks.survival`: a disk, a provider, a collector and clocks that go wrong.

Runs in real time are played too, by the code that measures: with the simulated provider's model
behind it instead of HTTP, and a clock that jumps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from random import Random
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import msgspec

from benchmarks.survival_collector import Collector
from benchmarks.survival_disk import Disk, ignore
from harness.bench.scenario import Scenario
from harness.config.request_settings import NO_KEY
from harness.endpoints.section import EndpointServer
from harness.engine import effects
from harness.engine.deadlines import TOO_LATE
from harness.records.clock import SECOND, Anchor, ReadClock
from harness.records.schema import Attempt, Spent
from harness.records.timer_lag import NO_LAG, TimerLag
from harness.simulator.profiles import Profile
from harness.simulator.virtual.clock import VirtualClock
from harness.simulator.virtual.gaps import SlicedGaps, compute
from harness.simulator.virtual.modes import VIRTUAL_MODES
from harness.simulator.virtual.provider import Flight, VirtualProvider, VirtualTarget, VirtualTrial
from harness.store import run_directory
from harness.telemetry.export import Exporter

NOTHING = Spent(attempts=0, tokens=0, nano_usd=0)


class Bill:
    """What the provider has counted in all sessions of a run in real time: attempts and tokens."""

    def __init__(self) -> None:
        self.attempts = self.tokens = 0
        self._open: list[Flight] = []

    def note(self, flight: Flight) -> None:
        """Count an attempt that is sent."""
        self.attempts += 1
        self._open.append(flight)

    def limit(self, booked: Spent) -> None:
        """Forget what is not booked any more."""
        self.update()
        self._open = []  # their session is over
        self.attempts = min(self.attempts, booked.attempts)
        self.tokens = min(self.tokens, booked.tokens)

    def update(self) -> None:
        """Count the tokens of the attempts that have ended."""
        for flight in self._open:
            if flight.reply is not None:
                self.attempts -= flight.reply.outcome == TOO_LATE
                self.tokens += used(flight)[0]
        self._open = [flight for flight in self._open if flight.reply is None]


def used(flight: Flight) -> tuple[int, bool]:
    """Return the tokens that an attempt used at least, and whether it used no others."""
    reply = flight.reply
    if reply is not None:
        if reply.sent is None or (reply.status is not None and reply.status >= 300):
            return 0, True
        tokens = reply.tokens
        if tokens.input is not None and tokens.output is not None:
            return tokens.input + tokens.output, True
    return made(flight), False


def made(flight: Flight) -> int:
    """Return the tokens that the provider has read and made, whether it has reported them."""
    response = flight.response
    if response is None or not response.moments:
        return 0
    fault, ends = response.completion.fault, response.completion.script.ends
    if fault is not None and fault.kind.place == "instead":
        return 0
    return (response.completion.tokens.input or 0) + ends[len(response.moments) - 1]


class Provider:
    """What the provider has counted in a session, and what the budget has booked.

    `bill`: of all sessions, of a run in real time. `seconds`: the budget of seconds, in
    nanoseconds; `elapsed`: the part of it that earlier sessions have used in virtual time, or the
    time in which the run in real time was not running.
    """

    def __init__(self, interrupt_at: int | None, bill: Bill | None) -> None:
        self._until_interrupt = interrupt_at
        self._bill = bill
        self._flights: list[Flight] = []
        self._unsent = 0
        self.is_counted = False
        self.booked = NOTHING
        self.seconds: int | None = None
        self.elapsed = 0

    def new_trial(self) -> None:
        """Begin to count."""
        self._check_seconds()
        if self._bill is None:
            ends = (flight.reply.done for flight in self._flights if flight.reply is not None)
            self.elapsed += max(ends, default=0)
            self._flights, self._unsent = [], 0

    def note(self, flight: Flight) -> None:
        """Count an attempt that the provider has got."""
        self._flights.append(flight)
        if flight.reply is not None and flight.reply.outcome == TOO_LATE:
            return
        if self._bill is not None:
            self._bill.update()
            self._bill.note(flight)
            if self.is_counted:
                assert self._bill.attempts <= self.booked.attempts, "it is booked before it is sent"

    def _check_seconds(self) -> None:
        """Check when the attempts that have ended were sent."""
        elapsed = self.elapsed if self._bill is None else -self.elapsed
        for flight in self._flights:
            sent = None if flight.reply is None else flight.reply.sent
            if sent is not None and self.seconds is not None:
                ran = sent + elapsed
                assert ran <= self.seconds, "nothing is sent after the seconds of the budget"

    def interrupt(self) -> None:
        """Press Ctrl-C if the next attempt is the one before which it comes."""
        if self._until_interrupt is not None:
            self._until_interrupt -= 1
            if self._until_interrupt == 0:
                raise KeyboardInterrupt

    def note_unsent(self) -> None:
        """Count an attempt that was charged and not sent."""
        self._unsent += 1

    def book(self, line: bytes) -> None:
        """Compare a line of spending with what was counted before it."""
        spent = msgspec.json.decode(line, type=Spent)
        if self._bill is None:
            self._compare(spent, self.booked)
            self.new_trial()
        else:
            self._bill.update()
            assert spent.tokens >= self._bill.tokens, "tokens, by the provider's count"
        self.booked = spent

    def close(self, begun: Spent) -> None:
        """Check a session that has ended: in real time, what was booked since `begun`."""
        self._check_seconds()
        if self._bill is not None and self.is_counted:
            self._compare(self.booked, begun, is_over=True)

    def _compare(self, spent: Spent, before: Spent, *, is_over: bool = False) -> None:
        """Compare what was booked since `before` with the attempts that were counted since then."""
        late = [
            flight
            for flight in self._flights
            if flight.reply is not None and flight.reply.outcome == TOO_LATE
        ]
        attempts = len(self._flights) - len(late) + self._unsent
        # An interrupted attempt is booked at its worst case, whether it was sent or not. In real
        # time, an attempt that came too late stays booked until the next line.
        most = int(self._until_interrupt == 0) + (len(late) if is_over else 0)
        extra = spent.attempts - before.attempts - attempts
        assert 0 <= extra <= most, "attempts, by the provider's count"
        counted = [used(flight) for flight in self._flights if flight not in late]
        tokens = sum(amount for amount, _ in counted)
        booked = spent.tokens - before.tokens
        assert booked >= tokens, "tokens, by the provider's count"
        if extra == 0 and all(is_known for _, is_known in counted):
            assert booked == tokens, "tokens, all of which are known"


@dataclass
class Session:
    """What one session meets. `unix_ns`: the system's clock at its start.

    `traces`: what makes and sends its spans, if there is any.
    """

    random: Random
    provider: Provider
    disk: Disk
    collector: Collector
    unix_ns: int
    traces: Exporter | None = None


@contextmanager
def faults_at_every_seam(session: Session) -> Iterator[None]:
    """Put the faults of one session into the harness."""
    provider, random = session.provider, session.random
    begin, opened, unsent = VirtualProvider.begin, VirtualProvider.__init__, effects.unsent

    def begin_counted(self: VirtualProvider, *arguments: Any) -> Flight:
        provider.interrupt()
        flight = begin(self, *arguments)
        provider.note(flight)
        return flight

    def opened_counted(self: VirtualProvider, *arguments: Any) -> None:
        opened(self, *arguments)
        provider.new_trial()

    def unsent_counted(*arguments: Any) -> Any:
        provider.note_unsent()
        return unsent(*arguments)

    anchor = Anchor(unix_ns=session.unix_ns, monotonic_ns=random.randrange(1000 * SECOND))
    places: Mapping[str, Any] = {
        "harness.simulator.virtual.provider.VirtualProvider.begin": begin_counted,
        "harness.simulator.virtual.provider.VirtualProvider.__init__": opened_counted,
        "harness.simulator.virtual.scheduler.unsent": unsent_counted,
        **anchors(anchor),
    }
    with session.disk.mounted(provider.book), session.collector.listening(), patched(places):
        yield


def anchors(anchor: Anchor) -> dict[str, Any]:
    """Return the places of what reads the clocks at the start of a session."""
    return {
        f"harness.bench.{module}.take_anchor": lambda: anchor for module in ("runner", "resume")
    }


@contextmanager
def patched(places: Mapping[str, Any]) -> Iterator[None]:
    """Replace what is at these places."""
    with ExitStack() as stack:
        for name, value in places.items():
            stack.enter_context(patch(name, value))
        yield


@contextmanager
def without_http(
    scenario: Scenario, profile: dict[str, Any], started: Callable[[int], None]
) -> Iterator[None]:
    """Measure a run in real time without HTTP, on a clock that jumps.

    `started` is called with the time at which a session starts, by the anchor that
    `faults_at_every_seam` has set.
    """
    clock, trial = VirtualClock(), list[tuple[str, int]]()
    target = VirtualTarget(
        Profile.model_validate(profile), scenario.seed, scenario.time_scale,
        scenario.endpoint.model, scenario.endpoint.stream, thoughts=False,
        settings=scenario.plan.settings,
    )  # fmt: skip

    def since(zero: Anchor) -> ReadClock:
        clock.time = resolve_name("harness.bench.resume.take_anchor")().monotonic_ns
        clock.time -= zero.monotonic_ns
        started(clock.time)
        return clock.now

    def run_mode(name: str) -> Callable[..., TimerLag]:
        def mode(
            program: Any,
            _: object,
            permits: int,
            __: object,
            emit: Any,
            gate: Any,
            adaptive: Any,
            ___: object,
        ) -> Any:
            played = VirtualTrial(target, *trial[-1], permits)
            measured = lambda one: emit(as_measured(one))  # noqa: E731
            VIRTUAL_MODES[name](program, played, clock, measured, gate, adaptive)
            return NO_LAG

        return mode

    @contextmanager
    def server(*_: object) -> Iterator[EndpointServer]:
        yield EndpointServer("http://127.0.0.1:9", NO_KEY, lambda *key: trial.append(key))

    stopped = SimpleNamespace(**dict.fromkeys(_CLOCKS, lambda: 0))
    with patched(
        {
            "harness.bench.modes.MODES": {name: run_mode(name) for name in VIRTUAL_MODES},
            "harness.bench.modes.prepare_client": ignore,
            "harness.bench.measured_share._quiet_collector": nullcontext,  # is slow
            "harness.bench.runner.monotonic_since": since,
            "harness.bench.runner.time": stopped,
            "harness.bench.measured_share.time": stopped,
            "harness.endpoints.simulated.SimulatedEndpoint.server": server,
        }
    ):
        yield


_CLOCKS = ("monotonic_ns", "process_time_ns", "thread_time_ns")


def as_measured(record: Any) -> Any:
    """Return a record of virtual time with gaps as in real time."""
    if isinstance(record, Attempt) and isinstance(record.gaps, SlicedGaps):
        compute([record.gaps])
        return msgspec.structs.replace(record, gaps=dict(record.gaps.histogram))
    return record


def last_moment(run: Path) -> int:
    """Return the end of the last attempt or workflow that is recorded, or 0."""
    records = run_directory.read_records(run)
    ends = [one.done for one in records.attempts] + [one.done for one in records.workflows]
    return max(ends, default=0)
