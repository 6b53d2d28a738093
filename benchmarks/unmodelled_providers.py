"""Simulated providers with mechanisms that the profile of a provider cannot describe. Virtual time.

    python -m benchmarks.unmodelled_providers [--repeats 5]

They answer what a conclusion from simulated trials is worth if the real server does something that
the simulation lacks. Each provider has a valid profile, its base, and a mechanism beside it:

- blocking prefill: while the server reads a prompt, it decodes nothing. It reads one prompt after
  another, in the order in which they are ready, and a read that has begun cannot be cancelled.
- front end: one serial process accepts each request and sends each chunk. The chunks come first,
  and requests share what they leave. Beyond 90 % for the chunks, decoding slows down.
- busy tenant: requests of another client come in on and off periods, take slots and slow decoding.
- tenant at the cap: the same, and its requests count in the concurrency cap.

`playing()` of a provider makes all virtual trials of this process use its mechanism; the profile of
the trials is passed as usual and need not be its base. What a mechanism draws is determined by
seed, repeat and cell. The gaps between chunks are exact for responses of up to 2048 chunks.

The command prints the makespans of a scenario with and without each mechanism.
"""

from __future__ import annotations

import argparse
import sys
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache, partial
from heapq import heappop, heappush
from random import Random
from statistics import median
from typing import Any, NamedTuple
from unittest.mock import patch

from harness.bench import cells
from harness.bench.resume import RunProgress
from harness.bench.scenario import Scenario
from harness.bench.scenario_file import parse_scenario
from harness.bench.virtual import Played, Task, opening, play
from harness.records.clock import SECOND, Anchor
from harness.records.schema import SCHEMA, Run
from harness.simulator.draws import Draws
from harness.simulator.model import Model, ServedRequest
from harness.simulator.pace import Pace
from harness.simulator.plan import Chain
from harness.simulator.profiles import load_profile
from harness.simulator.rates import Rates
from harness.simulator.request_parser import ChatRequest
from harness.simulator.simulation import Refused, ServedCompletion, Simulation

_NEVER = 1 << 63
"""Later than any time."""

_LONGEST_SILENCE = 25.0
"""Scenario seconds for which a mechanism may stop the decoding. A shorter idle deadline makes the
provider look at each chunk; the default of scenarios is longer."""

_EXACT_GAPS = 2048
"""Chunks of a response up to which each gap has its own time."""


class Seconds(NamedTuple):
    """The length of a scenario second in nanoseconds."""

    nanoseconds: float

    def of(self, seconds: float) -> int:
        """Return a duration in nanoseconds, at least 1."""
        return max(1, round(seconds * self.nanoseconds))


class EventfulModel(Model):
    """A model with events of its own, at `_event_at`; at equal times, those of `Model` come first.

    `prompt_tokens`: the length of the prompt of the next request to arrive, set by the caller.
    """

    def __init__(self, pace: Pace, slots: int | None, rates: Rates | None) -> None:
        super().__init__(pace, slots, rates)
        self._event_at = _NEVER
        self._settled = -_NEVER
        self.prompt_tokens = 0

    def start(self, now: int, random: Random) -> None:
        """Begin a trial: its first request comes at `now`. `random`: what the mechanism draws."""

    def settle(self, now: int) -> None:
        """Process all events until `now`; `pop_due` returns them later."""
        while (at := min(self._next, self._event_at)) <= now:
            super().settle(at)
            if self._event_at <= at:
                self._on_event(at)
                self._find_next()
        self._settled = now

    def next_due(self) -> int | None:
        """Return the time of the next event; None if there is none."""
        if self._out:
            return self._out_at
        due = min(self._next, self._event_at)
        return None if due == _NEVER else max(due, self._settled)

    @abstractmethod
    def _on_event(self, at: int) -> None:
        """Process the event at `_event_at` and set the time of the next."""


class BlockingPrefill(EventfulModel):
    """Decoding stands still while a prompt is read; prompts are read one after another.

    A prompt is ready when the wait of its request is over, and is read for `each` seconds and
    `per_token` seconds for each of its tokens. Its first tokens come at the end.
    """

    def __init__(
        self,
        pace: Pace,
        slots: int | None,
        rates: Rates | None,
        time: Seconds,
        *,
        each: float,
        per_token: float,
    ) -> None:
        super().__init__(pace, slots, rates)
        self._time, self._each, self._per_token = time, each, per_token
        self._longest = time.of(_LONGEST_SILENCE)
        self._unread: list[tuple[int, int, ServedRequest, int]] = []  # ready, order, job, tokens
        self._prompts: dict[ServedRequest, int] = {}  # of the requests that wait for a slot
        self._stands_from = 0  # the start of the last pause, and its end
        self._resumes = -_NEVER

    def arrive(
        self,
        now: int,
        wait: int | None,
        writes: Sequence[int],
        patience: int | None = None,
        *,
        holds: bool = False,
        needs_slot: bool = True,
        context: int = 0,
        reading: int | None = None,
    ) -> ServedRequest:
        """Admit a request; see `Model.arrive`."""
        if not needs_slot:
            self.prompt_tokens = 0  # it is answered without being read
        job = super().arrive(
            now, wait, writes, patience, holds=holds, needs_slot=needs_slot, context=context,
            reading=reading,
        )  # fmt: skip
        if needs_slot and self._free is not None and not job.has_slot:
            self._prompts[job] = self.prompt_tokens
        return job

    def work_done(self, now: int, job: ServedRequest) -> float | None:
        """Return the virtual work of a request; see `Model.work_done`."""
        self.settle(now)
        if now < self._since and job.decoding and not job.gone:
            return self._work - job.start
        return super().work_done(now, job)

    def _begin(self, at: int, job: ServedRequest) -> None:
        tokens = self._prompts.pop(job, self.prompt_tokens)
        if job.wait is None or not tokens:
            super()._begin(at, job)
            return
        self._count += 1
        heappush(self._unread, (at + job.wait, self._count, job, tokens))
        self._event_at = max(self._unread[0][0], self._resumes)

    def _on_event(self, at: int) -> None:
        _, _, job, tokens = heappop(self._unread)
        if not job.gone:
            job.first_at = at + self._time.of(self._each + self._per_token * tokens)
            self._stand_still(at, job.first_at)
            self._push_moment(job.first_at, job)
        self._event_at = max(self._unread[0][0], self._resumes) if self._unread else _NEVER

    def _stand_still(self, at: int, until: int) -> None:
        """Stop the virtual work: what was done at `at` is continued at `until`."""
        self._share(at, self.decoding)
        if at > self._resumes:
            self._stands_from = at
        assert until - self._stands_from <= self._longest, "an idle deadline could be missed"
        self._since = self._resumes = until
        if self._rates is not None:
            self._rates.note(self._earlier + self._work, until, self._itl)

    def _share(self, at: int, decoding: int) -> None:
        super()._share(max(at, self._resumes), decoding)


class FrontEnd(EventfulModel):
    """A serial process before the model, with a queue.

    Each request takes `each` seconds of it, and each token that is sent `per_token`. Tokens take
    precedence, but at most the share `most`: with more, decoding is as slow as the front end.
    Refusals take nothing, and neither do requests that are cancelled in the queue.
    """

    def __init__(
        self,
        pace: Pace,
        slots: int | None,
        rates: Rates | None,
        time: Seconds,
        *,
        each: float,
        per_token: float,
        most: float,
    ) -> None:
        super().__init__(pace, slots, rates)
        self._each, self._per_token, self._most = time.of(each), time.of(per_token), most
        self._itl_of = cache(lambda n: max(pace.itl(n), n * self._per_token / most))
        self._line: deque[ServedRequest] = deque()
        self._left = 0.0  # nanoseconds of the front end that the first in line still needs, at:
        self._left_at = 0
        self._speed = 1.0  # the share of the front end that requests have

    def _begin(self, at: int, job: ServedRequest) -> None:
        if job.wait is None:
            super()._begin(at, job)
            return
        self._line.append(job)
        if len(self._line) == 1:
            self._serve_next(at)

    def _on_event(self, at: int) -> None:
        job = self._line.popleft()
        self._serve_next(at)
        if not job.gone:
            super()._begin(at, job)

    def _serve_next(self, at: int) -> None:
        while self._line and self._line[0].gone:
            self._line.popleft()
        self._left, self._left_at = float(self._each), at
        self._schedule()

    def _schedule(self) -> None:
        end = self._left_at + max(0, round(self._left / self._speed))
        self._event_at = end if self._line else _NEVER

    def _share(self, at: int, decoding: int) -> None:
        self._left -= (at - self._left_at) * self._speed
        self._left_at = at
        super()._share(at, decoding)
        self._speed = 1 - min(decoding * self._per_token / self._itl, self._most)
        self._schedule()


class OtherTenant(EventfulModel):
    """Requests of another client, which come and go unseen.

    Periods with its requests last `on` seconds in the mean, periods without `off`, both
    exponential. In the former there are `per_second` requests a second, Poisson. Each has a wait
    with the median `wait` and an output with the median of `tokens`, both log-normal with `sigma`.
    With `refused_at` requests in service, theirs and the client's, a request is refused and does
    not come again. Its first period begins `early` seconds before the trial.
    """

    def __init__(
        self,
        pace: Pace,
        slots: int | None,
        rates: Rates | None,
        time: Seconds,
        *,
        on: float,
        off: float,
        per_second: float,
        tokens: int,
        sigma: float,
        refused_at: int,
        wait: float = 0.3,
        early: float = 60.0,
    ) -> None:
        super().__init__(pace, slots, rates)
        self._on_off = (time.of(on), time.of(off))
        self._between, self._early = time.of(1 / per_second), time.of(early)
        self._wait, self._tokens, self._sigma = time.of(wait), tokens, sigma
        self._refused_at = refused_at
        self._own: set[ServedRequest] = set()

    def start(self, now: int, random: Random) -> None:
        """Begin a trial; see `EventfulModel.start`."""
        self._random = random
        self._periods = Chain(*self._on_off, random)
        self._from = now - self._early
        self._event_at = self._next_arrival(self._from)

    def pop_due(self, now: int) -> dict[ServedRequest, list[int]]:
        """Return what is due for the requests of the client; see `Model.pop_due`."""
        out = super().pop_due(now)
        for job in [job for job in out if job in self._own]:
            del out[job]
            if job.gone:
                self._own.remove(job)
        return out

    def _on_event(self, at: int) -> None:
        self._event_at = self._next_arrival(at)
        wait, length = (
            max(1, round(middle * self._random.lognormvariate(0.0, self._sigma)))
            for middle in (self._wait, self._tokens)
        )
        if self.active < self._refused_at:
            self._own.add(self.arrive(at, wait, [length - 1]))

    def _next_arrival(self, at: int) -> int:
        while True:
            change = self._periods.next_change(at - self._from)
            assert change is not None, "periods have no end"
            after = at + max(1, round(self._random.expovariate(1.0) * self._between))
            if self._periods.holds(at - self._from) and after < self._from + change:
                return after
            at = self._from + change  # exponential times have no memory: draw anew


BuildModel = Callable[[Pace, int | None, Rates | None, Seconds], EventfulModel]
"""Builds the model of one trial from the speed, the slots, the history and the time scale."""


class UnmodelledSimulation(Simulation):
    """One trial at a provider with a mechanism; see `Simulation` for the other parameters."""

    def __init__(self, build: BuildModel, *settings: Any, **further: Any) -> None:
        super().__init__(*settings, **further)
        time = Seconds(self._nanoseconds)
        plain = self._model
        slots = self._profile.slots
        self._model: EventfulModel = build(self._pace, slots, plain._rates, time)
        self._model.ended = plain.ended
        self._silence = time.of(_LONGEST_SILENCE)

    def slowest_chunk(self, at_once: int, longest: int = 0) -> int:
        """Return the maximum nanoseconds between two chunks with `at_once` requests in service."""
        return super().slowest_chunk(at_once, longest) + self._silence

    def arrive(
        self, now: int, request: ChatRequest, repeat: int, every_chunk: bool = True
    ) -> ServedCompletion | Refused:
        """Admit or refuse a request; see `Simulation.arrive`."""
        if self._zero is None:
            draws = Draws(self._seed, repeat, f"cell {self._cell}".encode())
            self._model.start(now, draws.generator("mechanism"))
        self._model.prompt_tokens = request.input_tokens
        return super().arrive(now, request, repeat, every_chunk)


@dataclass(frozen=True)
class UnmodelledProvider:
    """A provider with a mechanism that no profile has.

    `profile`: its base, a valid profile as plain values. `build`: makes the model of a trial.
    """

    profile: dict[str, Any]
    build: BuildModel

    @contextmanager
    def playing(self) -> Iterator[None]:
        """Let all virtual trials of this process have the mechanism."""
        place = "harness.simulator.virtual"
        with (
            patch(f"{place}.provider.Simulation", partial(UnmodelledSimulation, self.build)),
            # The histogram of gaps: each by itself, also where the speed before and after a pause
            # is the same.
            patch(f"{place}.gaps.GAP_SLICES", _EXACT_GAPS),
            patch("harness.simulator.rates.Rates.constant", lambda *_: None),
        ):
            yield


def _base(name: str, **keys: object) -> dict[str, Any]:
    """Return the profile of a hosted model of about 70B parameters."""
    source = "Assumed: a dense model of about 70B parameters on one node with four accelerators."
    return load_profile(
        "plain-chat",
        {
            "name": name, "source": source, "description": "A hosted model of about 70B parameters",
            "ttft": {"median": "300ms", "sigma": 0.3, "per_1k_input_tokens": 0.0},
            "itl_a": "20ms", "itl_b": "300us", "itl_c": 0.0,
            "answer_tokens": {"median": 250, "sigma": 0.4}, "tokens_per_chunk": 1,
            "phases": {"synthesize": {"answer_tokens": {"median": 400, "sigma": 0.4}}},
            "max_output_tokens": _EXACT_GAPS, **keys,
        },
    ).as_dict()  # fmt: skip


_TENANT: Mapping[str, Any] = {"on": 30.0, "off": 45.0, "tokens": 250, "sigma": 0.5}

UNMODELLED: dict[str, UnmodelledProvider] = {
    "blocking prefill": UnmodelledProvider(
        _base("blocking-prefill"), partial(BlockingPrefill, each=0.06, per_token=0.25e-3)
    ),
    "front end": UnmodelledProvider(
        _base("front-end"), partial(FrontEnd, each=0.15, per_token=2e-3, most=0.9)
    ),
    "busy tenant": UnmodelledProvider(
        _base("busy-tenant", slots=24),
        partial(OtherTenant, **_TENANT, per_second=3.0, refused_at=64),
    ),
    "tenant at the cap": UnmodelledProvider(
        _base("tenant-at-the-cap", concurrency_cap=24),
        partial(OtherTenant, **_TENANT, per_second=4.0, refused_at=24),
    ),
}
"""The providers by name."""


SCENARIO = """
name = "unmodelled"
seed = SEED
[workflow]
topics = ["tides", "glaciers", "deltas", "geysers", "reefs"]
sub_questions = 4
[endpoint]
profile = "plain-chat"
time = "virtual"
[load]
workflows = 20
in_flight = 5
[timeouts]
call = "10m"
[sweep]
permits = [2, 8, 24]
retry = ["patient"]
[retry.patient]
kind = "exponential"
attempts = 12
base = "1s"
cap = "20s"
"""


def begun_run(scenario: Scenario, profile: dict[str, Any]) -> RunProgress:
    """Return a run of a scenario that has just begun, at a provider with this profile."""
    run = Run(
        schema=SCHEMA, run_id="0" * 32, name=scenario.name, status="running",
        anchor=Anchor(unix_ns=0, monotonic_ns=0), seed=scenario.seed, simulated=True, virtual=True,
        time_scale=1.0, cells=cells.expand(scenario), repeats=1, order=(), profile=profile,
        scenario=scenario.as_dict(), phases=tuple(scenario.plan.phases), endpoint="", versions={},
        host={},
    )  # fmt: skip
    return RunProgress(scenario, run)


def trials(scenario: Scenario, profile: dict[str, Any]) -> list[Played]:
    """Play each cell of a scenario once."""
    begun = begun_run(scenario, profile)
    return [
        play(begun, Task(number, cell, 0), opening(begun), lambda _: None)
        for number, cell in enumerate(begun.run.cells)
    ]


def main() -> int:
    """Print the makespans and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.unmodelled_providers")
    parser.add_argument("--repeats", type=int, default=5, help="seeds (default: 5)")
    seeds = range(parser.parse_args().repeats)
    print("simulated; median makespan in seconds without and with the mechanism")
    print(f"{'provider':<18} permits  without    with  change  smallest  largest")
    for name, provider in UNMODELLED.items():
        spans: dict[bool, list[list[float]]] = {}
        for has_mechanism in (False, True):
            with provider.playing() if has_mechanism else nullcontext():
                spans[has_mechanism] = [
                    [
                        (one.trial.end - one.trial.start) / SECOND
                        for one in trials(_scenario(seed), provider.profile)
                    ]
                    for seed in seeds
                ]
        for cell, permits in enumerate(_scenario(0).sweep.permits):
            without, having = ([row[cell] for row in spans[which]] for which in (False, True))
            changes = sorted(b / a - 1 for a, b in zip(without, having, strict=True))
            print(
                f"{name:<18} {permits:>7} {median(without):>8.1f} {median(having):>7.1f} "
                f"{median(changes):>7.1%} {changes[0]:>9.1%} {changes[-1]:>8.1%}",
                flush=True,
            )
    return 0


def _scenario(seed: int) -> Scenario:
    return parse_scenario(SCENARIO.replace("SEED", str(seed)), "unmodelled")


if __name__ == "__main__":
    sys.exit(main())
