"""Output tokens in time: seconds a token of each attempt, and tokens a second of each trial."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.records.clock import SECOND
from harness.records.failures import OK
from harness.store.columns import AttemptTable
from harness.store.compact_records import ABSENT


def seconds_a_token(attempts: AttemptTable) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the mean seconds between two output tokens of each attempt, and which have them.

    The time between the first and the last chunk, over the tokens after the first chunk. A chunk
    has output / chunks tokens: some servers merge several into one. Reasoning that was not sent as
    text is no output here. Attempts with one chunk or without usage have no value.
    """
    first, last = attempts.column("first_text"), attempts.column("last_token")
    chunks = attempts.column("chunks").astype(np.float64)
    tokens = sent_tokens(attempts).astype(np.float64)
    known = (first != ABSENT) & (last != ABSENT) & (chunks > 1) & (tokens > 0)
    known &= attempts.where("outcome", OK.__eq__)
    seconds = np.zeros(len(chunks))
    taken = (last[known] - first[known]).astype(np.float64) / SECOND
    seconds[known] = taken / (tokens[known] * (1 - 1 / chunks[known]))
    return seconds, known


def sent_tokens(attempts: AttemptTable) -> NDArray[np.int64]:
    """Return the output tokens of each attempt that were sent as text, 0 where not reported."""
    output, hidden = (
        np.maximum(attempts.column(name).astype(np.int64), 0) for name in ("output", "reasoning")
    )
    is_hidden = attempts.column("first_reasoning") == ABSENT
    return np.where(is_hidden, np.maximum(output - hidden, 0), output)


def rate_while_full(attempts: AttemptTable, permits: int) -> float | None:
    """Return the output tokens a second of one trial while all permits were in use.

    The tokens of a response are spread evenly between its first and its last chunk. None if the
    attempts in flight never were as many as the permits.
    """
    granted, done = attempts.column("permit_granted"), attempts.column("done")
    moments = np.concatenate([granted, done])
    changes = np.repeat([1, -1], len(granted))
    order = np.lexsort((changes, moments))  # a permit is given back before the next one has it
    moments, in_flight = moments[order], np.cumsum(changes[order])
    lengths = np.diff(moments, append=moments[-1:])
    full_until = np.concatenate([[0.0], np.cumsum(np.where(in_flight >= permits, lengths, 0))])

    def full_before(at: NDArray[Any]) -> NDArray[np.float64]:
        """Return the nanoseconds with all permits in use before a moment."""
        found: NDArray[np.float64] = np.interp(at, moments, full_until[:-1])
        return found

    if not len(moments) or not full_until[-1]:
        return None
    first, last = attempts.column("first_text"), attempts.column("last_token")
    tokens = sent_tokens(attempts)
    known = (first != ABSENT) & (last > first) & (tokens > 0)
    first, last = first[known], last[known]
    inside = (full_before(last) - full_before(first)) / (last - first)
    return float((tokens[known] * inside).sum()) / (float(full_until[-1]) / SECOND)
