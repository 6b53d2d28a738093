"""Observations for tests of limits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from harness.limits.protocol import Limiter, Observation
from harness.records.clock import SECOND


def seen(
    at: float,
    result: Any = "ok",
    *,
    in_flight: int = 10,
    took: float = 5.0,
    tokens: int = 100,
    retry_after: float | None = None,
) -> Observation:
    """An attempt that ended `at` seconds and took so many; as many were in flight all the time."""
    refused = result != "ok"
    now = round(at * SECOND)
    return Observation(
        now=now,
        result=result,
        sent=now - round((0.05 if refused else took) * SECOND),
        first_text=None if refused else now,
        tokens=0 if refused else tokens,
        retry_after=None if retry_after is None else round(retry_after * SECOND),
        in_flight=in_flight,
        mean_in_flight=float(in_flight),
        limit=in_flight,
    )


def play(limiter: Limiter[Any], observations: Sequence[Observation]) -> list[int]:
    """The limit at the start and after each observation."""
    state = limiter.first()
    limits = [int(state.limit)]
    for one in observations:
        state = limiter.observed(state, one)
        limits.append(int(state.limit))
    return limits


@st.composite
def histories(draw: st.DrawFn) -> list[Observation]:
    """Anything that can be observed, in the order of its time."""
    found, at = [], 0.0
    for _ in range(draw(st.integers(0, 80))):
        at += draw(st.sampled_from([0.0, 0.01, 0.3, 2.0, 40.0]))
        result = draw(st.sampled_from(["ok", "ok", "ok", "rate_limited", "failed"]))
        one = seen(
            at,
            result,
            in_flight=draw(st.integers(1, 200)),
            took=draw(st.sampled_from([0.0, 0.2, 5.0, 300.0])),
            tokens=draw(st.sampled_from([0, 1, 300, 100_000])),
            retry_after=draw(st.sampled_from([None, 0.0, 1.0, 89.0])),
        )
        if draw(st.integers(0, 9)) == 0:
            one = one._replace(sent=None, first_text=None)
        found.append(one)
    return found
