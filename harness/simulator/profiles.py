"""The profile of a simulated provider: a TOML file, read into a frozen value.

Durations are in scenario seconds, written as `"47.6ms"`, `"1.2s"`, `"2m"` or as a number of
seconds. The units `us` and `ns` are for the small coefficients of the decoding speed.
"""

from __future__ import annotations

import datetime
import itertools
import re
import tomllib
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, ValidationError, field_validator, model_validator

from harness.config.config_base import Name
from harness.config.faults import Fault
from harness.config.tables import (
    ConfigTable,
    Delay,
    Duration,
    SettingError,
    nearest,
    parse_duration,
)
from harness.config.validation_messages import message_of, one_line
from harness.records.errors import InputError
from harness.simulator.pace import Measured, Pace, Speed
from harness.simulator.wander import slowest_factor

_SHIPPED = Path(__file__).with_name("profiles")

Sigma = Annotated[float, Field(ge=0, le=2)]
CachedShare = Annotated[float, Field(ge=0, le=1)]
PerMinute = Annotated[int, Field(ge=1, le=1_000_000_000)]


class GrowthPoint(ConfigTable):
    """With so many `requests`, the time to first token is `factor` times as long."""

    requests: float = Field(gt=0, le=1e6)
    factor: float = Field(gt=0, le=1e6)


class Ttft(ConfigTable):
    """Time to the first chunk of text: log-normal, plus a part proportional to the prompt.

    `growth` and `growth_in_service`: factors of the log-normal part, by the requests that wait for
    their first token and by all in service, this one included. Both multiply it. Between two points
    the factor is on a straight line. Below the first point it is constant; beyond the last, the
    line goes on unless it falls.
    """

    median: Duration
    sigma: Sigma = 0.0
    per_1k_input_tokens: Delay = 0.0
    growth: tuple[GrowthPoint, ...] = Field(default=(), strict=False)
    growth_in_service: tuple[GrowthPoint, ...] = Field(default=(), strict=False)

    @field_validator("growth", "growth_in_service")
    @classmethod
    def _growth_ascends(cls, points: tuple[GrowthPoint, ...]) -> tuple[GrowthPoint, ...]:
        _require_points(points)
        return points

    @property
    def grows(self) -> bool:
        """Whether the time depends on the load."""
        return bool(self.growth or self.growth_in_service)

    def factor(self, waiting: int, in_service: int) -> float:
        """Return the factor with so many requests, this one included."""
        return _factor(self.growth, waiting) * _factor(self.growth_in_service, in_service)


def _factor(points: Sequence[GrowthPoint], requests: int) -> float:
    if not points:
        return 1.0
    if requests <= points[0].requests:
        return points[0].factor
    place = bisect_left([point.requests for point in points], requests)
    place = min(place, len(points) - 1)
    low, high = points[place - 1], points[place]
    slope = (high.factor - low.factor) / (high.requests - low.requests)
    if requests > high.requests:
        slope = max(slope, 0.0)
    return high.factor + slope * (requests - high.requests)


class Length(ConfigTable):
    """A number of tokens: log-normal, at least one.

    `topic_sigma`: the part of the spread that all prompts about one topic share, in every repeat.
    `sigma`: the rest, drawn for each prompt and repeat. The total spread is the square root of the
    sum of their squares.
    """

    median: float = Field(ge=1, le=1e6)
    sigma: Sigma = 0.0
    topic_sigma: Sigma = 0.0


class WanderingSpeed(ConfigTable):
    """A factor of the time per token that changes in time; see `wander.Wander`.

    `sigma`: the standard deviation of its logarithm. `over`: the time over which it forgets itself.
    """

    sigma: Sigma
    over: Duration

    @property
    def slowest(self) -> float:
        """The largest factor."""
        return slowest_factor(self.sigma)


class Lengths(ConfigTable):
    """What the prompts of one phase have, where it differs from the profile's."""

    reasoning_tokens: Length | None = None
    answer_tokens: Length | None = None
    cached_share: CachedShare | None = None


_NO_LENGTHS = Lengths()
_LATER = (
    "wander", "tool_call_share", "tool_rounds", "cached_share", "connect", "itl_per_1k_context",
    "prefill_per_1k_input_tokens", "prefill_per_batch",
)  # fmt: skip
"""Keys that earlier versions do not have."""


class CapStep(ConfigTable):
    """The concurrency cap is `cap` from `at` on, relative to the first request of a trial."""

    at: Duration
    cap: int = Field(ge=0)


class PacePoint(ConfigTable):
    """One measurement: the time `itl` between two tokens of a request, with `requests` in all."""

    requests: float = Field(gt=0, le=1e6)
    itl: Duration


def _require_points(points: Sequence[PacePoint | GrowthPoint]) -> None:
    """Raise ValueError unless the points of a curve, if there are any, make one."""
    if len(points) == 1:
        raise ValueError("at least two points are required; add one")
    if any(one.requests >= other.requests for one, other in itertools.pairwise(points)):
        raise ValueError("`requests` must increase from point to point; sort them")


def _retry_after(value: object) -> object:
    if value == "exact":
        return value
    seconds = parse_duration(value)
    if not isinstance(seconds, int | float) or not 0 < seconds <= 86400:
        raise ValueError('must be a duration greater than 0 and at most "24h", or "exact"')
    return float(seconds)


RetryAfter = Annotated[float | Literal["exact"], PlainValidator(_retry_after)]


class Profile(ConfigTable):
    """One simulated provider.

    While n requests are decoding, each gets a token every ITL(n + background) seconds, with ITL(n)
    = itl_a + itl_b n + itl_c n^2: processor sharing, where itl_b is the cost of sharing and itl_c
    that of thrashing. `itl_points` gives measurements of ITL instead. `itl_per_1k_context` is added
    to ITL for each 1,000 tokens in the contexts of all decoding requests, which a server reads for
    each token: the prompt, and half of the output, its mean. `prefill_per_1k_input_tokens` and
    `prefill_per_batch`: the prompt is read after the time to first token, before the first text,
    and no request makes tokens meanwhile; prompts that come then are read together afterwards, as
    one batch. `slots`: the requests that
    are processed at once; others queue. `wander`: the speed changes in time, in each trial on a
    path of its own. `source`: where the figures come from and which are assumed; `date`: when they
    were read.
    `connect`: the time of opening a connection, in virtual time only.
    Limits: a request above `concurrency_cap` (which `cap_steps` change over time),
    `requests_per_minute` or `tokens_per_minute` is answered with 429. `burst`: for how long unused
    allowance accumulates. `tokens_counted`: "used" charges the prompt at arrival and the output at
    the end; "reserved" charges the prompt and max_tokens at arrival. `rejected_count`: refused
    requests count too. `retry_after`: sent with a 429; "exact" is the time until the rate admits
    the request.
    `cached_share`: the share of the input tokens that is reported as read from a prompt cache; it
    changes no time but that of `prefill_per_1k_input_tokens`, which counts the others.
    `list_tokens`: the length of a list in JSON; without it, it is as long as its text.
    `tool_call_share`: how often an answer that may call a tool does so. `tool_rounds`: after so
    many rounds of tool calls since the last message of the user, an answer that need not call a
    tool is text, and one that must calls the last tool of the request.
    `phases`: lengths and `cached_share` for the prompts of single phases, by the phase's setting.
    `keep_alive_every`: interval of the comments (in a stream) or blank lines before the first text.
    `faults`: the faults, and when they strike.
    """

    name: Name
    description: str
    source: str = Field(min_length=1)
    date: datetime.date = Field(strict=False)
    ttft: Ttft
    connect: Delay = 0.0
    itl_a: Delay = 0.0
    itl_b: Delay = 0.0
    itl_c: Delay = 0.0
    itl_points: tuple[PacePoint, ...] = Field(default=(), strict=False)
    itl_per_1k_context: Delay = 0.0
    prefill_per_1k_input_tokens: Delay = 0.0
    prefill_per_batch: Delay = 0.0
    background: float = Field(default=0.0, ge=0, le=1e6)
    wander: WanderingSpeed | None = None
    slots: int | None = Field(default=None, ge=1)
    reasoning_tokens: Length | None = None
    answer_tokens: Length
    list_tokens: Length | None = None
    cached_share: CachedShare = 0.0
    tool_call_share: float = Field(default=0.5, ge=0, le=1)
    tool_rounds: int = Field(default=3, ge=0, le=1000)
    phases: dict[str, Lengths] = Field(default_factory=dict)
    max_output_tokens: int = Field(default=32768, ge=1, le=1_000_000)
    tokens_per_chunk: int = Field(default=1, ge=1, le=10_000)
    concurrency_cap: int | None = Field(default=None, ge=1)
    cap_steps: tuple[CapStep, ...] = Field(default=(), strict=False)
    requests_per_minute: PerMinute | None = None
    tokens_per_minute: PerMinute | None = None
    burst: Duration = 60.0
    tokens_counted: Literal["used", "reserved"] = "used"
    rejected_count: bool = False
    retry_after: RetryAfter | None = None
    keep_alive_every: Duration | None = None
    faults: tuple[Fault, ...] = Field(default=(), strict=False)

    @model_validator(mode="before")
    @classmethod
    def _lengths_of_a_phase_are_under_phases(cls, values: Any) -> Any:
        for key, value in values.items() if isinstance(values, Mapping) else ():
            old = isinstance(value, Mapping) and value.keys() <= Lengths.model_fields.keys()
            if old and value and key not in cls.model_fields:
                raise SettingError(
                    f"lengths of a phase are read from phases.{key}; rename this table", key
                )
        return values

    @field_validator("cap_steps")
    @classmethod
    def _steps_ascend(cls, steps: tuple[CapStep, ...]) -> tuple[CapStep, ...]:
        if any(one.at >= other.at for one, other in itertools.pairwise(steps)):
            raise ValueError("`at` must increase from step to step; sort them")
        return steps

    @field_validator("itl_points")
    @classmethod
    def _points_ascend(cls, points: tuple[PacePoint, ...]) -> tuple[PacePoint, ...]:
        _require_points(points)
        return points

    @model_validator(mode="after")
    def _has_one_speed(self) -> Profile:
        formula = {"itl_a": self.itl_a, "itl_b": self.itl_b, "itl_c": self.itl_c}
        given = [key for key, value in formula.items() if value]
        if self.itl_points and given:
            raise SettingError(
                "cannot be combined with itl_points; remove one of the two", given[0]
            )
        if not self.itl_points and not given:
            raise SettingError("missing; add itl_a, or itl_points", "itl_a")
        return self

    @property
    def prompts_slow(self) -> bool:
        """Whether longer prompts slow the decoding of other requests."""
        costs = self.itl_per_1k_context, self.prefill_per_1k_input_tokens, self.prefill_per_batch
        return any(costs)

    def pace(self, nanoseconds: float) -> Pace:
        """Return the decoding speed. `nanoseconds`: the length of a scenario second."""
        if self.itl_points:
            points = [(point.requests, point.itl * nanoseconds) for point in self.itl_points]
            return Measured(points, self.background)
        a, b, c = (each * nanoseconds for each in (self.itl_a, self.itl_b, self.itl_c))
        return Speed(a, b, c, self.background)

    def lengths(self, phase: str | None, as_list: bool) -> tuple[Length | None, Length | None]:
        """Return the lengths of reasoning and answer to a prompt of this phase.

        No reasoning: None. No answer length (only for a list in JSON): the text decides.
        """
        own = self.phases.get(phase or "", _NO_LENGTHS)
        answer = own.answer_tokens or (self.list_tokens if as_list else self.answer_tokens)
        return own.reasoning_tokens or self.reasoning_tokens, answer

    def cached(self, phase: str | None) -> float:
        """Return the share of the input tokens of a prompt of this phase that a cache has."""
        own = self.phases.get(phase or "", _NO_LENGTHS).cached_share
        return self.cached_share if own is None else own

    def as_dict(self) -> dict[str, Any]:
        """Return the profile as plain values for JSON, with durations in seconds.

        Settings that have no effect are left out, so that earlier runs have the same profile: a
        speed that does not wander or depend on prompts, the defaults for tools, a share of 0 that
        is cached, connections that take no time, and a time to first token that does not grow.
        """
        fields = type(self).model_fields
        unused = {key for key in _LATER if getattr(self, key) == fields[key].default}
        plain: dict[str, Any] = self.model_dump(mode="json", exclude=unused)
        for key in ("growth", "growth_in_service"):
            if not plain["ttft"][key]:
                del plain["ttft"][key]
        for phase in plain["phases"].values():
            if phase["cached_share"] is None:
                del phase["cached_share"]
        return plain


def shipped_profiles() -> list[Profile]:
    """Return the shipped profiles, sorted by name."""
    return [load_profile(name) for name in _shipped_names()]


def load_profile(
    name_or_path: str, overrides: Mapping[str, object] = {}, prefix: str | None = None
) -> Profile:
    """Return a shipped profile by its name, or any profile by the path of its TOML file.

    `overrides` replaces keys, nested (`{"ttft": {"median": "1s"}}`) or dotted
    (`{"ttft.median": "1s"}`). Raises InputError, one line: the profile, the key, the value, what
    is wrong, and the way out. For a key in `overrides`, `prefix` takes the place of the profile.
    """
    where = one_line(f"profile {name_or_path}")
    return overridden_profile(_read(name_or_path, where), overrides, where, prefix)


def overridden_profile(
    values: dict[str, Any], overrides: Mapping[str, object], where: str, prefix: str | None = None
) -> Profile:
    """Return a profile of plain values, which are changed. The rest is as in `load_profile`.

    `where`: the profile in errors.
    """
    for key, value in overrides.items():
        _override(values, key, value, prefix or f"{where}: ")
    try:
        return Profile.model_validate(values)
    except ValidationError as error:
        key, text = message_of(error.errors()[0], values)
        tables = {str(name).partition(".")[0] for name in overrides}
        is_overridden = prefix is not None and re.split(r"[.\[]", key)[0] in tables
        raise InputError(
            one_line(f"{prefix}{text}" if is_overridden else f"{where}: {text}")
        ) from None


def _shipped_names() -> list[str]:
    return sorted(path.stem for path in _SHIPPED.glob("*.toml"))


def _read(name_or_path: str, where: str) -> dict[str, Any]:
    shipped = _shipped_names()
    if name_or_path in shipped:
        path = _SHIPPED / f"{name_or_path}.toml"
    elif name_or_path.endswith(".toml") or "/" in name_or_path:
        path = Path(name_or_path)
    else:
        raise InputError(
            f"{where}: no such profile{nearest(name_or_path, shipped)}; "
            f"use one of {', '.join(shipped)}, or give the path of a TOML file"
        )
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{where}: no such file; correct the path, or use one of {', '.join(shipped)}"
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{where}: invalid TOML: {one_line(str(error))}; correct it") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{where}: cannot be read ({one_line(str(error))}); give a TOML file"
        ) from None


def _override(table: dict[str, Any], key: str, value: object, prefix: str) -> None:
    """Put `value` at the dotted `key`; a table is merged into the table that is there."""
    first, _, rest = key.partition(".")
    if not rest and not isinstance(value, Mapping):
        table[first] = value
        return
    child = table.setdefault(first, {})
    if not isinstance(child, dict):
        raise InputError(f"{prefix}{first}: is a value, not a table; remove what follows it")
    items = {rest: value} if rest else value
    assert isinstance(items, Mapping)
    for inner, inner_value in items.items():
        _override(child, str(inner), inner_value, prefix)
