"""The simulated provider without clock and network: it takes requests and returns due text.

The caller passes the time, in integer nanoseconds, real or virtual. Outages, bursts and steps of
the cap are relative to the first request of the trial.
"""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

import msgspec

from harness.records.clock import SECOND
from harness.records.failures import OK
from harness.records.schema import Tokens
from harness.simulator import limits
from harness.simulator.draws import Draws
from harness.simulator.limits import CapChange, ProviderLimits, Rate, Reason
from harness.simulator.memo import Memo
from harness.simulator.model import Model, ServedRequest
from harness.simulator.plan import FaultPlan, Strike
from harness.simulator.profiles import Profile
from harness.simulator.rates import Rates
from harness.simulator.request_parser import ChatRequest
from harness.simulator.script import Script
from harness.simulator.wander import Wander

_DRIP = 1.0
"""Seconds between keep-alives of the fault `keep_alive_only`, if the profile has none."""

_EMBEDDING_SHARE = 0.2
"""The time of a response with vectors, as a share of the time to the first token of a text."""


class Refused(NamedTuple):
    """A request that is answered at once and not served.

    Either `reason` is the limit that it exceeds, which gives a 429, or `fault` is the fault that
    strikes it. `retry_after`: in the caller's nanoseconds; None if it is not sent.
    """

    arrival: int
    active: int
    name: str
    reason: Reason | None
    fault: Strike | None
    retry_after: int | None

    @property
    def outcome(self) -> str:
        """The failure class of the client's attempt."""
        if self.fault is None:
            return "rate_limited"
        # A fault that prevents connections: the request came just before it.
        is_lost = self.fault.kind.place == "connection"
        return "connection_lost" if is_lost else self.fault.kind.outcome

    @property
    def status(self) -> int | None:
        """The status of the response; None if there is no response."""
        return 429 if self.fault is None else self.fault.status


class ServedCompletion(msgspec.Struct, eq=False):
    """An admitted request and its response.

    `name`: 16 hexadecimal digits, determined by seed, cell, repeat, prompt and arrival. `active`:
    the requests in service at its arrival. `script`: the content; the k-th time at which text is
    due for `job` is that of `script.ends[k]` tokens. `fault`: strikes at the last of these times.
    If the fault holds, the job stays in service after it. If the fault replaces the completion,
    there is only one such time, without text; if it is silence, there is none.
    """

    request: ChatRequest
    job: ServedRequest
    script: Script
    fault: Strike | None
    arrival: int
    active: int
    name: str

    @property
    def tokens(self) -> Tokens:
        """The token counts of the whole response."""
        return self.script.tokens

    @property
    def outcome(self) -> str:
        """The outcome if the client stays connected: `ok`, or the failure class of the fault."""
        return OK if self.fault is None else self.fault.kind.outcome

    @property
    def status(self) -> int | None:
        """The status of the response; None if there is no response."""
        return 200 if self.fault is None else self.fault.status


class Simulation:
    """One trial at one provider. Each trial needs a new Simulation.

    `rates`: records the history of the decoding speed. `known`: what earlier trials of the same
    provider have computed for requests, by request and repeat. `has_names`: without it, the names
    of responses are empty, which saves 0.8 us each. `keep_alive`: nanoseconds between keep-alives,
    or None; `drip`: the same for the fault `keep_alive_only`.
    """

    def __init__(
        self,
        profile: Profile,
        seed: int,
        time_scale: float,
        cell: str | None,
        rates: Rates | None = None,
        known: Memo[tuple[ChatRequest, int], tuple[Draws, Script]] | None = None,
        has_names: bool = True,
    ) -> None:
        nanoseconds = SECOND * time_scale
        self._profile = profile
        self._seed = seed
        self._nanoseconds = nanoseconds
        self._cell = cell
        self._has_names = has_names
        self._zero: int | None = None
        self._repeat = 0
        self._arrivals: dict[tuple[int, bytes], int] = {}
        self.keep_alive = _scaled(profile.keep_alive_every, nanoseconds)
        self.drip = self.keep_alive or max(1, round(_DRIP * nanoseconds))
        self._pace = profile.pace(nanoseconds)
        self._per_context = profile.itl_per_1k_context * nanoseconds / 1000
        self._per_input = profile.prefill_per_1k_input_tokens * nanoseconds / 1000
        self._per_batch = round(profile.prefill_per_batch * nanoseconds)
        self._reads = bool(self._per_input or self._per_batch)
        self._model = Model(self._pace, profile.slots, rates, self._per_context, self._per_batch)
        self._wander = profile.wander
        self._plan = FaultPlan(profile.faults, seed, nanoseconds)
        self._limits = _limits(profile, nanoseconds)
        self._levels = limits.fresh(self._limits, 0)
        has_cap = self._limits.cap is not None or bool(self._limits.steps)
        self._is_limited = has_cap or bool(self._levels)
        self._known = Memo() if known is None else known
        self._uncharged: dict[ServedRequest, ServedCompletion] = {}
        self._counts_use = profile.tokens_counted == "used" and self._limits.tokens is not None
        self._ended: list[tuple[int, ServedRequest]] = []
        if self._counts_use:
            self._model.ended = self._ended

    @property
    def active(self) -> int:
        """The number of requests in service."""
        return self._model.active

    @property
    def waiting(self) -> int:
        """The number of them that wait for a slot."""
        return self._model.waiting

    def slowest_chunk(self, at_once: int, longest: int = 0) -> int:
        """Return the maximum nanoseconds between two chunks with `at_once` requests in service.

        `longest`: the most input tokens of a request.
        """
        contexts = at_once * (longest + self._profile.max_output_tokens)
        slowest = self._pace.slowest(at_once) + self._per_context * contexts
        if self._wander is not None:
            slowest *= self._wander.slowest
        reading = at_once * (self._per_input * longest + self._per_batch)
        return ceil(self._profile.tokens_per_chunk * slowest + reading) + 1

    def count(self, repeat: int, prompt: bytes) -> int:
        """Count an arrival of this prompt in this trial and return its number, from 1."""
        key = (repeat, prompt)
        self._arrivals[key] = arrival = self._arrivals.get(key, 0) + 1
        return arrival

    def arrive(
        self, now: int, request: ChatRequest, repeat: int, every_chunk: bool = True
    ) -> ServedCompletion | Refused:
        """Admit or refuse a request.

        Without `every_chunk`, text of a stream is due at up to three times, which are the same as
        with it: at the first text, the first text of the answer and the last text. There are no
        keep-alives. `tokens_made` returns the progress at any other time.
        """
        if self._zero is None:
            self._zero, self._repeat = now, repeat
            self._levels = limits.fresh(self._limits, now)
            if self._wander is not None:
                draws = Draws(self._seed, repeat, f"cell {self._cell}".encode())
                over = max(1, round(self._wander.over * self._nanoseconds))
                path = Wander(self._wander.sigma, over, draws.generator("wander"))
                self._model.let_wander(now, path)
        self._settle(now)
        arrival, active = self.count(repeat, request.prompt), self._model.active
        if every_chunk:
            draws, script = Draws(self._seed, repeat, request.prompt), None
        else:
            draws, script = self._known.get((request, repeat)) or self._learn(request, repeat)
        name = draws.name(self._cell, arrival) if self._has_names else ""
        elapsed, fault = now - self._zero, None
        if self._profile.faults:
            fault, _ = self.connection(now)
            if fault is None:
                fault = self._plan.strike(
                    elapsed, repeat, request.phase, request.stream, draws, arrival
                )
                if fault is not None and not _affects(fault, request):
                    fault = None
            if fault is not None and _is_at_once(fault):
                return Refused(arrival, active, name, None, fault, fault.retry_after)
        if self._is_limited:
            self._levels, refusal = limits.admit_request(
                self._limits, self._levels, now, elapsed, active, self._initial_charge(request)
            )
            if refusal is not None:
                wait = self._retry_after(refusal.wait)
                return Refused(arrival, active, name, refusal.reason, None, wait)
        if script is None or fault is not None:
            script = Script(self._profile, request, draws, self._seed, every_chunk, fault)
        wait = self._wait(request, draws, arrival)
        job = self._begin(now, wait, request, script, every_chunk, fault)
        completion = ServedCompletion(request, job, script, fault, arrival, active, name)
        if self._counts_use:
            self._uncharged[job] = completion
        return completion

    def connection(self, now: int) -> tuple[Strike | None, int | None]:
        """Return the fault that prevents connections now, or None, and the time of the next change.

        Before the first request, both are None.
        """
        if self._zero is None:
            return None, None
        strike, change = self._plan.connection(now - self._zero, self._repeat)
        return strike, None if change is None else self._zero + change

    def tokens_made(self, now: int, completion: ServedCompletion) -> int:
        """Return the number of tokens that a request in service has made by `now`."""
        work, script = self._model.work_done(now, completion.job), completion.script
        # Times are rounded to nanoseconds, so a token can be incomplete by a tiny part.
        return 0 if work is None else min(script.first + int(work + 1e-4), script.ends[-1])

    def cancel(self, now: int, completion: ServedCompletion) -> None:
        """Remove a request whose client has disconnected."""
        self._settle(now)
        if self._uncharged.pop(completion.job, None) is not None:
            self._charge(now, self.tokens_made(now, completion))
        self._model.cancel(now, completion.job)

    def next_due(self) -> int | None:
        """Return when to call `pop_due` next; None if no event is scheduled."""
        return self._model.next_due()

    def pop_due(self, now: int) -> dict[ServedRequest, list[int]]:
        """Return for each request the times until `now` at which text was due.

        An empty list means a keep-alive.
        """
        due = self._model.pop_due(now)
        if self._ended:
            self._charge_ended()
        return due

    def _begin(
        self,
        now: int,
        wait: int | None,
        request: ChatRequest,
        script: Script,
        every_chunk: bool,
        fault: Strike | None,
    ) -> ServedRequest:
        patience = self.keep_alive if every_chunk else None
        context, reading = 0, None
        if self._per_context:
            context = request.input_tokens + (script.reasoning + script.answer) // 2
        if self._reads and request.is_for_text:
            reading = round(self._per_input * (request.input_tokens - (script.tokens.cached or 0)))
        if fault is None:
            return self._model.arrive(
                now, wait, script.writes, patience, context=context, reading=reading
            )
        place = fault.kind.place
        if place == "instead":
            wait, patience = fault.after, None
        elif place == "silence":
            wait = None
            if fault.kind.name == "silent":
                patience = None
            elif every_chunk:
                patience = self.drip
        return self._model.arrive(
            now,
            wait,
            script.writes,
            patience,
            holds=fault.kind.holds,
            needs_slot=place != "instead",
            context=context,
            reading=None if place == "instead" else reading,
        )

    def _learn(self, request: ChatRequest, repeat: int) -> tuple[Draws, Script]:
        """Make and keep what depends on the request alone, the same at each arrival of it."""
        draws = Draws(self._seed, repeat, request.prompt)
        script = Script(self._profile, request, draws, self._seed, False, None)
        weight = request.input_tokens + script.reasoning + script.answer
        return self._known.keep((request, repeat), (draws, script), weight)

    def _wait(self, request: ChatRequest, draws: Draws, arrival: int) -> int:
        """Return the time to the first token, drawn anew for each arrival of a prompt.

        So a retry or a hedge gets a different time, but the same answer. It grows with the requests
        that have no token yet, or with all in service; those that wait for a slot add nothing.
        """
        ttft = self._profile.ttft
        purpose = "ttft" if arrival == 1 else f"ttft {arrival}"
        seconds = draws.lognormal(purpose, ttft.median, ttft.sigma)
        if ttft.grows:
            active = self._model.active + 1
            most = self._profile.slots or active
            waiting = min(active - self._model.decoding, most)
            seconds *= ttft.factor(waiting, min(active, most))
        seconds += ttft.per_1k_input_tokens * request.input_tokens / 1000
        if not request.is_for_text:
            seconds *= _EMBEDDING_SHARE
        return round(seconds * self._nanoseconds)

    def _initial_charge(self, request: ChatRequest) -> int:
        reserved = self._profile.tokens_counted == "reserved"
        return request.input_tokens + ((request.max_tokens or 0) if reserved else 0)

    def _retry_after(self, wait: int | None) -> int | None:
        setting = self._profile.retry_after
        return wait if setting == "exact" else _scaled(setting, self._nanoseconds)

    def _settle(self, now: int) -> None:
        """Process all events until `now`, and charge the tokens of requests that have ended."""
        self._model.settle(now)
        if self._ended:
            self._charge_ended()

    def _charge_ended(self) -> None:
        for at, job in self._ended:
            completion = self._uncharged.pop(job, None)
            if completion is not None:
                self._charge(at, completion.tokens.output or 0)
        self._ended.clear()

    def _charge(self, at: int, tokens: int) -> None:
        self._levels = limits.charge(self._levels, at, tokens)


def _affects(fault: Strike, request: ChatRequest) -> bool:
    """Return whether a fault has an effect on a request: vectors have no text that it could end."""
    return request.is_for_text or fault.kind.finish_reason is None


def _is_at_once(fault: Strike) -> bool:
    place = fault.kind.place
    return place == "connection" or (place == "instead" and fault.after == 0)


def _scaled(seconds: float | None, nanoseconds: float) -> int | None:
    return None if seconds is None else max(1, round(seconds * nanoseconds))


def _limits(profile: Profile, nanoseconds: float) -> ProviderLimits:
    return ProviderLimits(
        cap=profile.concurrency_cap,
        steps=[CapChange(round(step.at * nanoseconds), step.cap) for step in profile.cap_steps],
        requests=_rate(profile.requests_per_minute, profile.burst, nanoseconds),
        tokens=_rate(profile.tokens_per_minute, profile.burst, nanoseconds),
        rejected_count=profile.rejected_count,
    )


def _rate(amount: int | None, burst: float, nanoseconds: float) -> Rate | None:
    if amount is None:
        return None
    return Rate(amount, max(1, round(60 * nanoseconds)), max(1, round(amount * burst / 60)))
