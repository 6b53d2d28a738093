"""Which deadline of an attempt is next: pure arithmetic on its stamps."""

from __future__ import annotations

from typing import NamedTuple

from harness.engine.effects import Deadlines


class Limit(NamedTuple):
    """The moment when an attempt must be given up, and the outcome that this is."""

    at: int
    outcome: str


def next_limit(
    deadlines: Deadlines, connecting: int | None, sent: int | None, last_text: int | None
) -> Limit:
    """Return the earliest deadline given what has happened so far, None for what has not.

    `connecting`: since when a connection is being made; None when there was one already.
    `last_text`: when the newest reasoning or answer text came. Only text moves the idle deadline:
    keep-alive comments and blank lines do not.
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
