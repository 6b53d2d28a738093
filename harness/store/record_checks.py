"""Checks that hold for all records of a run, whatever file they are in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

from harness.records.errors import StorageError
from harness.records.schema import Run, Trial, Workflow


class _OfTrial(Protocol):
    @property
    def cell(self) -> str: ...

    @property
    def repeat(self) -> int: ...


_R = TypeVar("_R", bound=_OfTrial)
_K = TypeVar("_K", Trial, Workflow)


def of_known_trials(records: Iterable[_R], run: Run, path: Path, line: int = 1) -> Iterator[_R]:
    """Yield records, the first of which is in this `line` of the file.

    Raises StorageError for a cell that the run does not have, or a repeat below 0: the file is
    damaged.
    """
    known = {info.id for info in run.cells}
    for number, record in enumerate(records, line):
        unknown = ""
        if record.cell not in known:
            unknown = f"cell {record.cell!r}"
        elif record.repeat < 0:
            unknown = f"repeat {record.repeat}"
        if unknown:
            raise StorageError(
                f"{path}:{number}: the file is damaged ({unknown} is not in run.json); correct the "
                "line, or remove it"
            )
        yield record


def each_once(records: Iterable[_K]) -> Iterator[_K]:
    """Yield the first record of each key: a line that was copied counts once."""
    seen = set[tuple[Any, ...]]()
    for record in records:
        number = -1 if isinstance(record, Trial) else record.workflow
        key = (record.cell, record.repeat, number, record.execution)
        if key not in seen:
            seen.add(key)
            yield record
