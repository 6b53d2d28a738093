"""One call: attempts under a permit and a retry policy, until one succeeds or the policy stops.

A call's deadline runs from its first permit, so that waiting for a turn is not the model's fault;
backoff and later waits for a permit count. With permit scope `attempt` the permit goes back
during backoff, with `call` it is held until the call has ended.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from harness.failures import OK
from harness.policies.policy import Earlier, Ended, Policy
from harness.records import (
    Attempt,
    AttemptKey,
    Backoff,
    Call,
    CallKey,
    Decision,
    Said,
    Tokens,
    Transcript,
)
from harness.workflow.effects import (
    Deadlines,
    Grant,
    Program,
    Reply,
    Request,
    acquire,
    emit,
    now,
    release,
    send,
    sleep,
)


class Limits(NamedTuple):
    """The timeouts of a call, nanoseconds of the records' clock."""

    connect: int
    first_token: int
    idle: int
    call: int


class Terms(NamedTuple):
    """How every call of a cell is made.

    `policy` is the trial's, shared by all calls. `random_for`: the random source of a call's
    jitter, keyed on the call. `keep_transcripts`: what was asked and answered is recorded too.
    """

    policy: Policy
    limits: Limits
    hold_permit: bool
    random_for: Callable[[CallKey], Random]
    keep_transcripts: bool = False


class Completion(NamedTuple):
    """What a call came to: `outcome`, the two texts (empty on failure), what failed, when."""

    outcome: str
    reasoning: str
    answer: str
    detail: str
    done: int


def complete(
    terms: Terms, key: CallKey, request: Request, ready: int, workflow_end: int | None = None
) -> Program[Completion]:
    """Make one call and emit its records. Never raises: a failure is an outcome."""
    progress = _Progress(terms, key, request, ready, workflow_end)
    attempt = 0
    attempt_ready = ready
    grant: Grant | None = None
    while True:
        attempt += 1
        if grant is None:
            grant = yield from acquire(attempt_ready, progress.end)
        else:  # held through backoff
            grant = Grant(attempt_ready, attempt_ready)
        if grant.granted is None:
            return (yield from progress.finish(None))
        if progress.is_over(grant.granted):
            yield from release()
            return (yield from progress.finish(None))
        progress.start(grant.granted)
        reply = yield from send(AttemptKey(*key, attempt), request, progress.deadlines())
        decision = progress.judge(attempt, grant.granted, reply)
        yield from emit(_record(key, attempt, attempt_ready, grant, reply, decision))
        wait = None if decision is None else decision.retry_in
        if wait is None or not terms.hold_permit:
            yield from release()
            grant = None
        if decision is None or wait is None:
            return (yield from progress.finish(reply))
        slept = yield from sleep(reply.done + wait)
        progress.backoffs.append(
            Backoff(start=reply.done, end=slept, planned=wait, source=decision.source or "policy")
        )
        attempt_ready = slept


class _Progress:
    """What a call has gone through so far."""

    def __init__(
        self, terms: Terms, key: CallKey, request: Request, ready: int, workflow_end: int | None
    ) -> None:
        self.terms = terms
        self.key = key
        self.request = request
        self.ready = ready
        self.workflow_end = workflow_end
        self.end = workflow_end
        self.attempts = 0
        self.backoffs: list[Backoff] = []
        self.wasted: Tokens | None = None
        self.earlier: tuple[Earlier, ...] = ()
        self._random: Random | None = None

    def is_over(self, granted: int) -> bool:
        """Return whether the permit came, or was kept, too late for an attempt to be sent."""
        return self.end is not None and granted >= self.end

    def start(self, granted: int) -> None:
        """Count an attempt; the first permit starts the call's own deadline."""
        if self.attempts == 0:
            own = granted + self.terms.limits.call
            self.end = own if self.workflow_end is None else min(own, self.workflow_end)
        self.attempts += 1

    def deadlines(self) -> Deadlines:
        limits = self.terms.limits
        assert self.end is not None, "start() comes first"
        return Deadlines(
            limits.connect, limits.first_token, limits.idle, self.end, self._end_outcome()
        )

    def random(self) -> Random:
        """Return the call's random source, one and the same from attempt to attempt."""
        if self._random is None:
            self._random = self.terms.random_for(self.key)
        return self._random

    def judge(self, attempt: int, admitted: int, reply: Reply) -> Decision | None:
        """Tell the policy how an attempt ended, and return what it says to a failed one."""
        if reply.outcome != OK:
            self.wasted = reply.tokens if self.wasted is None else self.wasted + reply.tokens
        assert self.end is not None, "start() comes first"
        ended = Ended(
            phase=self.key.phase,
            attempt=attempt,
            outcome=reply.outcome,
            status=reply.status,
            retry_after=reply.retry_after,
            should_retry=reply.should_retry,
            admitted=admitted,
            sent=reply.sent,
            now=reply.done,
            deadline=self.end,
            earlier=self.earlier,
        )
        decision = self.terms.policy.ended(ended, self.random).decision
        if decision is not None and decision.retry_in is not None:
            self.earlier += (Earlier(reply.outcome, decision),)
        return decision

    def finish(self, reply: Reply | None) -> Program[Completion]:
        """Emit the call's record; `reply` is the last one, None when a deadline came first."""
        done = reply.done if reply else (yield from now())
        outcome = self._end_outcome() if reply is None else reply.outcome
        succeeded = reply if outcome == OK else None
        yield from emit(
            Call(
                **self.key._asdict(),
                ready=self.ready,
                done=done,
                outcome=outcome,
                attempts=self.attempts,
                backoffs=tuple(self.backoffs),
                tokens=succeeded.tokens if succeeded else None,
                wasted_tokens=self.wasted,
            )
        )
        if self.terms.keep_transcripts:
            yield from emit(_transcript(self.key, self.request, outcome, reply))
        if succeeded is None:
            detail = reply.detail if reply else "the deadline passed before the next attempt"
            return Completion(outcome, "", "", detail, done)
        return Completion(outcome, succeeded.reasoning, succeeded.answer, "", done)

    def _end_outcome(self) -> str:
        ends_with_workflow = self.end is not None and self.end == self.workflow_end
        return "workflow_timeout" if ends_with_workflow else "call_timeout"


def _record(
    key: CallKey, attempt: int, ready: int, grant: Grant, reply: Reply, decision: Decision | None
) -> Attempt:
    assert grant.granted is not None, "an attempt is sent under a permit"
    return Attempt(
        **key._asdict(),
        attempt=attempt,
        ready=ready,
        permit_requested=grant.requested,
        permit_granted=grant.granted,
        sent=reply.sent,
        headers=reply.headers,
        first_reasoning=reply.first_reasoning,
        first_answer=reply.first_answer,
        last_token=reply.last_token,
        done=reply.done,
        outcome=reply.outcome,
        status=reply.status,
        retry_after=reply.retry_after,
        request_id=reply.request_id,
        finish_reason=reply.finish_reason,
        tokens=reply.tokens,
        chunks=reply.chunks,
        gaps=reply.gaps,
        decision=decision,
        response_id=reply.response_id,
        response_model=reply.response_model,
    )


def _transcript(key: CallKey, request: Request, outcome: str, reply: Reply | None) -> Transcript:
    return Transcript(
        **key._asdict(),
        outcome=outcome,
        messages=tuple(Said(**message._asdict()) for message in request.messages),
        reasoning=reply.reasoning if reply else "",
        answer=reply.answer if reply else "",
    )
