"""Fits the time per output token against the number of attempts that decode at the same time.

Each attempt with text in two chunks or more says how long its tokens took, and the other attempts
say how many were decoding meanwhile. The curve is piecewise linear in that number. The seconds of
an attempt are the sum of the curve over its tokens; how many of its tokens it made at which number
follows from the curve itself, so the fit is repeated until they agree. The curve does not fall:
decoding more requests at once makes no token faster.

A server that batches also reads the contexts of all requests for each token, and stands still
while it reads a prompt. Both are fitted beside the curve, and kept if they explain what the number
of requests does not. They are laws of the server, so they also hold beyond what was seen.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from harness.records.errors import InputError
from harness.twin.curves import fine_knots_up_to, fit_rising, hats
from harness.twin.in_flight import InFlight, count_in_flight
from harness.twin.observations import Flags, Floats, Integers, Observations

_ROUNDS = 5
_SMOOTHING = 0.02
_LEAST_ATTEMPTS = 3.0
"""A knot is kept if so many attempts' worth of decoding was near it."""
_LEAST_SHARE = 0.005
"""A cost of prompts that takes less than this share of the time is none."""
_CHANCE = 0.01
"""A cost that chance explains as often is none."""
_LEFT = 0.8
"""Nor is one that leaves more than this share of the squares without it."""
_CONTEXT, _PROMPT, _BATCH = 1, 2, 3
"""The costs, as columns beside the curve."""
_OF_STEP = 0.5
"""First texts that come within this share of the time per token are of one batch of prompts."""
_FAR = 6.0
"""An attempt whose speed is off by more than so many median deviations is left out."""


@dataclass(frozen=True)
class PaceFit:
    """Seconds per token `itl` with `requests` decoding; `near`: the attempts' worth near each.

    `attempts`: how many were used. `left_out`: how many were not, as their speed is far off.
    `spread`: the median relative difference between an attempt and the curve. `tokens_per_chunk`
    rounded is `chunk`. `before_text`: median and sigma of the seconds before the first token of
    responses that came as a whole, None if responses were streamed. `per_1k_context`: seconds that
    1,000 tokens of context add to `itl`; `per_1k_prompt`: seconds in which nothing decodes, for
    1,000 tokens of a prompt that is read, and `per_batch` for prompts that are read together; 0 if
    not seen. `shares`: those of the three in the time of decoding. First texts within `step`
    seconds are of one batch. `slope`: seconds per token that one request more adds beyond
    the last one of `requests`, by the law a + b n + c n²; None if the attempts contradict it.
    """

    requests: tuple[int, ...]
    itl: tuple[float, ...]
    near: tuple[float, ...]
    attempts: int
    left_out: int
    spread: float
    most: int
    tokens_per_chunk: float | None
    before_text: tuple[float, float] | None
    per_1k_context: float = 0.0
    per_1k_prompt: float = 0.0
    per_batch: float = 0.0
    shares: tuple[float, float, float] = (0.0, 0.0, 0.0)
    step: float = 0.0
    slope: float | None = None

    @property
    def chunk(self) -> int:
        """The tokens of a chunk in the profile."""
        return max(1, round(self.tokens_per_chunk or 1))

    @property
    def reads(self) -> bool:
        """Whether reading prompts takes time in which nothing decodes."""
        return bool(self.per_1k_prompt or self.per_batch)

    @property
    def last_slope(self) -> float:
        """The slope between the last two points; 0 if there is only one."""
        if len(self.requests) < 2:
            return 0.0
        return (self.itl[-1] - self.itl[-2]) / (self.requests[-1] - self.requests[-2])

    @property
    def is_steeper_beyond(self) -> bool:
        """Whether the law goes on steeper than the last two points: by 1 % in twice the range."""
        more = (self.slope or 0.0) - self.last_slope
        return more * self.requests[-1] > 0.01 * self.itl[-1]


def mean_chunk(seen: Observations) -> float | None:
    """Return the tokens in a chunk of a stream; None if nothing was streamed.

    Reasoning and answer each end in a chunk that is not full: half full on average.
    """
    rows = seen.ok & seen.streamed & (seen.output > 0)
    if not rows.any():
        return None
    sent = sent_output(seen)[rows]
    parts = 1 + (seen.has_reasoning_text & ~np.isnan(seen.first_answer))[rows]
    tokens, chunks, half = float(sent.sum()), float(seen.chunks[rows].sum()), parts.sum() / 2
    return max(1.0, (tokens - float(half)) / max(chunks - float(half), 1.0))


def sent_output(seen: Observations) -> Integers:
    """Return the output tokens that came as text: hidden reasoning did not."""
    hidden = np.where(seen.has_reasoning_text, 0, np.maximum(seen.reasoning, 0))
    visible: Integers = np.maximum(seen.output - hidden, 0)
    return visible


def fit_pace(seen: Observations) -> PaceFit | None:
    """Return the curve; None if no attempt says how long its tokens took.

    Raises InputError if whole responses take no longer for more tokens.
    """
    chunk = mean_chunk(seen)
    whole = chunk is None  # responses that came as a whole
    starts = np.where(seen.streamed, seen.first_text, np.nan) if not whole else seen.sent
    ends = seen.decoding_until if not whole else seen.served_until
    decodes = (ends > starts) & (seen.output != 0 if whole else True)
    first = chunk or 0.0
    reasoning = np.where(seen.has_reasoning_text & (seen.reasoning > 0), seen.reasoning, np.inf)
    tokens = sent_output(seen) - np.minimum(first, reasoning)
    used = decodes & seen.ok & (seen.output > 0) & (tokens > 0)
    if not used.any():
        return None
    flight = count_in_flight(starts[decodes], ends[decodes])
    mine = used[decodes]
    seconds = (ends - starts)[decodes][mine]
    made = tokens[decodes][mine].astype(np.float64)
    step = _OF_STEP * float(np.median(seconds / made))
    read = prompts_read(seen, starts[decodes][mine], ends[decodes][mine], step)
    contexts = flight.total(mean_context(seen)[decodes])
    decoded = _Decoded(flight, mine, seconds, made, contexts, read, whole)
    curve = _best_curve(decoded)
    left_out = int((~curve.keep).sum())
    before, per_context, per_prompt, per_batch = curve.factors.tolist()
    _, *shares = (curve.costs() / seconds.sum()).tolist()
    return PaceFit(
        tuple(curve.knots.tolist()), tuple(curve.itl.tolist()),
        tuple(_attempts_near(curve.made).tolist()), len(curve.keep) - left_out, left_out,
        float(np.median(np.abs(seconds / curve.expected - 1))),
        int(flight.level.max()), chunk,
        _before(seconds - curve.expected + before, before) if whole else None,
        per_context, per_prompt, per_batch, (shares[0], shares[1], shares[2]), step,
        _slope_beyond(curve, decoded),
    )  # fmt: skip


@dataclass(frozen=True)
class _Decoded:
    """The attempts that a curve is fitted to: `mine` of those in `flight`.

    `contexts`: thousands of tokens in all contexts, from each moment of the flight on. `read`: for
    each attempt, the thousands of prompt tokens that were read while it decoded, and the batches.
    """

    flight: InFlight
    mine: Flags
    seconds: Floats
    tokens: Floats
    contexts: Floats
    read: Floats
    whole: bool

    @property
    def most(self) -> int:
        """The most that decoded at once."""
        return int(self.flight.level.max())

    def independent(self, rows: Flags) -> float:
        """Return how many of the attempts count in a test.

        Those that decode at the same time have the same disturbances, so they count as one.
        """
        at_once = self.flight.seconds(np.arange(self.most + 1.0))[self.mine] / self.seconds
        return float(rows.sum() / at_once.mean())

    def made_with(self, values: Floats, itl: Floats) -> Floats:
        """Return the sum over each attempt's tokens of what had `values` when they were made.

        `values` and the seconds per token `itl`: from each moment of the flight on.
        """
        rate = self.flight.integral(1 / itl)[self.mine]
        made: Floats = self.flight.integral(values / itl)[self.mine] * (self.tokens / rate)
        return made


@dataclass(frozen=True)
class _Curve:
    """A fit: seconds per token `itl` at the knots, and what is added to them.

    `made`: the tokens that each attempt made near each knot. `others`: what `factors` are of: 1 for
    whole responses, the thousands of tokens of context over all its tokens, the thousands of prompt
    tokens read and the batches. `itl_at`: seconds per token from each moment of the flight on.
    `expected`: the seconds of each attempt.
    """

    knots: Integers
    itl: Floats
    factors: Floats
    made: Floats
    others: Floats
    itl_at: Floats
    expected: Floats
    keep: Flags

    def costs(self) -> Floats:
        """Return the seconds that each factor took from all attempts."""
        costs: Floats = self.factors * self.others.sum(axis=0)
        return costs


def batches_of(moments: Floats, step: float) -> Integers:
    """Return the number of the batch of each first text, in order of time.

    Those of one batch come at nearly the same time: in less than `step` seconds after another.
    """
    order = np.argsort(moments, kind="stable")
    numbers = np.zeros(len(moments), np.int64)
    numbers[order[1:]] = np.cumsum(np.diff(moments[order]) > step)
    return numbers


def mean_context(seen: Observations) -> Floats:
    """Return the thousands of tokens in the context of each attempt while it decodes, on average.

    These are the prompt and half of the output.
    """
    inputs, outputs = (np.maximum(each, 0) for each in (seen.input, seen.output))
    contexts: Floats = (inputs + outputs / 2) / 1000
    return contexts


def prompts_read(seen: Observations, starts: Floats, ends: Floats, step: float) -> Floats:
    """Return what was read from `starts` to `ends`: thousands of prompt tokens, and batches.

    A prompt has been read when its first text comes, a batch when the first one of it comes.
    """
    with_text = ~np.isnan(seen.first_text)
    moments = np.sort(seen.first_text[with_text])
    inputs = seen.read_input[with_text][np.argsort(seen.first_text[with_text], kind="stable")]
    begins = np.diff(batches_of(moments, step), prepend=-1)
    amounts = np.stack([inputs / 1000, begins], axis=1)
    before = np.concatenate([np.zeros((1, 2)), np.cumsum(amounts, axis=0)])
    until, since = (np.searchsorted(moments, each, "right") for each in (ends, starts))
    read: Floats = before[until] - before[since]
    return read


def _best_curve(decoded: _Decoded) -> _Curve:
    """Return the curve with those costs of contexts, prompts and batches that the attempts show."""
    if decoded.whole:
        return _curve(decoded, ())
    fits: dict[tuple[int, ...], _Curve] = {}

    def fit(costs: tuple[int, ...]) -> _Curve:
        if costs not in fits:
            fits[costs] = _curve(decoded, costs)
        return fits[costs]

    costs: tuple[int, ...] = (_CONTEXT, _PROMPT, _BATCH)
    if float(fit(costs).costs()[1:].sum()) < _LEAST_SHARE * decoded.seconds.sum():
        return fit(())
    while True:
        seconds = fit(costs).costs()
        for cost in sorted(costs, key=lambda each: float(seconds[each])):
            others = tuple(each for each in costs if each != cost)
            is_small = seconds[cost] < _LEAST_SHARE * decoded.seconds.sum()
            if is_small or not _explains(decoded, fit(costs), fit(others)):
                costs = others
                break
        else:
            return fit(costs)


def _explains(decoded: _Decoded, curve: _Curve, other: _Curve) -> bool:
    """Return whether a curve explains more than another one without one of its costs."""
    from scipy.special import fdtrc  # slow import

    seconds = decoded.seconds
    rest, more = (
        float(((seconds - each.expected)[curve.keep] ** 2 / seconds[curve.keep]).sum())
        for each in (curve, other)
    )
    independent = decoded.independent(curve.keep)
    if rest <= 0 or rest > _LEFT * more:
        return False
    return bool(fdtrc(1, independent, (more - rest) / rest * independent) < _CHANCE)


def _curve(decoded: _Decoded, costs: Collection[int]) -> _Curve:
    """Fit the curve, and the costs that it is to have."""
    flight, seconds, most = decoded.flight, decoded.seconds, decoded.most
    knots = fine_knots_up_to(most)
    near = _attempts_near(
        np.stack([flight.seconds(one)[decoded.mine] for one in hats(knots, most).T], axis=1)
    )
    knots = knots[near >= min(_LEAST_ATTEMPTS, near.max())]
    weights = hats(knots, most)
    itl_at = np.ones(len(flight.level))
    keep = np.ones(len(seconds), np.bool_)
    others = np.zeros((len(seconds), 4))
    others[:, 0] = decoded.whole
    others[:, _PROMPT:] = decoded.read
    used = [number == 0 or number in costs for number in range(4)]
    made, expected = np.zeros((len(seconds), len(knots))), seconds
    itl, factors = np.zeros(len(knots)), np.zeros(4)
    for number in range(_ROUNDS):
        levels = [column[flight.level] for column in weights.T]
        made = np.stack([decoded.made_with(each, itl_at) for each in levels], axis=1)
        others[:, _CONTEXT] = decoded.made_with(decoded.contexts, itl_at)
        itl, factors = _solve(made[keep], seconds[keep], others[keep] * used, knots)
        if not itl.any():
            raise InputError(
                "longer responses took no longer than short ones, so no time per token can be "
                "fitted; give runs with more calls, or with streamed ones"
            )
        expected = made @ itl + others @ factors
        itl_at = np.maximum(weights @ itl, itl.max() * 1e-6)[flight.level]
        itl_at = itl_at + factors[_CONTEXT] * decoded.contexts
        if number == 1:
            keep = ~_far(seconds, expected)
    return _Curve(knots, itl, factors, made, others, itl_at, expected, keep)


def _slope_beyond(curve: _Curve, decoded: _Decoded) -> float | None:
    """Return the mean slope of the law a + b n + c n² in the range as large as that which was seen.

    The law is fitted without negative parts. None if the attempts contradict it: the curve, which
    has more freedom, is nearer to them than by chance.
    """
    from scipy.optimize import nnls  # slow imports
    from scipy.special import fdtrc

    knots, keep = curve.knots, curve.keep
    if len(knots) < 3:
        return None
    seconds = decoded.seconds[keep]
    weight = 1 / np.sqrt(seconds)
    left = (seconds - curve.expected[keep]) * weight
    wanted = left + (curve.made[keep] @ curve.itl) * weight
    level = decoded.flight.level / knots[-1]
    made = np.stack([decoded.made_with(level**power, curve.itl_at) for power in range(3)], axis=1)
    law, distance = nnls(made[keep] * weight[:, None], wanted)
    rest, more = float(np.sum(left**2)), float(distance) ** 2
    independent = decoded.independent(keep)
    ratio = (more - rest) / max(rest, 1e-300) * independent / len(knots)
    if fdtrc(len(knots), max(independent, 1.0), max(ratio, 0.0)) < _CHANCE:
        return None
    return float(law[1] + 3 * law[2]) / float(knots[-1])


def _attempts_near(shares: Floats) -> Floats:
    """Return how many attempts' worth is at each knot, from what each attempt (row) has there."""
    near: Floats = (shares / shares.sum(axis=1, keepdims=True)).sum(axis=0)
    return near


def _before(rest: Floats, mean: float) -> tuple[float, float]:
    """Return median and sigma of what the tokens of whole responses do not explain."""
    middle = float(np.median(rest))
    if middle <= 0:
        return max(mean, 1e-6), 0.0
    tenth = float(np.percentile(rest, 10))
    return middle, min(2.0, max(0.0, float(np.log(middle / max(tenth, middle * 0.05))) / 1.2816))


def _far(seconds: Floats, expected: Floats) -> Flags:
    off = np.log(np.maximum(seconds, 1e-12)) - np.log(np.maximum(expected, 1e-12))
    off -= np.median(off)
    far: Flags = np.abs(off) > max(_FAR * 1.4826 * float(np.median(np.abs(off))), 0.05)
    return far


def _solve(made: Floats, seconds: Floats, others: Floats, knots: Integers) -> tuple[Floats, Floats]:
    """Return the curve at the knots, and the factor of each of the other columns."""
    weight = 1 / np.sqrt(np.maximum(seconds, 1e-9))
    used = others.any(axis=0)
    factors = np.zeros(others.shape[1])
    itl, factors[used] = fit_rising(
        made * weight[:, None], seconds * weight, knots, _SMOOTHING,
        others[:, used] * weight[:, None],
    )  # fmt: skip
    return itl, factors
