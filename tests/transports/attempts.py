"""Attempts to send in tests, and where to."""

from __future__ import annotations

from typing import Any

from harness.engine.effects import Deadlines, Message, Request, Send
from harness.records.clock import SECOND, take_anchor
from harness.records.keys import AttemptKey
from harness.transports.target import Target

KEY = AttemptKey("async_2_none_attempt", 1, 3, 0, "fan_out", 2, 1, 1)
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
    deadlines: Deadlines | None = None, key: AttemptKey = KEY, request: Request | None = None
) -> Send:
    """An attempt."""
    request = request or Request((Message("system", "Be brief."), Message("user", "Why tides?")))
    return Send(key, request, deadlines or make_deadlines())
