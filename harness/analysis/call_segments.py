"""One call's time, cut into parts that no other part overlaps in meaning.

Added up over calls the parts are the shares of `cells.time_spent`, which counts the client's own
wait under `other`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from harness.records.failures import OK
from harness.records.schema import Attempt, Call

PARTS = (
    "permit_wait", "client_wait", "backoff", "failed_attempts", "to_first_token", "reasoning",
    "answer", "other",
)  # fmt: skip
"""Every part, in the order in which a call goes through them."""


class CallSegment(NamedTuple):
    """One part of a call's time, from `start` to `end` in nanoseconds since the run's anchor.

    `attempt`: the attempt that it belongs to; a backoff belongs to the one that failed before it.
    """

    part: str
    start: int
    end: int
    attempt: int | None = None

    @property
    def length(self) -> int:
        """Nanoseconds from start to end."""
        return self.end - self.start

    def within(self, start: int, end: int) -> CallSegment:
        """Return what of it lies between two moments; its length is 0 or less without any."""
        return CallSegment(self.part, max(self.start, start), min(self.end, end), self.attempt)


def segments_of_call(call: Call, attempts: Sequence[Attempt]) -> list[CallSegment]:
    """Cut a call into parts, in order of time, without empty ones.

    Attempts that ran at the same time (a hedge) have pieces that overlap; see `tiles`.
    """
    cut = [piece for attempt in attempts for piece in of_attempt(attempt)]
    cut += of_pauses(call, attempts)
    return sorted((piece for piece in cut if piece.length > 0), key=lambda it: it.start)


def add_lengths(total: dict[str, int], call: Call, attempts: Sequence[Attempt]) -> None:
    """Add how long each part of `tiles` is, in nanoseconds, to `total`, which has all `PARTS`."""
    if is_plain(call, attempts):
        _add_one(total, call, attempts[0])
    else:
        for piece in tiles(call, attempts):
            total[piece.part] += piece.length


def is_plain(call: Call, attempts: Sequence[Attempt]) -> bool:
    """Return whether a call is one attempt from end to end: most are, and are cut in less time."""
    return len(attempts) == 1 and not call.backoffs and attempts[0].outcome == call.outcome


def _add_one(total: dict[str, int], call: Call, attempt: Attempt) -> None:
    sent, done = attempt.sent, attempt.done
    known = attempt.permit_granted - attempt.permit_requested
    total["permit_wait"] += known
    if sent is not None:
        first, last = attempt.first_text, attempt.last_token
        total["client_wait"] += sent - attempt.permit_granted
        known += sent - attempt.permit_granted
        if attempt.outcome != OK:
            total["failed_attempts"] += done - sent
            known += done - sent
        elif first is not None and last is not None:
            answer = last if attempt.first_answer is None else attempt.first_answer
            total["to_first_token"] += first - sent
            total["reasoning"] += answer - first
            total["answer"] += last - answer
            known += last - sent
    total["other"] += call.done - call.ready - known


class _Held(NamedTuple):
    """What may have held a call up for a while: an attempt or a pause."""

    start: int
    end: int
    outcome: str | None
    pieces: tuple[CallSegment, ...]


def tiles(call: Call, attempts: Sequence[Attempt]) -> list[CallSegment]:
    """Cut a call from ready to done into parts without overlap and without a gap.

    Of attempts at the same time only what held the call's end counts: the attempt that it ended
    with, and before that attempt was ready the one that was under way. Time that nothing else
    claims is `other`.
    """
    if is_plain(call, attempts):
        return _of_one(call, attempts[0])
    holders = [
        _Held(attempt.permit_requested, attempt.done, attempt.outcome, tuple(of_attempt(attempt)))
        for attempt in attempts
    ]
    holders += [_Held(wait.start, wait.end, None, (wait,)) for wait in of_pauses(call, attempts)]
    cursor, chosen = call.done, []
    candidates = [held for held in holders if held.outcome in (call.outcome, None)] or holders
    while candidates:
        held = max(candidates, key=lambda it: (min(it.end, cursor), it.outcome is None, it.start))
        chosen += [piece.within(call.ready, cursor) for piece in reversed(held.pieces)]
        cursor = held.start
        candidates = [held for held in holders if held.start < cursor]
    return _filled(reversed(chosen), call.ready, call.done)


def _of_one(call: Call, attempt: Attempt) -> list[CallSegment]:
    """Cut a plain call, in a third of the time."""
    whole: list[CallSegment] = []
    at = call.ready
    for piece in of_attempt(attempt):
        if piece.end > piece.start:
            if piece.start > at:
                whole.append(CallSegment("other", at, piece.start))
            whole.append(piece)
            at = piece.end
    if call.done > at:
        whole.append(CallSegment("other", at, call.done))
    return whole


def _filled(cut: Iterable[CallSegment], start: int, end: int) -> list[CallSegment]:
    """Cut pieces, given in order of time, to `start` and `end`; what lies between is `other`."""
    whole: list[CallSegment] = []
    at = start
    for piece in cut:
        inside = piece.within(at, end)
        if inside.length <= 0:
            continue
        if inside.start > at:
            whole.append(CallSegment("other", at, inside.start))
        whole.append(inside)
        at = inside.end
    if end > at:
        whole.append(CallSegment("other", at, end))
    return whole


def of_attempt(attempt: Attempt) -> Iterator[CallSegment]:
    """Cut one attempt, from asking for its permit to its end; pieces may be empty."""
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
    """Return a call's pauses: backoff, parking among it, and the waits for permits beside attempts.

    Before it was parked by a breaker a call had waited for the permit that it then gave back; and
    one that a deadline or a cancellation ends between two attempts was waiting for a permit.
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
