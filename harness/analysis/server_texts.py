"""What the servers of a run said: the messages of refusals, and the models that answered."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from harness.analysis.selection import CellRecords
from harness.records.error_bodies import message_in
from harness.records.schema import Run
from harness.store.columns import AttemptTable


def messages_by_outcome(cells: Sequence[CellRecords]) -> dict[str, str]:
    """Return the most frequent message of the refusals with each outcome."""
    said = defaultdict[str, Counter[str]](Counter)
    for cell in cells:
        for (outcome, body), count in _pairs(cell.attempts, "outcome", "error_body"):
            said[outcome][message_in(body)] += count
    return {outcome: said[outcome].most_common(1)[0][0] for outcome in sorted(said)}


def models_that_answered(run: Run, cells: Sequence[CellRecords]) -> dict[str, dict[str, int]]:
    """Return the responses by the model that they name, for requested models with several."""
    seen = defaultdict[tuple[str, str], Counter[str]](Counter)
    for cell in cells:
        endpoint = run.cell_scenario(cell.info)["endpoint"]
        server = endpoint.get("base_url", ""), endpoint.get("model", "")
        for (outcome, model), count in _pairs(cell.attempts, "outcome", "response_model"):
            if outcome == "ok":
                seen[server][model] += count
    return {
        model: dict(counts.most_common()) for (_, model), counts in seen.items() if len(counts) > 1
    }


def _pairs(attempts: AttemptTable, one: str, other: str) -> Iterator[tuple[tuple[str, str], int]]:
    """Yield the words of two columns and their count, where the second is not None."""
    rows = np.flatnonzero(attempts.column(other))
    if len(rows):
        both = np.stack([attempts.column(one)[rows], attempts.column(other)[rows]])
        found, counts = np.unique(both, axis=1, return_counts=True)
        names = attempts.words.names
        for (first, second), count in zip(found.T.tolist(), counts.tolist(), strict=True):
            yield (names[first], names[second]), count
