"""An oracle that is not the client: its records held against the simulated provider's own log."""

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
from harness.records.provider_log import ProviderHead, Served
from harness.records.schema import Attempt
from harness.store.run_directory import Records

CLIENT_CLOSED = "client_closed"
"""What the provider calls a request whose client went away."""

_WE_LEFT = frozenset({"first_token_timeout", "idle_timeout", "call_timeout", "workflow_timeout"})
_WHOLE_BUT_UNUSABLE = frozenset(
    {"truncated", "content_filter", "insufficient_system_resource", "empty_answer"}
)


class Joined(NamedTuple):
    """Attempts with their lines of the provider's log, and how many stand on one side only.

    `shift`: nanoseconds to add to the provider's times to get the client's.
    """

    pairs: list[tuple[Attempt, Served]]
    unmatched: int
    shift: int


def join(records: Records) -> Joined | None:
    """Join attempts to the provider's log by span id; None where there is no log.

    Both anchors carry a reading of the same monotonic clock, so their difference is exact. An
    attempt that was never sent has no line in the log and needs none, nor one that was broken off:
    its request may not have arrived.
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
    return Joined(pairs, missing + len(waiting) + nameless, _shift(records, head))


def _shift(records: Records, head: ProviderHead) -> int:
    return head.anchor.monotonic_ns - records.run.anchor.monotonic_ns


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
    """Return whether the client's outcome is what the provider's must look like to a client.

    A client that stops waiting leaves. What was served whole may still be no answer. Whatever the
    end was of what the client broke off itself, it may not have seen it.
    """
    if client == CANCELLED:
        return True
    if provider == CLIENT_CLOSED:
        return client in _WE_LEFT
    if provider == OK:
        return client == OK or client in _WHOLE_BUT_UNUSABLE
    return client == provider


def _same_tokens(attempt: Attempt, served: Served) -> bool:
    """Compare what the client was told; what it never read cannot differ."""
    told, meant = attempt.tokens, served.tokens
    pairs = (
        (told.input, meant.input),
        (told.cached, meant.cached),
        (told.output, meant.output),
        (told.reasoning, meant.reasoning),
    )
    return all(one is None or one == other for one, other in pairs)


def two_percentiles(values: NDArray[np.float64]) -> Spread | None:
    """Return median and 99th percentile without intervals, None of nothing."""
    if not len(values):
        return None
    p50, p99 = np.quantile(values, (0.5, 0.99))
    return Spread(p50=float(p50), p99=float(p99))
