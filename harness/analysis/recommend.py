"""Which measured cell to use, and what is proven about it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, assert_never

from harness.analysis.cells import MeasuredCell
from harness.analysis.code_snippet import failures_met, lines_to_paste
from harness.analysis.contenders import contender, contenders_after, rules_of
from harness.analysis.decision import (
    Contender,
    Judgement,
    decide,
    preference,
    with_unused_policies_as_one,
)
from harness.analysis.looks import FEWEST_REPEATS
from harness.analysis.metrics import compared_metrics
from harness.analysis.model import (
    Figure,
    Preference,
    Recommendation,
    Rival,
    SettlesWith,
    TuneChange,
)
from harness.analysis.proofs import Proof
from harness.analysis.provider_change import provider_change
from harness.analysis.question import clients_of
from harness.analysis.settling import RunState, settles_with
from harness.analysis.statistics import over_repeats
from harness.analysis.tuned import decide_tune, tune_story, without_lead, without_proof
from harness.records.schema import Run
from harness.records.tune_blocks import TuneBlock


class Advice:
    """What a run says about its cells: `recommendation`, and `proofs` of the SLO by cell.

    `lacking`: the records that are missing, in sentences; then nothing is proven. `tune`: the
    decisions of a tune.
    """

    def __init__(
        self, run: Run, cells: Sequence[MeasuredCell], lacking: Sequence[str] = (),
        tune: Sequence[TuneBlock] = (),
    ) -> None:  # fmt: skip
        self._run, self._lacking = run, tuple(lacking)
        self._objective: str = run.scenario["objective"]["minimise"]
        self._cells = {cell.records.info.id: cell for cell in cells}
        every = [contender(cell, self._objective) for cell in cells]
        self._contenders = {one.name: one for one in with_unused_policies_as_one(every)}
        self._rules = rules_of(run)
        self._repeats = 1 + max((at for cell in cells for at in cell.records.trials), default=-1)
        self._tune = tuple(tune)
        self._changed: TuneChange | None = None
        if run.tuned:
            self._decision = decide_tune(self._after, self._rules, self._repeats, self._tune)
            records = {name: cell.records for name, cell in self._cells.items()}
            self._changed = provider_change(records, every)
            if self._changed is not None:
                self._decision = without_lead(self._decision)
        else:
            self._decision = decide(self._after, self._rules, self._repeats)

    def _after(self, repeats: int) -> list[Contender]:
        if repeats >= self._repeats:
            return list(self._contenders.values())
        return contenders_after(
            repeats, [cell.records for cell in self._cells.values()], self._objective
        )

    @property
    def decision(self) -> Judgement:
        """What was decided."""
        return self._decision

    @property
    def changed(self) -> TuneChange | None:
        """How the provider changed while a tune ran; None if nothing shows that it did."""
        return self._changed

    @property
    def contenders(self) -> Mapping[str, Contender]:
        """What the decision knew of each cell, by its id."""
        return self._contenders

    @property
    def proofs(self) -> Mapping[str, Proof]:
        """Whether each cell is proven to meet the SLO, or not to."""
        if self._lacking:
            return dict.fromkeys(self._cells, "open")
        return self._decision.proofs

    @property
    def dropped_before_the_end(self) -> Mapping[str, int]:
        """The cells that ran no further after a look, each with the repeats of that look."""
        found = {} if self._lacking else self._decision.dropped
        return {name: count for name, count in found.items() if count < self._repeats}

    def recommendation(self) -> Recommendation:
        """Return the recommendation in words."""
        found, run = self._decision, self._run
        if self._lacking:
            return Recommendation(state="open", objective=self._objective, because=self._lacking)
        if run.serves_requests:
            return Recommendation(state="open", objective=self._objective, because=(_SERVED,))
        if len(clients_of(run)) > 1:
            return Recommendation(
                state="open", objective=self._objective, because=(_CLIENTS_DIFFER,)
            )
        because = [*_simulated(run), *self._end(found)]
        if found.candidate is None:
            return Recommendation(
                state="open", objective=self._objective, because=(*because, self._nothing())
            )
        because += [*self._objective_of(found.candidate), self._success(found.candidate)]
        because += [*self._excluded(found), *self._lead(found), *self._equal(found)]
        if not found.exercised:
            because.append(
                "Retry policy: not exercised. No attempt failed with these settings, so all "
                "policies are equal there; the safest of them was chosen."
            )
        settles = None if found.state == "proven" else self._settles(found)
        if self._changed is not None:
            settles = _by_a_new_tune(found)
            because.append(_of_two_providers(self._changed))
        elif settles is not None:
            because.append(_settled_by(settles, is_tune=run.tuned))
        records = self._cells[found.candidate].records
        return Recommendation(
            state=found.state,
            cell=found.cell,
            candidate=found.candidate,
            objective=self._objective,
            because=tuple(because),
            lead_over_next=self._lead_figure(found),
            rivals=self._rivals(found),
            settles_with=settles,
            retry_exercised=found.exercised,
            code=lines_to_paste(run, records.info, failures_met(records.attempts)),
        )

    def _end(self, found: Judgement) -> list[str]:
        """Return why a run ended that adds repeats until the recommendation is settled."""
        run, looks = self._run, self._rules.looks.repeats
        if run.tuned:
            return list(tune_story(self._tune, run.cells, self._objective, self._rules.asked))
        if run.scenario["sweep"]["repeats"] != "auto":
            return []
        number = {count: f"look {at} of {len(looks)}" for at, count in enumerate(looks, 1)}
        repeats = _count(self._repeats, "repeat")
        if found.is_final and self._repeats in number and run.stopped is None:
            said = [f"Settled after {repeats} ({number[self._repeats]})."]
        elif self._repeats == run.repeats and run.stopped is None:
            said = [f"Not settled after {repeats}, the most that sweep.max_repeats allows."]
        else:
            said = [
                f"Not settled: the run ended early, in repeat {self._repeats} of {run.repeats}."
            ]
        for count in looks:
            names = [name for name, at in self.dropped_before_the_end.items() if at == count]
            if names:
                after = f"{_count(count, 'repeat')} ({number[count]})"
                said.append(f"Dropped after {after}: {', '.join(names)}.")
        return said

    def _objective_of(self, name: str) -> list[str]:
        compared = compared_metrics()[self._objective]
        value = compared.figure(self._cells[name])
        if value is None:
            return []
        seconds = "scenario seconds" if self._run.has_simulator else "seconds"
        unit = seconds if compared.metric.unit == "s" else "USD"
        return [f"Its {compared.words} is {_amount(value, unit)}."]

    @property
    def _succeeded(self) -> str:
        is_limited = any(cell.rules.latency is not None for cell in self._cells.values())
        return "succeeded in time" if is_limited else "succeeded"

    def _success(self, name: str) -> str:
        one = self._contenders[name]
        good, tried = sum(one.good.values()), sum(one.tried.values())
        text, asked = f"{good} of its {tried} workflows {self._succeeded}", self._rules.asked
        proof = self.proofs[name]
        if asked is None:
            points = _percent(self._rules.success_margin).replace(" %", " points")
            rate = f"a success rate at most {points} below that of the best setting"
            match proof:
                case "proven":
                    return f"{text}, which proves {rate}."
                case "open" | "broken":
                    return f"{text}, too few to prove {rate}."
                case _:
                    assert_never(proof)
        match proof:
            case "proven":
                return f"{text}, which proves the required rate of {_percent(asked)}."
            case "open" | "broken":
                if one.share < asked:
                    return f"{text}; {_percent(asked)} is required."
                return f"{text}, too few to prove the required rate of {_percent(asked)}."
            case _:
                assert_never(proof)

    def _lead(self, found: Judgement) -> Iterator[str]:
        """Yield what is known of its lead, and what trials do not prove of it."""
        guessed = ""
        if self._tune and found.state == "proven":
            guessed = without_proof(self._tune[-1], found.proofs, self._cells)
        if found.rival is not None or not guessed:
            yield self._closest(found)
        if guessed:
            yield guessed

    def _closest(self, found: Judgement) -> str:
        if found.rival is None:
            if self._run.tuned and len(self._contenders) > 1:
                return "No other setting is left to compare it with: each one is ruled out."
            return "No other setting can be compared with it."
        figure, repeats = self._lead_figure(found), _count(self._common(found), "repeat")
        if figure is None:
            return f"It has no repeat in common with {found.rival}."
        others = "remaining" if "broken" in found.proofs.values() else "other"
        takes = f"{self._takes(figure.value)} ({_interval(figure, repeats)})"
        if self._common(found) < FEWEST_REPEATS:
            return (
                f"The closest of the {others} settings, {found.rival}, {takes}; at least "
                f"{FEWEST_REPEATS} repeats are needed to prove a lead."
            )
        margin = _percent(self._rules.margin)
        if not found.settled:
            return (
                f"One of the {others} settings may be better by more than {margin}: {found.rival} "
                f"{takes}."
            )
        if figure.low is not None and figure.low > 1:
            return f"The closest of the {others} settings, {found.rival}, {takes}."
        return (
            f"None of the {others} settings is better by more than {margin}: the closest, "
            f"{found.rival}, {takes}."
        )

    def _takes(self, ratio: float) -> str:
        """Return how the objective of a cell compares with the candidate's."""
        is_cost = self._objective.startswith("cost")
        verb, much, less = ("costs", "much", "") if is_cost else ("takes", "long", " time")
        if _is_one(ratio):
            return f"{verb} as {much}"
        if ratio < 1:
            return f"{verb} {_percent(1 - ratio)} less{less}"
        return f"{verb} {_number(ratio)} times as {much}"

    def _equal(self, found: Judgement) -> list[str]:
        equal = [rival for rival in self._rivals(found) if rival.place == "equal"]
        if not equal:
            return []
        each = [f"{one.cell} ({_PREFERRED[one.preferred_by or 'objective']})" for one in equal]
        return [
            f"Equal within {_percent(self._rules.margin)}, and why it was not chosen: "
            f"{', '.join(each)}."
        ]

    def _rivals(self, found: Judgement) -> tuple[Rival, ...]:
        """Return the other cells that may meet the SLO, the nearest first."""
        assert found.candidate is not None, "it has rivals"
        mine, every = self._contenders[found.candidate], list(self._contenders.values())
        rivals = []
        for one in every:
            may_meet = found.proofs[one.name] != "broken" and one.share > 0
            ratio = over_repeats(self._ratios(mine.name, one.name)) if may_meet else None
            if one is mine or ratio is None:
                continue
            apart = math.log(ratio.value)
            place: Literal["equal", "behind", "ahead"] = "behind" if apart > 0 else "ahead"
            if abs(apart) <= math.log1p(self._rules.margin):
                place = "equal"
            why = preference(mine, one, found, every) if place == "equal" else None
            rivals.append(Rival(cell=one.name, ratio=ratio, place=place, preferred_by=why))
        return tuple(sorted(rivals, key=lambda rival: abs(math.log(rival.ratio.value))))

    def _excluded(self, found: Judgement) -> list[str]:
        broken = sum(proof == "broken" for proof in found.proofs.values())
        if not broken:
            return []
        why = "is excluded: it does" if broken == 1 else "are excluded: they do"
        return [f"{broken} of {_count(len(found.proofs), 'setting')} {why} not meet the SLO."]

    def _nothing(self) -> str:
        objective, asked = self._objective, self._rules.asked
        every = list(self._contenders.values())
        if any(one.objective for one in every):
            most = max(every, key=lambda one: one.share)
            if asked is None or most.share == 0:
                return f"No workflow {self._succeeded}."
            return (
                f"No setting meets the SLO: at most {_percent(most.share)} of "
                f"workflows met it, in {most.name}; {_percent(asked)} is required."
            )
        if objective == "cost_per_successful_workflow":
            if all(self._run.cell_price(name) is None for name in self._contenders):
                return "No price is known, so no cost can be compared."
            return "No setting has a success in every repeat and a cost above 0."
        if objective == "workflow_p95":
            return (
                "A 95th percentile needs 72 workflows in a setting, 13 in each repeat; no setting "
                "has so many."
            )
        if any(one.tried for one in every):
            return "No trial ran to its end, or none took any time, so no makespan can be compared."
        return "No trial has ended, so there is nothing to compare."

    def _lead_figure(self, found: Judgement) -> Figure | None:
        if found.candidate is None or found.rival is None:
            return None
        return over_repeats(self._ratios(found.candidate, found.rival))

    def _ratios(self, mine: str, other: str) -> list[float]:
        one, two = self._contenders[mine].objective, self._contenders[other].objective
        return [two[at] / one[at] for at in sorted(one.keys() & two.keys())]

    def _settles(self, found: Judgement) -> SettlesWith:
        state = RunState(self._repeats, can_go_on=self._run.status != "complete")
        return settles_with(self._contenders, self._rules, found, state)

    def _common(self, found: Judgement) -> int:
        assert found.candidate is not None, "it leads"
        assert found.rival is not None, "it leads somebody"
        return len(self._ratios(found.candidate, found.rival))


_SERVED = (
    "A gateway has one setting, so there is nothing to choose. `harness fit` makes a twin of the "
    "provider from its run, `harness import` a workload of its traces, and `harness tune` finds "
    "the best setting for that workload at the twin (docs/gateway.md)."
)
_CLIENTS_DIFFER = (
    "The settings differ in endpoint.client, which is no setting of a program. So none of them is "
    "recommended; a run with one client recommends a setting."
)

_PREFERRED: Mapping[Preference, str] = {
    "safety": "no attempt failed, and its policy is less safe",
    "proof": "it lacks a proof",
    "losses": "more workflows lost",
    "attempts": "more attempts",
    "refusals": "more 429s",
    "permits": "more permits",
    "simplicity": "a less simple policy",
    "objective": "slightly worse in the objective",
}


def _settled_by(settles: SettlesWith, *, is_tune: bool) -> str:
    match settles.missing:
        case "slo":
            what = "the success rate"
        case "lead":
            what = "the lead"
        case "both":
            what = "the success rate and the lead"
        case _:
            assert_never(settles.missing)
    noun, new = (
        ("block", "A new tune") if is_tune else ("repeat", "A new run with repeats = 'auto'")
    )
    if settles.max_repeats is None or settles.workflows is None:
        return f"No practical number of {noun}s would prove {what}."
    how = f"Going on with this {'tune' if is_tune else 'run'}" if settles.by_resuming else new
    about = "at least" if settles.at_least else "at most"
    return (
        f"{how} would prove {what} with {about} {_count(settles.max_repeats, noun)} "
        f"({_count(settles.workflows, 'workflow')} in each setting), if they go on as they did."
    )


def _by_a_new_tune(found: Judgement) -> SettlesWith:
    """Return what is missing where a provider changed: more blocks of this tune are no proof."""
    missing: Literal["lead", "both"] = "lead" if found.state == "leading" else "both"
    return SettlesWith(missing=missing, max_repeats=None, workflows=None)


def _of_two_providers(change: TuneChange) -> str:
    return (
        f"The provider changed between block {change.before.blocks[-1] + 1} and block "
        f"{change.after.blocks[0] + 1}: {change.cell} differs by more than trials vary. So the "
        "settings were compared at two providers, and no lead is proven."
    )


def _simulated(run: Run) -> list[str]:
    if not run.simulated:
        return []
    if run.marked_answers == "some":
        return ["Some answers were simulated: the result applies to no real model."]
    return ["The run was simulated: the result applies to the simulated provider."]


def _interval(ratio: Figure, repeats: str) -> str:
    """Return the interval of a ratio; a distance from 1 where the ratio is written as 1."""
    if ratio.low is None or ratio.high is None:
        return f"{repeats}, too few for an interval"
    interval = f"95 % interval of the ratio {_number(ratio.low)} to {_number(ratio.high)}"
    if _is_one(ratio.value):
        apart = max(abs(ratio.low - 1), abs(ratio.high - 1))
        interval = f"95 % interval within {100 * apart:.1g} %" if apart else "exactly"
    return f"{interval}, paired over {repeats}"


def _is_one(ratio: float) -> bool:
    return f"{ratio:.3g}" in ("1", "0.999")


def _amount(figure: Figure, unit: str) -> str:
    text = f"{_number(figure.value)} {unit}"
    if figure.low is None or figure.high is None:
        return text
    return f"{text} (95 % interval {_number(figure.low)} to {_number(figure.high)})"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
