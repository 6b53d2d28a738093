"""Which measured cell to use, how far it leads, and whether the lead is significant."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from harness.analysis.cells import MeasuredCell, count_successes
from harness.analysis.code_snippet import lines_to_paste
from harness.analysis.metrics import compared_metrics
from harness.analysis.model import Figure, Recommendation
from harness.analysis.selection import CellRecords
from harness.analysis.statistics import over_repeats, repeats_needed, share
from harness.records.schema import Run

SLACK = 0.01
"""How far the success rate of a cell may be below the highest one, without a required rate.

A cell whose workflows fail fast has a short makespan."""

FEWEST_REPEATS = 3
"""The spread of two repeats has one degree of freedom, which is too little for a decision."""


class _Entry(NamedTuple):
    """A cell that can be recommended.

    `good`: the share of its workflows that meet the SLO. `values`: its objective by repeat, in
    scenario seconds or USD, less is better; `typical`: their geometric mean.
    """

    cell: MeasuredCell
    good: Figure
    values: dict[int, float]
    typical: Figure

    @property
    def name(self) -> str:
        return self.cell.records.info.id


def recommend(run: Run, cells: Sequence[MeasuredCell]) -> Recommendation:
    """Return the cell with the smallest objective among those that meet the SLO, and why.

    A cell meets it when the share of its workflows that succeed (within `slo.workflow_latency`,
    if set) reaches `slo.success_rate`; where that is not set, when no cell succeeds more often by
    `SLACK`. The lead is the geometric mean over repeats of (the next cell's objective / its own),
    with a paired t on the logs; it is evidence when its interval lies above 1.
    """
    objective = run.scenario["objective"]["minimise"]
    said = ["The run was simulated: the result applies to the simulated provider."] * run.simulated
    entries = [entry for cell in cells if (entry := _entry(cell, objective)) is not None]
    if not entries:
        because = (*said, _too_few(run, cells, objective))
        return Recommendation(objective=objective, because=because)
    asked = run.scenario["slo"]["success_rate"]
    most = max(entries, key=lambda entry: entry.good.value)
    bar = most.good.value - SLACK if asked is None else asked
    able, ranked_over = _ranked(
        [entry for entry in entries if entry.good.value >= bar and entry.good.value > 0]
    )
    if not able:
        return Recommendation(objective=objective, because=(*said, _nobody(most, asked)))
    best = able[0]
    said += [_best(best, objective, run.simulated), _kept(best, asked)]
    if len(able) < len(entries):
        said.append(_left_out(entries, able, bar))
    if len(able) > 1 and any(len(entry.values) > ranked_over for entry in able):
        said.append(_partly(ranked_over))
    code = lines_to_paste(run, best.cell.records.info)
    if len(able) == 1:
        said.append("There is no other cell to compare it with.")
        return Recommendation(cell=best.name, objective=objective, because=tuple(said), code=code)
    after = able[1]
    common = sorted(best.values.keys() & after.values.keys())
    ratios = [after.values[repeat] / best.values[repeat] for repeat in common]
    lead = over_repeats(ratios)
    enough = lead is not None and lead.low is not None and lead.low > 1
    needed = None if enough else _more_workflows(best.cell.records, ratios)
    said.append(_lead(after, lead, len(ratios), objective))
    if not enough:
        said.append(_undecided(needed))
    return Recommendation(
        cell=best.name,
        objective=objective,
        because=tuple(said),
        lead_over_next=lead,
        evidence="enough" if enough else "not enough",
        more_workflows_needed=needed,
        code=code,
    )


def _entry(cell: MeasuredCell, objective: str) -> _Entry | None:
    compared = compared_metrics()[objective]
    if not compared.is_carried_by(cell):
        return None
    good = share(*count_successes(cell.records.workflows, cell.rules.is_good))
    values = {repeat: value for repeat, value in compared.scaled(cell).items() if value > 0}
    typical = over_repeats(values.values())
    if good is None or typical is None:
        return None
    return _Entry(cell, good, values, typical)


def _ranked(able: Sequence[_Entry]) -> tuple[list[_Entry], int]:
    """Return the cells, the best first, and over how many repeats they were ranked.

    Over those that all of them have: one repeat may be harder than another. Where they have none in
    common (0), each over its own.
    """
    common = set.intersection(*(set(entry.values) for entry in able)) if able else set()

    def typical(entry: _Entry) -> float:
        shared = over_repeats(entry.values[repeat] for repeat in sorted(common))
        return (shared or entry.typical).value

    return sorted(able, key=typical), len(common)


def _more_workflows(cell: CellRecords, ratios: Sequence[float]) -> int | None:
    """Return about how many more workflows each of two cells needs to show their lead."""
    per_repeat = math.ceil(len(cell.workflows) / max(len(cell.trials), 1))
    if len(ratios) < 2:
        return (FEWEST_REPEATS - len(ratios)) * per_repeat
    repeats = repeats_needed(ratios)
    if repeats is None:
        return None
    # The interval was not narrow enough with the repeats there are, so it takes one more at least.
    return max(repeats - len(ratios), 1) * per_repeat


def _too_few(run: Run, cells: Sequence[MeasuredCell], objective: str) -> str:
    if objective == "cost_per_successful_workflow":
        if all(run.cell_price(cell.records.info.id) is None for cell in cells):
            return "No price is known, so no cost can be compared."
        return "No cell has a success in every repeat and a cost above 0."
    if objective == "workflow_p95":
        return "A 95th percentile needs 72 workflows in a cell; no cell has that many."
    if any(cell.records.workflows for cell in cells):
        return "No trial ran without interruption and took any time; no makespan can be compared."
    return "No trial has ended, so there is nothing to compare."


def _best(best: _Entry, objective: str, simulated: bool) -> str:
    seconds = "scenario seconds" if simulated else "seconds"
    unit = "USD" if objective == "cost_per_successful_workflow" else seconds
    words = compared_metrics()[objective].words
    return (
        f"{best.name} has the smallest {words}: {_amount(best.typical, unit)} "
        f"(geometric mean over {_count(len(best.values), 'repeat')})."
    )


def _kept(best: _Entry, asked: float | None) -> str:
    tried = len(best.cell.records.workflows)
    text = f"{round(best.good.value * tried)} of its {tried} workflows met the SLO"
    low = best.good.low or 0.0
    if asked is None:
        return f"{text}; the scenario sets no success rate."
    if low >= asked:
        return f"{text}, which shows a rate of at least {_percent(asked)}, as required."
    return f"{text}, which shows a rate of at least {_percent(low)}; {_percent(asked)} is required."


def _left_out(entries: Sequence[_Entry], able: Sequence[_Entry], bar: float) -> str:
    return (
        f"Excluded: {len(entries) - len(able)} of {_count(len(entries), 'cell')}, in which fewer "
        f"than {_percent(max(bar, 0.0))} of workflows met the SLO."
    )


def _partly(ranked_over: int) -> str:
    if not ranked_over:
        return "The cells have no repeat in common; each is ranked by its own repeats."
    repeats = _count(ranked_over, "repeat")
    return f"Not every cell ran every repeat; the ranking uses the {repeats} that all cells have."


def _nobody(most: _Entry, asked: float | None) -> str:
    if asked is None:
        return "No workflow met the SLO."
    return (
        f"At most {_percent(most.good.value)} of workflows met the SLO, in {most.name}; "
        f"{_percent(asked)} is required."
    )


def _lead(after: _Entry, lead: Figure | None, repeats: int, objective: str) -> str:
    by = "costs {} times as much" if objective.startswith("cost") else "takes {} times as long"
    if lead is None:
        return f"It has no repeat in common with the next cell, {after.name}."
    text = f"The next cell, {after.name}, {by.format(_number(lead.value))}"
    over = _count(repeats, "repeat")
    if lead.low is None or lead.high is None:
        return f"{text} in {over}; this is too few for an interval."
    interval = f"95 % interval {_number(lead.low)} to {_number(lead.high)}"
    return f"{text} ({interval}, paired over {over})."


def _undecided(needed: int | None) -> str:
    if needed is None:
        return "The difference is too small to show with a practical number of workflows."
    return f"This does not show a difference; about {needed} more workflows in each cell may do so."


def _amount(figure: Figure, unit: str) -> str:
    text = f"{_number(figure.value)} {unit}"
    if figure.low is None or figure.high is None:
        return text
    return f"{text}, 95 % interval {_number(figure.low)} to {_number(figure.high)}"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
