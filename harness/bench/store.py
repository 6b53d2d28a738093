"""The run directory: records appended and flushed as they end, read back as they were.

A line is written whole in one call, so whatever kills the process tears at most the last line;
readers leave a torn last line out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple, TypeVar

import msgspec

from harness.errors import StorageError
from harness.records import (
    SCHEMA,
    Attempt,
    Call,
    ProviderHead,
    Record,
    Run,
    Served,
    Transcript,
    Trial,
    Workflow,
)

T = TypeVar("T")

RUN = "run.json"
ATTEMPTS = "attempts.jsonl"
CALLS = "calls.jsonl"
WORKFLOWS = "workflows.jsonl"
TRIALS = "trials.jsonl"
TRANSCRIPTS = "transcripts.jsonl"
PROVIDER = "provider.jsonl"
SUMMARY = "summary.json"


class Records(NamedTuple):
    """Everything a run directory says of what happened, in the order it was written."""

    run: Run
    attempts: list[Attempt]
    calls: list[Call]
    workflows: list[Workflow]
    trials: list[Trial]
    provider: tuple[ProviderHead, list[Served]] | None


class Writer:
    """Appends records to a run directory. Use it as a context manager.

    `transcripts`: there will be some; without it the directory has no file for them.
    """

    def __init__(self, directory: Path, transcripts: bool = False) -> None:
        self.directory = directory
        self._transcripts = transcripts
        self._encoder = msgspec.json.Encoder()
        self._files: dict[type, BinaryIO] = {}

    def __enter__(self) -> Writer:
        names: dict[type, str] = {
            Attempt: ATTEMPTS, Call: CALLS, Workflow: WORKFLOWS, Trial: TRIALS,
        }  # fmt: skip
        if self._transcripts:
            names[Transcript] = TRANSCRIPTS
        for kind, name in names.items():
            self._files[kind] = (self.directory / name).open("ab", buffering=0)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for file in self._files.values():
            file.close()

    def append(self, record: Record | Trial) -> None:
        """Write one record as one line. Raises StorageError when it cannot be written."""
        file = self._files[type(record)]
        try:
            file.write(self._encoder.encode(record) + b"\n")
        except OSError as error:
            raise StorageError(f"{file.name}: cannot be written ({error.strerror})") from error


def write_whole(path: Path, value: object) -> None:
    """Write `value` as indented JSON so that a reader sees the old file or the new, never half."""
    data = msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error.strerror})") from error


def read_run(directory: Path) -> Run:
    """Read run.json. Raises StorageError when it is missing, broken or of another schema."""
    path = directory / RUN
    try:
        run = msgspec.json.decode(path.read_bytes(), type=Run)
    except FileNotFoundError:
        raise StorageError(f"{directory}: not a run directory, {RUN} is missing") from None
    except (OSError, msgspec.DecodeError) as error:
        raise StorageError(f"{path}: cannot be read ({error})") from None
    if run.schema != SCHEMA:
        raise StorageError(f"{path}: schema {run.schema}, but this version reads {SCHEMA}")
    return run


def read_records(directory: Path) -> Records:
    """Read a whole run directory. Raises StorageError as `read_run` does."""
    provider = directory / PROVIDER
    return Records(
        run=read_run(directory),
        attempts=list(_lines(directory / ATTEMPTS, Attempt)),
        calls=list(_lines(directory / CALLS, Call)),
        workflows=list(_lines(directory / WORKFLOWS, Workflow)),
        trials=list(_lines(directory / TRIALS, Trial)),
        provider=_provider(provider) if provider.exists() else None,
    )


def _provider(path: Path) -> tuple[ProviderHead, list[Served]] | None:
    with path.open("rb") as file:
        first = file.readline()
        if not first.endswith(b"\n"):
            return None
        head = msgspec.json.decode(first, type=ProviderHead)
        return head, list(_decode(file, path, Served, line=2))


def _lines(path: Path, kind: type[T]) -> Iterator[T]:
    if path.exists():
        with path.open("rb") as file:
            yield from _decode(file, path, kind, line=1)


def _decode(file: BinaryIO, path: Path, kind: type[T], line: int) -> Iterator[T]:
    decoder = msgspec.json.Decoder(kind)
    for number, text in enumerate(file, line):
        try:
            yield decoder.decode(text)
        except msgspec.DecodeError as error:
            if not text.endswith(b"\n"):
                return  # torn: the process died while it wrote this line
            raise StorageError(f"{path}:{number}: not a record ({error})") from None
