"""The timeouts of a call."""

from __future__ import annotations

from harness.config.config_base import Section
from harness.config.tables import Duration


class Timeouts(Section):
    """The limits of waiting in a call, in seconds."""

    connect: Duration = 5.0
    """For opening a connection."""
    first_token: Duration | None = None
    """From sending the request to the first text; as `call` if absent."""
    idle: Duration = 60.0
    """Between two texts of a stream."""
    call: Duration = 600.0
    """From the first permit to the end of the last attempt, backoff and later permit waits
    included. A retry whose backoff would end later is not made.
    """
