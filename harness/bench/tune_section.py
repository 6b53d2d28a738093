"""The section `[tune]` of a scenario: the values that a tune chooses from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    WrapValidator,
    model_validator,
)

from harness.analysis.looks import FEWEST_REPEATS
from harness.bench.swept_values import PermitsValue, different_values
from harness.config.config_base import Count, Name, Section, Several, distinct
from harness.config.tables import SettingError

MOST_TUNED_PERMITS = 4096
"""The most permits of a range: more are more than a process can use."""


class PermitRange(Section):
    """Permits from `min` to `max`, in steps of about an eighth.

    Example::

        [tune]
        permits = { min = 1, max = 256 }
    """

    min: Count = 1
    """The fewest permits."""
    max: Annotated[Count, Field(le=MOST_TUNED_PERMITS)]
    """The most permits."""

    @model_validator(mode="after")
    def _are_in_order(self) -> PermitRange:
        if self.min > self.max:
            raise SettingError(
                f"is more than max = {self.max}; exchange them", "min", value=self.min
            )
        return self

    @property
    def steps(self) -> tuple[int, ...]:
        """The permits that can be chosen."""
        found = [self.min]
        while found[-1] < self.max:
            found.append(min(self.max, found[-1] + max(1, found[-1] // 8)))
        return tuple(found)


_PERMITS = TypeAdapter[Any](Annotated[Several[PermitsValue], AfterValidator(distinct)])


def _tuned_permits(value: Any, _: object) -> Any:
    """Return a range, or the values of a list: an error is about the one that was meant."""
    if isinstance(value, PermitRange) or value is None:
        return value
    if isinstance(value, Mapping):
        return PermitRange.model_validate(value)
    return _PERMITS.validate_python(value)


class Tune(Section):
    """The values that `harness tune` chooses from; those of `[sweep]` if they are absent.

    It also takes the dotted keys that `[sweep]` takes.

    Example::

        [tune]
        permits = { min = 1, max = 256 }
        retry = ["openai-sdk", "aws-standard"]
        "endpoint.model" = ["small", "large"]
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Annotated[Several[Any], AfterValidator(different_values)]]

    permits: Annotated[
        PermitRange | Several[PermitsValue] | None, WrapValidator(_tuned_permits)
    ] = None
    """The most attempts in flight: numbers and names of limits, or `{ min = 1, max = 256 }`."""
    retry: Annotated[Several[Name], AfterValidator(distinct)] | None = None
    """Names of retry policies."""
    max_blocks: Annotated[Count, Field(ge=FEWEST_REPEATS)] = 24
    """The most blocks of trials. A block has one trial of each of at most four settings."""

    @model_validator(mode="before")
    @classmethod
    def _keys_are_known(cls, values: Any) -> Any:
        return values  # the scenario checks them: it knows what can be swept

    @property
    def axes(self) -> dict[str, Any]:
        """The values of each key of `[sweep]` that this section replaces."""
        permits = self.permits.steps if isinstance(self.permits, PermitRange) else self.permits
        own = {"permits": permits, "retry": self.retry}
        return {
            **{key: list(values) for key, values in own.items() if values is not None},
            **{key: list(values) for key, values in self.__pydantic_extra__.items()},
        }
