"""Decides which of the measured cells to use, from one value of each cell in each repeat.

A cell is recommended if it has two proofs: its success rate meets the requirement, and no other
cell that may meet it is better by more than a margin. Both are judged at looks (see `proofs`), so
the same rule serves a run with a fixed number of repeats and one that goes on until it is settled.
Pure functions of numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import reduce
from operator import attrgetter
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.analysis.looks import Looks
from harness.analysis.model import Preference
from harness.analysis.proofs import (
    Proof,
    design_effect,
    share_bounds,
    share_proof,
    shortfall_proof,
    significant_mean,
    upper_bounds,
)

AdviceState = Literal["proven", "leading", "open"]
"""`proven`: a cell has both proofs. `leading`: the candidate has one of them. `open`: it has none,
or there is no candidate."""


class Contender(NamedTuple):
    """What a decision needs to know of a cell.

    By repeat: `objective`, less is better, only values above 0; `good` of `tried` workflows;
    `attempts` per call; `refusals`, the attempts that were answered with 429. `failures`: the
    number of failed attempts. `setting`: what the cell's retry policy shares with those that it
    competes with. `safety` and `simplicity`: the ranks of its policy, less is better. `excluded`:
    more repeats cannot give it an objective. `has_few_bursts`: its failures can come in bursts, and
    it met too few bursts to know how many workflows they fail.
    """

    name: str
    objective: Mapping[int, float]
    good: Mapping[int, int]
    tried: Mapping[int, int]
    attempts: Mapping[int, float]
    refusals: Mapping[int, float]
    failures: int
    policy: str
    setting: Hashable
    permits: int
    safety: tuple[int, ...]
    simplicity: tuple[int, ...]
    excluded: bool = False
    has_few_bursts: bool = False

    @property
    def share(self) -> float:
        """The share of its workflows that are good."""
        return sum(self.good.values()) / max(1, sum(self.tried.values()))

    @property
    def losses(self) -> Mapping[int, float]:
        """The share of its workflows that are not good, by repeat."""
        return {at: (tried - self.good[at]) / tried for at, tried in self.tried.items() if tried}


class Rules(NamedTuple):
    """The requirements of a decision.

    `asked`: the success rate, None to compare with the cell that succeeds most, within
    `success_margin`. `margin`: by how much a better objective does not matter. `looks`: when the
    data are looked at.
    """

    asked: float | None
    margin: float
    success_margin: float
    looks: Looks


class Judgement(NamedTuple):
    """What is known after a look.

    `cell`: the one with both proofs, or None; `candidate`: that one, or the one that is ahead.
    `proofs`: of the success rate, by cell. `settled`: whether the candidate's lead is proven.
    `equal`: the cells with both proofs, the best first. `rival`: the cell that the candidate leads
    by least. `exercised`: whether the policies that compete with the candidate's had anything to
    do.
    `dropped`: the cells that cannot be recommended any more, each with the repeats of the look that
    dropped it. `is_final`: more repeats cannot change the answer.
    """

    state: AdviceState
    cell: str | None
    candidate: str | None
    proofs: Mapping[str, Proof]
    settled: bool
    equal: tuple[str, ...]
    rival: str | None
    exercised: bool
    dropped: Mapping[str, int]
    is_final: bool


def decide(after: Callable[[int], Sequence[Contender]], rules: Rules, repeats: int) -> Judgement:
    """Return the decision after so many repeats, from the looks until then.

    `after`: returns what the first repeats say about the cells. A cell that a look drops is not
    measured any further, so each look needs those before it.
    """
    dropped: Mapping[str, int] = {}
    for count in rules.looks.repeats:
        if count < repeats:
            dropped = look(after(count), rules, count, dropped).dropped
    return look(after(repeats), rules, repeats, dropped)


def look(
    contenders: Sequence[Contender],
    rules: Rules,
    repeats: int,
    dropped: Mapping[str, int],
    proofs: Mapping[str, Proof] | None = None,
) -> Judgement:
    """Return the decision at one look. `dropped`: by earlier looks, as in `Judgement`.

    `proofs`: of the success rates, where the contenders are not all cells that were measured.
    """
    level = rules.looks.level(repeats)
    contenders = with_unused_policies_as_one(contenders)
    if proofs is None:
        proofs = success_proofs(contenders, rules, level)
    able = [
        one
        for one in contenders
        if proofs[one.name] != "broken" and one.name not in dropped and one.objective and one.share
    ]
    advantages = Advantages(able, level)
    limit = float(np.log1p(rules.margin))
    settled = [one for one in able if advantages.most(one) <= limit]
    proven = [one for one in able if proofs[one.name] == "proven"]
    equal = advantages.ranked([one for one in settled if one in proven])
    lost = [
        one.name
        for one in contenders
        if one.excluded
        or proofs[one.name] == "broken"
        or one.name in dropped
        or (one in able and any(advantages.is_behind(one, best) for best in proven))
    ]
    if rules.asked is None and not any(one.share for one in contenders):
        lost = [one.name for one in contenders]  # there is no better cell to prove it with
    chosen: Contender | None
    if equal:
        chosen = best_of(equal, contenders)
        state: AdviceState = "proven"
    else:
        chosen = _ahead(able, advantages, proofs, rules, contenders)
        has_one = chosen is not None and (chosen in settled or chosen in proven)
        state = "leading" if has_one else "open"
    rival = None if chosen is None else advantages.closest(chosen)
    return Judgement(
        state=state,
        cell=chosen.name if chosen is not None and equal else None,
        candidate=None if chosen is None else chosen.name,
        proofs=proofs,
        settled=chosen in settled,
        equal=tuple(one.name for one in equal),
        rival=None if rival is None else rival.name,
        exercised=chosen is not None and _had_something_to_do(chosen, contenders),
        dropped={name: dropped.get(name, repeats) for name in lost},
        is_final=bool(equal) or len(lost) == len(contenders),
    )


def with_unused_policies_as_one(contenders: Sequence[Contender]) -> list[Contender]:
    """Return the cells; those whose policies had nothing to do have the same objective.

    Where no attempt failed and none was repeated, cells that differ in their policy alone are the
    same measurement, made several times. In each repeat they get the geometric mean of their
    values. Their success rates stay apart: simulated cells with the same draws are copies, and do
    not count several times.
    """
    groups: dict[Hashable, list[Contender]] = {}
    for one in contenders:
        groups.setdefault(one.setting, []).append(one)
    shared = {
        setting: _mean_objective(cells)
        for setting, cells in groups.items()
        if len(cells) > 1 and all(_policy_was_unused(one) for one in cells)
    }
    return [
        one._replace(objective=shared[one.setting]) if one.setting in shared else one
        for one in contenders
    ]


def unused_settings(contenders: Sequence[Contender]) -> set[Hashable]:
    """Return the settings, without their policies, in which no policy had anything to do."""
    used = {one.setting for one in contenders if not _policy_was_unused(one)}
    return {one.setting for one in contenders if one.tried} - used


def _policy_was_unused(cell: Contender) -> bool:
    return not cell.failures and max(cell.attempts.values(), default=0.0) <= 1


def _mean_objective(cells: Sequence[Contender]) -> dict[int, float]:
    means = {}
    for repeat in sorted({at for one in cells for at in one.objective}):
        values = [one.objective[repeat] for one in cells if repeat in one.objective]
        is_copy = len(set(values)) == 1
        means[repeat] = values[0] if is_copy else float(np.exp(np.log(values).mean()))
    return means


class Advantages:
    """By how much each of some cells is better than each other, as logarithms of ratios.

    Cells are compared in the repeats that both have. Each bound is wrong with a probability that
    pays for all cells and for the look. Cells with the same values count once: where nothing
    failed, all policies have the same.
    """

    def __init__(self, able: Sequence[Contender], level: float) -> None:
        self._able = list(able)
        self._number = {one.name: at for at, one in enumerate(self._able)}
        repeats = sorted({at for one in self._able for at in one.objective})
        self._logs = np.array(
            [[np.log(one.objective.get(at, np.nan)) for at in repeats] for one in self._able]
        ).reshape(len(self._able), len(repeats))
        kinds = len({row.tobytes() for row in self._logs})
        self._level = level / max(1, kinds - 1)
        self._bounds = [self._bounds_over(at) for at in range(len(self._able))]

    def most(self, mine: Contender) -> float:
        """Return the upper bound of the largest advantage that another cell has over one."""
        bounds = np.delete(self._bounds[self._number[mine.name]], self._number[mine.name])
        return float(bounds.max(initial=-np.inf))

    def is_behind(self, mine: Contender, other: Contender) -> bool:
        """Return whether one cell is proven to be worse than another."""
        bounds = self._bounds[self._number[other.name]]
        return mine is not other and bool(bounds[self._number[mine.name]] < 0)

    def closest(self, mine: Contender) -> Contender | None:
        """Return the other cell whose advantage over one has the highest upper bound."""
        at = self._number[mine.name]
        others = [other for other in range(len(self._able)) if other != at]
        if not others:
            return None
        means = self._means(at)
        return self._able[max(others, key=lambda other: (self._bounds[at][other], means[other]))]

    def ranked(self, cells: Iterable[Contender]) -> list[Contender]:
        """Return cells in the order of their objective in the repeats that all of them have."""
        chosen = list(cells)
        rows = self._logs[[self._number[one.name] for one in chosen]]
        shared = np.isfinite(rows).all(axis=0)
        means = [
            float(row[shared].mean()) if shared.any() else float(np.nanmean(row)) for row in rows
        ]
        order = sorted(range(len(chosen)), key=lambda at: means[at])
        return [chosen[at] for at in order]

    def _ratios(self, at: int) -> NDArray[np.float64]:
        ratios: NDArray[np.float64] = self._logs[at] - self._logs
        return ratios

    def _means(self, at: int) -> NDArray[np.float64]:
        ratios = self._ratios(at)
        known = np.isfinite(ratios)
        means: NDArray[np.float64] = np.where(known, ratios, 0).sum(1) / np.maximum(known.sum(1), 1)
        return means

    def _bounds_over(self, at: int) -> NDArray[np.float64]:
        ratios = self._ratios(at)
        bounds = upper_bounds(ratios, self._level)
        same = np.isfinite(ratios).any(axis=1) & (np.nan_to_num(ratios) == 0).all(axis=1)
        return np.where(same, 0.0, bounds)


class ShareCounts(NamedTuple):
    """How many workflows of a cell are good, of those that ended, and their design effect."""

    good: float
    tried: float
    effect: float

    @property
    def share(self) -> float:
        """The share of good workflows."""
        return self.good / max(1, self.tried)


def success_proofs(contenders: Sequence[Contender], rules: Rules, level: float) -> dict[str, Proof]:
    """Return for each cell whether its success rate is proven to meet the requirement, or not to.

    Repeats are the clusters (see `design_effects`).
    """
    effects = design_effects(contenders)
    counts = {
        one.name: ShareCounts(sum(one.good.values()), sum(one.tried.values()), effects[one.name])
        for one in contenders
    }
    return share_proofs(counts, rules, level)


def share_proofs(counts: Mapping[str, ShareCounts], rules: Rules, level: float) -> dict[str, Proof]:
    """Return the same from counts of workflows, by cell."""
    bounds = {name: share_bounds(*mine, level) for name, mine in counts.items()}
    if rules.asked is not None:
        return {name: share_proof(found, rules.asked) for name, found in bounds.items()}

    def against(name: str, other: str) -> Proof:
        most = bounds[other]._replace(high=max(bounds[other].high, counts[other].share))
        return shortfall_proof(
            counts[name].share, bounds[name], counts[other].share, most, rules.success_margin
        )

    return {name: _against_all(name, counts, against) for name in counts}


def _against_all(
    name: str, counts: Mapping[str, ShareCounts], against: Callable[[str, str], Proof]
) -> Proof:
    """Return the proof of a cell that has to succeed about as often as every other one.

    It is broken if it succeeds less often than the best other one. A cell without others is
    compared with its own rate, as if that were another cell's.
    """
    others = [other for other in counts if other != name] or [name]
    best = max(others, key=lambda other: (counts[other].share, counts[other].tried))
    found = against(name, best)
    if found == "proven" and not all(against(name, other) == "proven" for other in others):
        return "open"
    return found


def design_effects(contenders: Sequence[Contender]) -> dict[str, float]:
    """Return the design effect of each cell.

    Failures that come in bursts are seen in few repeats, so it is at least that of all cells with
    the same policy. With few bursts, all workflows of a repeat count as one: a few repeats without
    a burst do not show that there are none.
    """
    own = {one.name: _effect_of([one]) for one in contenders}
    pooled = {
        policy: _effect_of([one for one in contenders if one.policy == policy])
        for policy in {one.policy for one in contenders}
    }
    return {
        one.name: max(own[one.name], pooled[one.policy], _workflows_at_once(one))
        for one in contenders
    }


def _workflows_at_once(one: Contender) -> float:
    """Return how many workflows count as one if nothing is known of bursts."""
    return max(one.tried.values(), default=1) if one.has_few_bursts else 1.0


def _effect_of(cells: Sequence[Contender]) -> float:
    """Return the mean design effect of cells, weighted by their variance without clusters."""
    weights, effects = [], []
    for one in cells:
        share, count = one.share, sum(one.tried.values())
        if 0 < share < 1:
            weights.append(count * share * (1 - share))
            effects.append(
                design_effect([one.good[at] for at in one.tried], list(one.tried.values()))
            )
    return float(np.average(effects, weights=weights)) if weights else 1.0


def best_of(equal: Sequence[Contender], contenders: Sequence[Contender]) -> Contender:
    """Return which of equal cells to recommend.

    None of the others loses significantly fewer workflows. Of these cells it is the simplest, with
    the safest policy if no policy had anything to do.
    """
    keeping = [one for one in equal if not any(_more(two.losses, one.losses) < 0 for two in equal)]
    return _safest(reduce(simpler, keeping or equal), equal, contenders)


def _safest(
    chosen: Contender, able: Sequence[Contender], contenders: Sequence[Contender]
) -> Contender:
    """Return the cell with the safest policy, if no policy had anything to do with these settings.

    Then all policies are the same measurement (see `with_unused_policies_as_one`).
    """
    if _had_something_to_do(chosen, contenders):
        return chosen
    rivals = [one for one in able if one.setting == chosen.setting]
    return min(rivals, key=lambda one: one.safety)


_LESS: Mapping[Preference, Callable[[Contender], Mapping[int, float]]] = {
    "losses": attrgetter("losses"),
    "attempts": attrgetter("attempts"),
    "refusals": attrgetter("refusals"),
}
"""What an equal cell is preferred for if it has significantly less of it, in this order."""


def simpler(one: Contender, other: Contender) -> Contender:
    """Return the better of two equal cells.

    It loses fewer workflows, or else has fewer attempts, or else fewer 429s, where the difference
    is significant; or else it has fewer permits; or else the simpler policy.
    """
    for values in _LESS.values():
        more = _more(values(one), values(other))
        if more:
            return one if more < 0 else other
    return min(one, other, key=lambda cell: (cell.permits, cell.simplicity))


def _more(mine: Mapping[int, float], theirs: Mapping[int, float]) -> float:
    """Return the mean difference over the repeats that both have; 0 if it is not significant."""
    common = sorted(mine.keys() & theirs.keys())
    return significant_mean([mine[at] - theirs[at] for at in common])


def _ahead(
    able: Sequence[Contender],
    advantages: Advantages,
    proofs: Mapping[str, Proof],
    rules: Rules,
    contenders: Sequence[Contender],
) -> Contender | None:
    """Return the cell with the best objective of those that seem to meet the requirement.

    If none seems to, the one that succeeds most.
    """
    most = max((one.share for one in able), default=0.0)
    asked = most - rules.success_margin if rules.asked is None else rules.asked
    meets = [one for one in able if one.share >= asked or proofs[one.name] == "proven"]
    if meets:
        return _safest(advantages.ranked(meets)[0], meets, contenders)
    return max(able, key=lambda one: one.share, default=None)


def _had_something_to_do(chosen: Contender, contenders: Sequence[Contender]) -> bool:
    """Return whether a policy with the settings of a cell met a failure or repeated a request."""
    return any(not _policy_was_unused(one) for one in contenders if one.setting == chosen.setting)


def preference(
    chosen: Contender, other: Contender, found: Judgement, contenders: Sequence[Contender]
) -> Preference:
    """Return why a candidate was chosen and not another cell whose objective is equal."""
    if other.setting == chosen.setting and not _had_something_to_do(chosen, contenders):
        return "safety"
    if found.cell is None:
        return "objective"
    if other.name not in found.equal:
        return "proof"
    for name, values in _LESS.items():
        if _more(values(chosen), values(other)) < 0:
            return name
    if chosen.permits < other.permits:
        return "permits"
    return "simplicity" if chosen.simplicity < other.simplicity else "objective"
