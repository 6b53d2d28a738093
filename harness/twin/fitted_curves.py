"""Sets the curves of a fit beside the attempts that they were fitted to."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from harness.twin.cap_fit import is_refusal, is_served
from harness.twin.fit import ProviderFit
from harness.twin.fitted_parts import fitted_parts
from harness.twin.in_flight import active_at, active_before, count_in_flight
from harness.twin.length_fit import (
    LengthFit,
    Part,
    SettingLengths,
    cut_by_limit,
    each_length_once,
    shown_lengths,
)
from harness.twin.observations import Flags, Floats, Integers, Observations
from harness.twin.pace_fit import PaceFit, mean_chunk, mean_context, prompts_read, sent_output
from harness.twin.profile_text import UNFITTED
from harness.twin.ttft_fit import TtftFit
from harness.twin.twin_curves import (
    FittedCurve,
    LengthCounts,
    LimitCounts,
    PartText,
    Places,
    TwinCurves,
)

_MOST_POINTS = 1_500
"""The most attempts in a chart; of more, this many are taken, evenly by their place on the axis."""
_BEYOND = 1.25
"""A curve goes on to this many times the end of what was measured."""
_MOST_BINS = 40


def fitted_curves(seen: Observations, fit: ProviderFit, *, simulated: bool) -> TwinCurves:
    """Return the curves of a fit to some attempts. `simulated`: whether these were simulated."""
    ttft = fit.ttft
    is_whole = fit.pace.before_text is not None
    parts = [PartText(one.name, one.value, one.evidence, one.unknown) for one in fitted_parts(fit)]
    return TwinCurves(
        fit.attempts, fit.trials, simulated, _pace(seen, fit.pace),
        None if is_whole else _ttft_waiting(seen, fit),
        None if is_whole else _ttft_input(seen, fit), ttft.slots,
        tuple(_lengths(seen, fit)), tuple(_limits(seen, fit)), tuple(parts), UNFITTED,
    )  # fmt: skip


def _evenly(x: Floats, y: Floats) -> Places:
    """Return at most `_MOST_POINTS` of the places, evenly by the rank of x."""
    order = np.lexsort((y, x))
    ranks = np.linspace(0, len(order) - 1, min(len(order), _MOST_POINTS)).round().astype(int)
    chosen = order[np.unique(ranks)]
    return tuple(zip(x[chosen].tolist(), y[chosen].tolist(), strict=True))


def _pace(seen: Observations, pace: PaceFit) -> FittedCurve:
    chunk = mean_chunk(seen)
    if chunk is None:  # responses came as a whole
        starts, ends, decodes = seen.sent, seen.served_until, seen.output != 0
    else:
        starts = np.where(seen.streamed, seen.first_text, np.nan)
        ends, decodes = seen.decoding_until, np.ones(len(seen), np.bool_)
    decodes = decodes & (ends > starts)
    # The first chunk comes with the first text, so no time of decoding is seen of it.
    reasoning = np.where(seen.has_reasoning_text & (seen.reasoning > 0), seen.reasoning, np.inf)
    tokens = sent_output(seen) - np.minimum(chunk or 0.0, reasoning)
    used = (decodes & seen.ok & (seen.output > 0) & (tokens > 0))[decodes]
    starts, ends, tokens = starts[decodes], ends[decodes], tokens[decodes]
    flight = count_in_flight(starts, ends)
    levels = np.arange(int(flight.level.max(initial=0)) + 1, dtype=np.float64)
    seconds = (ends - starts)[used]
    beside = flight.seconds(levels)[used] / seconds
    before = 0.0 if pace.before_text is None else pace.before_text[0]
    each = np.maximum(seconds - before, 0.0) / tokens[used]
    # The curve is without what contexts and prompts cost, so these are taken off.
    contexts = flight.integral(flight.total(mean_context(seen)[decodes]))[used] / seconds
    read = prompts_read(seen, starts, ends, pace.step)[used]
    each -= contexts * pace.per_1k_context
    each -= read @ np.array([pace.per_1k_prompt, pace.per_batch]) / tokens[used]
    each = np.maximum(each, 0.0)
    knots = tuple(zip(map(float, pace.requests), pace.itl, strict=True))
    slope = (pace.slope or 0.0) if pace.is_steeper_beyond else 0.0
    beyond = _continued(knots, pace.most, slope)
    return FittedCurve(_evenly(beside, each), int(used.sum()), knots, beyond)


def _continued(knots: Places, most: float, slope: float = 0.0) -> Places:
    """Return the line beyond the last knot: that through the last two, or of `slope` if steeper."""
    x, y = knots[-1]
    if len(knots) > 1:
        before, below = knots[-2]
        slope = max((y - below) / (x - before), slope)
    end = max(_BEYOND * max(most, x), x + 1)
    return ((x, y), (end, y + slope * (end - x)))


def _first_tokens(seen: Observations) -> tuple[Flags, Flags]:
    """Return which attempts were served, and which of them have a time to first token."""
    served = seen.was_sent & (seen.served_until > seen.sent)
    rows = served & ~np.isnan(seen.first_text) & (seen.first_text > seen.sent)
    return served, rows & (seen.output != 0)


def _waiting(seen: Observations, served: Flags) -> Integers:
    """Return how many waited for their first token when each attempt came, itself included."""
    waiting = np.ones(len(seen), np.int64)
    until = np.where(np.isnan(seen.first_text), seen.served_until, seen.first_text)
    waiting[served] += active_before(seen.sent[served], until[served])
    return waiting


def _in_service_factor(seen: Observations, served: Flags, rows: Flags, ttft: TtftFit) -> float:
    """Return the factor with as many in service as there were with half of the requests."""
    if not ttft.growth_in_service:
        return 1.0
    busy = np.ones(len(seen), np.int64)
    busy[served] += active_before(seen.sent[served], seen.served_until[served])
    knots, factors = zip(*ttft.growth_in_service, strict=True)
    return float(np.interp(np.median(busy[rows]), knots, factors))


def _ttft_waiting(seen: Observations, fit: ProviderFit) -> FittedCurve:
    ttft, pace = fit.ttft, fit.pace
    served, rows = _first_tokens(seen)
    waiting = _waiting(seen, served)[rows].astype(np.float64)
    wait = (seen.first_text - seen.sent)[rows]
    prompt = ttft.per_1k * float(np.median(np.maximum(seen.input[rows], 0))) / 1000
    prompt += pace.per_1k_prompt * float(np.median(seen.read_input[rows])) / 1000 + pace.per_batch
    median = ttft.median * _in_service_factor(seen, served, rows, ttft)
    most = float(waiting.max())
    growth = ttft.growth or ((1, 1.0), (max(2, round(most)), 1.0))
    knots = tuple((float(n), median * factor + prompt) for n, factor in growth)
    return FittedCurve(_evenly(waiting, wait), int(rows.sum()), knots, _continued(knots, most))


def _ttft_input(seen: Observations, fit: ProviderFit) -> FittedCurve:
    ttft, pace = fit.ttft, fit.pace
    served, rows = _first_tokens(seen)
    inputs = np.maximum(seen.input, 0)[rows].astype(np.float64)
    wait = (seen.first_text - seen.sent)[rows]
    level = float(np.median(np.minimum(_waiting(seen, served)[rows], ttft.slots or len(seen))))
    levels, factors = zip(*(ttft.growth or ((1, 1.0),)), strict=True)
    median = ttft.median * float(np.interp(level, levels, factors))
    median = median * _in_service_factor(seen, served, rows, ttft) + pace.per_batch
    share = float(seen.read_input[rows].sum() / max(inputs.sum(), 1.0))
    per_1k = ttft.per_1k + pace.per_1k_prompt * share
    ends = (float(inputs.min()), max(float(inputs.max()), float(inputs.min()) + 1))
    knots = tuple((x, median + per_1k * x / 1000) for x in ends)
    return FittedCurve(_evenly(inputs, wait), int(rows.sum()), knots, _continued(knots, ends[1]))


def _lengths(seen: Observations, fit: ProviderFit) -> Iterator[LengthCounts]:
    """Yield the lengths of each setting, as they are fitted: the same answer counts once."""
    reasoning, answers, _, _ = shown_lengths(seen)
    cut = cut_by_limit(seen)
    once = each_length_once(seen, (seen.ok & (seen.output > 0)) | cut)
    for lengths in fit.lengths:
        rows = once & (seen.setting == seen.settings.index(lengths.setting))
        if lengths.reasoning is not None:
            in_thought = cut & (answers <= 0)
            yield _counts(lengths, "reasoning", lengths.reasoning, reasoning, in_thought, rows)
        if (rows & (answers > 0)).any():
            yield _counts(lengths, "answer", lengths.answer, answers, cut, rows)


def _counts(
    lengths: SettingLengths, part: Part, found: LengthFit, tokens: Floats, cut: Flags, rows: Flags
) -> LengthCounts:
    rows = rows & (tokens > 0)
    logs, ended = np.log(tokens[rows]), cut[rows]
    sigma = math.hypot(found.sigma, found.topic_sigma or 0.0)
    low, high = float(logs.min()) - 0.05, float(logs.max()) + 0.05
    bins = int(min(_MOST_BINS, max(8, round(2 * math.sqrt(len(logs))))))
    edges = np.linspace(low, high, bins + 1)
    below = np.array([_normal((at - math.log(found.median)) / max(sigma, 1e-9)) for at in edges])
    counts, _ = np.histogram(logs, edges)
    those_cut, _ = np.histogram(logs[ended], edges)
    return LengthCounts(
        lengths.setting, part, found.median, sigma,
        tuple(np.exp(edges).tolist()), tuple(counts.tolist()), tuple(those_cut.tolist()),
        tuple((np.diff(below) * len(logs)).tolist()),
    )  # fmt: skip


def _normal(at: float) -> float:
    return 0.5 * (1 + math.erf(at / math.sqrt(2)))


def _limits(seen: Observations, fit: ProviderFit) -> Iterator[LimitCounts]:
    """Yield the requests of the whole time, or those before and after the step of the cap."""
    refused, served = is_refusal(seen), is_served(seen)
    sent, until = seen.sent[served], seen.served_until[served]
    active = np.zeros(len(seen), np.int64)
    active[served] = active_before(sent, until)
    active[refused] = active_at(seen.sent[refused], sent, until)
    most = int(active[served | refused].max(initial=0)) + 1
    cap, step = fit.limits.cap.cap, fit.limits.step
    if step is None:
        yield LimitCounts(None, None, _levels(active[served], most), _levels(active[refused], most),
                          cap)  # fmt: skip
        return
    began = np.full(int(seen.trial.max()) + 1, np.inf)
    np.minimum.at(began, seen.trial, seen.sent)
    is_early = seen.sent - began[seen.trial] < step.at
    for rows, start, end, one in (
        (is_early, None, step.at, step.before), (~is_early, step.at, None, step.after)
    ):  # fmt: skip
        yield LimitCounts(
            start, end, _levels(active[served & rows], most), _levels(active[refused & rows], most),
            one,
        )  # fmt: skip


def _levels(active: Integers, most: int) -> tuple[int, ...]:
    return tuple(np.bincount(active, minlength=most).tolist())
