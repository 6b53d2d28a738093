"""A circuit breaker that parks calls: in an outage it sends few requests and loses no call.

The transitions between its states (M. Nygard, Release It!, "Circuit Breaker"; parking is ours):

| state      | what happens                                     | next      | and                  |
|------------|--------------------------------------------------|-----------|----------------------|
| closed     | an attempt asks                                  | closed    | it is sent           |
| closed     | the last of too many outage-like failures        | open      | the breaker retries  |
| open       | an attempt asks before the pause is over         | open      | it is parked         |
| open       | an attempt asks after that                       | half-open | it is the probe      |
| half-open  | an attempt asks                                  | half-open | it is parked         |
| half-open  | the probe fails outage-like                      | open      | a longer pause; ring |
| half-open  | the probe ends with another failure              | open      | no pause; ring       |
| not closed | success of an attempt sent after it opened       | closed    | ring                 |
| not closed | any other outage-like failure                    | unchanged | the breaker retries  |

The table in `harness.records.failures` says which failures are outage-like. If the breaker retries
a failed attempt, the call is parked and sent again, and uses none of its own retries. The success
of an attempt that was sent before the breaker opened does not close it; the failure of an attempt
that was sent before it closed does not open it. A cancelled attempt ends no row of failures, and is
not one of the last attempts.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import ClassVar, Literal, NamedTuple

from pydantic import Field

from harness.config.tables import Duration
from harness.policies.layers import Inside, Scope, States
from harness.policies.protocol import GO, Admission, Asking, Ended, ParkCall, RetryVerdict
from harness.policies.section import PolicyContext, WrapperSection
from harness.policies.token_bucket import Share
from harness.records.failures import CANCELLED, OK, is_outage
from harness.records.schema import retry_in


class Breaker(WrapperSection):
    """Parks all calls during an outage and sends one probe at a time; see `BreakerRule`.

    Two breakers in a stack would not see each other's probes.

    Example::

        [retry.example]
        kind = "breaker"
        failures = 5
        pause = "1s"
    """

    once: ClassVar[bool] = True
    kind: Literal["breaker"] = "breaker"
    """The kind of policy."""
    failures: int = Field(default=5, ge=1, le=1000)
    """It opens after this many outage-like failures in a row."""
    rate: Share = 0.5
    """It opens if outage-like failures are this share of the last attempts."""
    last: int = Field(default=20, ge=1, le=1000)
    """How many attempts `rate` is about."""
    pause: Duration = 1.0
    """The first pause before a probe; each further one is twice as long."""
    cap: Duration = 15.0
    """The longest pause."""
    scope: Scope = "process"
    """The breaker. `process`: all phases share it. `phase`: each phase has its own."""

    def layer(self, context: PolicyContext) -> BreakerLayer:
        """Return the breaker, closed."""
        rule = BreakerRule(
            failures=self.failures,
            many=math.ceil(self.rate * self.last),
            last=self.last,
            pause=context.nanoseconds(min(self.pause, self.cap)),
            cap=context.nanoseconds(self.cap),
        )
        return BreakerLayer(rule, context.name, self.scope)


class BreakerRule(NamedTuple):
    """When it opens and how long it pauses, in nanoseconds.

    It opens after `failures` outage-like failures in a row, or `many` among the last `last`
    attempts. The first pause is `pause`; each next one is twice as long, at most `cap`. A
    Retry-After within the call's deadline makes the pause at least that long.
    """

    failures: int
    many: int
    last: int
    pause: int
    cap: int


class Closed(NamedTuple):
    """Attempts are sent. `since`: when it closed, None at first.

    `in_a_row`: outage-like failures since the last attempt without one. `recent`: a bit for each of
    the last attempts, set for an outage-like failure; the newest is the lowest bit. Cancelled
    attempts count in neither.
    """

    since: int | None = None
    in_a_row: int = 0
    recent: int = 0


class Open(NamedTuple):
    """No attempt is sent before `until`. `since`: when it opened. `pause`: the current pause."""

    since: int
    until: int
    pause: int


class HalfOpen(NamedTuple):
    """The probe is in flight; `probe`: when it was admitted."""

    since: int
    probe: int
    pause: int


State = Closed | Open | HalfOpen


class BreakerUpdate(NamedTuple):
    """What happens after an attempt.

    `over`: the breaker retries the failed attempt. `ring`: parked calls are woken.
    """

    over: bool
    ring: bool


class Wait(NamedTuple):
    """The attempt is parked until then; with None, until the probe has ended."""

    until: int | None


def admit_attempt(state: State, now: int) -> tuple[State, Wait | None]:
    """Return the new state, and the wait of an attempt that asks now; None to admit it."""
    match state:
        case Closed():
            return state, None
        case Open() if now < state.until:
            return state, Wait(state.until)
        case Open():
            return HalfOpen(state.since, now, state.pause), None
        case HalfOpen():
            return state, Wait(None)


def state_after(rule: BreakerRule, state: State, end: Ended) -> tuple[State, BreakerUpdate]:
    """Return the state after an attempt, and what happens next."""
    failed = is_outage(end.outcome)
    if isinstance(state, Closed):
        return _while_closed(rule, state, end, failed)
    if end.outcome == OK and end.sent is not None and end.sent > state.since:
        return Closed(since=end.now), BreakerUpdate(over=False, ring=True)
    if isinstance(state, HalfOpen) and end.admitted == state.probe:
        if not failed:  # it proves nothing; the next attempt is the next probe
            return Open(state.since, end.now, state.pause), BreakerUpdate(over=False, ring=True)
        pause = min(rule.cap, 2 * state.pause)
        return Open(state.since, _until(end, pause), pause), BreakerUpdate(over=True, ring=True)
    if failed and isinstance(state, Open):
        state = state._replace(until=max(state.until, _until(end, 0)))
    return state, BreakerUpdate(over=failed, ring=False)


def _while_closed(
    rule: BreakerRule, state: Closed, end: Ended, failed: bool
) -> tuple[State, BreakerUpdate]:
    if state.since is not None and end.admitted < state.since:
        return state, BreakerUpdate(over=failed, ring=False)  # of the outage that is over
    if end.outcome == CANCELLED:
        return state, BreakerUpdate(over=False, ring=False)
    in_a_row = state.in_a_row + 1 if failed else 0
    recent = (state.recent << 1 | failed) & ((1 << rule.last) - 1)
    if in_a_row >= rule.failures or recent.bit_count() >= rule.many:
        opened = Open(end.now, _until(end, rule.pause), rule.pause)
        return opened, BreakerUpdate(over=failed, ring=False)
    return state._replace(in_a_row=in_a_row, recent=recent), BreakerUpdate(over=False, ring=False)


def _until(end: Ended, pause: int) -> int:
    asked = end.retry_after or 0
    return end.now + max(pause, asked if end.now + asked <= end.deadline else 0)


class _Breaking(NamedTuple):
    """A breaker's state, and how often it has rung."""

    state: State = Closed()
    rung: int = 0


class BreakerLayer:
    """A circuit breaker that parks calls; `name` is part of the keys of its bells."""

    hedge = None

    def __init__(self, rule: BreakerRule, name: str, scope: Scope = "process") -> None:
        self.rule = rule
        self._name = name
        self.states = States(_Breaking, scope)

    def admit(self, asking: Asking) -> Admission:
        """Admit the attempt, perhaps as the probe, or park it."""
        now = self.states.get(asking.phase)
        state, wait = admit_attempt(now.state, asking.now)
        self.states.put(asking.phase, now._replace(state=state))
        return GO if wait is None else ParkCall(self._bell(asking.phase, now.rung), wait.until)

    def ended(self, ended: Ended, inside: Inside) -> RetryVerdict:
        """Retry the failures of an outage; wake parked calls when the state changes."""
        now = self.states.get(ended.phase)
        state, taken = state_after(self.rule, now.state, ended)
        self.states.put(ended.phase, _Breaking(state, now.rung + taken.ring))
        over = taken.over and ended.final and ended.now <= ended.deadline
        verdict = RetryVerdict(retry_in(0, "breaker")) if over else inside()
        return verdict._replace(ring=self._bell(ended.phase, now.rung)) if taken.ring else verdict

    def _bell(self, phase: str, rung: int) -> Hashable:
        return (self._name, self.states.key(phase), rung)
