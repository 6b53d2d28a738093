"""Counts the records of a stored run that are in memory at the same time."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness.records.schema import Attempt, Call, Workflow
from harness.store import run_directory, trial_reader


class AliveRecords:
    """`most`: the most attempts, calls and workflows that were alive at once; `read`: all."""

    def __init__(self) -> None:
        self.most = self.read = 0
        self._alive: dict[int, weakref.ref[Any]] = {}

    def note(self, record: object) -> None:
        number = self.read = self.read + 1
        self._alive[number] = weakref.ref(record, lambda _: self._alive.pop(number))
        self.most = max(self.most, len(self._alive))


@cache
def _referable(kind: type[msgspec.Struct]) -> type[msgspec.Struct]:
    return msgspec.defstruct(kind.__name__, [], bases=(kind,), kw_only=True, weakref=True)


def count_alive(patch: pytest.MonkeyPatch) -> AliveRecords:
    """Count every record that is read from a file from now on."""
    seen, decode = AliveRecords(), run_directory.decode_lines

    def counting(
        lines: Iterable[bytes], path: Path, kind: Any, line: int = 1, otherwise: Any = None
    ) -> Iterator[Any]:
        if not issubclass(kind, Attempt | Call | Workflow):
            yield from decode(lines, path, kind, line, otherwise)
            return
        for record in decode(lines, path, _referable(otherwise or kind), line):
            seen.note(record)
            yield record

    patch.setattr(run_directory, "decode_lines", counting)
    patch.setattr(trial_reader, "decode_lines", counting)
    return seen
