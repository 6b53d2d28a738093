"""`[load]`: how many workflows a trial has, and when they come."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from harness.config.config_base import Count, Section
from harness.config.tables import SettingError


class Arrivals(Section):
    """An open loop: workflows come by themselves, `per_second` scenario seconds on average.

    `poisson`: independently of each other. `constant`: at equal distances.
    """

    process: Literal["poisson", "constant"] = "poisson"
    per_second: float = Field(ge=1e-6, le=1_000_000)


class Load(Section):
    """How `workflows` a trial are begun.

    A closed loop: at most `in_flight` of them at once, the next is ready when a slot frees. With
    `arrivals` an open one: each is ready when it is due, however many are under way.
    """

    workflows: Count = 1
    in_flight: Count = 1
    arrivals: Arrivals | None = None

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
        """How many workflows may be in flight."""
        return self.workflows if self.arrivals is not None else self.in_flight
