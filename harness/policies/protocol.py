"""What a call asks of its policy: may this attempt go out, and what after it has come back.

A policy is made anew for each trial and shared by all calls of it, so that a retry budget or a
circuit breaker sees them all. It is safe to use from several threads. Times are nanoseconds of
the records' clock.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from random import Random
from typing import NamedTuple, Protocol

from harness.policies.retry import Failure, Retry
from harness.records.failures import OK
from harness.records.schema import Decision


class Asking(NamedTuple):
    """An attempt that has its permit and wants to go out at `now`; `attempt` counts from 1."""

    phase: str
    attempt: int
    now: int


class Go(NamedTuple):
    """Send it. Its end must be told with `ended`, whatever it is."""


GO = Go()


class ParkCall(NamedTuple):
    """Do not send it: give the permit back, wait, and ask for a permit and for admission again.

    `bell` names who is woken together. It rings once, perhaps before the wait has begun: who
    waits on one that has rung asks again at once. `until`: when to ask again unbidden; None while
    something else is sure to ring. Before `until` nobody is let out unless the bell rings.
    """

    bell: Hashable
    until: int | None


Admission = Go | ParkCall

RandomOf = Callable[[], Random]
"""Gives the call's random source; most attempts succeed and need none."""


class Earlier(NamedTuple):
    """An earlier attempt of the same call that failed, and the decision to try again."""

    outcome: str
    decision: Decision


class Ended(NamedTuple):
    """An attempt that has come back, good or bad.

    `attempt`: its number, from 1. `outcome`: `ok` or a failure class. `retry_after`: nanoseconds
    the server asked for, None if it did not. `should_retry`: the server's explicit word
    (`x-should-retry`), None without it. `admitted`: the `now` at which it was let out; `sent`:
    when its bytes went out, None if they never did. `now`: the time. `deadline`: the call's.
    `earlier`: those before it that were to be tried again, oldest first. `final`: False for a
    failure while the call's other, hedged attempt still runs: nothing is to be decided then.
    """

    phase: str
    attempt: int
    outcome: str
    status: int | None
    retry_after: int | None
    should_retry: bool | None
    admitted: int
    sent: int | None
    now: int
    deadline: int
    earlier: tuple[Earlier, ...] = ()
    final: bool = True


class RetryVerdict(NamedTuple):
    """What is to be done after an attempt.

    `decision`: when to try again or why not, None where there is nothing to decide. `ring`: wake
    everybody who waits on this bell, None for nobody.
    """

    decision: Decision | None
    ring: Hashable | None = None


_NOTHING = RetryVerdict(None)


class Hedge(NamedTuple):
    """Send the same request once more if `after` nanoseconds have brought no first token.

    `may` is asked at that moment, about the second attempt, and spends from the hedges' budget:
    False when there is nothing left in it.
    """

    after: int
    may: Callable[[Asking], bool]


class Policy(Protocol):
    """The policy of a trial."""

    @property
    def hedge(self) -> Hedge | None:
        """When a call may be sent a second time while the first attempt runs; None for never."""
        ...

    def admit(self, asking: Asking) -> Admission:
        """Say whether an attempt may go out now."""
        ...

    def ended(self, ended: Ended, random: RandomOf) -> RetryVerdict:
        """Take note of how an attempt ended, and say what is next for its call."""
        ...


class Stateless(NamedTuple):
    """A policy that looks at one call alone: every attempt goes out, failures are `retry`'s."""

    retry: Retry
    hedge: Hedge | None = None

    def admit(self, asking: Asking) -> Admission:
        """Let every attempt out."""
        return GO

    def ended(self, ended: Ended, random: RandomOf) -> RetryVerdict:
        """Return what the retry policy decides."""
        return decided(self.retry, ended, random)


def decided(retry: Retry, ended: Ended, random: RandomOf) -> RetryVerdict:
    """Return what `retry` decides; nothing after a success or what was not the call's last word."""
    if ended.outcome == OK or not ended.final:
        return _NOTHING
    return RetryVerdict(retry.decide(failure_of(ended), random()))


def failure_of(ended: Ended) -> Failure:
    """Return what a retry policy is told of an attempt that failed.

    Attempts that a breaker took upon itself do not count as the call's own.
    """
    own = [before.decision for before in ended.earlier if before.decision.source != "breaker"]
    drawn = [decision.retry_in for decision in own if decision.source == "policy"]
    return Failure(
        attempt=1 + len(own),
        outcome=ended.outcome,
        status=ended.status,
        retry_after=ended.retry_after,
        should_retry=ended.should_retry,
        now=ended.now,
        deadline=ended.deadline,
        waited=drawn[-1] if drawn else None,
    )
