"""Which measured cell to use, and what is proven about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, assert_never

import numpy as np

from harness.analysis.cells import MeasuredCell
from harness.analysis.code_snippet import failures_met, lines_to_paste
from harness.analysis.contenders import contender, contenders_after, rules_of
from harness.analysis.decision import (
    Contender,
    Judgement,
    decide,
    design_effects,
    with_unused_policies_as_one,
)
from harness.analysis.looks import FEWEST_REPEATS
from harness.analysis.metrics import compared_metrics
from harness.analysis.model import Figure, Recommendation, SettlesWith
from harness.analysis.proofs import (
    Proof,
    repeats_to_lead,
    workflows_to_prove,
)
from harness.analysis.statistics import over_repeats
from harness.records.schema import Run


class Advice:
    """What a run says about its cells: `recommendation`, and `proofs` of the SLO by cell."""

    def __init__(self, run: Run, cells: Sequence[MeasuredCell]) -> None:
        self._run = run
        self._objective: str = run.scenario["objective"]["minimise"]
        self._cells = {cell.records.info.id: cell for cell in cells}
        every = [contender(cell, self._objective) for cell in cells]
        self._contenders = {one.name: one for one in with_unused_policies_as_one(every)}
        self._rules = rules_of(run)
        self._repeats = 1 + max((at for cell in cells for at in cell.records.trials), default=-1)
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
    def proofs(self) -> Mapping[str, Proof]:
        """Whether each cell is proven to meet the SLO, or not to."""
        return self._decision.proofs

    @property
    def dropped_before_the_end(self) -> Mapping[str, int]:
        """The cells that ran no further after a look, each with the repeats of that look."""
        found = self._decision.dropped
        return {name: count for name, count in found.items() if count < self._repeats}

    def recommendation(self) -> Recommendation:
        """Return the recommendation in words."""
        found, run = self._decision, self._run
        because = [*_simulated(run), *self._end(found)]
        if found.candidate is None:
            return Recommendation(
                state="open", objective=self._objective, because=(*because, self._nothing())
            )
        because += [*self._objective_of(found.candidate), self._success(found.candidate)]
        because += [*self._excluded(found), self._lead(found), *self._equal(found)]
        if not found.exercised:
            because.append(
                "Retry policy: not exercised. No attempt failed with these settings, so nothing is "
                "known about retries; the code contains the safest policy that was tried."
            )
        settles = None if found.state == "proven" else self._settles(found)
        if settles is not None:
            because.append(_settled_by(settles))
        records = self._cells[found.candidate].records
        return Recommendation(
            state=found.state,
            cell=found.cell,
            candidate=found.candidate,
            objective=self._objective,
            because=tuple(because),
            lead_over_next=self._lead_figure(found),
            settles_with=settles,
            retry_exercised=found.exercised,
            code=lines_to_paste(run, records.info, failures_met(records.attempts)),
        )

    def _end(self, found: Judgement) -> list[str]:
        """Return why a run ended that adds repeats until the recommendation is settled."""
        run, looks = self._run, self._rules.looks.repeats
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
            rate = f"a success rate at most {points} below that of the best cell"
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

    def _lead(self, found: Judgement) -> str:
        if found.rival is None:
            return "No other cell can be compared with it."
        figure, repeats = self._lead_figure(found), _count(self._common(found), "repeat")
        if figure is None:
            return f"It has no repeat in common with {found.rival}."
        verb = "costs" if self._objective.startswith("cost") else "takes"
        much = "much" if self._objective.startswith("cost") else "long"
        takes = f"{verb} {_number(figure.value)} times as {much}"
        others = "remaining" if "broken" in found.proofs.values() else "other"
        if figure.low is None or figure.high is None:
            takes += f" ({repeats}, too few for an interval)"
        else:
            interval = f"95 % interval {_number(figure.low)} to {_number(figure.high)}"
            takes += f" ({interval}, paired over {repeats})"
        if self._common(found) < FEWEST_REPEATS:
            return (
                f"The closest of the {others} cells, {found.rival}, {takes}; at least "
                f"{FEWEST_REPEATS} repeats are needed to prove a lead."
            )
        margin = _percent(self._rules.margin)
        if not found.settled:
            return (
                f"One of the {others} cells may be better by more than {margin}: {found.rival} "
                f"{takes}."
            )
        if figure.low is not None and figure.low > 1:
            return f"The closest of the {others} cells, {found.rival}, {takes}."
        return (
            f"None of the {others} cells is better by more than {margin}: the closest, "
            f"{found.rival}, {takes}."
        )

    def _equal(self, found: Judgement) -> list[str]:
        others = [name for name in found.equal if name != found.cell]
        if not others:
            return []
        return [
            f"Equal within {_percent(self._rules.margin)}: {', '.join(others)}. The recommended "
            "one has fewer attempts or, if these are equal, fewer 429s, fewer permits or the "
            "simpler policy, in this order."
        ]

    def _excluded(self, found: Judgement) -> list[str]:
        broken = sum(proof == "broken" for proof in found.proofs.values())
        if not broken:
            return []
        why = "is excluded: it does" if broken == 1 else "are excluded: they do"
        return [f"{broken} of {_count(len(found.proofs), 'cell')} {why} not meet the SLO."]

    def _nothing(self) -> str:
        objective, asked = self._objective, self._rules.asked
        every = list(self._contenders.values())
        if any(one.objective for one in every):
            most = max(every, key=lambda one: one.share)
            if asked is None or most.share == 0:
                return f"No workflow {self._succeeded}."
            return (
                f"No cell meets the SLO: at most {_percent(most.share)} of "
                f"workflows met it, in {most.name}; {_percent(asked)} is required."
            )
        if objective == "cost_per_successful_workflow":
            if all(self._run.cell_price(name) is None for name in self._contenders):
                return "No price is known, so no cost can be compared."
            return "No cell has a success in every repeat and a cost above 0."
        if objective == "workflow_p95":
            return (
                "A 95th percentile needs 72 workflows in a cell, 13 in each repeat; no cell has "
                "so many."
            )
        if any(one.tried for one in every):
            return (
                "No trial ran without interruption and took any time; no makespan can be compared."
            )
        return "No trial has ended, so there is nothing to compare."

    def _lead_figure(self, found: Judgement) -> Figure | None:
        if found.candidate is None or found.rival is None:
            return None
        return over_repeats(self._ratios(found.candidate, found.rival))

    def _ratios(self, mine: str, other: str) -> list[float]:
        one, two = self._contenders[mine].objective, self._contenders[other].objective
        return [two[at] / one[at] for at in sorted(one.keys() & two.keys())]

    def _common(self, found: Judgement) -> int:
        assert found.candidate is not None, "it leads"
        assert found.rival is not None, "it leads somebody"
        return len(self._ratios(found.candidate, found.rival))

    def _settles(self, found: Judgement) -> SettlesWith | None:
        """Return what would prove what is missing, if the cells go on as they did."""
        assert found.candidate is not None, "there is a candidate"
        mine = self._contenders[found.candidate]
        tried = sum(mine.tried.values())
        each = max(1, round(tried / max(1, len(mine.tried))))
        has_slo = found.proofs[mine.name] == "proven"
        success: int | None = 0
        if not has_slo:
            effect = design_effects(list(self._contenders.values()))[mine.name]
            asked = self._rules.asked
            if asked is None:
                best = max(one.share for one in self._contenders.values())
                asked = best - self._rules.success_margin
            whole = workflows_to_prove(mine.share, asked, effect, self._last_level)
            success = None if whole is None else max(1, -(-(whole - tried) // each))
        lead: int | None = 0
        if not found.settled:
            lead = self._repeats_to_lead(mine, found)
        missing: Literal["slo", "lead", "both"] = "lead" if has_slo else "slo"
        if not has_slo and not found.settled:
            missing = "both"
        repeats = None if success is None or lead is None else max(success, lead, 1)
        return SettlesWith(
            missing=missing,
            repeats=repeats,
            workflows=None if repeats is None else repeats * each,
        )

    @property
    def _last_level(self) -> float:
        return self._rules.looks.level(self._rules.looks.repeats[-1])

    def _repeats_to_lead(self, mine: Contender, found: Judgement) -> int | None:
        rivals = [
            name
            for name in self._contenders
            if name != mine.name
            and name not in found.dropped
            and self._contenders[name].objective
            and self._contenders[name].share
        ]
        needed = 1
        for name in rivals:
            ratios = self._ratios(mine.name, name)
            if len(ratios) < FEWEST_REPEATS:
                needed = max(needed, FEWEST_REPEATS - len(ratios))
                continue
            whole = repeats_to_lead(
                -np.log(ratios), self._rules.margin, self._last_level / len(rivals)
            )
            if whole is None:
                return None
            needed = max(needed, whole - len(ratios))
        return needed


def _settled_by(settles: SettlesWith) -> str:
    match settles.missing:
        case "slo":
            what = "the success rate"
        case "lead":
            what = "the lead"
        case "both":
            what = "the success rate and the lead"
        case _:
            assert_never(settles.missing)
    if settles.repeats is None or settles.workflows is None:
        return f"No practical number of repeats would prove {what}."
    return (
        f"About {_count(settles.repeats, 'more repeat')} "
        f"({_count(settles.workflows, 'more workflow')} in each cell) would prove {what}, if the "
        "cells go on as they did."
    )


def _simulated(run: Run) -> list[str]:
    if not run.simulated:
        return []
    if run.marked_answers == "some":
        return ["Some answers were simulated: the result applies to no real model."]
    return ["The run was simulated: the result applies to the simulated provider."]


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
