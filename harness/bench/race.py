"""Which trials of a run come next, and when there are none left.

A run with a fixed number of repeats is one batch of trials. With `sweep.repeats = "auto"` a batch
ends at each look: cells that the look drops run no further, and the run ends when the
recommendation is settled. Pure functions: time and processes do not matter here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from harness.analysis.looks import Looks
from harness.records.keys import TrialKey
from harness.records.schema import CellInfo
from harness.store.run_directory import no_collector

if TYPE_CHECKING:
    from harness.analysis.decision import Judgement


class Judge(Protocol):
    """Decides at a look from what the repeats before it have shown."""

    def __call__(self, repeats: int, dropped: Mapping[str, int], /) -> Judgement:
        """Return the decision. `dropped`: the cells that earlier looks have dropped."""


class TrialBatch(NamedTuple):
    """The trials until the next look: cell and repeat of each, in their order.

    They do not depend on each other. `cells`: the ids of the cells that are not dropped. `later`:
    how many trials there can be after this batch. `rest_s`: seconds between the end of one trial
    at a real endpoint and the start of the next, in which its limits a minute recover.
    """

    trials: Sequence[tuple[CellInfo, int]]
    cells: frozenset[str]
    later: int
    rest_s: float = 0.0


def trial_batches(
    blocks: Sequence[Sequence[CellInfo]],
    looks: Looks,
    finished: Collection[TrialKey],
    judge: Judge,
) -> Iterator[TrialBatch]:
    """Yield each batch when the trials of those before it have ended.

    `blocks`: the cells of each repeat, in their order. `finished`: trials of earlier sessions.
    `judge` is called at each look but the last, after which there are no trials in any case.
    """
    dropped: Mapping[str, int] = {}
    begin = 0
    for count in looks.repeats:
        cells = frozenset(cell.id for cell in blocks[begin]) - dropped.keys()
        trials = [
            (cell, repeat)
            for repeat in range(begin, count)
            for cell in blocks[repeat]
            if cell.id in cells and (cell.id, repeat) not in finished
        ]
        if trials:
            yield TrialBatch(trials, cells, len(cells) * (looks.repeats[-1] - count))
        if count == looks.repeats[-1]:
            return
        found = judge(count, dropped)
        if found.is_final:
            return
        dropped, begin = found.dropped, count


def judge_records(directory: Path) -> Judge:
    """Return what decides from the records in a run directory."""

    def judge(repeats: int, dropped: Mapping[str, int]) -> Judgement:
        # Imported late: most runs have no look before their end.
        from harness.analysis.contenders import judge_look
        from harness.analysis.selection import Dataset

        with no_collector():
            return judge_look(Dataset.read(directory), repeats, dropped)

    return judge
