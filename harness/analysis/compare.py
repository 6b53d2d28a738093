"""Compare two runs: what changed in the cells that both have, and whether it is significant."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from harness.analysis.cells import MeasuredCell
from harness.analysis.comparable_runs import (
    differences_of_runs,
    records_lacking,
    refuse_workload,
)
from harness.analysis.metrics import (
    ComparedMetric,
    ShareOf,
    SpreadOf,
    compared_metrics,
    latencies,
)
from harness.analysis.model import SUMMARY_SCHEMA, Figure
from harness.analysis.power import USUAL_POWER, detectable, power_of, repeats_needed
from harness.analysis.regressions import Rule
from harness.analysis.selection import Dataset
from harness.analysis.settings import identity
from harness.analysis.significance import (
    FEWEST_PAIRS,
    LEVEL,
    Difference,
    Successes,
    at_level,
    by_repeats,
    by_workflows,
    holm,
    is_called,
    of_shares,
)
from harness.records.errors import InputError
from harness.records.schema import CellInfo, MarkedAnswers
from harness.store.run_directory import Records

NO_CLEAR_CHANGE = "no clear change"
"""The verdict of a change that can be due to chance."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """How one quantity of one cell changed.

    `base`, `new`: in scenario seconds, seconds of processor time, USD, per scenario second, or a
    share (0 to 1). `change`: relative (0.1 for 10 % more), for shares the difference; its interval
    is adjusted as p is, so it excludes 0 exactly where the change is significant. `p`: two-sided,
    None with too few data; `adjusted_p`: by Holm's method over all cells and quantities, and of a
    metric that a rule names over the metrics of rules in all cells. `verdict`: `worse`, `better`,
    `no clear change` or `cannot tell`; only a significant change breaks a rule, so never the latter
    two.
    `mann_whitney_p`: of the rank test, None without one. `detectable`: the least change for the
    worse that would have been found with a probability of 80 % if it had been the only one, written
    as `change`; None if there is none.
    """

    base: float
    new: float
    change: Figure
    p: float | None
    adjusted_p: float | None
    method: str
    verdict: str
    mann_whitney_p: float | None = None
    detectable: float | None = None

    @property
    def called(self) -> bool:
        """Whether the change is significant, by both tests where both apply."""
        return is_called(self.adjusted_p, self.mann_whitney_p)


class CellChanges(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One cell that both runs have; quantities that one of them lacks are left out."""

    cell: str
    mode: str
    permits: int
    retry: str
    permit_scope: str
    limiter: str = ""
    changes: dict[str, Change]
    settings: dict[str, Any] = msgspec.field(default_factory=dict)


class RuleCheck(msgspec.Struct, frozen=True, kw_only=True):
    """What one rule of `--fail-on` says of one cell.

    `result`: `broken` if the change is beyond the limit and significant among the metrics that the
    rules name, in all cells; `can be due to chance` if it is only beyond the limit; else `kept`.
    `power`: the probability that a change of exactly the limit would have been significant; None
    with too few data. `can_occur`: false if the share of the base is too close to 0 or 1 to change
    by the limit. `detectable`: as in `Change`, in the direction of the rule. `repeats`: about how
    many repeats of both runs would have a power of 80 %, or of `--require-power`; None if it is not
    known or more than 1,000, or if the power is high enough.
    """

    rule: str
    metric: str
    limit: float
    cell: str
    change: Figure
    adjusted_p: float | None
    result: Literal["broken", "can be due to chance", "kept"]
    power: float | None
    can_occur: bool
    detectable: float | None
    repeats: int | None = None


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """What `harness compare` prints as JSON. `paired`: both runs had the same draws.

    `marked_answers`: of the new run, as in `Run`.
    """

    schema: int
    base: str
    new: str
    scenario: str
    simulated: bool
    paired: bool
    warnings: tuple[str, ...]
    only_in_base: tuple[str, ...]
    only_in_new: tuple[str, ...]
    cells: tuple[CellChanges, ...]
    marked_answers: MarkedAnswers = "none"
    rules: tuple[RuleCheck, ...] = ()

    @property
    def regressions(self) -> tuple[RuleCheck, ...]:
        """The rules that are broken."""
        return tuple(one for one in self.rules if one.result == "broken")

    def lacking(self, power: float) -> tuple[RuleCheck, ...]:
        """Return the rules whose change would have been found with less than this probability."""
        return tuple(
            one for one in self.rules if one.can_occur and (one.power is None or one.power < power)
        )


class _Seen(NamedTuple):
    """One quantity of one cell on both sides, before p is adjusted."""

    base: float
    new: float
    difference: Difference


class _Family(NamedTuple):
    """The p-values that are adjusted together, by (cell, quantity)."""

    adjusted: Mapping[tuple[str, str], float]

    @property
    def level(self) -> float:
        """The level of a change that is alone among them."""
        return LEVEL / max(len(self.adjusted), 1)

    def judged(self, key: tuple[str, str], found: Difference) -> _Judged:
        """Return whether a change is significant, and its interval at the level that p is held to.

        That level is divided by the number that p is multiplied by.
        """
        p = self.adjusted.get(key)
        called = is_called(p, found.ranks)
        level = LEVEL * found.p / p if found.p and p and p < 1 else self.level
        return _Judged(p, called, at_level(found, level, called=called))


class _Judged(NamedTuple):
    """The adjusted p of a change, whether it is significant, and its figure with an interval."""

    p: float | None
    called: bool
    change: Figure


class _Families(NamedTuple):
    """The family of the metrics that rules name, and that of all metrics, for the others."""

    named: frozenset[str]
    of_rules: _Family
    of_all: _Family

    def of(self, name: str) -> _Family:
        """Return the family by which a metric is judged."""
        return self.of_rules if name in self.named else self.of_all


_NOTHING_IN_COMMON = {
    False: "the two runs have no setting in common; sweep the same values in both",
    True: "no setting has trials in both runs, as a tune tries few; run the settings that they "
    "recommend with `harness run`, both in [sweep], to compare them",
}


def compare_runs(
    base: Records, new: Records, rules: Sequence[Rule] = (), power: float = USUAL_POWER
) -> Comparison:
    """Compare two runs of the same workload, and apply rules to what changed.

    `power`: the one that the repeats proposed for a rule would have. Raises InputError, which names
    what cannot be compared.
    """
    if base.run.simulated != new.run.simulated:
        kinds = ["simulated" if run.simulated else "live" for run in (base.run, new.run)]
        raise InputError(
            f"one run is {kinds[0]} and the other {kinds[1]}; compare runs of the same kind"
        )
    paired = base.run.has_simulator and base.run.seed == new.run.seed
    one, other = _sides(base, new)
    both = [cell for cell in one if cell in other]
    if not both:
        refuse_workload(base.run.scenario, new.run.scenario)
        raise InputError(_NOTHING_IN_COMMON[base.run.tuned or new.run.tuned])
    for cell in both:
        refuse_workload(one[cell].records.scenario, other[cell].records.scenario)
    seen = {cell: _look(one[cell], other[cell], paired=paired) for cell in both}
    families = _families(rules, seen)
    repeats = {cell: (_repeats(one[cell]), _repeats(other[cell])) for cell in both}
    return Comparison(
        schema=SUMMARY_SCHEMA,
        base=base.run.run_id,
        new=new.run.run_id,
        scenario=new.run.name,
        simulated=new.run.simulated,
        marked_answers=new.run.marked_answers,
        paired=paired,
        warnings=(
            *records_lacking("first", base),
            *records_lacking("second", new),
            *differences_of_runs(base.run, new.run, [(one[cell], other[cell]) for cell in both]),
            *_lacks(one, other, seen),
        ),
        only_in_base=tuple(cell for cell in one if cell not in other),
        only_in_new=tuple(cell for cell in other if cell not in one),
        cells=tuple(_cell(other[cell].records.info, seen[cell], families) for cell in both),
        rules=tuple(_check_rules(rules, seen, families.of_rules, repeats, power)),
    )


def _sides(base: Records, new: Records) -> tuple[dict[str, MeasuredCell], dict[str, MeasuredCell]]:
    """Return the cells of both runs by name: cells with the same settings have the same name."""
    other = {name: MeasuredCell(cell) for name, cell in Dataset.of(new).cells.items()}
    names = {identity(side.records.info): name for name, side in other.items()}
    one = {}
    for name, cell in Dataset.of(base).cells.items():
        own = name if name not in other else f"{name} of the first run"
        one[names.get(identity(cell.info), own)] = MeasuredCell(cell)
    return one, other


def _look(base: MeasuredCell, new: MeasuredCell, *, paired: bool) -> dict[str, _Seen]:
    """Return every metric that both sides have."""
    found = {
        name: _share(base, new, one.metric.kind.counts)
        if isinstance(one.metric.kind, ShareOf)
        else _ratio(one, base, new, paired=paired)
        for name, one in compared_metrics().items()
    }
    return {name: one for name, one in found.items() if one is not None}


def _ratio(
    compared: ComparedMetric, base: MeasuredCell, new: MeasuredCell, *, paired: bool
) -> _Seen | None:
    if not all(compared.is_carried_by(side) for side in (base, new)):
        return None
    one, other = compared.scaled(base), compared.scaled(new)
    before, after = compared.figure(base), compared.figure(new)
    common = len(one.keys() & other.keys()) if paired else min(len(one), len(other))
    latency, share = compared.latency, compared.percentile
    if latency is None or share is None or common >= FEWEST_PAIRS:
        found = by_repeats(one, other, paired=paired)
    else:
        found = by_workflows(
            _by_topic(base, latency), _by_topic(new, latency), share, paired=paired
        )
    if found is None or before is None or after is None:
        return None
    if one.keys() == other.keys() and before.value > 0 and found.change.value > 0:
        # The change of the values that are shown, which may be totals: cost over successes.
        factor = after.value / before.value / found.change.value
        bounds = (
            None if at is None else at * factor for at in (found.change.low, found.change.high)
        )
        low, high = bounds
        change = Figure(value=after.value / before.value, low=low, high=high)
        found = found._replace(change=change)
    return _Seen(before.value, after.value, found)


def _lacks(
    base: Mapping[str, MeasuredCell],
    new: Mapping[str, MeasuredCell],
    seen: Mapping[str, Mapping[str, _Seen]],
) -> Iterable[str]:
    """Warn about metrics that only one run has, such as the cost of a success without any."""
    for name, compared in compared_metrics().items():
        if isinstance(compared.metric.kind, ShareOf):
            continue
        absent = [cell for cell, found in seen.items() if name not in found]
        has_base, has_new = (
            {cell for cell in absent if _has(compared, sides[cell])} for sides in (base, new)
        )
        for which, only in (("second", has_base - has_new), ("first", has_new - has_base)):
            if cells := [cell for cell in absent if cell in only]:
                yield f"no {name} in the {which} run, so it is not compared: {', '.join(cells)}"


def _has(compared: ComparedMetric, cell: MeasuredCell) -> bool:
    return compared.is_carried_by(cell) and bool(compared.by_repeat(cell))


def _by_topic(side: MeasuredCell, latency: SpreadOf) -> dict[tuple[int, str], list[float]]:
    """Return the workflow latencies in scenario seconds, in clusters of one topic and repeat."""
    parts: dict[tuple[int, str], list[float]] = {}
    for workflow, seconds in latencies(side, latency):
        scaled = seconds / side.records.run.time_scale
        parts.setdefault((workflow.repeat, workflow.topic), []).append(scaled)
    return parts


def _share(
    base: MeasuredCell, new: MeasuredCell, counts: Callable[[MeasuredCell], Successes]
) -> _Seen | None:
    one, other = counts(base), counts(new)
    found = of_shares(one, other)
    if found is None:
        return None
    return _Seen(sum(one.good) / sum(one.tried), sum(other.good) / sum(other.tried), found)


def _families(rules: Sequence[Rule], seen: Mapping[str, Mapping[str, _Seen]]) -> _Families:
    """Adjust the p-values by Holm's method, those of the metrics that rules name by themselves."""
    known = {
        (cell, name): one.difference.p
        for cell, found in seen.items()
        for name, one in found.items()
        if one.difference.p is not None
    }
    named = frozenset(rule.name for rule in rules)
    mine = {key: p for key, p in known.items() if key[1] in named}
    of_rules, of_all = (
        _Family(dict(zip(ps, holm([*ps.values()]), strict=True))) for ps in (mine, known)
    )
    return _Families(named, of_rules, of_all)


def _repeats(side: MeasuredCell) -> int:
    return len(side.records.trials)


def _check_rules(
    rules: Sequence[Rule],
    seen: Mapping[str, Mapping[str, _Seen]],
    family: _Family,
    repeats: Mapping[str, tuple[int, int]],
    power: float,
) -> Iterator[RuleCheck]:
    """Apply the rules. Raises InputError for a rule on a metric that no cell has."""
    for rule in rules:
        cells = {cell: found[rule.name] for cell, found in seen.items() if rule.name in found}
        if not cells:
            raise InputError(
                f"--fail-on {rule.text}: no setting of the two runs has {rule.name}; "
                "run more workflows, or fail on something else"
            )
        for cell, one in cells.items():
            yield _check(rule, cell, one, family, repeats[cell], power)


def _check(
    rule: Rule, cell: str, seen: _Seen, family: _Family, repeats: tuple[int, int], power: float
) -> RuleCheck:
    compared, found = compared_metrics()[rule.name], seen.difference
    is_share = compared.metric.unit == "share"
    judged = family.judged((cell, rule.name), found)
    change = _change_of(compared, judged.change)
    result: Literal["broken", "can be due to chance", "kept"] = "kept"
    if rule.is_beyond(change.value):
        result = "broken" if judged.called else "can be due to chance"
    level, test = family.level, found.test
    sign = 1 if rule.sign == ">" else -1
    can_occur = not is_share or 0 <= seen.base + rule.limit <= 1
    had = None if test is None else power_of(test, rule.limit, level)
    needed = None
    if test is not None and had is not None and had < power and can_occur and rule.limit:
        needed = repeats_needed(test, rule.limit, level, repeats, power)
    return RuleCheck(
        rule=rule.text,
        metric=rule.name,
        limit=rule.limit,
        cell=cell,
        change=change,
        adjusted_p=judged.p,
        result=result,
        power=had,
        can_occur=can_occur,
        detectable=None if test is None else detectable(test, sign, level),
        repeats=needed,
    )


def _change_of(compared: ComparedMetric, change: Figure) -> Figure:
    """Return a change as it is shown: relative, of a share the difference."""
    by = 0.0 if compared.metric.unit == "share" else 1.0
    return Figure(
        value=change.value - by,
        low=None if change.low is None else change.low - by,
        high=None if change.high is None else change.high - by,
    )


def _cell(info: CellInfo, seen: Mapping[str, _Seen], families: _Families) -> CellChanges:
    changes = {}
    for name, one in seen.items():
        family, compared = families.of(name), compared_metrics()[name]
        judged = family.judged((info.id, name), one.difference)
        changes[name] = _change(compared, one, judged, family.level)
    settings = msgspec.structs.asdict(info)
    return CellChanges(cell=settings.pop("id"), changes=changes, **settings)


def _change(compared: ComparedMetric, seen: _Seen, judged: _Judged, level: float) -> Change:
    found, sign = seen.difference, 1 if compared.metric.worse == "higher" else -1
    change = _change_of(compared, judged.change)
    if judged.p is None:
        verdict = "cannot tell"
    elif not judged.called:
        verdict = NO_CLEAR_CHANGE
    else:
        verdict = "worse" if change.value * sign > 0 else "better"
    return Change(
        base=seen.base,
        new=seen.new,
        change=change,
        p=found.p,
        adjusted_p=judged.p,
        method=found.method,
        verdict=verdict,
        mann_whitney_p=found.ranks,
        detectable=None if found.test is None else detectable(found.test, sign, level),
    )
