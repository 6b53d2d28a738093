"""Decides which settings a tune tries next, and which need no more trials. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass

from harness.records.tune_blocks import TRIALS_A_BLOCK, TuneRuledOut
from harness.tune.beliefs import Belief, belief_difference
from harness.tune.expected import SettingDifference

_FIRST = 3
_CONFIDENCE = 0.975
_HOPELESS = 0.025
_ALIKE = 0.25
"""Settings whose expected losses differ by less than this share of the margin are alike."""
_TOLD_APART = 2.0
"""Settings whose objectives differ by fewer standard errors cannot be told apart."""
_MOST_TURNS = 4
"""How often a better setting is looked for: pairs that were measured in different blocks need not
agree, so that there may be no best one."""
_MOST_TIMES_CHEAPEST = 5.0
"""While a tune searches, a block has two settings, and others as long as all of its trials together
take at most so many times the requests of the cheapest trial. So retries at many permits do not
spend what further decisions need."""
_NO_GAIN = 0.05
"""A setting is not tried for what it may gain if that is less than this share of the margin."""

_NO_COSTS: Mapping[str, float] = {}

SettingDifferenceOf = Callable[[Belief, Belief], SettingDifference]
"""Returns by how much the objective of the first setting is above that of the second."""


@dataclass(frozen=True)
class Candidate:
    """A setting that a tune can choose.

    `setting`: what it shares with settings that differ in their policy alone. `safety`: the rank of
    its policy, less is better. `attempts`: of a call at most.
    """

    name: str
    setting: Hashable
    permits: int
    safety: tuple[int, ...]
    attempts: int = 1


@dataclass(frozen=True)
class Required:
    """The requirements: the success rate, None to be near the best, and the margins."""

    asked: float | None
    success_margin: float
    margin: float


@dataclass(frozen=True)
class Standing:
    """Where a tune stands. `regret`: by how much another setting is expected to be better.

    `gains`: by how much each open setting is expected to be better than the leading one. With fewer
    requests, it is enough to be worse by less than the margin: it then takes the lead.
    `faster`: the open settings that are certainly better than the leading one if they meet the SLO.
    """

    leading: str
    regret: float
    ruled_out: tuple[TuneRuledOut, ...]
    open: tuple[str, ...]
    gains: Mapping[str, float]
    faster: frozenset[str] = frozenset()


def first_block(candidates: Sequence[Candidate]) -> list[str]:
    """Return the settings of the first block: few, many and most permits.

    The twin interpolates between permits, so the ends have to be measured. The lower quarter is
    left out: few permits take the longest, and are the least likely to be the best. Each has the
    safest policy, but the most permits have the one with the fewest attempts: beyond a limit, they
    show it as well, and retries there would take most of the requests of the block.
    """
    permits = sorted({one.permits for one in candidates})
    chosen = {
        permits[round((len(permits) - 1) * share)] for share in _shares(min(_FIRST, len(permits)))
    }
    found: dict[int, Candidate] = {}
    for one in sorted(candidates, key=lambda each: (each.permits, each.safety)):
        if one.permits in chosen:
            found.setdefault(one.permits, one)
    most = max(permits)
    if len(found) > 1:
        found[most] = min(
            (one for one in candidates if one.permits == most),
            key=lambda one: (one.attempts, one.safety),
        )
    return [one.name for one in found.values()]


def _shares(count: int) -> list[float]:
    """Return where the permits of the first block lie among all, from the lower quarter up."""
    if count == 1:
        return [1.0]
    return [0.25 + 0.75 * at / (count - 1) for at in range(count)]


def standing(
    known: Mapping[str, Belief], candidates: Mapping[str, Candidate], required: Required,
    clean: Collection[Hashable], costs: Mapping[str, float] = _NO_COSTS,
    difference: SettingDifferenceOf = belief_difference,
) -> Standing | None:  # fmt: skip
    """Return where the tune stands; None if nothing is known of any setting.

    `clean`: the settings, without their policies, that were measured and in which no attempt
    failed. Then a trial with one policy stands for all of them. `costs`: the requests of a trial,
    as far as they are known.

    Settings are ruled out as slower than the leading one even if that may still miss the SLO: then
    another one leads, and they are compared with that.
    """
    same = _copies(known, candidates, clean)
    able = {name: one for name, one in known.items() if name not in same}
    if not able:
        return None
    asked = required.asked
    if asked is None:
        asked = max(one.success for one in able.values()) - required.success_margin
    chance = {name: one.chance_of(asked) for name, one in able.items()}
    leading = _leading(able, chance, candidates, costs, required.margin, difference)
    limit = math.log1p(required.margin)
    ruled_out = [TuneRuledOut(cell=name, because="same", bound=1.0) for name in sorted(same)]
    open_ones: list[str] = []
    faster: set[str] = set()
    most = 0.0
    gains: dict[str, float] = {}
    for name, one in able.items():
        if one is leading:
            continue
        if chance[name] < _HOPELESS:
            bound = one.success_at(_CONFIDENCE)
            ruled_out.append(TuneRuledOut(cell=name, because="slo", bound=bound))
            continue
        apart = difference(one, leading)
        spread = math.sqrt(apart.variance)
        reach = _reach(apart.freedom) * spread
        low = apart.mean - reach
        if leading.trials and low > -limit:
            ruled_out.append(TuneRuledOut(cell=name, because="slower", bound=math.exp(low)))
            continue
        open_ones.append(name)
        if apart.mean + reach < -limit:
            faster.add(name)
        most = max(most, chance[name] * _expected_gain(-apart.mean, spread))
        ahead = limit if _cost_class(costs, name) < _cost_class(costs, leading.cell) else 0.0
        gains[name] = chance[name] * _expected_gain(ahead - apart.mean, spread)
    return Standing(
        leading.cell, 1 - chance[leading.cell] + most, tuple(ruled_out), tuple(open_ones), gains,
        frozenset(faster),
    )  # fmt: skip


def _leading(
    able: Mapping[str, Belief], chance: Mapping[str, float], candidates: Mapping[str, Candidate],
    costs: Mapping[str, float], margin: float, difference: SettingDifferenceOf,
) -> Belief:  # fmt: skip
    """Return the setting with the least expected loss. One that misses the SLO loses all.

    `chance`: that a setting meets the SLO. The objectives are compared with that of the setting
    which is the best of those that probably meet it. Of settings that are alike, it is the one with
    the fewest requests. They are alike if their losses differ by less than a part of the margin.
    One is also alike if its objective is worse by less than the margin, or than two standard
    errors: then they cannot be told apart, and the best of several estimates with an error is often
    the luckiest. (L. Breiman et al., Classification and Regression Trees, 1984, take one standard
    error.) One that was not measured has to be within both.
    """
    likely = [one for name, one in able.items() if chance[name] >= 0.5] or [
        max(able.values(), key=lambda one: chance[one.cell])
    ]
    best = min(likely, key=lambda one: one.mean)
    for _ in range(_MOST_TURNS):
        other = min(likely, key=lambda one: difference(one, best).mean if one != best else 0.0)
        if other == best or difference(other, best).mean >= 0:
            break
        best = other

    same = SettingDifference(0.0, 0.0, None)
    apart = {name: difference(one, best) if one != best else same for name, one in able.items()}
    losses = {
        name: 1 - chance[name] + chance[name] * max(0.0, math.expm1(apart[name].mean))
        for name in able
    }
    small, within = _ALIKE * margin, math.log1p(margin)
    limit = min(losses.values()) + small

    def is_alike(name: str) -> bool:
        if losses[name] <= limit:
            return True
        errors = _TOLD_APART * math.sqrt(apart[name].variance)
        close = max(errors, within) if able[name].trials else min(errors, within)
        is_safe = chance[name] >= max(chance[best.cell] - small, 0.5)
        return is_safe and apart[name].mean <= close

    alike = [one for name, one in able.items() if is_alike(name)]
    return min(
        alike,
        key=lambda one: (
            _cost_class(costs, one.cell),
            round(losses[one.cell], 9),
            candidates[one.cell].safety,
        ),
    )


def _cost_class(costs: Mapping[str, float], name: str) -> float:
    """Return a number that is equal for settings whose requests differ by less than a tenth."""
    return round(math.log(costs.get(name, 1.0)), 1)


def _copies(
    known: Mapping[str, Belief], candidates: Mapping[str, Candidate], clean: Collection[Hashable]
) -> set[str]:
    """Return the settings that another one stands for: the one with the most trials."""
    stands: dict[Hashable, Belief] = {}
    order = sorted(known.values(), key=lambda one: (-one.trials, candidates[one.cell].safety))
    for one in order:
        stands.setdefault(candidates[one.cell].setting, one)
    return {
        name
        for name, one in known.items()
        if candidates[name].setting in clean and stands[candidates[name].setting] is not one
    }


def _reach(freedom: float | None) -> float:
    """Return how many standard errors a bound is from the mean."""
    from scipy.special import stdtrit  # slow import

    return 1.959964 if freedom is None else float(stdtrit(freedom, _CONFIDENCE))


def _expected_gain(gain: float, spread: float) -> float:
    """Return the expected value of a normal gain where it is positive, else 0."""
    if spread <= 0:
        return max(gain, 0.0)
    at = gain / spread
    density = math.exp(-at * at / 2) / math.sqrt(2 * math.pi)
    return spread * density + gain * (1 + math.erf(at / math.sqrt(2))) / 2


def next_block(
    now: Standing, known: Mapping[str, Belief], candidates: Mapping[str, Candidate],
    costs: Mapping[str, float], margin: float, *, is_settling: bool,
) -> list[str]:  # fmt: skip
    """Return the settings of the next block: the leading one, and those that may be better.

    `costs`: the requests of a trial, as far as they are known; what may be gained is divided by
    them. `is_settling`: only what a proof lacks is left. Then each open setting is tried, those
    with the fewest trials first. Of settings that differ in their policy alone, one that has no
    trial is tried only if no other one is in the block: if nothing fails, one trial stands for all.

    Where the only question about the best of them is whether it meets the SLO, more trials of the
    leading setting would tell nothing, so the block has none if it was measured.
    """

    def worth(name: str) -> float:
        return now.gains[name] / costs.get(name, 1.0)

    if is_settling:
        order = sorted(now.open, key=lambda name: (known[name].trials, -worth(name)))
    else:
        order = [name for name in now.open if now.gains[name] > _NO_GAIN * margin]
        order.sort(key=lambda name: (-round(worth(name), 9), candidates[name].safety))
    is_about_slo = (
        not is_settling and bool(known[now.leading].trials) and order[:1] and order[0] in now.faster
    )
    chosen = [] if is_about_slo else [now.leading]
    for name in order:
        settings = {candidates[one].setting for one in chosen}
        if known[name].trials or candidates[name].setting not in settings:
            chosen.append(name)
    chosen = chosen[:TRIALS_A_BLOCK]
    if is_settling or not costs:
        return chosen
    limit = _MOST_TIMES_CHEAPEST * min(costs.values())
    first = chosen[: 1 if is_about_slo else 2]
    return first + affordable(chosen[2:], costs, limit - sum(costs.get(one, 0.0) for one in first))


def affordable(cells: Sequence[str], costs: Mapping[str, float], left: float) -> list[str]:
    """Return the first settings of a block whose trials fit into the requests that are left.

    Those that do not fit are left out. None at all if the first one, which leads, does not fit.
    `costs`: as in `next_block`.
    """
    usual = sum(costs.values()) / len(costs) if costs else 1.0
    chosen: list[str] = []
    for name in cells:
        cost = costs.get(name, usual)
        if cost <= left:
            chosen.append(name)
            left -= cost
        elif not chosen:
            return []
    return chosen
