"""What a tune did and what it cost, from its decisions and the records of its trials."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from msgspec.structs import replace

from harness.analysis.decision import Contender, Judgement
from harness.analysis.model import Figure, TuneChange, TunedSetting, TuneStep, TuneSummary
from harness.analysis.selection import CellRecords, Dataset
from harness.analysis.statistics import over_repeats
from harness.records.schema import CellInfo
from harness.records.tune_blocks import TuneBlock, TuneOutlook

FULL_GRID_REPEATS = 5
"""The repeats of the full grid that a tune is compared with: docs/statistics.md asks for five."""


def tune_summary(
    records: Dataset, contenders: Mapping[str, Contender], found: Judgement,
    changed: TuneChange | None,
) -> TuneSummary | None:  # fmt: skip
    """Return what a tune did; None for another run.

    `contenders`: what its trials say of each setting that was tried. `found`: the decision about
    them. `changed`: how the provider changed meanwhile.
    """
    if not records.run.tuned:
        return None
    return TuneSummary(
        settings=tuple(_settings(records, contenders, found)),
        steps=tuple(_steps(records.tune, len(records.attempts))),
        attempts=len(records.attempts),
        grid_repeats=FULL_GRID_REPEATS,
        grid_attempts=_attempts_of_grid(records),
        changed=changed,
    )


def _settings(
    records: Dataset, contenders: Mapping[str, Contender], found: Judgement
) -> Iterator[TunedSetting]:
    known, reasons = _latest_outlooks(records.tune), _reasons(records.tune, found)
    work = next((block.work for block in reversed(records.tune) if block.work), ())
    candidate = None if found.candidate is None else contenders[found.candidate]
    base = None
    if candidate is not None:
        base = _for_all_work(candidate, work) if work else _as_it_was(candidate)
    for info in records.candidates:
        setting = TunedSetting(info=info)
        own, outlook, reason = contenders.get(info.id), known.get(info.id), reasons.get(info.id)
        if own is not None:
            ratios = [] if candidate is None else _paired_ratios(candidate, own)
            measured = None if base is None else over_repeats([base.value * one for one in ratios])
            setting = replace(
                setting,
                trials=len(own.tried),
                against=over_repeats(ratios),
                measured=base if own is candidate else measured or _for_all_work(own, work),
            )
        if outlook is not None:
            setting = replace(
                setting,
                expected=Figure(value=outlook.value, low=outlook.low, high=outlook.high),
                success=Figure(
                    value=outlook.success, low=outlook.success_low, high=outlook.success_high
                ),
            )
        yield setting if reason is None else replace(setting, **reason._asdict())


def _paired_ratios(mine: Contender, other: Contender) -> list[float]:
    """Return the objective of `other` over that of `mine`, in the repeats that both have."""
    one, two = mine.objective, other.objective
    return [two[at] / one[at] for at in sorted(one.keys() & two.keys())]


def _for_all_work(one: Contender, work: Sequence[float]) -> Figure | None:
    """Return the objective for the work of all blocks; None where the work is not known."""
    return over_repeats([value / work[at] for at, value in one.objective.items() if at < len(work)])


def _as_it_was(one: Contender) -> Figure | None:
    return over_repeats(one.objective.values())


def _latest_outlooks(blocks: Sequence[TuneBlock]) -> dict[str, TuneOutlook]:
    """Return what was last expected of each setting, for the work of all blocks.

    What was expected at an earlier block was for the work until then. The change of what is
    expected of the leading setting is that of the work.
    """
    every = [{one.cell: one for one in block.outlooks} for block in blocks]
    leading = blocks[-1].leading if blocks else ""
    latest = next((each[leading] for each in reversed(every) if leading in each), None)
    known: dict[str, TuneOutlook] = {}
    for each in every:
        then = each.get(leading)
        by = 1.0 if then is None or latest is None else latest.value / then.value
        known |= {
            name: replace(one, value=one.value * by, low=one.low * by, high=one.high * by)
            for name, one in each.items()
        }
    return known


class _Reason(NamedTuple):
    """Why a setting needs no more trials: some fields of `TunedSetting`."""

    ruled_out: Literal["slower", "slo", "same", "dropped"]
    bound: float | None
    since: int


def _reasons(blocks: Sequence[TuneBlock], found: Judgement) -> dict[str, _Reason]:
    """Return why settings need no more trials at the end."""
    reasons: dict[str, _Reason] = {}
    for block in blocks:
        reasons = {
            one.cell: _Reason(
                one.because, one.bound,
                reasons[one.cell].since if one.cell in reasons else block.block,
            )
            for one in block.ruled_out
        }  # fmt: skip
    dropped = {name: _Reason("dropped", None, count) for name, count in found.dropped.items()}
    return {**reasons, **dropped}


def _steps(blocks: Sequence[TuneBlock], attempts: int) -> Iterator[TuneStep]:
    """Yield the decisions. `attempts`: of the whole run."""
    after = [*(block.attempts for block in blocks[1:]), attempts]
    for block, until in zip(blocks, after, strict=True):
        yield TuneStep(
            block=block.block,
            cells=block.cells,
            left=len(block.open) + bool(block.leading),
            attempts=until - block.attempts,
            reason=block.reason,
            end=block.end,
        )


def _attempts_of_grid(records: Dataset) -> int:
    """Return about how many attempts all settings would take; 0 where a setting's are not known."""
    trials = list(_attempts_of_trials(records))
    return round(FULL_GRID_REPEATS * sum(trials)) if all(trials) else 0


def _attempts_of_trials(records: Dataset) -> Iterator[float]:
    """Yield how many attempts one trial of each setting takes; 0 if it is not known.

    As measured, without trials that were interrupted or resumed; or else as the twin of the tune
    expects; without a twin, one for each call, if a workflow has succeeded.
    """
    warm_up: int = records.run.scenario["load"]["warmup_calls"] or 0
    calls: dict[str, list[float]] = {}
    for cell in records.cells.values():
        calls.setdefault(_workflow_of(cell.info), []).extend(_calls_of_successes(cell))
    every = [count for each in calls.values() for count in each]
    expected = {one.cell: one.attempts for block in records.tune for one in block.outlooks}
    for info in records.candidates:
        tried = records.cells.get(info.id)
        repeats = [] if tried is None else [trial.repeat for trial in tried.whole_trials()]
        if tried is not None and repeats:
            made = np.isin(tried.attempts.column("repeat"), repeats)
            yield float(made.sum()) / len(repeats) + warm_up
        elif expected.get(info.id):
            yield expected[info.id]
        else:
            counts = calls.get(_workflow_of(info)) or every
            workflows: int = records.run.cell_scenario(info)["load"]["workflows"]
            yield warm_up + workflows * float(np.mean(counts)) if counts else 0.0


def _workflow_of(info: CellInfo) -> str:
    """Return a key of the swept settings that decide how many calls a workflow makes."""
    own = {key: value for key, value in info.settings.items() if key.startswith("workflow.")}
    return json.dumps(own, sort_keys=True)


def _calls_of_successes(cell: CellRecords) -> list[float]:
    """Return the number of calls of each workflow that succeeded: others may have ended early."""
    numbers = cell.groups.numbers_of([one for one in cell.workflows if one.outcome == "ok"])
    made = np.bincount(cell.calls.column("number"), minlength=len(cell.groups))
    return [float(count) for count in made[numbers]]
