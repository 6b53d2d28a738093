"""Fits the time per output token against the number of attempts that decode at the same time.

Each attempt with text in two chunks or more says how long its tokens took, and the other attempts
say how many were decoding meanwhile. The curve is piecewise linear in that number. The seconds of
an attempt are the sum of the curve over its tokens; how many of its tokens it made at which number
follows from the curve itself, so the fit is repeated until they agree. The curve does not fall:
decoding more requests at once makes no token faster.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.records.errors import InputError
from harness.twin.curves import fit_rising, hats, knots_up_to
from harness.twin.in_flight import count_in_flight
from harness.twin.observations import Flags, Floats, Integers, Observations

_ROUNDS = 5
_SMOOTHING = 0.02
_LEAST_ATTEMPTS = 3.0
"""A knot is kept if so many attempts' worth of decoding was near it."""
_FAR = 6.0
"""An attempt whose speed is off by more than so many median deviations is left out."""


@dataclass(frozen=True)
class PaceFit:
    """Seconds per token `itl` with `requests` decoding; `near`: the attempts' worth near each.

    `attempts`: how many were used. `left_out`: how many were not, as their speed is far off.
    `spread`: the median relative difference between an attempt and the curve. `tokens_per_chunk`
    rounded is `chunk`. `before_text`: median and sigma of the seconds before the first token of
    responses that came as a whole, None if responses were streamed.
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

    @property
    def chunk(self) -> int:
        """The tokens of a chunk in the profile."""
        return max(1, round(self.tokens_per_chunk or 1))


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
    most = int(flight.level.max())
    mine = used[decodes]
    seconds, tokens = (ends - starts)[decodes][mine], tokens[decodes][mine].astype(np.float64)
    knots = knots_up_to(most)
    weights = hats(knots, most)
    shares = np.stack([flight.seconds(column)[mine] for column in weights.T], axis=1)
    near = _attempts_near(shares)
    kept = near >= min(_LEAST_ATTEMPTS, near.max())
    knots = knots[kept]
    weights = hats(knots, most)
    itl_at, itl, before = np.ones(most + 1), np.ones(len(knots)), 0.0
    keep = np.ones(len(seconds), np.bool_)
    made = shares
    for number in range(_ROUNDS):
        made = np.stack([flight.seconds(column / itl_at)[mine] for column in weights.T], axis=1)
        made *= (tokens / made.sum(axis=1))[:, None]
        itl, before = _solve(made[keep], seconds[keep], whole, knots)
        if not itl.any():
            raise InputError(
                "longer responses took no longer than short ones, so no time per token can be "
                "fitted; give runs with more calls, or with streamed ones"
            )
        itl_at = np.maximum(weights @ itl, itl.max() * 1e-6)
        if number == 1:
            keep = ~_far(seconds, made @ itl + before)
    spread = float(np.median(np.abs(seconds / (made @ itl + before) - 1)))
    return PaceFit(
        tuple(knots.tolist()), tuple(itl.tolist()), tuple(_attempts_near(made).tolist()),
        int(keep.sum()), int((~keep).sum()), spread, most, chunk,
        _before(seconds - made @ itl, before) if whole else None,
    )  # fmt: skip


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


def _solve(made: Floats, seconds: Floats, whole: bool, knots: Integers) -> tuple[Floats, float]:
    """Return the curve at the knots and, for whole responses, the seconds before their text."""
    weight = 1 / np.sqrt(np.maximum(seconds, 1e-9))
    other = weight[:, None] if whole else None
    itl, before = fit_rising(made * weight[:, None], seconds * weight, knots, _SMOOTHING, other)
    return itl, float(before[0]) if whole else 0.0
