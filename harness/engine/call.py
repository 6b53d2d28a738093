"""One call: attempts under a permit and a policy, until one succeeds or the policy gives up.

The deadline of a call starts with the permit of its first attempt, so the first permit wait does
not count; backoff and later permit waits do. With permit scope `attempt`, the call releases its
permit during backoff and while a breaker parks it. With `call`, it holds the permit to its end.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import msgspec

from harness.engine.attempt import AdmittedAttempt, CallState, CallTerms, attempt
from harness.engine.deadlines import DEADLINE_PASSED, UNWANTED
from harness.engine.effects import (
    NOW,
    RELEASE,
    Acquire,
    Cancelled,
    Emit,
    Grant,
    Program,
    Reply,
    Request,
    ToolCall,
    now,
    park,
    release,
    sleep,
)
from harness.engine.hedging import hedged
from harness.policies.protocol import Asking, Go, ParkCall
from harness.records.failures import CANCELLED, OK
from harness.records.keys import CallKey
from harness.records.schema import NO_TOKENS, Backoff, Call, Said, Tokens, Transcript

_T = TypeVar("_T")


class Completion(msgspec.Struct, frozen=True, gc=False):
    """The result of a call: outcome, both texts (empty on failure), failure detail, end time.

    `reasoning` is empty unless the workflow carries it. `tool_calls`, `tokens`: of the answer.
    """

    outcome: str
    reasoning: str
    answer: str
    detail: str
    done: int
    tool_calls: tuple[ToolCall, ...] = ()
    tokens: Tokens = NO_TOKENS


def complete(
    terms: CallTerms, key: CallKey, request: Request, ready: int, workflow_end: int | None = None
) -> Program[Completion]:
    """Make one call and emit its records. A failure is an outcome, not an exception.

    If the branch is cancelled, the call is too; its earlier attempts are recorded.
    """
    progress = CallState(terms, key, request, ready, workflow_end)
    reply: Reply | None = None  # the one that ends the call
    try:
        reply = yield from _attempts(progress)
        outcome = reply.outcome if reply else progress.end_outcome()
    except Cancelled:
        outcome = CANCELLED
    done = progress.last_end() if reply else None
    if done is None:
        done = yield NOW
    yield Emit(_record(progress, reply, outcome, done))
    if terms.keep_transcripts:
        yield Emit(_transcript(progress, reply, outcome))
    return _completion(terms, reply, outcome, done)


def _attempts(progress: CallState) -> Program[Reply | None]:
    """Return the reply of the last attempt; None if a deadline came before the next attempt.

    The permit is released at the end, and when Cancelled is raised.
    """
    terms, ready, held = progress.terms, progress.ready, False
    while True:
        if held:
            grant = Grant(ready, ready, progress.rings)
        else:
            grant = yield Acquire(ready, progress.end)
        place = _admission(progress, ready, grant)
        while isinstance(place, ParkCall):
            assert grant.granted is not None, "the policy was asked"
            grant = yield from _parked(progress, grant.granted, place)
            ready = grant.requested
            place = _admission(progress, ready, grant)
        if place is None:
            if grant.granted is not None:
                yield RELEASE
            return None
        hedge = terms.policy.hedge if not progress.replies else None
        progress.begin(place.granted)
        if hedge is None:
            tried, held = (yield from attempt(progress, place)), True
        else:
            tried, held = (yield from hedged(progress, place, hedge)), terms.hold_permit
        decision = tried.decision
        if decision is None or decision.retry_in is None:
            if held:
                yield RELEASE
            return tried.reply
        ready = tried.reply.done
        if decision.source == "breaker":
            continue  # with its permit, so that it is parked before later calls
        if held and not terms.hold_permit:
            yield RELEASE
            held = False
        pause = partial(
            Backoff, start=ready, planned=decision.retry_in, source=decision.source or "policy"
        )
        waiting = sleep(ready + decision.retry_in)
        ready = yield from _paused(progress, pause, waiting, lambda end: end, held)


def _admission(progress: CallState, ready: int, grant: Grant) -> AdmittedAttempt | ParkCall | None:
    """Ask the policy to admit the next attempt; None if the deadline came first.

    In that case the caller releases the permit, if it was granted.
    """
    granted = grant.granted
    if granted is None or progress.is_over(granted):
        return None
    progress.rings = grant.rings
    number = len(progress.replies) + 1
    admission = progress.terms.policy.admit(Asking(progress.key.phase, number, granted))
    if isinstance(admission, Go):
        return AdmittedAttempt(number, ready, grant.requested, granted)
    return admission


def _parked(progress: CallState, start: int, parked: ParkCall) -> Program[Grant]:
    keep = progress.terms.hold_permit
    until, end = parked.until, progress.end
    planned = 0 if until is None else max(until - start, 0)
    pause = partial(Backoff, start=start, planned=planned, source="breaker")
    waiting = park(parked.bell, until, end, keep=keep, rings=progress.rings)
    return (yield from _paused(progress, pause, waiting, lambda grant: grant.requested, keep))


def _paused(
    progress: CallState,
    pause: partial[Backoff],
    waiting: Program[_T],
    ended: Callable[[_T], int],
    held: bool,
) -> Program[_T]:
    """Wait and record the backoff; if the wait is cancelled, release a held permit."""
    try:
        result = yield from waiting
    except Cancelled:
        progress.backoffs.append(pause(end=(yield from now())))
        if held:
            yield from release()
        raise
    progress.backoffs.append(pause(end=ended(result)))
    return result


def _record(progress: CallState, reply: Reply | None, outcome: str, done: int) -> Call:
    """Return the record of the call. `reply`: the reply that ended it, None if no attempt did."""
    succeeded = reply if outcome == OK else None
    cell, repeat, workflow, execution, phase, branch, call = progress.key
    # By position: keywords take 0.5 us more.
    return Call(
        cell, repeat, workflow, execution, phase, call, progress.ready, done, outcome,
        len(progress.replies), tuple(progress.backoffs), succeeded.tokens if succeeded else None,
        progress.wasted(succeeded), progress.request.traceparent, branch=branch,
    )  # fmt: skip


def _transcript(progress: CallState, reply: Reply | None, outcome: str) -> Transcript:
    return Transcript(
        **progress.key._asdict(),
        outcome=outcome,
        messages=tuple(Said(**message._asdict()) for message in progress.request.messages),
        reasoning=reply.reasoning if reply else "",
        answer=reply.answer if reply else "",
    )


def _completion(terms: CallTerms, reply: Reply | None, outcome: str, done: int) -> Completion:
    if reply is not None and outcome == OK:
        reasoning = reply.reasoning if terms.carry_reasoning else ""
        return Completion(
            outcome, reasoning, reply.answer, "", done, reply.tool_calls, reply.tokens
        )
    if reply is not None:
        detail = reply.detail
    else:
        detail = UNWANTED if outcome == CANCELLED else f"{DEADLINE_PASSED} before the next attempt"
    return Completion(outcome, "", "", detail, done)
