"""Attempts to send in tests, and where to."""

from __future__ import annotations

from typing import Any

from harness.engine.effects import Deadlines, Message, Request, Send
from harness.records.clock import SECOND, take_anchor
from harness.records.keys import CallKey
from harness.transports.target import Target

KEY = CallKey("async_2_none_attempt", 1, 3, 0, "fan_out", 2, 1)
ANCHOR = take_anchor()
FOREVER = 3600 * SECOND


def make_target(base_url: str = "http://test/v1", **fields: Any) -> Target:
    """A simulated target that streams, unless told otherwise."""
    target = Target(
        base_url=base_url,
        api_key="sk-test",
        model="m",
        stream=True,
        extra_body={},
        run_id="run",
        anchor=ANCHOR,
        simulated=True,
    )
    return target._replace(**fields)


def make_deadlines(
    *,
    connect: int = FOREVER,
    first_token: int = FOREVER,
    idle: int = FOREVER,
    end: int = 10 * FOREVER,
    end_outcome: str = "call_timeout",
) -> Deadlines:
    """Deadlines that never come, but for those that are given."""
    return Deadlines(connect, first_token, idle, end, end_outcome)


def make_send(
    deadlines: Deadlines | None = None,
    key: CallKey = KEY,
    request: Request | None = None,
    attempt: int = 1,
) -> Send:
    """An attempt."""
    request = request or Request((Message("system", "Be brief."), Message("user", "Why tides?")))
    return Send(key, attempt, request, deadlines or make_deadlines())
