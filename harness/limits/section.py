"""The base class of kinds of limit: the keys of a `[permits.NAME]` table, and its rule.

To add a kind, derive a class from `LimitSection` and name it in `limits.registry`, or in another
package in an entry point of the group `harness.limits`.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from pydantic import model_validator

from harness.config.config_base import Count, Section
from harness.config.tables import SettingError
from harness.limits.protocol import Limiter
from harness.records.clock import SECOND


class LimitSection(Section):
    """The keys that all kinds have."""

    kind: str
    min: Count = 1
    """The lowest limit."""
    max: Count = 100
    """The highest limit."""
    start: Count = 10
    """The limit at the start; within `min` and `max`."""

    @model_validator(mode="after")
    def _bounds_agree(self) -> LimitSection:
        if self.min > self.max:
            raise SettingError(
                f"is above max = {self.max}; lower it, or raise max", "min", value=self.min
            )
        return self

    @property
    def begin(self) -> int:
        """The limit at the start, brought within the bounds."""
        return min(max(self.start, self.min), self.max)

    def bounded(self, limit: float) -> float:
        """Return a limit brought within the bounds."""
        return min(max(limit, float(self.min)), float(self.max))

    @abstractmethod
    def limiter(self, time_scale: float) -> Limiter[Any]:
        """Return the rule. `time_scale`: how many real seconds a scenario second lasts."""

    def expression(self) -> str:
        """Return Python that makes the section, with all its values."""
        cls = type(self)
        ours = cls.__module__.startswith("harness.limits.")
        arguments = [f"{name}={value!r}" for name, value in self if name != "kind"]
        module = "harness.limits" if ours else cls.__module__
        return f"{module}.{cls.__name__}({', '.join(arguments)})"


def limit_nanoseconds(seconds: float, time_scale: float) -> int:
    """Return scenario seconds as nanoseconds of the records' clock, at least one."""
    return max(1, round(seconds * time_scale * SECOND))
