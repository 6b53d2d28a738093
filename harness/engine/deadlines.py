"""The next deadline of an attempt, computed from its time stamps."""

from __future__ import annotations

import msgspec

from harness.engine.effects import Deadlines

CALL_TIMEOUT = "call_timeout"
WORKFLOW_TIMEOUT = "workflow_timeout"
"""The outcomes of attempts at the deadline of their call, or of their workflow."""
TOO_LATE = "too_late"
"""The outcome of an attempt that had a connection only when the time of the budget was over.

It is not sent, and not recorded.
"""
DEADLINE_PASSED = "the deadline passed"
UNWANTED = "no longer wanted"
"""The details of attempts that ended at a deadline, or were cancelled."""


class Limit(msgspec.Struct, frozen=True, gc=False):
    """The time at which to give up an attempt, and the outcome in that case."""

    at: int
    outcome: str


def extended(deadlines: Deadlines, wait: int) -> Deadlines:
    """Return the deadlines after a wait for the budget, which the call's deadline does not include.

    The deadline of the workflow stays.
    """
    end = deadlines.end + wait
    if deadlines.latest is not None and end >= deadlines.latest:
        return msgspec.structs.replace(
            deadlines, end=deadlines.latest, end_outcome=WORKFLOW_TIMEOUT
        )
    return msgspec.structs.replace(deadlines, end=end)


def next_limit(
    deadlines: Deadlines, connecting: int | None, sent: int | None, last_text: int | None
) -> Limit:
    """Return the earliest deadline. Arguments are None for moments that have not been reached.

    `connecting`: when the connection attempt began; None if a connection existed. `last_text`: when
    the latest reasoning or answer text arrived. Only text extends the idle deadline; keep-alive
    comments and blank lines do not.
    """
    at, outcome = deadlines.end, deadlines.end_outcome
    if last_text is not None:
        own, name = last_text + deadlines.idle, "idle_timeout"
    elif sent is not None:
        own, name = sent + deadlines.first_token, "first_token_timeout"
    elif connecting is not None:
        own, name = connecting + deadlines.connect, "connect_timeout"
    else:
        return Limit(at, outcome)
    return Limit(own, name) if own < at else Limit(at, outcome)
