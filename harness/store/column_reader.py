"""Reads a run directory into columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import msgspec

from harness.records.schema import Attempt, Call, Trial, Workflow
from harness.records.server_sample import ServerSample
from harness.store.column_values import Words
from harness.store.columns import AttemptTable, CallTable, GrowingTable
from harness.store.compact_records import line_type
from harness.store.packed_histograms import UnusualTextError
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

_BATCH_BYTES = 1_000_000
_ROOM = 1.02
"""How much longer than expected a column is made at first."""


def read_columns(directory: Path) -> Records:
    """Read a whole run directory, attempts and calls as tables. Raises StorageError."""
    run = read_run(directory)
    words = Words()
    with no_collector():
        workflows = list(each(directory, Workflow))
        phases = {phase.name for workflow in workflows for phase in workflow.phases}
        phases |= {info.name for info in run.phases}
        if (directory / TRIALS_FOLDER).exists():
            attempts, calls = read_tables(trial_files(directory, run), words)
        else:
            attempts = _read(
                directory, AttemptTable, Attempt, line_type(Attempt, run, phases), words
            )
            calls = _read(directory, CallTable, Call, line_type(Call, run, phases), words)
        return Records(
            run,
            attempts,
            calls,
            workflows,
            list(each(directory, Trial)),
            read_provider(directory, run, small=True),
            tuple(each(directory, ServerSample)),
        )


_T = TypeVar("_T", AttemptTable, CallTable)


def _read(directory: Path, table: type[_T], kind: Any, line: Any, words: Words) -> _T:
    """Read the records of one kind, a megabyte at a time."""
    path, number = directory / FILES[kind], 1
    growing: GrowingTable[Any] = GrowingTable(table, words)
    growing.add([])
    if path.exists():
        decode = msgspec.json.Decoder(line).decode
        with opened(path) as file:
            size = path.stat().st_size
            while lines := file.readlines(_BATCH_BYTES):
                expected = max(size / file.tell(), 1.0) * _ROOM
                try:
                    growing.add(list(map(decode, lines)), expected)
                except (msgspec.DecodeError, UnicodeDecodeError, UnusualTextError):
                    # Unknown words, an incomplete last line, or an error that names its line.
                    growing.add(list(decode_lines(lines, path, kind, number)), expected)
                number += len(lines)
    found: _T = growing.table()
    return found
