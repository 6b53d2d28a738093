"""What a decision needs to know of the cells of a run, and its requirements."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from harness.analysis.cells import MeasuredCell, count_rows
from harness.analysis.decision import Contender, Judgement, Rules, look
from harness.analysis.looks import growing_looks, one_look, tune_looks
from harness.analysis.metrics import compared_metrics
from harness.analysis.selection import CellRecords, Dataset
from harness.analysis.settings import identity
from harness.records.failures import is_failure
from harness.records.schema import Run


def rules_of(run: Run) -> Rules:
    """Return the requirements of a run's scenario."""
    scenario, objective = run.scenario, run.scenario["objective"]
    is_auto = scenario["sweep"]["repeats"] == "auto"
    if run.tuned:
        looks = tune_looks(run.repeats)
    else:
        looks = growing_looks(run.repeats) if is_auto else one_look(run.repeats)
    return Rules(
        asked=scenario["slo"]["success_rate"],
        margin=objective.get("margin", MARGIN),
        success_margin=objective.get("success_margin", SUCCESS_MARGIN),
        looks=looks,
    )


MARGIN, SUCCESS_MARGIN = 0.02, 0.05
"""The margins of runs that were made before a scenario had them."""


def contenders_after(repeats: int, cells: Iterable[CellRecords], objective: str) -> list[Contender]:
    """Return what the first repeats say about each cell."""
    return [contender(MeasuredCell(cell.until(repeats)), objective) for cell in cells]


def judge_look(records: Dataset, repeats: int, dropped: Mapping[str, int]) -> Judgement:
    """Return the decision at a look during a run. `dropped`: by earlier looks."""
    objective = records.run.scenario["objective"]["minimise"]
    contenders = contenders_after(repeats, records.cells.values(), objective)
    return look(contenders, rules_of(records.run), repeats, dropped)


def contender(cell: MeasuredCell, objective: str) -> Contender:
    """Return what a decision needs to know of a cell."""
    compared, records = compared_metrics()[objective], cell.records
    is_carried = compared.is_carried_by(cell)
    values = compared.scaled(cell) if is_carried else {}
    good, tried = Counter[int](), Counter[int]()
    for workflow in records.workflows:
        tried[workflow.repeat] += 1
        good[workflow.repeat] += cell.rules.is_good(workflow)
    attempts = records.attempts
    is_refused = attempts.where("outcome", "rate_limited".__eq__)
    refused = count_rows(attempts.column("repeat")[is_refused])
    code = records.run.code.get(records.info.id)
    return Contender(
        name=records.info.id,
        objective={repeat: value for repeat, value in values.items() if value > 0},
        good=good,
        tried=tried,
        attempts=compared_metrics()["amplification"].by_repeat(cell),
        refusals={repeat: refused.get(repeat, 0) for repeat in tried},
        failures=int(attempts.where("outcome", is_failure).sum()),
        policy=records.info.retry,
        setting=identity(records.info, ("retry",)),
        permits=records.info.permits,
        safety=code.safety if code else (),
        simplicity=code.simplicity if code else (),
        excluded=is_carried and not values and bool(tried),
        has_few_bursts=cell.has_few_bursts,
    )
