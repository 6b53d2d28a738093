"""`[load]`: how many workflows a trial has, and when they start."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from harness.config.config_base import Count, Section
from harness.config.tables import SettingError

LIVE_WARMUP_CALLS = 2
"""How many calls are made before each trial of an endpoint that is not simulated, by default."""


class Arrivals(Section):
    """An open loop: on average, `per_second` workflows arrive per scenario second.

    `poisson`: independently of each other. `constant`: at equal intervals.
    """

    process: Literal["poisson", "constant"] = "poisson"
    per_second: float = Field(ge=1e-6, le=1_000_000)


class Load(Section):
    """How the `workflows` of a trial start.

    Without `arrivals`, a closed loop: at most `in_flight` workflows run at once, and the next is
    ready when one ends. With `arrivals`, an open loop: each workflow is ready at its arrival,
    independently of the number in flight.

    `warmup_calls`: calls before each trial, at the same time (in sync mode one after another). They
    open connections and wake the server. They are charged to the budget and excluded from
    statistics. None for the default: 0 for the simulated provider, 2 for any other endpoint.
    """

    workflows: Count = 1
    in_flight: Count = 1
    arrivals: Arrivals | None = None
    warmup_calls: int | None = Field(default=None, ge=0, le=10_000)

    @model_validator(mode="after")
    def _one_loop_alone(self) -> Load:
        if self.arrivals is not None and self.in_flight != 1:
            raise SettingError(
                "has no effect with load.arrivals, which limits nothing in flight; remove one of "
                "the two",
                "in_flight",
                value=self.in_flight,
            )
        return self

    @property
    def at_once(self) -> int:
        """The maximum number of workflows in flight."""
        return self.workflows if self.arrivals is not None else self.in_flight
