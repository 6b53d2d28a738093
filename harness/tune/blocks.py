"""The blocks of trials of a tune, each decided from the records of those before it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from harness.analysis.contenders import contenders_after, rules_of
from harness.analysis.decision import Contender, Rules, unused_settings
from harness.analysis.looks import growing_looks
from harness.analysis.selection import Dataset
from harness.analysis.settings import identity
from harness.analysis.settling import RunState, settles_with
from harness.analysis.tuned import dropped_by_looks, judge_tune
from harness.bench.cells import source
from harness.bench.race import TrialBatch
from harness.bench.resume import RunProgress
from harness.records.errors import InputError
from harness.records.schema import CellInfo, PolicyCode, Run
from harness.records.tune_blocks import TRIALS_A_BLOCK, TuneBlock, TuneOutlook, valid_decisions
from harness.store.run_directory import each, no_collector
from harness.tune.beliefs import Belief, Knowledge, belief_difference
from harness.tune.choice import (
    Candidate,
    Required,
    affordable,
    first_block,
    next_block,
    standing,
)
from harness.tune.expected import Forecast, Forecasts
from harness.tune.forecasts import forecasts
from harness.tune.given_twin import first_block_at_twin, given_forecasts

_SETTLING = 0.5
"""A tune begins to settle when the leading setting is expected to be within this share of the
margin of the best."""
_FORECAST_UNTIL = 2
"""The twin is fitted again before each of the first blocks, and later before a few, as long as
settings are open: a twin can tell no more of the leading setting than its own trials."""
_HOPELESS_BLOCKS = 2.0
"""A tune gives up if a proof would probably take more than so many times the blocks that it may
have. Few blocks do not show that number well, and late blocks are small."""
_FEWEST_FOR_OPEN = 7
"""After fewer blocks, how many a proof takes is not known well enough to give up."""

Tell = Callable[[TuneBlock], None]


@dataclass
class TunePlan:
    """Plans the trials of a tune. `tell`: is called with each decision, after it was recorded."""

    tell: Tell

    def __call__(
        self, begun: RunProgress, directory: Path, record: Callable[[TuneBlock], None]
    ) -> Iterator[TrialBatch]:
        """Yield each block when the trials of those before it have ended.

        Blocks that an earlier session decided are completed first. If it ended because of the
        budget, the next block is decided anew. `record`: writes a decision.
        """
        run = begun.run
        every = {cell.id: cell for cell in run.cells}
        most = run.repeats
        known = Forecasts()
        decided = list(valid_decisions(each(directory, TuneBlock)))
        if decided and decided[-1].over_budget:
            decided.pop()
        number = 0
        while True:
            if number < len(decided):
                block = decided[number]
            else:
                with no_collector():
                    block, known = _decide(directory, run, decided, known)
                record(block)
                decided.append(block)
                self.tell(block)
            if block.end:
                return
            trials = [
                (every[name], block.block)
                for name in block.cells
                if (name, block.block) not in begun.whole
            ]
            if trials:
                yield TrialBatch(
                    trials, frozenset(every), TRIALS_A_BLOCK * (most - number - 1), block.rest_s
                )
            number += 1


def _decide(
    directory: Path, run: Run, decided: Sequence[TuneBlock], known: Forecasts
) -> tuple[TuneBlock, Forecasts]:
    """Return the decision before the next block, and the forecasts that it was made from.

    `decided`: the blocks before it. `known`: the latest forecasts, which may be renewed.
    """
    candidates, number = candidates_of(run), len(decided)
    if number == 0 and run.twin is not None:
        given = _given_forecasts(run, candidates)
        if given.of:
            return _first_at_twin(run, candidates, given), given
    if number == 0:
        cells = _ordered(run, 0, first_block(list(candidates.values())))
        first = TuneBlock(
            block=0, cells=cells, leading="", regret=1.0, open=tuple(candidates), ruled_out=(),
            outlooks=(), attempts=0,
            reason="a twin needs trials with few, with more and with the most permits",
        )  # fmt: skip
        return first, known
    records = Dataset.read(directory)
    is_first = number <= _FORECAST_UNTIL or not known.of
    is_due = is_first or number in growing_looks(run.repeats).repeats
    if not is_first:
        block = _decision(records, number, candidates, known)
        is_settled = block.leading and not block.open
        is_due = is_due and not (is_settled or block.end == "proven")
    if is_due:
        known = _forecasts(records, run, candidates, number)
        block = _decision(records, number, candidates, known)
    return msgspec.structs.replace(block, rest_s=run.time_scale * known.recovery_s), known


def _first_at_twin(run: Run, candidates: Mapping[str, Candidate], given: Forecasts) -> TuneBlock:
    """Return the first decision of a tune that starts from a twin. It rules nothing out."""
    rules, believed = rules_of(run), Knowledge(given.of, {}).beliefs()
    required = Required(rules.asked, rules.success_margin, rules.margin)
    costs = {name: one.requests for name, one in given.of.items()}
    now = standing(believed, candidates, required, (), costs, belief_difference)
    assert now is not None, "there are forecasts"
    chosen = first_block_at_twin(now, candidates)
    return TuneBlock(
        block=0, cells=_ordered(run, 0, chosen), leading=now.leading, regret=now.regret,
        open=tuple(name for name in candidates if name != now.leading), ruled_out=(),
        outlooks=tuple(_outlook(one, given.of[one.cell]) for one in believed.values()),
        attempts=0,
        reason="the best setting by the given twin, the most permits, and what may gain most",
        rest_s=run.time_scale * given.recovery_s,
    )  # fmt: skip


def _decision(
    records: Dataset, number: int, candidates: Mapping[str, Candidate], known: Forecasts
) -> TuneBlock:
    """Return the decision before a block, from all that is known."""
    run, rules = records.run, rules_of(records.run)
    contenders = {
        one.name: one
        for one in contenders_after(number, records.cells.values(), _objective_of(run))
    }
    dropped = dropped_by_looks(records, number)
    knowledge = Knowledge(known.of, contenders)
    believed = {name: one for name, one in knowledge.beliefs().items() if name not in dropped}
    required = Required(rules.asked, rules.success_margin, rules.margin)
    clean = unused_settings(list(contenders.values()))
    costs = {name: one.requests for name, one in known.of.items()}
    now = standing(believed, candidates, required, clean, costs, knowledge.difference)
    attempts = len(records.attempts)
    if now is None:
        return _with_nothing_known(run, number, contenders, attempts)
    block = TuneBlock(
        block=number, cells=(), leading=now.leading, regret=now.regret, open=now.open,
        ruled_out=now.ruled_out,
        outlooks=tuple(_outlook(one, known.of.get(one.cell)) for one in believed.values()),
        attempts=attempts, reason="", work=_work_of_blocks(known),
    )  # fmt: skip
    end = _reason_to_end(records, contenders, rules, block)
    if end:
        return _with(block, (), "", end)
    is_settling = now.regret <= _SETTLING * rules.margin and now.leading in contenders
    chosen = next_block(now, believed, candidates, costs, rules.margin, is_settling=is_settling)
    budget = run.scenario["budget"].get("attempts")
    if budget is not None:
        left = budget - attempts
        chosen = affordable(chosen, costs, left)
        if not chosen:
            end = (
                f"budget.attempts = {budget} leaves no room for another trial; spent: {attempts} "
                "attempts"
            )
            return msgspec.structs.replace(_with(block, (), "", end), over_budget=True)
    return _with(
        block, _ordered(run, number, chosen), _reason(now.leading, chosen, is_settling), ""
    )


def _with_nothing_known(
    run: Run, number: int, contenders: Mapping[str, Contender], attempts: int
) -> TuneBlock:
    """Return a block while no setting has a value of the objective.

    The trials are repeated if workflows succeed: a percentile needs more of them than a trial has.
    """
    able = [name for name, one in contenders.items() if sum(one.good.values()) and not one.excluded]
    cells = _ordered(run, number, able) if number < run.repeats else ()
    end = "" if cells else "no setting can be recommended: each one misses the SLO"
    if able and not cells:
        end = f"no setting has enough workflows for its percentile after {number} blocks"
    reason = "the percentile of the objective needs more workflows than a trial has"
    return TuneBlock(
        block=number, cells=cells, leading="", regret=1.0, open=cells, ruled_out=(), outlooks=(),
        attempts=attempts, reason=reason if cells else "", end=end,
    )  # fmt: skip


def _objective_of(run: Run) -> str:
    objective: str = run.scenario["objective"]["minimise"]
    return objective


def _with(block: TuneBlock, cells: tuple[str, ...], reason: str, end: str) -> TuneBlock:
    return msgspec.structs.replace(block, cells=cells, reason=reason, end=end)


def _reason_to_end(
    records: Dataset, contenders: Mapping[str, Contender], rules: Rules, block: TuneBlock
) -> str:
    """Return why the tune ends before this block; empty if it goes on."""
    number, most = block.block, records.run.repeats
    if number in rules.looks.repeats:
        found = judge_tune(records, number, [block])
        if found.state == "proven":
            return "proven"
        if found.candidate is not None and number >= _FEWEST_FOR_OPEN:
            ruled_out = {one.cell for one in block.ruled_out}
            rivals = {name: one for name, one in contenders.items() if name not in ruled_out}
            needed = settles_with(rivals, rules, found, RunState(number, True)).max_repeats
            if needed is None or needed > _HOPELESS_BLOCKS * most:
                blocks = "no practical number of" if needed is None else f"about {needed}"
                return f"open: {blocks} blocks would prove it; tune.max_blocks allows {most}"
    if number >= most:
        return f"open after {number} blocks, the most that tune.max_blocks allows"
    return ""


def _reason(leading: str, cells: Sequence[str], is_settling: bool) -> str:
    others = len(cells) - 1
    if leading not in cells:
        return "it is faster than the leading setting; trials ask whether it meets the SLO"
    if not is_settling:
        return "the leading setting, and those that may gain most" if others else "it leads so far"
    if others:
        return "the leading setting, and those that are not ruled out"
    return "its success rate is not proven yet"


def candidates_of(run: Run) -> dict[str, Candidate]:
    """Return all settings that a tune can choose, by id."""
    return {cell.id: _candidate(cell, run.code.get(cell.id, PolicyCode())) for cell in run.cells}


def _candidate(cell: CellInfo, code: PolicyCode) -> Candidate:
    """Return a setting that can be chosen. A policy that hedges acts although nothing fails."""
    shared = identity(cell, () if code.hedges else ("retry",))
    return Candidate(cell.id, shared, cell.permits, code.safety, code.attempts)


def _forecasts(
    records: Dataset, run: Run, candidates: Mapping[str, Candidate], number: int
) -> Forecasts:
    """Return the forecasts of the candidates; none if a twin cannot play this workflow."""
    groups = {name: one.setting for name, one in candidates.items()}
    try:
        return forecasts(records, run.cells, groups, _metrics_of(run), run.seed + number)
    except InputError:
        return Forecasts()


def _given_forecasts(run: Run, candidates: Mapping[str, Candidate]) -> Forecasts:
    """Return what the given twin expects; nothing if it cannot play this workflow."""
    groups = {name: one.setting for name, one in candidates.items()}
    try:
        return given_forecasts(run, groups, _metrics_of(run))
    except InputError:
        return Forecasts()


def _metrics_of(run: Run) -> tuple[str, str]:
    """Return the objective, and the share of good workflows."""
    limited = run.scenario["slo"]["workflow_latency"] is not None
    return _objective_of(run), "in_time_rate" if limited else "success_rate"


def _ordered(run: Run, number: int, cells: Sequence[str]) -> tuple[str, ...]:
    """Return the settings of a block in a random order, which depends on the seed alone."""
    random = source(run.seed, "tune", number)
    return tuple(random.sample(list(cells), len(cells)))


def _work_of_blocks(known: Forecasts) -> tuple[float, ...]:
    """Return the work of each block that the forecasts know, over their mean."""
    work = next((one.work for one in known.of.values()), {})
    mean = math.fsum(work.values()) / max(len(work), 1)
    return tuple(math.exp(work[at] - mean) for at in sorted(work))


def _outlook(one: Belief, forecast: Forecast | None) -> TuneOutlook:
    """Return what is expected of a setting, for the work of all repeats so far."""
    work = [] if forecast is None else list(forecast.work.values())
    mean = one.mean + (math.fsum(work) / len(work) if work else 0.0)
    half = 1.959964 * math.sqrt(one.variance)
    return TuneOutlook(
        cell=one.cell, value=math.exp(mean), low=math.exp(mean - half),
        high=math.exp(mean + half), success=one.success,
        attempts=0.0 if forecast is None else forecast.requests,
        success_low=one.success_at(0.025), success_high=one.success_at(0.975),
    )  # fmt: skip
