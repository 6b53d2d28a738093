"""The next deadline follows from what has happened so far, and from nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from harness.engine.deadlines import Limit, next_limit
from harness.engine.effects import Deadlines

DEADLINES = Deadlines(connect=5, first_token=30, idle=10, end=100, end_outcome="call_timeout")
MOMENT = st.none() | st.integers(0, 200)
DURATION = st.integers(0, 200)


@pytest.mark.parametrize(
    ("connecting", "sent", "last_text", "limit"),
    [
        (None, None, None, Limit(100, "call_timeout")),
        (20, None, None, Limit(25, "connect_timeout")),
        (None, 20, None, Limit(50, "first_token_timeout")),
        (None, 20, 45, Limit(55, "idle_timeout")),
        (97, None, None, Limit(100, "call_timeout")),
        (None, 80, None, Limit(100, "call_timeout")),
        (None, 20, 95, Limit(100, "call_timeout")),
        (None, 70, None, Limit(100, "call_timeout")),
    ],
    ids=["nothing", "connecting", "sent", "text", "late connecting", "late", "late text", "a tie"],
)
def test_each_step_has_its_deadline_and_the_end_bounds_them_all(
    connecting: int | None, sent: int | None, last_text: int | None, limit: Limit
) -> None:
    assert next_limit(DEADLINES, connecting, sent, last_text) == limit


def test_the_end_is_called_what_it_is() -> None:
    deadlines = replace(DEADLINES, end_outcome="workflow_timeout")
    assert next_limit(deadlines, None, None, None).outcome == "workflow_timeout"


@given(
    deadlines=st.builds(
        Deadlines, DURATION, DURATION, DURATION, st.integers(0, 400), st.just("call_timeout")
    ),
    connecting=MOMENT,
    sent=MOMENT,
    last_text=MOMENT,
)
def test_no_deadline_is_after_the_end_and_only_the_newest_step_counts(
    deadlines: Deadlines, connecting: int | None, sent: int | None, last_text: int | None
) -> None:
    limit = next_limit(deadlines, connecting, sent, last_text)
    assert limit.at <= deadlines.end
    if last_text is not None:
        assert limit == next_limit(deadlines, None, None, last_text)
