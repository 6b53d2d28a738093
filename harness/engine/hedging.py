"""Hedging: a second request when the first token is late.

See J. Dean and L. A. Barroso, "The Tail at Scale", CACM 56(2), 2013. The first attempt with text
continues and the other is cancelled. If one fails before any text, the other continues. If both
fail, the policy decides once, about the later failure.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from harness.engine.attempt import AdmittedAttempt, CallState, Tried, attempt
from harness.engine.effects import Cancelled, FanOut, Program, Reply, acquire, release, sleep
from harness.policies.protocol import Asking, Go, HedgeRule, Policy
from harness.records.failures import CANCELLED, OK


class _Pair:
    """The two attempts of a hedge: which are running, and which one counts. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 1
        self._final: Tried | None = None

    def joined(self, asking: Asking, hedge: HedgeRule, policy: Policy) -> bool:
        """Return whether to send the hedge. If True, it must be sent: it counts as running."""
        with self._lock:
            if self._running and hedge.may(asking) and isinstance(policy.admit(asking), Go):
                self._running += 1
                return True
            return False

    def left(self, reply: Reply) -> bool:
        """Note the end of an attempt; return whether it is the one that counts."""
        with self._lock:
            self._running -= 1
            # Its text cancels the other attempt.
            alone = not self._running or reply.last_token is not None
            return reply.outcome != CANCELLED and alone

    def count(self, tried: Tried) -> None:
        """Keep the attempt that counts; if both had text at once, the successful one."""
        with self._lock:
            if self._final is None or tried.reply.outcome == OK:
                self._final = tried

    def result(self, results: Sequence[Tried | None]) -> Tried:
        """Return the attempt that counts, or else the cancelled one."""
        if self._final is not None:
            return self._final
        return next(one for one in results if one and one.reply.outcome == CANCELLED)

    def enough(self, results: Sequence[object]) -> bool:
        """Return whether the call has what it waits for."""
        with self._lock:
            return self._final is not None or not self._running


def hedged(progress: CallState, place: AdmittedAttempt, hedge: HedgeRule) -> Program[Tried]:
    """Send the first attempt of a call, and a second one if the first token is late.

    Each attempt releases its permit, except the first one if the call holds its permit to its end.
    """
    pair = _Pair()
    hand_over = not progress.terms.hold_permit
    first = _sent(progress, place, pair, hedge=False, owns_permit=hand_over)
    second = _second(progress, place, pair, hedge)
    results: list[Tried | None] = yield FanOut((first, second), pair.enough, True, hand_over)
    return pair.result(results)


def _second(
    progress: CallState, first: AdmittedAttempt, pair: _Pair, hedge: HedgeRule
) -> Program[Tried | None]:
    """Wait, get a permit and send the hedge if the policy admits it; None if it was not sent."""
    number = first.attempt + 1
    try:
        ready = yield from sleep(first.granted + hedge.after)
        grant = yield from acquire(ready, progress.end)
    except Cancelled:
        return None
    if grant.granted is None:
        return None
    if not progress.is_over(grant.granted):
        asking = Asking(progress.key.phase, number, grant.granted)
        if pair.joined(asking, hedge, progress.terms.policy):
            place = AdmittedAttempt(number, ready, grant.requested, grant.granted)
            return (yield from _sent(progress, place, pair, hedge=True, owns_permit=True))
    yield from release()
    return None


def _sent(
    progress: CallState, place: AdmittedAttempt, pair: _Pair, *, hedge: bool, owns_permit: bool
) -> Program[Tried]:
    counts = False

    def is_final(reply: Reply) -> bool:
        nonlocal counts
        counts = pair.left(reply)
        return counts

    tried = yield from attempt(progress, place, is_final, hedge=hedge)
    if counts:
        pair.count(tried)
    if owns_permit:
        yield from release()
    return tried
