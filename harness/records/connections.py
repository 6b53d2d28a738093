"""When a connection can serve another request."""

from __future__ import annotations

from harness.records.failures import OK

KEEP_ALIVE_SECONDS = 60
"""How long an idle connection is kept, in seconds; the same in every mode."""


def leaves_connection(outcome: str, status: int | None, finish_reason: str | None) -> bool:
    """Return whether an attempt that ended so leaves an idle connection: its response is complete.

    Responses that are no completion are short, and are read to their end.
    """
    return outcome == OK or finish_reason is not None or (status is not None and status >= 300)
