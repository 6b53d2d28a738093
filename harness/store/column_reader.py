"""Reads a run directory into columns."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np

from harness.records.schema import Attempt, Call, Run, Trial, Workflow
from harness.records.server_sample import ServerSample
from harness.records.tune_blocks import TuneBlock, valid_decisions
from harness.store.column_values import Words
from harness.store.columns import AttemptTable, CallTable, GrowingTable
from harness.store.compact_records import line_type
from harness.store.packed_histograms import UnusualTextError
from harness.store.record_checks import each_once, of_known_trials
from harness.store.run_directory import (
    FILES,
    TRIALS_FOLDER,
    Records,
    decode_lines,
    each,
    no_collector,
    opened,
    read_provider,
    read_run,
)
from harness.store.trial_files import read_tables, trial_files

_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_OF_CALL = ("cell", "repeat", "workflow", "execution", "phase", "branch", "call")
_KEYS: dict[type, tuple[str, ...]] = {
    AttemptTable: (*_OF_CALL, "attempt"),
    CallTable: _OF_CALL,
}
_BATCH_BYTES = 1_000_000
_ROOM = 1.02
"""How much longer than expected a column is made at first."""


def read_columns(directory: Path) -> Records:
    """Read a whole run directory, attempts and calls as tables. Raises StorageError."""
    run = read_run(directory)
    words = Words()
    with no_collector():
        workflows = list(each_once(_of(directory, Workflow, run)))
        phases = {phase.name for workflow in workflows for phase in workflow.phases}
        phases |= {info.name for info in run.phases}
        if (directory / TRIALS_FOLDER).exists():
            attempts, calls = read_tables(trial_files(directory, run), words)
        else:
            attempts = _read(directory, AttemptTable, Attempt, run, phases, words)
            calls = _read(directory, CallTable, Call, run, phases, words)
        return Records(
            run,
            attempts,
            calls,
            workflows,
            list(each_once(_of(directory, Trial, run))),
            read_provider(directory, run, small=True),
            tuple(_of(directory, ServerSample, run)),
            valid_decisions(each(directory, TuneBlock)),
        )


_T = TypeVar("_T", AttemptTable, CallTable)
_K = TypeVar("_K", Trial, Workflow, ServerSample)


def _of(directory: Path, kind: type[_K], run: Run) -> Iterator[_K]:
    return of_known_trials(each(directory, kind), run, directory / FILES[kind])


def _read(
    directory: Path, table: type[_T], kind: Any, run: Run, phases: Collection[str], words: Words
) -> _T:
    """Read the records of one kind, a megabyte at a time."""
    path, number = directory / FILES[kind], 1
    growing: GrowingTable[Any] = GrowingTable(table, words)
    growing.add([])
    if path.exists():
        decode = msgspec.json.Decoder(line_type(kind, run, phases)).decode
        with opened(path) as file:
            size = path.stat().st_size
            while lines := file.readlines(_BATCH_BYTES):
                expected = max(size / file.tell(), 1.0) * _ROOM
                if not lines[-1].endswith(b"\n"):
                    del lines[-1]  # incomplete
                try:
                    growing.add(list(map(decode, lines)), expected)
                except (msgspec.DecodeError, UnicodeDecodeError, UnusualTextError):
                    # Unknown words, or an error that names its line.
                    records = decode_lines(lines, path, kind, number)
                    known = of_known_trials(records, run, path, number)
                    growing.add(list(known), expected)
                number += len(lines)
    found: _T = growing.table()
    return _rows_once(found)


def _rows_once(table: _T) -> _T:
    """Return a table with the first row of each key; most tables have no other."""
    columns = [table.column(name) for name in _KEYS[type(table)]]
    mixed = np.zeros(len(table), np.uint64)
    for column in columns:
        mixed = (mixed ^ column.astype(np.int64).view(np.uint64)) * _FACTOR
        mixed ^= mixed >> np.uint64(29)
    _, first, number = np.unique(mixed, return_index=True, return_inverse=True)
    if len(first) == len(table):
        return table
    earlier = first[number]
    is_copy = earlier != np.arange(len(table))
    for column in columns:
        is_copy &= column == column[earlier]
    kind: type[_T] = type(table)
    return kind.of(table.records(np.flatnonzero(~is_copy)), table.words)
