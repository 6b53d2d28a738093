"""The timeouts of a call."""

from __future__ import annotations

from harness.config.config_base import Section
from harness.config.tables import Duration


class Timeouts(Section):
    """The limits of waiting in a call, in seconds.

    `connect`: for a connection. `first_token`: from sending the request to the first text; `call`
    if it is None. `idle`: between two texts of a stream. `call`: from the first permit to the end
    of the last attempt, backoff and later permit waits included.
    """

    connect: Duration = 5.0
    first_token: Duration | None = None
    idle: Duration = 60.0
    call: Duration = 600.0
