"""A world of calls that go through a policy, in an order that a test chooses."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from random import Random

from harness.policies.protocol import Asking, Earlier, Ended, ParkCall, Policy
from harness.records.failures import OK


def any_random() -> Random:
    """Return some source: what is asked here does not hang on what is drawn."""
    return Random(0)


def end_of(
    outcome: str,
    *,
    admitted: int,
    sent: int | None,
    now: int,
    attempt: int = 1,
    hint: int = 0,
    deadline: int | None = None,
    earlier: tuple[Earlier, ...] = (),
) -> Ended:
    """Return the end of an attempt whose call has a long time left."""
    return Ended(
        "fan_out", attempt, outcome, None, hint or None, None, admitted, sent, now,
        now + 5000 if deadline is None else deadline, earlier,
    )  # fmt: skip


@dataclass(eq=False)
class Call:
    """One call: asking, parked (`park`), in flight (`admitted`), or ended (`outcome`)."""

    attempt: int = 1
    admitted: int = -1
    sent: int | None = None
    park: ParkCall | None = None
    outcome: str | None = None
    earlier: tuple[Earlier, ...] = ()


class CallModel:
    """Calls, their clock and their bells. Whoever is woken asks at once."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.now = 1
        self.calls: list[Call] = []

    def flying(self) -> list[Call]:
        return [call for call in self.calls if call.admitted >= 0 and call.outcome is None]

    def unsent(self) -> list[Call]:
        return [call for call in self.flying() if call.sent is None]

    def parked(self) -> list[Call]:
        return [call for call in self.calls if call.park is not None]

    def begin(self) -> None:
        self.calls.append(Call())
        self._ask(self.calls[-1])

    def pass_time(self, by: int) -> None:
        self.now += by
        for call in self.parked():
            until = call.park.until if call.park is not None else None
            if until is not None and until <= self.now:
                self._ask(call)

    def end(self, call: Call, outcome: str, hint: int = 0) -> None:
        self.now += 1
        verdict = self.policy.ended(
            end_of(
                outcome,
                admitted=call.admitted,
                sent=call.sent,
                now=self.now,
                attempt=call.attempt,
                hint=hint,
                earlier=call.earlier,
            ),
            any_random,
        )
        call.admitted, call.sent = -1, None
        decision = verdict.decision
        if decision is not None and decision.retry_in is not None:
            call.earlier += (Earlier(outcome, decision),)
            call.attempt += 1
            assert decision.retry_in == 0, "these tests have breakers that take over, no backoff"
            self._ask(call)
        else:
            call.outcome = outcome
        if verdict.ring is not None:
            self._ring(verdict.ring)

    def abandon(self, call: Call) -> None:
        call.park, call.outcome = None, "cancelled"

    def heal(self) -> None:
        """Let everything succeed from now on, until every call has ended."""
        for _ in range(3 * len(self.calls) + 10):
            for call in self.flying():
                self.now += 1
                call.sent = self.now if call.sent is None else call.sent
                self.end(call, OK)
            self.pass_time(6000)

    def _ask(self, call: Call) -> None:
        call.park = None
        answer = self.policy.admit(Asking("fan_out", call.attempt, self.now))
        if isinstance(answer, ParkCall):
            assert answer.until is None or answer.until > self.now, "who waits does not wait"
            call.park = answer
        else:
            call.admitted = self.now

    def _ring(self, bell: Hashable) -> None:
        for call in self.parked():
            if call.park is not None and call.park.bell == bell:
                self._ask(call)
