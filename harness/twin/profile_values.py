"""The keys that each part of a fit gives a profile, with their values as TOML."""

from __future__ import annotations

from harness.config.toml_text import toml_value
from harness.twin.cap_step_fit import CapStepFit
from harness.twin.fault_fit import FaultFit
from harness.twin.length_fit import LengthFit, SettingLengths
from harness.twin.pace_fit import PaceFit
from harness.twin.rate_fit import RateFit, RetryAfterFit
from harness.twin.ttft_fit import TtftFit

_SCALES = (("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9))
_NO_CAP = 1_000_000
"""For a cap that ends: a step has a cap, and this one is never reached."""
_TOPIC_LEAST = 0.05


def pace_values(pace: PaceFit) -> dict[str, str]:
    """Return the time per token: one value, or a curve.

    If the curve is to go on steeper than between its last points, a point beyond them says so.
    """
    if len(pace.requests) == 1:
        return {"itl_a": _duration(pace.itl[0])}
    curve = [*zip(pace.requests, pace.itl, strict=True)]
    if pace.slope is not None and pace.is_steeper_beyond:
        end, last = curve[-1]
        curve.append((2 * end, last + pace.slope * end))
    points = [f"  {_table({'requests': str(n), 'itl': _duration(itl)})},\n" for n, itl in curve]
    return {"itl_points": f"[\n{''.join(points)}]"}


def prompt_cost_values(pace: PaceFit) -> dict[str, str]:
    """Return what prompts and contexts cost the decoding requests; empty for nothing."""
    costs = {
        "itl_per_1k_context": pace.per_1k_context,
        "prefill_per_1k_input_tokens": pace.per_1k_prompt,
        "prefill_per_batch": pace.per_batch,
    }
    return {key: _duration(cost) for key, cost in costs.items() if cost}


def ttft_values(ttft: TtftFit) -> dict[str, str]:
    """Return the time to first token."""
    values = {"median": _duration(ttft.median), "sigma": _number(ttft.sigma)}
    if ttft.per_1k:
        values["per_1k_input_tokens"] = _duration(ttft.per_1k)
    for key, growth in (("growth", ttft.growth), ("growth_in_service", ttft.growth_in_service)):
        if growth:
            points = [_table({"requests": str(n), "factor": _number(by)}) for n, by in growth]
            values[key] = f"[{', '.join(points)}]"
    return {"ttft": _table(values)}


def connect_values(seconds: float) -> dict[str, str]:
    """Return the time of opening a connection."""
    return {"connect": _duration(seconds)}


def length_values(lengths: SettingLengths) -> dict[str, str]:
    """Return the lengths of reasoning, if there is any, and answers."""
    answer = {"answer_tokens": _length(lengths.answer)}
    if lengths.reasoning is None:
        return answer
    return {"reasoning_tokens": _length(lengths.reasoning)} | answer


def cache_values(share: float) -> dict[str, str]:
    """Return the share of the input that is cached; empty for nothing."""
    return {"cached_share": _number(share)} if share else {}


def cap_values(cap: int | None, step: CapStepFit | None) -> dict[str, str]:
    """Return the cap, and how it changes."""
    values = {} if cap is None else {"concurrency_cap": str(cap)}
    if step is not None:
        after = _NO_CAP if step.after is None else step.after
        values["cap_steps"] = f"[{_table({'at': _duration(step.at), 'cap': str(after)})}]"
    return values


def rate_values(rate: RateFit) -> dict[str, str]:
    """Return the limit of requests or tokens per minute."""
    amount, burst = str(max(1, round(rate.amount))), _duration(rate.burst)
    match rate.kind:
        case "requests":
            return {"requests_per_minute": amount, "burst": burst}
        case "rejected_count":
            return {"requests_per_minute": amount, "rejected_count": "true", "burst": burst}
        case "used" | "reserved":
            counted = toml_value(rate.kind)
            return {"tokens_per_minute": amount, "tokens_counted": counted, "burst": burst}


def retry_after_values(said: RetryAfterFit) -> dict[str, str]:
    """Return what refusals say of the time to wait; empty for nothing."""
    match said.value:
        case None:
            return {}
        case "exact":
            return {"retry_after": toml_value("exact")}
        case _:
            return {"retry_after": _duration(said.value)}


def fault_values(fault: FaultFit) -> dict[str, str]:
    """Return the keys of the table of a fault."""
    values = {"kind": toml_value(fault.kind)}
    if fault.burst is not None:
        on, off = _duration(fault.burst.on), _duration(fault.burst.off)
        values["burst"] = _table({"on": on, "off": off})
    if fault.has_share:
        values["probability"] = _number(min(1.0, fault.share))
    if fault.retry_after is not None:
        values["retry_after"] = _duration(fault.retry_after)
    if fault.after:
        values["after"] = _duration(fault.after)
    return values


def duration_text(seconds: float, between: str = " ") -> str:
    """Write three digits in the unit that fits: `47.6 ms`."""
    value = float(f"{max(seconds, 1e-9):.3g}")
    unit, scale = next((each for each in _SCALES if value >= each[1] * 0.9999), _SCALES[-1])
    return f"{in_digits(value / scale, 3)}{between}{unit}"


def in_digits(value: float, digits: int) -> str:
    """Write so many significant digits, without an exponent."""
    text = f"{float(f'{value:.{digits}g}'):f}"
    return text.rstrip("0").rstrip(".")


def _length(length: LengthFit) -> str:
    values = {"median": _number(max(1.0, length.median)), "sigma": _number(length.sigma)}
    if length.topic_sigma is not None and length.topic_sigma >= _TOPIC_LEAST:
        values["topic_sigma"] = _number(length.topic_sigma)
    return _table(values)


def _table(values: dict[str, str]) -> str:
    return f"{{ {', '.join(f'{key} = {value}' for key, value in values.items())} }}"


def _number(value: float) -> str:
    rounded = float(f"{value:.3g}")
    return str(int(rounded)) if rounded == int(rounded) else repr(rounded)


def _duration(seconds: float) -> str:
    return toml_value(duration_text(seconds, ""))
