"""Time: nanoseconds since one anchor on two clocks."""

from __future__ import annotations

import time

import pytest

from harness.records.clock import Anchor, monotonic_since, take_anchor


def test_an_anchor_is_the_tightest_of_several_readings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wall clock is read between two readings of the monotonic one."""
    monotonic = iter([0, 90, 100, 130, 200, 204, 300, 350, 400, 460])
    wall = iter([10, 20, 30, 40, 50])
    monkeypatch.setattr(time, "monotonic_ns", lambda: next(monotonic))
    monkeypatch.setattr(time, "time_ns", lambda: next(wall))
    assert take_anchor() == Anchor(unix_ns=30, monotonic_ns=202)


def test_an_anchor_lies_between_what_both_clocks_show_before_and_after() -> None:
    before = time.monotonic_ns()
    anchor = take_anchor()
    assert before <= anchor.monotonic_ns <= time.monotonic_ns()


def test_time_counts_from_the_anchor_and_a_set_wall_clock_does_not_bend_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(time, "monotonic_ns", lambda: 1_500)
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    assert monotonic_since(Anchor(unix_ns=10**18, monotonic_ns=1_000))() == 500
