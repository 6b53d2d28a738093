"""One call's time, cut into parts.

Added up over calls, the parts give the shares of `cells.time_spent`, with client wait as `other`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol, Self, TypeVar

from harness.records.failures import OK
from harness.records.schema import Attempt, Call

PARTS = (
    "permit_wait", "client_wait", "backoff", "failed_attempts", "to_first_token", "reasoning",
    "answer", "other",
)  # fmt: skip
"""Every part, in the order in which a call goes through them."""

PROGRAM_PART = "program"
"""The part of a workflow that is in no call: its own code, and its waits for something else."""

PATH_PARTS = (*PARTS, PROGRAM_PART)
"""Every part of a workflow's critical path."""


class CallSegment(NamedTuple):
    """One part of a call's time, from `start` to `end` in nanoseconds since the run's anchor.

    `attempt`: the attempt that it belongs to; a backoff belongs to the one that failed before it.
    Segments of a critical path also name the phase, the branch and the call; outside every call
    these are None, but for the phase that was running.
    """

    part: str
    start: int
    end: int
    attempt: int | None = None
    phase: str | None = None
    branch: int | None = None
    call: int | None = None

    @property
    def length(self) -> int:
        """Nanoseconds from start to end."""
        return self.end - self.start


def segments_of_call(call: Call, attempts: Sequence[Attempt]) -> list[CallSegment]:
    """Cut a call into parts, in order of time, without empty ones.

    Attempts that ran at the same time (a hedge) have segments that overlap; see `tiles`.
    """
    cut = [segment for attempt in attempts for segment in of_attempt(attempt)]
    cut += of_pauses(call, attempts)
    return sorted((segment for segment in cut if segment.length > 0), key=lambda it: it.start)


def add_lengths(total: dict[str, int], call: Call, attempts: Sequence[Attempt]) -> None:
    """Add how long each part of `tiles` is, in nanoseconds, to `total`, which has all `PARTS`."""
    if not is_plain(call, attempts):
        for segment in tiles(call, attempts):
            total[segment.part] += segment.length
        return
    # As of_attempt, without an object for each part: a long run spends seconds here.
    attempt = attempts[0]
    sent, granted, done = attempt.sent, attempt.permit_granted, attempt.done
    end = granted
    total["permit_wait"] += granted - attempt.permit_requested
    if sent is not None:
        first, last = attempt.first_text, attempt.last_token
        total["client_wait"] += sent - granted
        end = sent
        if attempt.outcome != OK:
            total["failed_attempts"] += done - sent
            end = done
        elif first is not None and last is not None:
            answer = last if attempt.first_answer is None else attempt.first_answer
            total["to_first_token"] += first - sent
            total["reasoning"] += answer - first
            total["answer"] += last - answer
            end = last
    total["other"] += call.done - end + attempt.permit_requested - call.ready


def lengths_of_call(call: Call, attempts: Sequence[Attempt]) -> list[int]:
    """Return how long each of `PARTS` is, in nanoseconds: see `add_lengths`."""
    total = dict.fromkeys(PARTS, 0)
    add_lengths(total, call, attempts)
    return [*total.values()]


def is_plain(call: Call, attempts: Sequence[Attempt]) -> bool:
    """Return whether a call is one attempt from start to end, as most are."""
    return len(attempts) == 1 and not call.backoffs and attempts[0].outcome == call.outcome


class _Holder(NamedTuple):
    """What may have delayed the end of a call: an attempt, or a pause without an outcome."""

    start: int
    end: int
    outcome: str | None
    segments: Iterable[CallSegment]


def tiles(call: Call, attempts: Sequence[Attempt]) -> list[CallSegment]:
    """Cut a call from ready to done into parts without overlap and without a gap.

    Of attempts that ran at the same time only what delayed the end of the call counts: the attempt
    that it ended with, and before that was ready the one that was running. The rest is `other`.
    """
    other = CallSegment("other", 0, 0)
    if is_plain(call, attempts):
        return tiled(of_attempt(attempts[0]), call.ready, call.done, other)
    holders = [
        _Holder(one.permit_requested, one.done, one.outcome, of_attempt(one)) for one in attempts
    ]
    holders += [_Holder(wait.start, wait.end, None, (wait,)) for wait in of_pauses(call, attempts)]
    cursor = call.done
    chosen: list[CallSegment] = []
    candidates = [held for held in holders if held.outcome in (call.outcome, None)] or holders
    while candidates:
        held = max(candidates, key=lambda it: (min(it.end, cursor), it.outcome is None, it.start))
        cut = [it._replace(end=min(it.end, cursor)) for it in held.segments]
        chosen = [*cut, *chosen]
        cursor = held.start
        candidates = [held for held in holders if held.start < cursor]
    return tiled(chosen, call.ready, call.done, other)


class Timespan(Protocol):
    """Anything with a start and an end; a named tuple."""

    @property
    def start(self) -> int:
        """Nanoseconds."""

    @property
    def end(self) -> int:
        """Nanoseconds."""

    def _replace(self, *, start: int = ..., end: int = ...) -> Self: ...


_S = TypeVar("_S", bound=Timespan)


def tiled(segments: Iterable[_S], start: int, end: int, between: _S) -> list[_S]:
    """Cut segments, given in order of time, to `start` and `end`; fill gaps with `between`."""
    whole: list[_S] = []
    at = start
    for segment in segments:
        first, last = max(segment.start, at), min(segment.end, end)
        if last <= first:
            continue
        if first > at:
            whole.append(between._replace(start=at, end=first))
        if (first, last) != (segment.start, segment.end):
            segment = segment._replace(start=first, end=last)
        whole.append(segment)
        at = last
    if end > at:
        whole.append(between._replace(start=at, end=end))
    return whole


def of_attempt(attempt: Attempt) -> Iterator[CallSegment]:
    """Cut one attempt, from the request for its permit to its end; segments may be empty."""
    sent, first, last = attempt.sent, attempt.first_text, attempt.last_token
    number = attempt.attempt
    yield CallSegment("permit_wait", attempt.permit_requested, attempt.permit_granted, number)
    if sent is None:
        yield CallSegment("other", attempt.permit_granted, attempt.done, number)
        return
    yield CallSegment("client_wait", attempt.permit_granted, sent, number)
    if attempt.outcome != OK:
        yield CallSegment("failed_attempts", sent, attempt.done, number)
    elif first is None or last is None:
        yield CallSegment("other", sent, attempt.done, number)
    else:
        answer = last if attempt.first_answer is None else attempt.first_answer
        yield CallSegment("to_first_token", sent, first, number)
        yield CallSegment("reasoning", first, answer, number)
        yield CallSegment("answer", answer, last, number)
        yield CallSegment("other", last, attempt.done, number)


def of_pauses(call: Call, attempts: Sequence[Attempt]) -> Iterator[CallSegment]:
    """Return a call's pauses: backoff, including parking, and waits for permits between attempts.

    Before a breaker parked it, a call waited for the permit that it then returned. A call that a
    deadline or a cancellation ended between two attempts was waiting for a permit.
    """
    at = call.ready
    for backoff in call.backoffs:
        ended = [attempt for attempt in attempts if attempt.done <= backoff.start]
        at = max([at, *(attempt.done for attempt in ended)])
        last = max((attempt.attempt for attempt in ended), default=None)
        if backoff.source == "breaker" and backoff.start > at:
            yield CallSegment("permit_wait", at, backoff.start)
        yield CallSegment("backoff", backoff.start, backoff.end, last)
        at = backoff.end
    is_over = all(attempt.done <= at for attempt in attempts)
    after_pause = bool(call.backoffs) and is_over and call.backoffs[-1].end == at
    if (call.attempts == 0 or after_pause) and call.done > at:
        yield CallSegment("permit_wait", at, call.done)
