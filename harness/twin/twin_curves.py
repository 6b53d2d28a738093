"""The curves of a fitted twin beside what was measured. Plain values, for every view."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Places = tuple[tuple[float, float], ...]
"""Pairs of x and y."""


@dataclass(frozen=True)
class PartText:
    """A fitted part in words. `unknown`: what the records cannot tell of it."""

    name: str
    value: str
    evidence: str
    unknown: tuple[str, ...]


@dataclass(frozen=True)
class FittedCurve:
    """A curve and the attempts that it was fitted to.

    `measured`: the attempts that are shown, of `attempts`. `knots`: the ends of the straight pieces
    of the curve. `beyond`: where the curve goes on without measurements; it begins with a knot.
    """

    measured: Places
    attempts: int
    knots: Places
    beyond: Places


@dataclass(frozen=True)
class LengthCounts:
    """Lengths of reasoning or answers with one setting, and the log-normal fitted to them.

    `edges`: of the bins, in tokens, one more than `counts`, which has the answers in each. `cut`:
    those of them that max_tokens cut. `expected`: the answers that the fit puts in each bin.
    `sigma`: of single answers and of topics together.
    """

    setting: str
    part: Literal["reasoning", "answer"]
    median: float
    sigma: float
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    cut: tuple[int, ...]
    expected: tuple[float, ...]


@dataclass(frozen=True)
class LimitCounts:
    """Requests by the number that was in service when they came, from 0 on.

    `start` and `end`: the seconds since a trial's first request that are meant; None for all times.
    `cap`: the fitted cap, None if none was met.
    """

    start: float | None
    end: float | None
    admitted: tuple[int, ...]
    refused: tuple[int, ...]
    cap: int | None


@dataclass(frozen=True)
class TwinCurves:
    """What the page of a twin shows.

    `attempts` and `trials`: what the twin was fitted to. `simulated`: whether that was a simulated
    provider. `pace`: seconds per token against the mean number that decoded. `ttft_waiting` and
    `ttft_input`: seconds to the first token against the number that waited for theirs, and against
    input tokens; None if responses came as a whole. `slots`: of the provider, None if none were
    met. `unfitted`: what no fit tells.
    """

    attempts: int
    trials: int
    simulated: bool
    pace: FittedCurve
    ttft_waiting: FittedCurve | None
    ttft_input: FittedCurve | None
    slots: int | None
    lengths: tuple[LengthCounts, ...]
    limits: tuple[LimitCounts, ...]
    parts: tuple[PartText, ...]
    unfitted: str
