"""The settings of a tune, played at a twin of the provider."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from harness.analysis.cells import ByRepeat
from harness.analysis.contenders import contenders_after
from harness.analysis.decision import unused_settings
from harness.analysis.selection import Dataset
from harness.analysis.settings import identity
from harness.records.schema import CellInfo
from harness.twin.predicted_metrics import PREDICTED, PredictedMetric, Values, values_of
from harness.twin.twin_trials import LengthsOf, TwinScenario, play_at_twin, played_as


@dataclass(frozen=True)
class TwinPlays:
    """The settings at a twin, and what is predicted of them: the objective and the success rate.

    `lengths`: of the answers. `seed`: of all that is drawn.
    """

    settings: TwinScenario
    lengths: LengthsOf
    metrics: tuple[PredictedMetric, PredictedMetric]
    seed: int

    def records(self, cells: Sequence[CellInfo], repeats: Sequence[int]) -> Dataset:
        """Return the records of some settings in some repeats."""
        chosen = dict.fromkeys([cell.id for cell in cells], repeats)
        return play_at_twin(self.settings.with_cells(cells), chosen, self.seed, self.lengths)

    def play(self, cells: Sequence[CellInfo], repeats: Sequence[int]) -> Values:
        """Return the values of some settings in some repeats."""
        return values_of(self.records(cells, repeats), self.metrics)


class TwinSettings(NamedTuple):
    """The candidates of a tune as a twin plays them.

    `alike`: by setting of the twin, the ids of the candidates that it plays. `groups`: the settings
    of the twin that are the same where nothing fails.
    """

    alike: Mapping[str, Sequence[str]]
    groups: Sequence[Sequence[CellInfo]]


def twin_settings(
    candidates: Sequence[CellInfo], at_the_twin: Sequence[CellInfo], groups: Mapping[str, Hashable]
) -> TwinSettings:
    """Return the settings of a twin that play candidates.

    `groups`: by candidate, what it shares with those that are the same where nothing fails.
    """
    played: dict[str, list[str]] = {}
    for cell in candidates:
        played.setdefault(played_as(cell), []).append(cell.id)
    alike: dict[str, Sequence[str]] = {}
    found: dict[Hashable, list[CellInfo]] = {}
    for cell in at_the_twin:
        names = played.get(played_as(cell))
        if names:
            alike[cell.id] = names
            found.setdefault(groups[names[0]], []).append(cell)
    return TwinSettings(alike, list(found.values()))


def predicted_of(metrics: tuple[str, str]) -> tuple[PredictedMetric, PredictedMetric]:
    """Return the objective and the share of good workflows, by their names."""
    main, share = (next(one for one in PREDICTED if one.name == name) for name in metrics)
    return main, share


def play_groups(
    twin: TwinPlays, groups: Sequence[Sequence[CellInfo]], repeats: Sequence[int]
) -> tuple[Values, dict[str, list[CellInfo]], dict[str, float]]:
    """Return the values of the settings, which settings each one stands for, and its requests.

    Of a group, one is played; the others only if something failed in its trials.
    """
    objective, most = twin.metrics[0].name, 1 + max(repeats, default=0)
    first = twin.records([group[0] for group in groups], repeats)
    clean = unused_settings(contenders_after(most, first.cells.values(), objective))
    stands_for: dict[str, list[CellInfo]] = {}
    others: list[CellInfo] = []
    for group in groups:
        if identity(group[0], ("retry",)) in clean:
            stands_for[group[0].id] = list(group)
        else:
            stands_for |= {cell.id: [cell] for cell in group}
            others += group[1:]
    played: dict[str, Mapping[str, ByRepeat]] = {}
    requests: dict[str, float] = {}
    for records in [first, twin.records(others, repeats)] if others else [first]:
        for metric, cells in values_of(records, twin.metrics).items():
            played[metric] = {**played.get(metric, {}), **cells}
        for name, cell in records.cells.items():
            requests[name] = len(cell.spent) / max(len(cell.trials), 1)
    return played, stands_for, requests
