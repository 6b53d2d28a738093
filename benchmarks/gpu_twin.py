"""Predictions of a twin of a real server, beside what was recorded there.

    python -m benchmarks.gpu_twin RUN_LOW RUN_HIGH

Both are run directories of the same server; RUN_HIGH sweeps permits, at two counts or more. A twin
is fitted to RUN_LOW and one cell of RUN_HIGH, and predicts every other cell of RUN_HIGH, with the
lengths that were recorded there. Prints output tokens a second, the median time to first token and
the makespan, with the interval in which the recorded mean is expected. Limits, as the difference
from the recorded mean: with a higher cell among those fitted to, 10 % of the tokens a second and of
the makespan and 15 % of the time to first token; without, 15 % of the tokens a second and of the
makespan, while the time to first token is extrapolated and has only to be in its interval. Ends
with 1 if a value is outside its limit or its interval.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from harness.store.column_reader import read_columns
from harness.store.column_values import Words
from harness.store.columns import AttemptTable, CallTable
from harness.store.run_directory import Records
from harness.twin.check_prediction import compare_with
from harness.twin.predict import predict
from harness.twin.prediction import CheckedValue

WITHIN = {"output_rate": 0.10, "ttft_p50": 0.15, "makespan": 0.10}
BEYOND = {"output_rate": 0.15, "ttft_p50": None, "makespan": 0.15}


def only_cell(records: Records, name: str) -> Records:
    """Return the records of one cell, as if the run had no others."""
    attempts, calls = records.attempts, records.calls
    assert isinstance(attempts, AttemptTable), "records are read in columns"
    assert isinstance(calls, CallTable), "records are read in columns"
    words = Words()
    (info,) = (cell for cell in records.run.cells if cell.id == name)
    scenario = dict(records.run.scenario)
    scenario["sweep"] = {**scenario["sweep"], "permits": [info.permits], "mode": [info.mode]}
    return records._replace(
        run=msgspec.structs.replace(records.run, cells=(info,), scenario=scenario),
        attempts=AttemptTable.of(attempts.take(attempts.where("cell", name.__eq__)), words),
        calls=CallTable.of(calls.take(calls.where("cell", name.__eq__)), words),
        workflows=[one for one in records.workflows if one.cell == name],
        trials=[one for one in records.trials if one.cell == name],
    )


def is_within(value: CheckedValue) -> bool:
    """Return whether a predicted value is in its interval and within its limit."""
    most = (BEYOND if value.beyond else WITHIN)[value.metric]
    return value.is_covered and (most is None or abs(value.error) <= most)


def main(arguments: Sequence[str]) -> int:
    """Print the predictions and return the exit code."""
    if len(arguments) != 2:
        print("usage: python -m benchmarks.gpu_twin RUN_LOW RUN_HIGH", file=sys.stderr)
        return 2
    low, high = (read_columns(Path(name)) for name in arguments)
    cells = {cell.permits: only_cell(high, cell.id) for cell in high.run.cells}
    print("permits  low and     metric        predicted  expected            recorded    off")
    holds = True
    for source, fitted_to in sorted(cells.items()):
        for permits, recorded in sorted(cells.items()):
            if permits == source:
                continue
            checked = compare_with(predict([low, fitted_to], of=recorded), recorded)
            for value in checked.values:
                if value.metric not in WITHIN:
                    continue
                holds &= is_within(value)
                mark = " beyond" if value.beyond else ""
                print(
                    f"{permits:>7}  {source:>7}     {value.metric:<12} {value.predicted:>10.4g}  "
                    f"{value.low:>8.4g} to {value.high:<8.4g}{value.measured:>8.4g} "
                    f"{value.error:>+7.1%}  {'yes' if is_within(value) else 'NO'}{mark}",
                    flush=True,
                )
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
