"""One attempt of a call: send it, ask the policy, record it; and the state of a call."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from operator import add
from random import Random
from typing import NamedTuple

import msgspec

from harness.config.timeouts import Timeouts
from harness.engine.deadlines import CALL_TIMEOUT, WORKFLOW_TIMEOUT, extended
from harness.engine.effects import Deadlines, Emit, Program, Reply, Request, Send, ring
from harness.policies.protocol import Earlier, Ended, Policy, RetryVerdict
from harness.records.clock import SECOND
from harness.records.failures import CANCELLED
from harness.records.keys import CallKey
from harness.records.schema import Attempt, Backoff, Decision, Tokens


class CallTimeouts(NamedTuple):
    """The timeouts of a call, nanoseconds of the records' clock."""

    connect: int
    first_token: int
    idle: int
    call: int

    @classmethod
    def of(cls, timeouts: Timeouts, time_scale: float, connect_floor: float = 0.0) -> CallTimeouts:
        """Return timeouts of `time_scale` real seconds a second.

        `connect_floor`: the minimum of real seconds for connecting.
        """

        def ns(seconds: float) -> int:
            return round(seconds * time_scale * SECOND)

        first_token = timeouts.call if timeouts.first_token is None else timeouts.first_token
        connect = max(ns(timeouts.connect), round(connect_floor * SECOND))
        return cls(connect, ns(first_token), ns(timeouts.idle), ns(timeouts.call))


class CallTerms(NamedTuple):
    """The settings shared by all calls of a cell.

    `policy`: the policy object of the trial. `random_for`: returns the random source of a call's
    jitter. `keep_transcripts`: whether prompts and answers are recorded. `carry_reasoning`: whether
    the result of a call contains its reasoning.
    """

    policy: Policy
    limits: CallTimeouts
    hold_permit: bool
    random_for: Callable[[CallKey], Random]
    keep_transcripts: bool = False
    carry_reasoning: bool = True


class AdmittedAttempt(msgspec.Struct, frozen=True, gc=False):
    """An attempt that the policy admitted. `requested`, `granted`: the times of its permit."""

    attempt: int
    ready: int
    requested: int
    granted: int


class Tried(msgspec.Struct, frozen=True, gc=False):
    """The reply of an attempt, and the policy's decision if it failed."""

    reply: Reply
    decision: Decision | None


class CallState:
    """The state of a call.

    `end`: the deadline; until the first attempt is sent, the deadline of the workflow.
    `deadlines`: of each attempt; None until the first one is sent. `rings`: the number of bell
    rings when the call was last admitted or parked.

    Two attempts of a call can end at the same time, in two threads. That needs no lock, because
    only the final one changes more than the list `replies`.
    """

    __slots__ = (
        "_earlier", "_random", "_workflow_end", "backoffs", "deadlines", "end", "key", "ready",
        "replies", "request", "rings", "terms",
    )  # fmt: skip

    def __init__(
        self, terms: CallTerms, key: CallKey, request: Request, ready: int, workflow_end: int | None
    ) -> None:
        self.terms = terms
        self.key = key
        self.request = request
        self.ready = ready
        self.end = workflow_end
        self.deadlines: Deadlines | None = None
        self.backoffs: list[Backoff] = []
        self.replies: list[Reply] = []
        self.rings = 0
        self._workflow_end = workflow_end
        self._earlier: tuple[Earlier, ...] = ()
        self._random: Random | None = None

    def wasted(self, used: Reply | None) -> Tokens | None:
        """Return the tokens of all attempts except `used`; None if there is no other attempt."""
        if len(self.replies) == 1 and used is not None:
            return None
        others = [reply.tokens for reply in self.replies if reply is not used]
        return reduce(add, others) if others else None

    def is_over(self, granted: int) -> bool:
        """Return whether a permit granted at `granted` is too late to send an attempt."""
        return self.end is not None and granted >= self.end

    def begin(self, granted: int) -> None:
        """Start the call's deadline, when the first attempt gets its permit."""
        if self.deadlines is None:
            limits, end = self.terms.limits, self._workflow_end
            own = granted + limits.call
            self.end = end = own if end is None else min(own, end)
            self.deadlines = Deadlines(
                limits.connect, limits.first_token, limits.idle, end, self.end_outcome(),
                self._workflow_end,
            )  # fmt: skip

    def end_outcome(self) -> str:
        """Return the outcome of a call that reaches its deadline."""
        ends_with_workflow = self.end is not None and self.end == self._workflow_end
        return WORKFLOW_TIMEOUT if ends_with_workflow else CALL_TIMEOUT

    def last_end(self) -> int | None:
        """Return when the last attempt ended; the loser of a hedge can end after the winner."""
        replies = self.replies
        if len(replies) == 1:
            return replies[0].done
        return max((reply.done for reply in replies), default=None)

    def random(self) -> Random:
        """Return the random source of the call, the same one for all attempts."""
        if self._random is None:
            self._random = self.terms.random_for(self.key)
        return self._random

    def judge(self, place: AdmittedAttempt, reply: Reply, final: bool) -> RetryVerdict:
        """Report the end of an attempt to the policy and return its decision.

        There is no decision about a cancelled attempt, or while another attempt of the call is in
        flight (not `final`).
        """
        assert self.end is not None, "begin() comes first"
        if reply.budget_wait:
            assert self.deadlines is not None, "begin() comes first"
            self.deadlines = extended(self.deadlines, reply.budget_wait)
            self.end = self.deadlines.end
        self.replies.append(reply)
        # By position: keywords take 0.5 us more.
        ended = Ended(
            self.key.phase, place.attempt, reply.outcome, reply.status, reply.retry_after,
            reply.should_retry, place.granted, reply.sent, reply.done, self.end, self._earlier,
            final, reply.rate_limit_reset,
        )  # fmt: skip
        verdict = self.terms.policy.ended(ended, self.random)
        decision = verdict.decision
        if decision is None:
            return verdict
        if not final or reply.outcome == CANCELLED:
            return verdict._replace(decision=None)
        if decision.retry_in is not None:
            self._earlier += (Earlier(reply.outcome, decision),)
        return verdict


def attempt(
    progress: CallState,
    place: AdmittedAttempt,
    is_final: Callable[[Reply], bool] | None = None,
    *,
    hedge: bool = False,
) -> Program[Tried]:
    """Send one attempt and emit its record. The caller keeps the permit.

    `is_final`: returns whether the given reply ends the call's wait for attempts; None if every
    reply does.
    """
    assert progress.deadlines is not None, "begin() comes first"
    reply: Reply = yield Send(progress.key, place.attempt, progress.request, progress.deadlines)
    verdict = progress.judge(place, reply, is_final is None or is_final(reply))
    yield Emit(_record(progress.key, place, reply, verdict.decision, hedge))
    if verdict.ring is not None:
        yield from ring(verdict.ring)
    return Tried(reply, verdict.decision)


def _record(
    key: CallKey, place: AdmittedAttempt, reply: Reply, decision: Decision | None, hedge: bool
) -> Attempt:
    cell, repeat, workflow, execution, phase, branch, call = key
    # By position: 33 keywords take 1.4 us more.
    return Attempt(
        cell, repeat, workflow, execution, phase, call, place.attempt, place.ready,
        place.requested, place.granted + reply.budget_wait, reply.done, reply.outcome, reply.sent,
        reply.headers, reply.first_reasoning, reply.first_answer, reply.last_token, reply.status,
        reply.retry_after, reply.request_id, reply.finish_reason, reply.tokens, reply.chunks,
        reply.gaps, decision, reply.response_id, reply.response_model, hedge,
        reply.marked_simulated, reply.anomalies, reply.first_chunk, reply.error_body,
        reply.location, reply.rate_limit_reset, branch=branch,
    )  # fmt: skip
