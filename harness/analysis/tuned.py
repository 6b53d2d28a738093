"""What a tune has proven: the settings that were measured, without those that a twin ruled out."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from harness.analysis.contenders import contenders_after, rules_of
from harness.analysis.decision import (
    Advantages,
    AdviceState,
    Contender,
    Judgement,
    Rules,
    look,
    success_proofs,
    with_unused_policies_as_one,
)
from harness.analysis.proofs import Proof
from harness.analysis.selection import Dataset
from harness.records.schema import CellInfo
from harness.records.tune_blocks import TuneBlock

_After = Callable[[int], Sequence[Contender]]
"""Returns what the first blocks say about the measured settings."""


def judge_tune(records: Dataset, repeats: int, blocks: Sequence[TuneBlock]) -> Judgement:
    """Return the decision after so many blocks. `blocks`: as in `decide_tune`."""
    return decide_tune(_measured(records), rules_of(records.run), repeats, blocks)


def dropped_by_looks(records: Dataset, repeats: int) -> Mapping[str, int]:
    """Return the settings that the looks after at most so many blocks have dropped.

    Only looks drop settings: they share the probability of error.
    """
    return _dropped(_measured(records), rules_of(records.run), repeats)


def _measured(records: Dataset) -> _After:
    objective = records.run.scenario["objective"]["minimise"]
    return lambda count: contenders_after(count, records.cells.values(), objective)


def _dropped(after: _After, rules: Rules, most: int) -> Mapping[str, int]:
    dropped: Mapping[str, int] = {}
    for count in rules.looks.repeats:
        if count <= most:
            dropped = look(after(count), rules, count, dropped).dropped
    return dropped


def decide_tune(
    after: _After, rules: Rules, repeats: int, blocks: Sequence[TuneBlock]
) -> Judgement:
    """Return the decision after so many blocks.

    `after`: returns what the first blocks say about the measured settings. `blocks`: the decisions
    of the tune. The last one says which settings need no more trials; they are no rivals. While a
    setting that was not measured may still be better, nothing is proven.
    """
    dropped = _dropped(after, rules, repeats - 1)
    contenders = list(after(repeats))
    ruled_out: set[str] = set()
    unknown: set[str] = set()
    if blocks:
        last = blocks[-1]
        ruled_out = {one.cell for one in last.ruled_out}
        unknown = set(last.open) - {one.name for one in contenders}
    rivals = [one for one in contenders if one.name not in ruled_out]
    every = success_proofs(contenders, rules, rules.looks.level(repeats))
    # Without an SLO, a setting that is no rival still shows how many workflows can be kept.
    found = look(rivals, rules, repeats, dropped, every if rules.asked is None else None)
    found = found._replace(proofs={**every, **found.proofs})
    if found.state == "proven" and not unknown:
        return found
    found = found._replace(cell=None, equal=(), is_final=False)
    return _about(blocks[-1].leading, found, rivals, rules, repeats) if blocks else found


def _about(
    leading: str, found: Judgement, rivals: Sequence[Contender], rules: Rules, repeats: int
) -> Judgement:
    """Return the decision with the setting that the tune expected to be the best as candidate.

    Of settings with few trials, the one that was measured best is often the luckiest.
    """
    contenders = with_unused_policies_as_one(rivals)
    able = [
        one
        for one in contenders
        if found.proofs[one.name] != "broken"
        and one.name not in found.dropped
        and one.objective
        and one.share
    ]
    mine = next((one for one in able if one.name == leading), None)
    if mine is None:
        state: AdviceState = "open" if found.candidate is None else "leading"
        return found._replace(state=state if found.state == "proven" else found.state)
    advantages = Advantages(able, rules.looks.level(repeats))
    settled = advantages.most(mine) <= math.log1p(rules.margin)
    rival = advantages.closest(mine)
    return found._replace(
        state="leading" if settled or found.proofs[leading] == "proven" else "open",
        candidate=leading,
        settled=settled,
        rival=None if rival is None else rival.name,
    )


def without_lead(found: Judgement) -> Judgement:
    """Return a decision whose lead is not proven, as its settings met different providers."""
    is_kept = found.candidate is not None and found.proofs[found.candidate] == "proven"
    return found._replace(
        state="leading" if is_kept else "open", cell=None, equal=(), settled=False, is_final=False
    )


_BETTER_AND_WORSE = {
    "makespan": ("faster", "slow"),
    "workflow_p95": ("faster for the slowest workflows", "slow for the slowest workflows"),
    "cost_per_successful_workflow": ("cheaper", "expensive"),
}


def bound_in_words(bound: float, objective: str) -> str:
    """Return what a lower bound of the objective of a setting says of it.

    `bound`: as a factor of the leading setting's. It is a predicate: `at least 1.14 times as slow`,
    `not faster`, `at most 2 % faster`.
    """
    better, worse = _BETTER_AND_WORSE[objective]
    if f"{bound:.3g}" in ("1", "0.999"):
        return f"not {better}"
    if bound < 1:
        return f"at most {100 * (1 - bound):.2g} % {better}"
    return f"at least {bound:.3g} times as {worse}"


def share_in_words(bound: float, asked: float | None) -> str:
    """Return what an upper bound of a success rate says: `at most 80 %`.

    `less than 90 %` where the bound is rounded to the required rate `asked`.
    """
    if asked is not None and f"{100 * bound:.0f}" == f"{100 * asked:.0f}":
        return f"less than {100 * asked:.4g} %"
    return f"at most {100 * bound:.0f} %"


def without_proof(last: TuneBlock, proofs: Mapping[str, Proof], measured: Collection[str]) -> str:
    """Return which settings trials do not prove to be worse than a proven one; empty if none is.

    `last`: the last decision. `proofs`: of the SLO, by setting. `measured`: the settings that have
    trials.
    """
    guessed = [
        one.cell
        for one in last.ruled_out
        if one.because != "same" and proofs.get(one.cell) != "broken"
    ]
    untried = sum(name not in measured for name in guessed)
    if not guessed:
        return ""
    if not untried:
        were = "it was" if len(guessed) == 1 else "they were"
        return (
            f"Its lead over {_settings(len(guessed))} is not proven by trials: {were} ruled out "
            "after a few."
        )
    tried = len(guessed) - untried
    after = f", and {tried} after a few trials" if tried else ""
    return (
        f"Its lead over {_settings(len(guessed))} is not proven by trials: a twin of the provider "
        f"ruled out {untried} without a trial{after}."
    )


def tune_story(
    blocks: Sequence[TuneBlock], measured: Sequence[CellInfo], objective: str, asked: float | None
) -> Iterator[str]:
    """Yield sentences about what a tune has measured and ruled out.

    `measured`: the settings that have trials. `asked`: the required success rate.
    """
    if not blocks:
        return
    last = blocks[-1]
    trials = sum(len(block.cells) for block in blocks)
    every = len(blocks[0].open)
    yield (
        f"{len(measured)} of {_settings(every)} were measured, in {trials} trials; "
        f"{last.attempts:,} requests."
    )
    names = {cell.id for cell in measured}
    others = [one for one in last.ruled_out if one.cell not in names]
    slower = sorted((one for one in others if one.because == "slower"), key=lambda one: one.bound)
    if slower:
        nearest = slower[0]
        yield (
            f"A twin of the provider ruled out {_settings(len(slower))} without a trial, by the "
            f"objective: the closest, {nearest.cell}, is "
            f"{bound_in_words(nearest.bound, objective)}."
        )
    failing = sorted((one for one in others if one.because == "slo"), key=lambda one: -one.bound)
    if failing:
        nearest = failing[0]
        yield (
            f"A twin of the provider ruled out {_settings(len(failing))} without a trial, by the "
            f"SLO: the closest, {nearest.cell}, keeps {share_in_words(nearest.bound, asked)} of "
            "the workflows."
        )
    same = sum(one.because == "same" for one in others)
    if same:
        do = "setting does" if same == 1 else "settings do"
        yield (
            f"{same:,} {do} the same as one that was measured: no attempt failed there, so the "
            "policy makes no difference."
        )
    unknown = sorted(set(last.open) - names)
    if unknown:
        yield f"Not measured, and not ruled out: {', '.join(unknown)}."


def _settings(count: int) -> str:
    return f"{count:,} setting{'s' * (count != 1)}"
