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
    RELEASE,
    Acquire,
    Cancelled,
    Emit,
    Grant,
    Program,
    Reply,
    Request,
    now,
    park,
    release,
    sleep,
)
from harness.engine.hedging import hedged
from harness.policies.protocol import Asking, Go, ParkCall
from harness.records.failures import CANCELLED, OK
from harness.records.keys import CallKey
from harness.records.schema import Backoff, Call, Said, Transcript

_T = TypeVar("_T")


class Completion(msgspec.Struct, frozen=True, gc=False):
    """The result of a call: outcome, both texts (empty on failure), failure detail, end time.

    `reasoning` is empty unless the workflow carries it.
    """

    outcome: str
    reasoning: str
    answer: str
    detail: str
    done: int


def complete(
    terms: CallTerms, key: CallKey, request: Request, ready: int, workflow_end: int | None = None
) -> Program[Completion]:
    """Make one call and emit its records. A failure is an outcome, not an exception.

    If the branch is cancelled, the call is too; its earlier attempts are recorded.
    """
    progress = CallState(terms, key, request, ready, workflow_end)
    try:
        reply = yield from _attempts(progress)
    except Cancelled:
        return (yield from _finish(progress, None, CANCELLED))
    return (yield from _finish(progress, reply, reply.outcome if reply else progress.end_outcome()))


def _attempts(progress: CallState) -> Program[Reply | None]:
    """Return the reply of the last attempt; None if a deadline came before the next attempt.

    The permit is released at the end, and when Cancelled is raised.
    """
    ready, held = progress.ready, False
    while True:
        place = yield from _admitted(progress, ready, held)
        if place is None:
            return None
        hedge = progress.terms.policy.hedge if not progress.replies else None
        progress.begin(place.granted)
        if hedge is None:
            tried, held = (yield from attempt(progress, place)), True
        else:
            tried, held = (yield from hedged(progress, place, hedge)), progress.terms.hold_permit
        decision = tried.decision
        if decision is None or decision.retry_in is None:
            if held:
                yield RELEASE
            return tried.reply
        ready = tried.reply.done
        if decision.source == "breaker":
            continue  # with its permit, so that it is parked before later calls
        if held and not progress.terms.hold_permit:
            yield from release()
            held = False
        pause = partial(
            Backoff, start=ready, planned=decision.retry_in, source=decision.source or "policy"
        )
        waiting = sleep(ready + decision.retry_in)
        ready = yield from _paused(progress, pause, waiting, lambda end: end, held)


def _admitted(progress: CallState, ready: int, held: bool) -> Program[AdmittedAttempt | None]:
    """Get a permit, if none is held, and the admission; None if the deadline comes first."""
    if held:
        grant = Grant(ready, ready, progress.rings)
    else:
        grant = yield Acquire(ready, progress.end)
    number = len(progress.replies) + 1
    while grant.granted is not None:
        if progress.is_over(grant.granted):
            yield from release()
            return None
        progress.rings = grant.rings
        admission = progress.terms.policy.admit(Asking(progress.key.phase, number, grant.granted))
        if isinstance(admission, Go):
            return AdmittedAttempt(number, ready, grant.requested, grant.granted)
        grant = yield from _parked(progress, grant.granted, admission)
        ready = grant.requested
    return None


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


def _finish(progress: CallState, reply: Reply | None, outcome: str) -> Program[Completion]:
    """Emit the record of the call. `reply`: the reply that ended it, None if no attempt did."""
    # The losing attempt of a hedge may end after the winning one.
    if reply is None:
        done = yield from now()
    else:
        done = max([one.done for one in progress.replies])
    succeeded = reply if outcome == OK else None
    cell, repeat, workflow, execution, phase, branch, call = progress.key
    yield Emit(
        Call(
            cell=cell,
            repeat=repeat,
            workflow=workflow,
            execution=execution,
            phase=phase,
            branch=branch,
            call=call,
            ready=progress.ready,
            done=done,
            outcome=outcome,
            attempts=len(progress.replies),
            backoffs=tuple(progress.backoffs),
            tokens=succeeded.tokens if succeeded else None,
            wasted_tokens=progress.wasted(succeeded),
        )
    )
    if progress.terms.keep_transcripts:
        yield Emit(
            Transcript(
                **progress.key._asdict(),
                outcome=outcome,
                messages=tuple(Said(**message._asdict()) for message in progress.request.messages),
                reasoning=reply.reasoning if reply else "",
                answer=reply.answer if reply else "",
            )
        )
    if succeeded is not None:
        reasoning = succeeded.reasoning if progress.terms.carry_reasoning else ""
        return Completion(outcome, reasoning, succeeded.answer, "", done)
    if reply is not None:
        detail = reply.detail
    else:
        detail = UNWANTED if outcome == CANCELLED else f"{DEADLINE_PASSED} before the next attempt"
    return Completion(outcome, "", "", detail, done)
