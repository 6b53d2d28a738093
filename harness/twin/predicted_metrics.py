"""What a twin predicts of a setting: one value a repeat of each metric."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from harness.analysis.cells import ByRepeat, MeasuredCell
from harness.analysis.metrics import METRICS, ComparedMetric, compared_metrics
from harness.analysis.selection import Dataset

_COMPARED = compared_metrics()


@dataclass(frozen=True)
class PredictedMetric:
    """One metric. `is_share`: 0 to 1, with errors as differences; other errors are ratios.

    `least`: the smallest value that it can have. `of_many`: it needs more workflows than a run may
    have.
    """

    name: str
    words: str
    unit: str
    is_share: bool
    by_repeat: Callable[[MeasuredCell], ByRepeat]
    least: float = 0.0
    of_many: bool = False


def _success_by_repeat(cell: MeasuredCell) -> ByRepeat:
    kept: defaultdict[int, list[bool]] = defaultdict(list)
    for workflow in cell.records.workflows:
        kept[workflow.repeat].append(cell.rules.is_success(workflow))
    return {repeat: sum(each) / len(each) for repeat, each in kept.items()}


def _in_time_by_repeat(cell: MeasuredCell) -> ByRepeat:
    """Return the share of the workflows kept within the latency limit; nothing without one."""
    kept: defaultdict[int, list[bool]] = defaultdict(list)
    if cell.rules.latency is not None:
        for workflow in cell.records.workflows:
            kept[workflow.repeat].append(cell.rules.is_good(workflow))
    return {repeat: sum(each) / len(each) for repeat, each in kept.items()}


def _compared(name: str, least: float = 0.0, *, of_many: bool = False) -> PredictedMetric:
    found = _COMPARED[name]
    unit = found.metric.unit
    return PredictedMetric(name, found.words, unit, False, found.scaled, least, of_many)


def _output_rate() -> PredictedMetric:
    metric = next(one for one in METRICS if one.name == "output_tokens_per_s.all")
    found = ComparedMetric(metric, None, None)
    return PredictedMetric("output_rate", metric.words, metric.unit, False, found.scaled)


PREDICTED: tuple[PredictedMetric, ...] = (
    _compared("makespan"),
    _compared("workflow_p50"),
    _compared("workflow_p95", of_many=True),
    _compared("ttft_p50"),
    _output_rate(),
    PredictedMetric("success_rate", "success rate", "share", True, _success_by_repeat),
    PredictedMetric("in_time_rate", "share within the limit", "share", True, _in_time_by_repeat),
    _compared("amplification", 1.0),
    _compared("cost_per_successful_workflow"),
)
"""The metrics in the order of the table."""

Values = Mapping[str, Mapping[str, ByRepeat]]
"""The values in each repeat, by metric and cell."""


def values_of(dataset: Dataset, metrics: Sequence[PredictedMetric] = PREDICTED) -> Values:
    """Return the values of each metric in each cell."""
    cells = {name: MeasuredCell(cell) for name, cell in dataset.cells.items()}
    return {
        metric.name: {name: metric.by_repeat(cell) for name, cell in cells.items()}
        for metric in metrics
    }
