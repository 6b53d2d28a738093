"""One call's time, cut into parts that no other part overlaps in meaning.

Added up over calls the parts are the shares of `cells.time_spent`, which counts the client's own
wait under `other`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from harness.failures import OK
from harness.records import Attempt, Call

PARTS = (
    "permit_wait", "client_wait", "backoff", "failed_attempts", "to_first_token", "reasoning",
    "answer", "other",
)  # fmt: skip
"""Every part, in the order in which a call goes through them."""


class Piece(NamedTuple):
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

    def within(self, start: int, end: int) -> Piece:
        """Return what of it lies between two moments; its length is 0 or less without any."""
        return self._replace(start=max(self.start, start), end=min(self.end, end))


def pieces(call: Call, attempts: Sequence[Attempt]) -> list[Piece]:
    """Cut a call into parts, in order of time, without empty ones.

    Attempts that ran at the same time (a hedge) have pieces that overlap.
    """
    cut = [piece for attempt in attempts for piece in of_attempt(attempt)]
    cut += of_backoffs(call, attempts)
    cut += of_a_permit_too_late(call)
    return sorted((piece for piece in cut if piece.length > 0), key=lambda it: it.start)


def of_attempt(attempt: Attempt) -> Iterator[Piece]:
    """Cut one attempt, from asking for its permit to its end; pieces may be empty."""
    sent, first, last = attempt.sent, attempt.first_text, attempt.last_token
    number = attempt.attempt
    yield Piece("permit_wait", attempt.permit_requested, attempt.permit_granted, number)
    if sent is None:
        yield Piece("other", attempt.permit_granted, attempt.done, number)
        return
    yield Piece("client_wait", attempt.permit_granted, sent, number)
    if attempt.outcome != OK:
        yield Piece("failed_attempts", sent, attempt.done, number)
    elif first is None or last is None:
        yield Piece("other", sent, attempt.done, number)
    else:
        answer = last if attempt.first_answer is None else attempt.first_answer
        yield Piece("to_first_token", sent, first, number)
        yield Piece("reasoning", first, answer, number)
        yield Piece("answer", answer, last, number)
        yield Piece("other", last, attempt.done, number)


def of_backoffs(call: Call, attempts: Sequence[Attempt]) -> Iterator[Piece]:
    """Return the pauses of a call, parking included."""
    for backoff in call.backoffs:
        before = [attempt.attempt for attempt in attempts if attempt.done <= backoff.start]
        yield Piece("backoff", backoff.start, backoff.end, max(before, default=None))


def of_a_permit_too_late(call: Call) -> Iterator[Piece]:
    """Return the wait at a call's end for a permit that its deadline came before."""
    if call.attempts == len(call.backoffs):
        since = call.backoffs[-1].end if call.backoffs else call.ready
        yield Piece("permit_wait", since, call.done)
