"""The client's records checked against the log of the simulated provider."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.analysis.model import Oracle, Spread
from harness.analysis.pooling import pool
from harness.records.clock import SECOND
from harness.records.failures import CANCELLED, OK
from harness.records.histogram import quantile
from harness.records.ids import attempt_span
from harness.records.provider_log import Served
from harness.records.schema import Attempt
from harness.store.run_directory import Records

CLIENT_CLOSED = "client_closed"
"""The provider's outcome of a request whose client closed the connection."""

_WE_LEFT = frozenset({"first_token_timeout", "idle_timeout", "call_timeout", "workflow_timeout"})
_WHOLE_BUT_UNUSABLE = frozenset(
    {"truncated", "content_filter", "insufficient_system_resource", "empty_answer"}
)


class Joined(NamedTuple):
    """Attempts with their lines of the provider's log, and how many are on one side only.

    `shift`: nanoseconds to add to the provider's times to get the client's.
    """

    pairs: list[tuple[Attempt, Served]]
    unmatched: int
    shift: int


def join(records: Records) -> Joined | None:
    """Join attempts to the provider's log by span id; None where there is no log.

    Both anchors have a reading of the same monotonic clock, so their difference is exact. Attempts
    that were not sent, and cancelled ones, whose request may be lost, need no line in the log.
    """
    if records.provider is None:
        return None
    head, log = records.provider
    waiting = {served.span_id: served for served in log if served.span_id is not None}
    nameless = sum(served.span_id is None for served in log)
    pairs, missing = [], 0
    for attempt in records.attempts:
        served = waiting.pop(attempt_span(records.run.run_id, attempt), None)
        if served is not None:
            pairs.append((attempt, served))
        elif attempt.sent is not None and attempt.outcome != CANCELLED:
            missing += 1
    shift = head.anchor.monotonic_ns - records.run.anchor.monotonic_ns
    return Joined(pairs, missing + len(waiting) + nameless, shift)


def disagreements(joined: Joined) -> dict[str, NDArray[np.float64]]:
    """Return client's first text minus provider's first write, in seconds, by cell."""
    parts: dict[str, list[int]] = {}
    for attempt, served in joined.pairs:
        first, written = attempt.first_text, served.first_written
        if first is not None and written is not None:
            parts.setdefault(attempt.cell, []).append(first - written - joined.shift)
    return {cell: np.array(apart, np.float64) / SECOND for cell, apart in parts.items()}


def pooled(parts: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the numbers of all cells in one array."""
    return np.concatenate([*parts.values(), np.empty(0)])


def compare_logs(joined: Joined) -> Oracle:
    """Return how far client and provider agree."""
    pairs = joined.pairs
    ours = quantile(pool((0, attempt.gaps) for attempt, _ in pairs).of(0), 0.5)
    theirs = quantile(pool((0, served.gaps) for _, served in pairs).of(0), 0.5)
    return Oracle(
        attempts=len(pairs),
        unmatched=joined.unmatched,
        outcome_mismatches=sum(not agree(a.outcome, s.outcome) for a, s in pairs),
        token_mismatches=sum(not _same_tokens(a, s) for a, s in pairs),
        first_text_s=two_percentiles(pooled(disagreements(joined))),
        inter_token_p50_s=None if ours is None or theirs is None else (ours - theirs) / SECOND,
    )


def agree(client: str, provider: str) -> bool:
    """Return whether the client's outcome is consistent with the provider's.

    A client that stops waiting closes the connection. A complete response may contain no usable
    answer. A client that cancels an attempt may not see how it ended.
    """
    if client == CANCELLED:
        return True
    if provider == CLIENT_CLOSED:
        return client in _WE_LEFT
    if provider == OK:
        return client == OK or client in _WHOLE_BUT_UNUSABLE
    return client == provider


def _same_tokens(attempt: Attempt, served: Served) -> bool:
    told, meant = attempt.tokens, served.tokens
    return all(
        getattr(told, name) in (None, getattr(meant, name))
        for name in ("input", "cached", "output", "reasoning")
    )


def two_percentiles(values: NDArray[np.float64]) -> Spread | None:
    """Return median and 99th percentile without intervals, None of nothing."""
    if not len(values):
        return None
    p50, p99 = np.quantile(values, (0.5, 0.99))
    return Spread(p50=float(p50), p99=float(p99))
