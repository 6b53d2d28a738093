"""Settings whose permits are more than their calls can use: they are one setting."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.analysis.settings import identity
from harness.bench.scenario import Scenario, cell_scenario
from harness.records.schema import CellInfo
from harness.records.settings import one_at_a_time
from harness.workflows.layout import widest


@dataclass(frozen=True)
class UsefulPermits:
    """`most`: the permits that each setting can use, by id; absent where that is not known.

    `kept`: the settings without those that differ from another one only in permits that no call
    can use. `same`: these, each group after the one that is kept, which has the fewest permits.
    """

    most: Mapping[str, int]
    kept: tuple[CellInfo, ...]
    same: tuple[tuple[CellInfo, ...], ...]

    def used(self, info: CellInfo) -> int:
        """Return the permits of a setting that can be in use."""
        return min(info.permits, self.most.get(info.id, info.permits))


def useful_permits(scenario: Scenario, cells: Sequence[CellInfo]) -> UsefulPermits:
    """Return which permits the settings of a scenario can use."""
    # What a program of the user declares need not be what it has in flight.
    is_known = scenario.workflow.knows_calls and not scenario.workflow.has_open_phases
    most = {
        info.id: _most_in_flight(cell_scenario(scenario, info), info.retry)
        for info in cells
        if is_known and not one_at_a_time(info.mode)
    }
    groups: dict[str, list[CellInfo]] = {}
    for info in cells:
        # Limits that adapt differ in their rules, whatever their highest values are.
        if not info.limiter and info.permits >= most.get(info.id, info.permits + 1):
            groups.setdefault(identity(info, ("permits",)), []).append(info)
    same = tuple(
        tuple(sorted(group, key=lambda info: info.permits))
        for group in groups.values()
        if len(group) > 1
    )
    left_out = {info.id for _, *others in same for info in others}
    return UsefulPermits(most, tuple(info for info in cells if info.id not in left_out), same)


def notes_of_permits(useful: UsefulPermits) -> Iterator[str]:
    """Yield, once for equal permits, which settings are one setting."""
    permits = dict.fromkeys(
        (useful.most[group[0].id], *(info.permits for info in group)) for group in useful.same
    )
    for most, first, *others in permits:
        yield (
            f"at most {most} requests are in flight at once, so more permits change nothing: "
            f"{' and '.join(map(str, others))} permits are the same setting as {first}, and are "
            "not listed"
        )


def _most_in_flight(scenario: Scenario, retry: str) -> int:
    """Return the most attempts that one setting can have in flight."""
    attempts = 2 if scenario.policy(retry).hedges else 1
    return scenario.load.at_once * widest(scenario.layout) * attempts
