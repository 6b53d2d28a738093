"""The interface between a limit that adapts and what it is fed: the attempts that have ended.

A limiter is a pure function: from its state and one observation it returns the next state. So it
can be tested without waiting, and one rule serves virtual time, real time and the clients. Times
are nanoseconds of the records' clock.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol, TypeVar

LimitOutcome = Literal["ok", "rate_limited", "failed"]
"""`rate_limited`: a 429. `failed`: any other failure, and an attempt that was cancelled."""


class Observation(NamedTuple):
    """An attempt that has ended.

    `now`: when. `result`: how. `sent`: when its request was sent, None if it was not.
    `first_text`: when its first text arrived, None without text. `tokens`: of its output, reasoning
    included. `retry_after`: nanoseconds that the server asked for, None if it did not. `in_flight`:
    the permits in use at its end, its own included. `mean_in_flight`: their mean while it was in
    service. `limit`: the limit at its end.
    """

    now: int
    result: LimitOutcome
    sent: int | None
    first_text: int | None
    tokens: int
    retry_after: int | None
    in_flight: int
    mean_in_flight: float
    limit: int

    @property
    def service_time(self) -> int | None:
        """Nanoseconds from sending the request to its end; None if it was not sent."""
        return None if self.sent is None else self.now - self.sent

    @property
    def time_per_token(self) -> float | None:
        """The service time over the tokens, in nanoseconds; None unless it succeeded with tokens.

        The wait for the first token is part of it, because that is where a server queues.
        """
        service = self.service_time
        if self.result != "ok" or service is None or service <= 0 or self.tokens <= 0:
            return None
        return service / self.tokens


class LimitState(Protocol):
    """What a limiter knows. `limit`: the most permits in use, at least 1."""

    @property
    def limit(self) -> int:
        """The most permits in use."""


_S = TypeVar("_S", bound=LimitState)


class Limiter(Protocol[_S]):
    """The rule of a limit."""

    def first(self) -> _S:
        """Return the state at the start."""

    def observed(self, state: _S, seen: Observation) -> _S:
        """Return the state after an attempt has ended."""
