"""What the model's own server said of its load, beside what the client had in flight."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from harness.analysis.selection import Dataset
from harness.records.server_sample import ServerSample


class MeanAndMost(NamedTuple):
    """The mean and the largest of some readings."""

    mean: float
    most: float


class ServerLoad(NamedTuple):
    """The readings of one cell; `in_flight`: of the client at the same times.

    A value is None if the server does not say it. `failed`: readings without an answer; `problem`:
    the last one's reason.
    """

    cell: str
    readings: int
    failed: int
    problem: str | None
    in_flight: MeanAndMost | None
    running: MeanAndMost | None
    waiting: MeanAndMost | None
    kv_cache: MeanAndMost | None


def server_loads(data: Dataset) -> list[ServerLoad]:
    """Return the load of each cell with readings, in the order of run.json."""
    by_cell: dict[str, list[tuple[ServerSample, int]]] = {info.id: [] for info in data.run.cells}
    for sample, in_flight in with_in_flight(data):
        by_cell[sample.cell].append((sample, in_flight))
    return [_load(cell, found) for cell, found in by_cell.items() if found]


def _load(cell: str, found: list[tuple[ServerSample, int]]) -> ServerLoad:
    good = [(sample, count) for sample, count in found if sample.problem is None]
    problems = [sample.problem for sample, _ in found if sample.problem is not None]
    return ServerLoad(
        cell,
        len(found),
        len(problems),
        problems[-1] if problems else None,
        _summary([count for _, count in good]),
        _summary([sample.running for sample, _ in good]),
        _summary([sample.waiting for sample, _ in good]),
        _summary([sample.kv_cache for sample, _ in good]),
    )


def _summary(values: Sequence[float | None]) -> MeanAndMost | None:
    known = [value for value in values if value is not None]
    return MeanAndMost(statistics.fmean(known), max(known)) if known else None


def with_in_flight(data: Dataset) -> Iterator[tuple[ServerSample, int]]:
    """Yield each reading with the number of attempts that were sent and had not ended then."""
    for info in data.run.cells:
        attempts = data.cells[info.id].spent
        columns = (attempts.column(name) for name in ("repeat", "sent", "done"))
        repeat, sent, done = columns
        for sample in data.server:
            if sample.cell == info.id:
                then = (repeat == sample.repeat) & (sent >= 0) & (sent <= sample.time)
                yield sample, int((then & (done > sample.time)).sum())
