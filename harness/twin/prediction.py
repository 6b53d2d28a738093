"""What a twin predicts, and how it compares with a run. Plain values, for every view."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from harness.records.schema import CellInfo

Quality = Literal["good", "fair", "poor"]


@dataclass(frozen=True)
class LeftOutSetting:
    """How far the prediction of a measured setting is from what was measured there.

    The setting was left out of the fit. `error`: predicted minus measured: the difference of the
    logarithms, or of the values of a share. `noise`: the variance that chance gives it, from the
    repeats of both. `is_inside`: the permits are between those of the other settings. `distance`:
    the logarithm of the ratio to the nearest permits among them.
    """

    cell: str
    error: float
    noise: float
    is_inside: bool
    distance: float


@dataclass(frozen=True)
class PredictedValue:
    """A metric of a setting: the mean over many runs of the same work, with its 95 % interval.

    `one_run`: half the interval of a single trial with new answers about the same topics, as a
    share of the value; None if the run has one repeat, whose answers cannot differ. `variance`: of
    the predicted mean, with its degrees of `freedom` (None: many); `trial_variance`: of one trial
    around it. Both are on the scale of errors. `measured`: the mean in the run, None if the setting
    was not in it.
    """

    value: float
    low: float
    high: float
    one_run: float | None
    variance: float
    freedom: float | None
    trial_variance: float
    measured: float | None


@dataclass(frozen=True)
class PredictedCell:
    """A predicted setting. `values`: by metric; one that no trial has is absent.

    `beyond`: why the prediction is an extrapolation, empty if it is none.
    """

    info: CellInfo
    values: Mapping[str, PredictedValue]
    beyond: str


@dataclass(frozen=True)
class Prediction:
    """All predicted settings of a scenario.

    `attempts`: what the twin was fitted to. `simulated`: whether that was a simulated provider.
    `errors`: by metric, of the settings that were left out of the fit once. `repeats`: how many
    trials of each setting were played. `bootstraps`: how many fits the intervals come from.
    `unknown`: what the records cannot tell. `notes`: what a reader has to know of the lengths.
    `required`: the share of the workflows that has to succeed, if the scenario says so; otherwise
    it may be lower than that of the best setting by `success_margin`.
    `objective`: the metric that it minimises. `measured`: the settings of the runs.
    `sources`: the runs, with the first digits of their ids.
    """

    scenario: str
    simulated: bool
    attempts: int
    cells: tuple[PredictedCell, ...]
    errors: Mapping[str, Sequence[LeftOutSetting]]
    repeats: int
    bootstraps: int
    unknown: tuple[str, ...]
    notes: tuple[str, ...]
    required: float | None
    success_margin: float
    objective: str
    measured: tuple[CellInfo, ...]
    sources: tuple[str, ...]


@dataclass(frozen=True)
class MeasuredMean:
    """The mean of a metric over the repeats of a setting in a run.

    `low` and `high`: its 95 % interval, None with one repeat.
    """

    value: float
    low: float | None
    high: float | None


MeasuredMeans = Mapping[str, Mapping[str, MeasuredMean]]
"""The means by metric and id of the setting."""


@dataclass(frozen=True)
class CheckedValue:
    """A predicted and a measured value. `error`: relative, or the difference of a share.

    `low` and `high`: where the mean of so many repeats is expected in 95 of 100 runs.
    """

    cell: str
    metric: str
    predicted: float
    measured: float
    low: float
    high: float
    error: float
    beyond: str

    @property
    def is_covered(self) -> bool:
        """Whether the measured value is in the interval."""
        return self.low <= self.measured <= self.high


@dataclass(frozen=True)
class CheckedMetric:
    """The errors of one metric over the settings: `bias` is their mean, the rest is without sign.

    `covered`: the share of the settings that are in their interval.
    """

    metric: str
    settings: int
    bias: float
    median: float
    p90: float
    largest: float
    covered: float
    quality: Quality


@dataclass(frozen=True)
class WeakPlace:
    """A group of settings whose errors are larger than those of all: `where` names the group."""

    where: str
    metric: str
    settings: int
    median: float
    of_all: float
    covered: float


@dataclass(frozen=True)
class CheckedPrediction:
    """A prediction of a run, compared with the run, `other`.

    `metrics`: the errors over the settings that the fitted runs do not have, if there are any, and
    `is_new` then; else over all. `quality`: the worst of the makespan and of the workflows kept.
    """

    prediction: Prediction
    values: tuple[CheckedValue, ...]
    metrics: tuple[CheckedMetric, ...]
    weak: tuple[WeakPlace, ...]
    quality: Quality
    other: str
    is_new: bool
