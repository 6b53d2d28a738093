"""`[load]`: how many workflows a trial has, and when they start."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from harness.config.config_base import Count, Section
from harness.config.tables import SettingError

LIVE_WARMUP_CALLS = 2
"""How many calls are made before each trial of an endpoint that is not simulated, by default."""


class Arrivals(Section):
    """An open loop: workflows arrive at a given rate.

    The results have the rate that was really offered beside it; see docs/statistics.md.

    Example::

        [load]
        workflows = 60
        arrivals = { process = "poisson", per_second = 0.5 }

        [objective]
        minimise = "workflow_p95"
    """

    process: Literal["poisson", "constant", "recorded"] = "poisson"
    """`poisson`: workflows arrive independently of each other. `constant`: at equal intervals.
    `recorded`: as the data file of `workflow.kind = "replay"` has them, faster or slower so that
    they have this rate.
    """
    per_second: float = Field(ge=1e-6, le=1_000_000)
    """Workflows that arrive in a scenario second, on average."""


class Load(Section):
    """How the workflows of a trial start.

    Without `arrivals`, a closed loop: the next workflow is ready when one ends. With `arrivals`, an
    open loop: each workflow is ready at its arrival, independently of the number in flight.

    Example::

        [load]
        workflows = 20
        in_flight = 4
    """

    workflows: Count | None = 1
    """Workflows in each trial. It is null in `run.json` for `harness gateway`, which does not know.
    """
    in_flight: Count = 1
    """The most workflows at once in a closed loop."""
    arrivals: Arrivals | None = None
    """The arrivals of an open loop; a closed loop if absent."""
    warmup_calls: int | None = Field(default=None, ge=0, le=10_000)
    """Calls before the clock of each trial starts; they open connections and wake the server.
    2 if absent; 0 with the simulated provider.
    """

    @model_validator(mode="after")
    def _one_loop_alone(self) -> Load:
        if self.arrivals is not None and self.in_flight != 1:
            raise SettingError(
                "has no effect with load.arrivals, which limits nothing in flight; remove one of "
                "the two (--set load.arrivals= removes it)",
                "in_flight",
                value=self.in_flight,
            )
        return self

    @property
    def planned(self) -> int:
        """The number of workflows in each trial, of a load that has one."""
        assert self.workflows is not None, "the requests of a gateway are not planned"
        return self.workflows

    @property
    def at_once(self) -> int:
        """The maximum number of workflows in flight, of a load that has one."""
        return self.planned if self.arrivals is not None else self.in_flight
