"""A fit as a profile: TOML with the evidence above each key, and as a table of parts."""

from __future__ import annotations

import textwrap
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from harness.config.toml_text import toml_key, toml_value
from harness.config.validation_messages import message_of, one_line
from harness.records.errors import InputError
from harness.simulator.profiles import Profile
from harness.twin.fit import ProviderFit
from harness.twin.fitted_parts import FittedPart, duration_text
from harness.twin.length_fit import LengthFit, SettingLengths
from harness.twin.rate_fit import RateFit

_WIDTH = 96
_TOPIC_LEAST = 0.05
UNFITTED = (
    "not fitted: the time of connecting, background load, a speed that wanders, steps of the cap, "
    "keep-alives, caching of prompts, tool calls, outages at set times, faults of single phases"
)


@dataclass(frozen=True)
class TwinHead:
    """What the profile says of itself. `day`: ISO date of the newest run."""

    name: str
    description: str
    source: str
    day: str


def twin_text(fit: ProviderFit, parts: Sequence[FittedPart], head: TwinHead) -> str:
    """Return the profile as TOML. Raises InputError if what was fitted makes no profile."""
    by_key = {key: one for one in parts for key in one.keys}
    values = dict(_values(fit))
    lines = [*(f"{key} = {value}" for key, value in _keys(head)), "", *_wrapped(UNFITTED)]
    for part in parts:
        if part.is_table:
            continue
        lines += ["", *_comment(part)]
        lines += [f"{key} = {values[key]}" for key in part.keys]
    for table, content in (*_tables(fit), *_fault_tables(fit)):
        if table in by_key:
            lines += ["", *_comment(by_key[table]), *content]
    text = "\n".join(lines) + "\n"
    _require_profile(text)
    return text


def _require_profile(text: str) -> None:
    values = tomllib.loads(text)
    try:
        Profile.model_validate(values)
    except ValidationError as error:
        wrong = one_line(message_of(error.errors()[0], values).text)
        raise InputError(f"what was fitted makes no profile ({wrong}); give longer runs") from None


def _comment(part: FittedPart) -> list[str]:
    lines = _wrapped(f"{part.name}: {part.evidence}")
    for text in part.unknown:
        lines += _wrapped(f"  cannot tell: {text}")
    return lines


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent="# ", subsequent_indent="#   ", break_on_hyphens=False
    )


def _keys(head: TwinHead) -> Iterator[tuple[str, str]]:
    yield "name", toml_value(head.name)
    yield "description", toml_value(head.description)
    yield "source", toml_value(head.source)
    yield "date", head.day


def _values(fit: ProviderFit) -> Iterator[tuple[str, str]]:
    pace, ttft = fit.pace, fit.ttft
    if len(pace.requests) == 1:
        yield "itl_a", _span(pace.itl[0])
    else:
        points = [
            f"{{ requests = {n}, itl = {_span(itl)} }}"
            for n, itl in zip(pace.requests, pace.itl, strict=True)
        ]
        yield "itl_points", _listed(points)
    if pace.tokens_per_chunk is not None:
        yield "tokens_per_chunk", str(pace.chunk)
    parts = [f"median = {_span(ttft.median)}", f"sigma = {_number(ttft.sigma)}"]
    if ttft.per_1k:
        parts.append(f"per_1k_input_tokens = {_span(ttft.per_1k)}")
    if ttft.growth:
        points = [f"{{ requests = {n}, factor = {_number(factor)} }}" for n, factor in ttft.growth]
        parts.append(f"growth = [{', '.join(points)}]")
    yield "ttft", f"{{ {', '.join(parts)} }}"
    if ttft.slots is not None:
        yield "slots", str(ttft.slots)
    yield from _lengths(fit.pooled)
    yield from _limit_values(fit)


def _limit_values(fit: ProviderFit) -> Iterator[tuple[str, str]]:
    limits = fit.limits
    if limits.cap.cap is not None:
        yield "concurrency_cap", str(limits.cap.cap)
    if limits.rate is not None:
        yield from _rate(limits.rate)
    said = limits.retry_after.value
    if said is not None:
        yield "retry_after", '"exact"' if isinstance(said, str) else _span(said)


def _rate(rate: RateFit) -> Iterator[tuple[str, str]]:
    amount = str(max(1, round(rate.amount)))
    match rate.kind:
        case "requests":
            yield "requests_per_minute", amount
        case "rejected_count":
            yield "requests_per_minute", amount
            yield "rejected_count", "true"
        case "used" | "reserved":
            yield "tokens_per_minute", amount
            yield "tokens_counted", toml_value(rate.kind)
    yield "burst", _span(rate.burst)


def _lengths(lengths: SettingLengths) -> Iterator[tuple[str, str]]:
    if lengths.reasoning is not None:
        yield "reasoning_tokens", _length(lengths.reasoning)
    yield "answer_tokens", _length(lengths.answer)


def _length(length: LengthFit) -> str:
    parts = [f"median = {_number(max(1.0, length.median))}", f"sigma = {_number(length.sigma)}"]
    if length.topic_sigma is not None and length.topic_sigma >= _TOPIC_LEAST:
        parts.append(f"topic_sigma = {_number(length.topic_sigma)}")
    return f"{{ {', '.join(parts)} }}"


def _tables(fit: ProviderFit) -> Iterator[tuple[str, list[str]]]:
    for lengths in fit.lengths:
        lines = [f"{key} = {value}" for key, value in _lengths(lengths)]
        yield f"phases.{lengths.setting}", [f"[phases.{toml_key(lengths.setting)}]", *lines]


def _fault_tables(fit: ProviderFit) -> Iterator[tuple[str, list[str]]]:
    for fault in fit.faults.faults:
        lines = ["[[faults]]", f"kind = {toml_value(fault.kind)}"]
        if fault.burst is not None:
            on, off = _span(fault.burst.on), _span(fault.burst.off)
            lines.append(f"burst = {{ on = {on}, off = {off} }}")
        if fault.has_share:
            lines.append(f"probability = {_number(min(1.0, fault.share))}")
        if fault.retry_after is not None:
            lines.append(f"retry_after = {_span(fault.retry_after)}")
        if fault.after:
            lines.append(f"after = {_span(fault.after)}")
        yield f"faults.{fault.kind}", lines


def _listed(items: Sequence[str]) -> str:
    return "[\n" + "".join(f"  {item},\n" for item in items) + "]"


def _number(value: float) -> str:
    rounded: Any = float(f"{value:.3g}")
    return str(int(rounded)) if rounded == int(rounded) else repr(rounded)


def _span(seconds: float) -> str:
    """Return seconds as a duration in TOML."""
    return toml_value(duration_text(seconds, ""))
