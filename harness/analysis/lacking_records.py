"""Records that a run should have and has not, because a file was cut or lost.

The records say how many there are: the scenario the workflows of a trial and the trials of a cell,
each call its attempts, and each workflow that has a phase has calls. A partial run needs no more
trials, and its interrupted trials no more workflows. A run that is still written to, or was killed,
has no rule.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from harness.analysis.looks import growing_looks
from harness.analysis.selection import CellRecords, Dataset


def lacking_records(records: Dataset) -> tuple[str, ...]:
    """Return a sentence about each kind of record that lacks some; empty for a run that goes on."""
    status = records.run.status
    if status == "running":
        return ()
    missing = Counter[str]()
    for cell in records.cells.values():
        missing.update(dict(_missing_in(cell)))
    if status == "complete":
        missing["trial"] += _missing_trials(records)
    return tuple(
        f"{count:,} {kind}{'s' * (count > 1)} {'are' if count > 1 else 'is'} missing."
        for kind, count in missing.items()
        if count
    )


def _missing_in(cell: CellRecords) -> Iterator[tuple[str, int]]:
    """Yield how many records of each kind the trials of a cell lack, of calls at least."""
    planned = cell.scenario["load"]["workflows"]
    ended = Counter(workflow.repeat for workflow in cell.workflows)
    whole = [at for at, trial in cell.trials.items() if not trial.interrupted]
    if planned is not None:  # as it is but for a gateway
        yield "workflow", sum(max(0, planned - ended[repeat]) for repeat in whole)
    size = len(cell.groups)
    calls, attempts = (table.column("number") for table in (cell.calls, cell.attempts))
    said = np.bincount(calls, cell.calls.column("attempts"), size)
    found = np.bincount(attempts, minlength=size)
    succeeded = [one for one in cell.workflows if one.outcome == "ok" and one.phases]
    without = np.setdiff1d(cell.groups.numbers_of(succeeded), calls)
    yield "call", len(np.union1d(without, np.flatnonzero(found > said)))
    yield "attempt", int(np.maximum(said - found, 0).sum())


def _missing_trials(records: Dataset) -> int:
    """Return how many trials are missing that the plan of the run, or other records, ask for."""
    run = records.run
    seen = {
        name: {workflow.repeat for workflow in cell.workflows}
        for name, cell in records.cells.items()
    }
    if run.tuned:
        planned: dict[str, set[int]] = {name: set() for name in records.cells}
        for block in records.tune:
            for name in block.cells:
                planned[name].add(block.block)
    elif run.scenario["sweep"]["repeats"] != "auto":
        planned = {name: set(range(run.repeats)) for name in records.cells}
    else:
        ends = max((1 + max(repeats) for repeats in seen.values() if repeats), default=0)
        looks = growing_looks(run.repeats).repeats
        planned = {}
        for name, repeats in seen.items():
            mine = 1 + max(repeats) if repeats else ends  # it ran until a look dropped it
            planned[name] = set(range(next((at for at in looks if at >= mine), run.repeats)))
    return sum(len(planned[name] - cell.trials.keys()) for name, cell in records.cells.items())
