"""The interface between a call and its policy: admission before an attempt, a verdict after it.

Each trial has a new policy, which all its calls share, so that a retry budget or a circuit breaker
sees all of them. Policies are thread-safe. Times are nanoseconds of the records' clock.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from random import Random
from typing import NamedTuple, Protocol

import msgspec

from harness.policies.retry import Failure
from harness.records.schema import Decision


class Asking(msgspec.Struct, frozen=True, gc=False):
    """An attempt that has its permit and is ready to be sent at `now`; `attempt` counts from 1."""

    phase: str
    attempt: int
    now: int


class Go(NamedTuple):
    """Send the attempt. The caller must report its end with `ended`, whatever the outcome is."""


GO = Go()


class ParkCall(NamedTuple):
    """Do not send the attempt: release the permit, wait, then ask for a permit and admission again.

    All calls that wait on the same `bell` are woken together. A bell rings once; a call that waits
    on a bell that has rung already asks again at once. `until`: when to ask again if the bell does
    not ring before; None if it is certain to ring. No attempt is admitted earlier than that.
    """

    bell: Hashable
    until: int | None


Admission = Go | ParkCall

RandomOf = Callable[[], Random]
"""Returns the random source of a call; a function, as most calls need none."""


class Earlier(NamedTuple):
    """An earlier attempt of the same call that failed, and the decision to try again."""

    outcome: str
    decision: Decision


class Ended(msgspec.Struct, frozen=True, gc=False):
    """An attempt that has ended, successfully or not.

    `attempt`: its number, from 1. `outcome`: `ok` or a failure class. `retry_after`: nanoseconds
    that the server asked for, None if it did not. `should_retry`: the header `x-should-retry`, None
    without it. `admitted`: the `now` at which it was admitted. `sent`: when its bytes were sent,
    None if they were not. `deadline`: of the call. `earlier`: the earlier attempts of the call that
    failed and were retried, oldest first. `final`: False for a failure while another attempt of
    the same call (a hedge) still runs; nothing has to be decided then. `rate_limit_reset`:
    nanoseconds until a limit is reset, a hint of other headers; None without one.
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
    rate_limit_reset: int | None = None


class RetryVerdict(NamedTuple):
    """What happens after an attempt.

    `decision`: when to try again or why not, None if there is nothing to decide. `ring`: the bell
    whose waiting calls are woken, None for no bell.
    """

    decision: Decision | None
    ring: Hashable | None = None


class HedgeRule(NamedTuple):
    """Send the same request again if there is no first token after `after` nanoseconds.

    `may` is called at that moment, with the second attempt. It takes from the budget of hedges, and
    returns False if that is empty.
    """

    after: int
    may: Callable[[Asking], bool]


class Policy(Protocol):
    """The policy of a trial."""

    @property
    def hedge(self) -> HedgeRule | None:
        """When a second attempt of a call may be sent while the first one runs; None for never."""

    def admit(self, asking: Asking) -> Admission:
        """Return whether an attempt may be sent now."""

    def ended(self, ended: Ended, random: RandomOf) -> RetryVerdict:
        """Record the end of an attempt, and return what happens next in its call."""


def failure_of(ended: Ended) -> Failure:
    """Return the input of a retry policy for an attempt that failed.

    Attempts that a breaker retried are not counted as attempts of the call.
    """
    own = [before.decision for before in ended.earlier if before.decision.source != "breaker"]
    drawn = [decision.retry_in for decision in own if decision.source == "policy"]
    return Failure(
        attempt=1 + len(own),
        outcome=ended.outcome,
        status=ended.status,
        retry_after=ended.retry_after,
        rate_limit_reset=ended.rate_limit_reset,
        should_retry=ended.should_retry,
        now=ended.now,
        deadline=ended.deadline,
        waited=drawn[-1] if drawn else None,
    )
