"""What a fit found, in words: each part with its value, its evidence and what cannot be told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from harness.config.toml_text import toml_key
from harness.twin.cap_fit import CapFit
from harness.twin.cap_step_fit import CapStepFit
from harness.twin.connect_fit import SHORTEST_CONNECT, ConnectFit
from harness.twin.fault_fit import FaultFit
from harness.twin.fit import ProviderFit
from harness.twin.length_fit import SettingLengths
from harness.twin.pace_fit import PaceFit
from harness.twin.profile_values import (
    cache_values,
    cap_values,
    connect_values,
    duration_text,
    fault_values,
    in_digits,
    length_values,
    pace_values,
    prompt_cost_values,
    rate_values,
    retry_after_values,
    ttft_values,
)
from harness.twin.ttft_fit import TtftFit

_FEW = 8
_DIFFERS = 0.02
"""A phase's cached share that is nearer than this to that of all prompts is not its own."""


@dataclass(frozen=True)
class FittedPart:
    """One part of a fit. `keys`: those of the profile that it gives, with their values as TOML.

    `table`: the head of the table that the keys are in, such as `[phases.research]`; empty for the
    keys of the profile itself.
    """

    name: str
    value: str
    evidence: str
    unknown: tuple[str, ...] = ()
    keys: Mapping[str, str] = field(default_factory=dict)
    table: str = ""


def fitted_parts(fit: ProviderFit) -> list[FittedPart]:
    """Return the parts in the order of the profile."""
    return [
        _pace(fit.pace),
        *_prompt_costs(fit.pace),
        *_chunk(fit.pace),
        _ttft(fit.ttft, fit.pace),
        _connect(fit.connect),
        *_slots(fit.ttft, fit.pace),
        _pooled(fit.pooled),
        *_phases(fit),
        _cache(fit),
        _cap(fit),
        _rate(fit),
        *_retry_after(fit),
        *map(_fault, fit.faults.faults),
        _no_fault(fit),
    ]


def count_of(number: int, what: str) -> str:
    """Write `1 attempt`, `1,200 attempts`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _percent(share: float) -> str:
    return f"{in_digits(share * 100, 2)} %" if share >= 1e-5 else "<0.001 %"


def _pace(pace: PaceFit) -> FittedPart:
    first, last = pace.itl[0], pace.itl[-1]
    low, high = pace.requests[0], pace.requests[-1]
    value = f"{duration_text(first)} a token with {low} in flight"
    if len(pace.itl) > 1:
        value += f", {duration_text(last)} with {high}"
    near = ", ".join(
        f"{count:,.0f} near {n}" for n, count in zip(pace.requests, pace.near, strict=True)
    )
    if pace.before_text is None:
        how = "decoding from first to last text"
    else:
        how = "not streamed, so in flight from sent to done"
    evidence = (
        f"{count_of(pace.attempts, 'attempt')} ({near}), {how}; "
        f"median error {_percent(pace.spread)}"
    )
    if pace.left_out:
        evidence += f"; {pace.left_out:,} far off were left out"
    beyond = "the line through the last two points goes on"
    if len(pace.itl) == 1:
        beyond = f"taken as that at {low}"
    if pace.slope is not None and pace.is_steeper_beyond:
        beyond = (
            f"{duration_text(pace.slope)} more with each request, by the law a + b n + c n² that "
            f"the attempts do not contradict; the last point is this extrapolation"
        )
    unknown = [f"the pace above {pace.most} in flight: {beyond}"]
    if low > 1:
        unknown.append(f"the pace below {low} in flight: taken as that at {low}")
    return FittedPart("pace", value, evidence, tuple(unknown), pace_values(pace))


def _prompt_costs(pace: PaceFit) -> Iterator[FittedPart]:
    costs = (
        (pace.per_1k_context, "{} a token for 1,000 tokens of context", "contexts"),
        (pace.per_1k_prompt, "{} without tokens for 1,000 of a prompt", "prompts"),
        (pace.per_batch, "{} for prompts read together", "batches of prompts"),
    )
    found = [
        (text.format(duration_text(cost)), f"{what} {_percent(share)}")
        for (cost, text, what), share in zip(costs, pace.shares, strict=True)
        if cost
    ]
    if found:
        value = ", ".join(text for text, _ in found)
        evidence = f"of the time of decoding: {', '.join(share for _, share in found)}"
        yield FittedPart("prompts", value, evidence, (), prompt_cost_values(pace))


def _chunk(pace: PaceFit) -> Iterator[FittedPart]:
    if pace.tokens_per_chunk is None:
        text = "nothing was streamed"
        yield FittedPart("tokens a chunk", "not fitted", text, (f"tokens_per_chunk: {text}",))
    else:
        mean = pace.tokens_per_chunk
        unknown = (
            (f"the mean of {mean:.2f} is no whole number, which the profile needs",)
            if abs(mean - pace.chunk) > 0.05
            else ()
        )
        evidence = f"mean {mean:.2f} in the streams"
        chunk = str(pace.chunk)
        yield FittedPart("tokens a chunk", chunk, evidence, unknown, {"tokens_per_chunk": chunk})


def _ttft(ttft: TtftFit, pace: PaceFit) -> FittedPart:
    value = f"{duration_text(ttft.median)}, sigma {ttft.sigma:.2f}"
    if ttft.per_1k:
        value += f", plus {duration_text(ttft.per_1k)} for 1,000 input tokens"
    unknown = []
    for growth, what in ((ttft.growth, "waiting"), (ttft.growth_in_service, "in service")):
        if growth:
            number, factor = growth[-1]
            value += f", x {factor:.2g} with {number} {what}"
            unknown.append(
                f"the time to first token above {number} {what}: the line through the last two "
                "factors goes on"
            )
    if ttft.until_read:
        value += ", then the prompt is read"
    low, high = ttft.inputs
    evidence = (
        f"{count_of(ttft.attempts, 'attempt')}, up to {ttft.most} in service, {low:,.0f} to "
        f"{high:,.0f} input tokens"
    )
    if ttft.cut:
        evidence += (
            f"; {count_of(ttft.cut, 'attempt')} broken off before the first token, which took at "
            "least so long"
        )
    if pace.before_text is not None:
        unknown.append("growth with load or prompt: responses came as a whole")
    else:
        if not ttft.per_1k:
            most = ttft.per_1k_error
            small = "" if most is None else f" above {duration_text(3.5 * most)} for 1,000 tokens"
            unknown.append(f"growth with the prompt: none seen{small}")
        if not ttft.growth and not ttft.growth_in_service:
            unknown.append(f"growth with load: none seen with up to {ttft.most} in service")
    return FittedPart("time to first token", value, evidence, tuple(unknown), ttft_values(ttft))


def _connect(connect: ConnectFit) -> FittedPart:
    reused = f"{connect.reused:,} reused one"
    opened = f"{count_of(connect.opened, 'attempt')} had no idle connection"
    if connect.seconds is None:
        text = f"{opened}, {reused}"
        most = f"below {duration_text(max(connect.high, SHORTEST_CONNECT))}"
        known = most if connect.opened else "none was opened"
        return FittedPart("connecting", "none seen", text, (f"connect: {known}",))
    low, high = duration_text(connect.low), duration_text(connect.high)
    span = low if low == high else f"{low} to {high}"
    evidence = f"{opened} and waited {span} longer (8 in 10); {reused}"
    unknown = ["connect with more connections opened at once, which can take longer"]
    if not connect.reused:
        unknown.append("the client's own delay before sending, which is in the time of connecting")
    return FittedPart(
        "connecting", duration_text(connect.seconds), evidence, tuple(unknown),
        connect_values(connect.seconds),
    )  # fmt: skip


def _slots(ttft: TtftFit, pace: PaceFit) -> Iterator[FittedPart]:
    if ttft.slots is not None:
        evidence = f"{count_of(ttft.queued, 'request')} waited for one of {ttft.slots} to end"
        slots = str(ttft.slots)
        yield FittedPart("slots", slots, evidence, (), {"slots": slots})
    else:
        text = f"{ttft.most} in service at most"
        if pace.before_text is not None:
            text = "responses came as a whole"
        yield FittedPart("slots", "none met", text, (f"slots: no queue was seen, {text}",))


def _pooled(lengths: SettingLengths) -> FittedPart:
    unknown = []
    if lengths.hidden is not None:
        unknown.append(
            f"a median of {lengths.hidden:,.0f} reasoning tokens was hidden: their time is in the "
            "time to first token, and their number is in no key"
        )
    return FittedPart(
        "lengths, all", _said(lengths), _length_evidence(lengths), tuple(unknown),
        length_values(lengths),
    )  # fmt: skip


def _said(lengths: SettingLengths) -> str:
    answer = f"answer {lengths.answer.median:,.0f} tokens"
    if lengths.reasoning is None:
        return answer
    return f"reasoning {lengths.reasoning.median:,.0f}, {answer}"


def _length_evidence(lengths: SettingLengths) -> str:
    answer = lengths.answer
    text = count_of(answer.attempts, "answer")
    if answer.topics:
        text += f", {count_of(answer.topics, 'topic')} with two or more"
    if lengths.reasoning_from == "time" and lengths.reasoning is not None:
        text += ", reasoning by its share of the time"
    cut = answer.cut + (lengths.reasoning.cut if lengths.reasoning is not None else 0)
    return f"{text}, {cut} cut by max_tokens" if cut else text


def _phases(fit: ProviderFit) -> Iterator[FittedPart]:
    if len(fit.lengths) < 2:
        return
    for lengths in fit.lengths:
        unknown = []
        if lengths.answer.topic_sigma is None:
            unknown.append(
                f"topic_sigma of {lengths.setting}: too few answers about one topic, so the whole "
                "spread is in sigma"
            )
        if lengths.answer.attempts < _FEW:
            answers = count_of(lengths.answer.attempts, "answer")
            unknown.append(f"the spread of {lengths.setting}: only {answers}")
        yield FittedPart(
            f"lengths, {lengths.setting}", _said(lengths), _length_evidence(lengths),
            tuple(unknown), length_values(lengths) | _own_cached_share(fit, lengths),
            f"[phases.{toml_key(lengths.setting)}]",
        )  # fmt: skip


def _own_cached_share(fit: ProviderFit, lengths: SettingLengths) -> dict[str, str]:
    """Return the cached share of a phase, if it differs from that of all prompts."""
    own = lengths.cached_share
    if own is None or abs(own - fit.cache.share) < _DIFFERS:
        return {}
    return {"cached_share": f"{own:.3f}"}


def _cache(fit: ProviderFit) -> FittedPart:
    cache = fit.cache
    if not cache.attempts:
        text = "no attempt reports cached tokens"
        return FittedPart("cached input", "not fitted", text, (f"cached_share: {text}",))
    evidence = (
        f"{cache.cached:,} of {count_of(cache.input, 'input token')} in "
        f"{count_of(cache.attempts, 'attempt')}"
    )
    unknown = ["the cached share of prompts that begin differently, or come in another order"]
    if cache.silent:
        unknown.append(f"the cached tokens of {count_of(cache.silent, 'attempt')} without a report")
    share = _percent(cache.share) if cache.cached else "0 %"
    return FittedPart("cached input", share, evidence, tuple(unknown), cache_values(cache.share))


def _cap(fit: ProviderFit) -> FittedPart:
    cap, step, hints = fit.limits.cap, fit.limits.step, fit.limits.step_hints
    if step is not None:
        return _cap_step(cap, step)
    unknown = []
    if cap.cap is None:
        value = f"above {cap.most}"
        evidence = f"{cap.most} in service at most, and no refusals show a cap"
        unknown.append(f"concurrency_cap: none was met; it can be above {cap.most}")
    else:
        value, evidence = str(cap.cap), _cap_evidence(cap)
    if hints:
        unknown.append(
            f"whether the cap changes: {count_of(hints, 'trial')} would show it, but no two at the "
            "same time"
        )
    return FittedPart("concurrency cap", value, evidence, tuple(unknown), cap_values(cap.cap, None))


def _cap_evidence(cap: CapFit) -> str:
    refusals, admissions = count_of(cap.refused, "refusal"), count_of(cap.against, "admission")
    return f"{refusals} at or above it, {admissions} against it"


def _cap_step(cap: CapFit, step: CapStepFit) -> FittedPart:
    at = duration_text(step.at)
    before, after = (
        "none met" if number is None else str(number) for number in (cap.cap, step.after)
    )
    evidence = (
        f"{_cap_evidence(cap)}; {step.trials} trials show that it changes between "
        f"{step.earliest:,.1f} and {step.latest:,.1f} s after their first request"
    )
    unknown = ["whether the cap changes again, or at times of the day instead of those of a trial"]
    if cap.cap is None:
        unknown.append(f"the cap before {at}: it can be above {step.most_before}")
    if step.after is None:
        unknown.append(f"the cap from {at} on: it can be above {step.most_after}")
    return FittedPart(
        "concurrency cap", f"{before}; from {at} on {after}", evidence, tuple(unknown),
        cap_values(cap.cap, step),
    )  # fmt: skip


_RATE_WORDS = {
    "requests": "requests", "rejected_count": "requests, refused ones too",
    "used": "tokens used", "reserved": "tokens reserved",
}  # fmt: skip


def _rate(fit: ProviderFit) -> FittedPart:
    rate, limits = fit.limits.rate, fit.limits
    if rate is None:
        has_cap = limits.cap.cap is not None or limits.step is not None
        others = " beyond the cap" if has_cap else " of a limit"
        text = f"{count_of(limits.unexplained, 'refusal')}{others}"
        unknown = ["requests_per_minute, tokens_per_minute: none was met"]
        if limits.unexplained:
            unknown.append(f"{limits.unexplained} refusals that no limit explains are a fault")
        return FittedPart("rate", "none met", text, tuple(unknown))
    evidence = (
        f"it explains {rate.refused:,} of {rate.of:,} refusals, {rate.admitted_against:,} "
        "admissions against it"
    )
    if rate.wait_error is not None:
        evidence += f", median error of Retry-After {_percent(rate.wait_error)}"
    value = f"{rate.amount:,.0f} {_RATE_WORDS[rate.kind]} a minute, burst {rate.burst:g} s"
    return FittedPart(
        "rate",
        value,
        evidence,
        ("the rate: a second limit behind this one is not seen",),
        rate_values(rate),
    )


def _retry_after(fit: ProviderFit) -> Iterator[FittedPart]:
    said = fit.limits.retry_after
    if not said.of:
        return
    match said.value:
        case None:
            value = "none"
        case "exact":
            value = "exact"
        case _:
            value = duration_text(said.value)
    evidence = f"{said.count:,} of {said.of:,} refusals had the header"
    yield FittedPart("Retry-After", value, evidence, (), retry_after_values(said))


def _fault(fault: FaultFit) -> FittedPart:
    value = _percent(fault.share)
    if fault.burst is not None:
        value = f"{_percent(fault.share)} in bursts of {duration_text(fault.burst.on)} every "
        value += duration_text(fault.burst.on + fault.burst.off)
    evidence = f"{fault.count:,} of {count_of(fault.of, 'attempt')} failed like this"
    unknown = (
        (f"whether {fault.kind} is an outage at set times",) if fault.burst is not None else ()
    )
    return FittedPart(
        f"fault {fault.kind}", value, evidence, unknown, fault_values(fault), "[[faults]]"
    )


def _no_fault(fit: ProviderFit) -> FittedPart:
    faults = fit.faults
    struck = sum(fault.count for fault in faults.faults)
    unknown = []
    if not struck:
        unknown.append(f"faults rarer than {_percent(3 / max(faults.attempts, 1))} of the requests")
    if faults.timeouts:
        unknown.append(
            f"{count_of(faults.timeouts, 'timeout')} of the client: a slow answer or a fault"
        )
    for name, count in sorted(faults.other.items()):
        unknown.append(f"{count} x {name}: no fault of the simulated provider stands for it")
    return FittedPart(
        "faults",
        count_of(struck, "failure") if struck else "none met",
        count_of(faults.attempts, "attempt"),
        tuple(unknown),
    )
