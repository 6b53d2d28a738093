"""The whole simulated provider but for its clock and its wire: requests in, due text out.

Whoever drives it gives the time, in integer nanoseconds, real or virtual.
"""

from __future__ import annotations

from typing import NamedTuple

from harness.clock import SECOND
from harness.provider.ask import Ask
from harness.provider.draws import Draws
from harness.provider.model import Job, Model, Speed
from harness.provider.profiles import Profile
from harness.provider.rates import Rates
from harness.provider.script import Script
from harness.records import Tokens


class Refused(NamedTuple):
    """A request over the cap: 429. `retry_after` in real nanoseconds, None when not told."""

    arrival: int
    active: int
    name: str
    retry_after: int | None


class Completion:
    """A request that was let in, with what it will get.

    `name`: 16 hexadecimal digits, the same whenever the same request comes again in the same
    trial order. `active`: how many requests were being served when it came. `script`: what is
    said; the k-th moment at which text is due for `job` is that of `script.ends[k]` tokens.
    """

    def __init__(
        self, ask: Ask, job: Job, script: Script, arrival: int, active: int, name: str
    ) -> None:
        self.ask = ask
        self.job = job
        self.script = script
        self.arrival = arrival
        self.active = active
        self.name = name
        self.finish_reason = script.finish_reason
        self.tokens = Tokens(
            input=ask.input_tokens,
            cached=0,
            output=script.reasoning + script.answer,
            reasoning=script.reasoning,
        )


class Simulation:
    """One trial at one provider. A fresh trial is a fresh Simulation.

    `rates`: where to keep how fast it decoded and when.
    """

    def __init__(
        self,
        profile: Profile,
        seed: int,
        time_scale: float,
        cell: str | None,
        rates: Rates | None = None,
    ) -> None:
        nanoseconds = SECOND * time_scale
        self._profile = profile
        self._seed = seed
        self._nanoseconds = nanoseconds
        self._cell = cell
        self._arrivals: dict[tuple[int, bytes], int] = {}
        self._patience = _scaled(profile.keep_alive_every, nanoseconds)
        self._retry_after = _scaled(profile.retry_after, nanoseconds)
        self._model = Model(
            Speed(
                profile.itl_a * nanoseconds,
                profile.itl_b * nanoseconds,
                profile.itl_c * nanoseconds,
                profile.background,
            ),
            profile.concurrency_cap,
            rates,
        )

    @property
    def active(self) -> int:
        """How many requests are being served."""
        return self._model.active

    def count(self, repeat: int, prompt: bytes) -> int:
        """Count one more arrival of this prompt in this trial and return which one it is."""
        key = (repeat, prompt)
        self._arrivals[key] = arrival = self._arrivals.get(key, 0) + 1
        return arrival

    def arrive(
        self, now: int, ask: Ask, repeat: int, every_chunk: bool = True
    ) -> Completion | Refused:
        """Let a request in, or refuse it with 429.

        Without `every_chunk` a stream has no more than three moments at which text is due: the
        first text, the first of the answer and the last, each when it would come anyway. Nor does
        it get keep-alives. `told` says in between how far it is.
        """
        arrival = self.count(repeat, ask.prompt)
        draws = Draws(self._seed, repeat, ask.prompt)
        name = draws.name(self._cell, arrival)
        self._model.settle(now)
        active = self._model.active
        script = Script(self._profile, ask, draws, every_chunk)
        patience = self._patience if every_chunk else None
        job = self._model.arrive(now, self._wait(ask, draws), script.writes, patience)
        if job is None:
            return Refused(arrival, active, name, self._retry_after)
        return Completion(ask, job, script, arrival, active, name)

    def told(self, now: int, completion: Completion) -> int:
        """Return how many tokens of a request in service have been made by `now`."""
        work, script = self._model.work_done(now, completion.job), completion.script
        # Moments are rounded to nanoseconds: at its own moment a token may lack a hair.
        return 0 if work is None else min(script.first + int(work + 1e-4), script.ends[-1])

    def cancel(self, now: int, completion: Completion) -> None:
        """Free the place of a request whose client has gone."""
        self._model.cancel(now, completion.job)

    def next_due(self) -> int | None:
        """Return when to call `pop_due` next, None when nothing is under way."""
        return self._model.next_due()

    def pop_due(self, now: int) -> dict[Job, list[int]]:
        """Return for each request the moments until `now` at which text was due.

        An empty list stands for a keep-alive.
        """
        return self._model.pop_due(now)

    def _wait(self, ask: Ask, draws: Draws) -> int:
        ttft = self._profile.ttft
        seconds = draws.lognormal("ttft", ttft.median, ttft.sigma)
        seconds += ttft.per_1k_input_tokens * ask.input_tokens / 1000
        return round(seconds * self._nanoseconds)


def _scaled(seconds: float | None, nanoseconds: float) -> int | None:
    return None if seconds is None else max(1, round(seconds * nanoseconds))
