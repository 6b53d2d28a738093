"""The files of the trials of a run that keeps only what its statistics need.

With `records = "summary"`, a trial has one file for each session. It is written whole when the
trial has ended. It contains a head, which is a line of JSON, then the lines of the workflows, then
the attempts and calls as arrays (see `columns`), then a checksum. The format is our own, because a
NumPy archive takes ten times as long for a trial of a hundred calls.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
import numpy as np

from harness.records.errors import StorageError
from harness.records.failures import OK
from harness.records.keys import CallKey, TrialKey
from harness.records.schema import NO_TOKENS, Attempt, Call, Run, Trial, Workflow
from harness.store.column_values import Words
from harness.store.columns import AttemptTable, CallTable, ColumnBatch, GrowingTable
from harness.store.run_directory import TRIALS_FOLDER, decode_lines, opened

_T = TypeVar("_T")
_Tables = tuple[GrowingTable[Attempt], GrowingTable[Call]]

_BATCH = 1024
"""Attempts or calls that become columns together: with 128, that takes 8 us a call more."""
_ROOM = 1.5
"""How much longer than necessary a column is made while records are added to it."""
_CHECKSUM_BYTES = 4


class _StoredArray(msgspec.Struct, array_like=True):
    """One array of a file. `part`: the part of a `ColumnBatch` that it belongs to.

    `is_equal`: all its values are equal, and the file has one of them.
    """

    part: str
    name: str
    type: str
    length: int
    is_equal: bool


class _TrialHead(msgspec.Struct):
    """The first line of a file. `trial`: None if it is not recorded.

    `workflows`: the number of bytes of their lines. `attempts`, `calls`: their arrays.
    """

    trial: Trial | None
    workflows: int
    words: list[str]
    attempts: list[_StoredArray]
    calls: list[_StoredArray]


class TrialColumns:
    """Collects the attempts and calls of a trial in columns."""

    def __init__(self) -> None:
        self._words = Words()
        self._tables = new_tables(self._words)
        self._attempts: list[Attempt] = []
        self._calls: list[Call] = []

    def add_attempts(self, records: Sequence[Attempt]) -> None:
        """Add attempts."""
        self._attempts += records
        if len(self._attempts) >= _BATCH:
            self._flush()

    def add_calls(self, records: Sequence[Call]) -> None:
        """Add calls."""
        self._calls += records
        if len(self._calls) >= _BATCH:
            self._flush()

    def _flush(self) -> None:
        attempts, calls = self._tables
        attempts.add(self._attempts, _ROOM)
        calls.add(self._calls, _ROOM)
        self._attempts, self._calls = [], []

    def encode(self, trial: Trial | None, workflows: bytes) -> bytes:
        """Return the content of the file. `trial`: its record, None if it is not recorded."""
        self._flush()
        attempts, attempt_bytes = _encoded(self._tables[0].batch())
        calls, call_bytes = _encoded(self._tables[1].batch())
        head = _TrialHead(trial, len(workflows), self._words.names[1:], attempts, calls)
        parts = [msgspec.json.encode(head), b"\n", workflows, *attempt_bytes, *call_bytes]
        checksum = 0
        for part in parts:
            checksum = zlib.crc32(part, checksum)
        return b"".join([*parts, checksum.to_bytes(_CHECKSUM_BYTES, "little")])


class TrialFile(NamedTuple):
    """The file of one trial in one session."""

    key: TrialKey
    path: Path

    def read(self) -> StoredTrial:
        """Return its content. Raises StorageError."""
        with opened(self.path) as file:
            return StoredTrial(file.read(), self.path)


def trial_path(directory: Path, trial: Trial) -> Path:
    """Return the path of the file of a trial."""
    return directory / TRIALS_FOLDER / _file_name((trial.cell, trial.repeat), trial.execution)


def _file_name(key: TrialKey, execution: int) -> str:
    return f"{key[0]}.{key[1]}.{execution}.trial"


def trial_files(directory: Path, run: Run) -> list[TrialFile]:
    """Return the files of the trials in the order written. Raises StorageError."""
    folder = directory / TRIALS_FOLDER
    try:
        names = {path.name for path in folder.iterdir()}
    except OSError as error:
        raise StorageError(f"{folder}: cannot be read ({error.strerror})") from error
    return [
        TrialFile(key, folder / name)
        for execution in (0, *(session.execution for session in run.resumed))
        for repeat, block in enumerate(run.order)
        for key in ((cell, repeat) for cell in block)
        if (name := _file_name(key, execution)) in names
    ]


def read_tables(files: Iterable[TrialFile], words: Words) -> tuple[AttemptTable, CallTable]:
    """Return the attempts and calls of trials as tables. Raises StorageError."""
    attempts, calls = new_tables(words)
    for file in files:
        file.read().add_to(attempts, calls)
    return attempts.table(), calls.table()


class StoredTrial:
    """The content of the file of a trial. `path`: for messages.

    Raises StorageError for a damaged file.
    """

    def __init__(self, data: bytes, path: Path = Path(TRIALS_FOLDER)) -> None:
        checksum = zlib.crc32(memoryview(data)[:-_CHECKSUM_BYTES])
        if data[-_CHECKSUM_BYTES:] != checksum.to_bytes(_CHECKSUM_BYTES, "little"):
            raise StorageError(
                f"{path}: damaged (its checksum is wrong); remove the file, and `harness run "
                f"--resume {path.parent.parent}` runs the trial again"
            )
        self._data = data
        self._path = path
        self._workflows = data.find(b"\n") + 1
        self._head = msgspec.json.decode(data[: self._workflows], type=_TrialHead)
        self._columns = self._workflows + self._head.workflows

    @property
    def trial(self) -> Trial | None:
        """The record of the trial; None if it is not recorded."""
        return self._head.trial

    def workflows(self) -> list[Workflow]:
        """Return the workflows."""
        lines = self._data[self._workflows : self._columns].splitlines(keepends=True)
        return list(decode_lines(lines, self._path, Workflow, 2))

    def attempts_and_calls(self) -> tuple[list[Attempt], list[Call]]:
        """Return the attempts, without the ids that the provider gave, and the calls."""
        attempts, calls = self._tables()
        tried = list(attempts)
        return tried, list(_with_tokens(calls, tried))

    def _tables(self) -> tuple[AttemptTable, CallTable]:
        attempts, calls = new_tables(Words())
        self.add_to(attempts, calls)
        return attempts.table(), calls.table()

    def each(self, kind: type[_T]) -> Sequence[_T]:
        """Return the records of one kind."""
        found: Any = []
        if issubclass(kind, Trial):
            found = [] if self.trial is None else [self.trial]
        elif issubclass(kind, Workflow):
            found = self.workflows()
        elif issubclass(kind, Attempt):
            found = list(self._tables()[0])
        elif issubclass(kind, Call):
            found = self.attempts_and_calls()[1]
        return found  # type: ignore[no-any-return]

    def add_to(self, attempts: GrowingTable[Attempt], calls: GrowingTable[Call]) -> None:
        """Add the attempts and calls to tables."""
        words, place = Words(), self._columns
        for word in self._head.words:
            words[word]  # numbers it
        batch, place = self._batch(self._head.attempts, place)
        attempts.add_batch(batch, words, _ROOM)
        batch, place = self._batch(self._head.calls, place)
        calls.add_batch(batch, words, _ROOM)

    def _batch(self, arrays: Sequence[_StoredArray], place: int) -> tuple[ColumnBatch, int]:
        """Return the arrays from byte `place` on, and the place after them."""
        parts = defaultdict[str, dict[str, Any]](dict)
        for one in arrays:
            stored = np.frombuffer(self._data, one.type, 1 if one.is_equal else one.length, place)
            place += stored.nbytes
            values = np.broadcast_to(stored, one.length) if one.is_equal else stored
            parts[one.part][one.name] = values
        return ColumnBatch(parts["columns"], parts[""]["counts"], parts["packed"]), place


def new_tables(words: Words) -> _Tables:
    """Return empty tables of attempts and calls, to which trials are added."""
    attempts = GrowingTable[Attempt](AttemptTable, words)
    calls = GrowingTable[Call](CallTable, words)
    attempts.add([])
    calls.add([])
    return attempts, calls


def _encoded(batch: ColumnBatch) -> tuple[list[_StoredArray], list[bytes]]:
    arrays, data = [], []
    parts = (("columns", batch.columns), ("packed", batch.packed), ("", {"counts": batch.counts}))
    for part, members in parts:
        for name, values in members.items():
            is_equal = len(values) > 0 and bool((values == values[0]).all())
            arrays.append(_StoredArray(part, name, values.dtype.str, len(values), is_equal))
            data.append(values[: 1 if is_equal else None].tobytes())
    return arrays, data


def _with_tokens(calls: Iterable[Call], attempts: Iterable[Attempt]) -> Iterator[Call]:
    """Yield calls with their tokens, which columns do not have: those of their attempts."""
    tried = defaultdict[CallKey, list[Attempt]](list)
    for attempt in attempts:
        tried[attempt.call_key].append(attempt)
    for call in calls:
        mine, used = tried[call.call_key], None
        if call.outcome == OK:
            used = next((one for one in mine if one.outcome == OK), None)
        others = [one.tokens for one in mine if one is not used]
        yield msgspec.structs.replace(
            call,
            tokens=used and used.tokens,
            wasted_tokens=sum(others, NO_TOKENS) if others else None,
        )
