"""How much of the output and of the time was reasoning, by phase, and what cut it short."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from harness.analysis.cells import count_words
from harness.analysis.model import PhaseReasoning
from harness.analysis.selection import CellRecords
from harness.records.failures import OK
from harness.store.columns import AttemptTable
from harness.store.compact_records import ABSENT

SUFFICIENT = 0.99
"""The share of responses for which `PhaseReasoning.sufficient_tokens` suffices."""


def reasoning_by_phase(cells: Sequence[CellRecords]) -> tuple[PhaseReasoning, ...]:
    """Return what is known of the reasoning in each phase that has some, over all cells."""
    phases = dict.fromkeys(name for cell in cells for name in count_words(cell.attempts, "phase"))
    found = (_of_phase(phase, [_in_phase(cell.attempts, phase) for cell in cells])
             for phase in phases)  # fmt: skip
    return tuple(one for one in found if one is not None)


def _in_phase(attempts: AttemptTable, phase: str) -> AttemptTable:
    return attempts.take(attempts.where("phase", phase.__eq__))


def _of_phase(phase: str, parts: Sequence[AttemptTable]) -> PhaseReasoning | None:
    def column(name: str) -> NDArray[np.int64]:
        return np.concatenate([part.column(name) for part in parts]).astype(np.int64)

    def outcome(name: str) -> NDArray[np.bool_]:
        return np.concatenate([part.where("outcome", name.__eq__) for part in parts])

    began, answered = column("first_reasoning"), column("first_answer")
    output, reasoned = column("output"), column("reasoning")
    is_whole = outcome(OK)
    is_cut = outcome("truncated") & (began != ABSENT) & (answered == ABSENT)
    is_timed = is_whole & (began != ABSENT) & (answered != ABSENT)
    is_counted = is_whole & (output > 0) & (reasoned >= 0)
    if not is_timed.any() and not is_cut.any() and not reasoned[is_counted].any():
        return None
    took = column("done") - column("sent")
    tokens, seconds = int(output[is_counted].sum()), int(took[is_timed].sum())
    return PhaseReasoning(
        phase=phase,
        responses=int((is_whole | is_cut).sum()),
        share_of_tokens=int(reasoned[is_counted].sum()) / tokens if tokens else None,
        share_of_seconds=int((answered - began)[is_timed].sum()) / seconds if seconds else None,
        truncated=int(is_cut.sum()),
        sufficient_tokens=_sufficient(output[is_whole], output[is_cut]),
    )


def _sufficient(whole: NDArray[np.int64], cut: NDArray[np.int64]) -> int | None:
    """Return the tokens that suffice for `SUFFICIENT` of the responses; None if it is not known.

    A truncated response needs more than any number that was seen.
    """
    known = np.sort(whole[whole > 0])
    rank = math.ceil(SUFFICIENT * (len(known) + len(cut)))
    return int(known[rank - 1]) if 0 < rank <= len(known) else None
