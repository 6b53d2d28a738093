"""The run directory: records appended and flushed as they end, read back as they were.

A line is written whole in one call, so whatever kills the process tears at most the last line;
readers leave a torn last line out.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
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
_NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError)

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
            path = self.directory / name
            try:
                self._files[kind] = path.open("ab", buffering=0)
            except OSError as error:
                self._close()
                raise _not_written(path, error) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def _close(self) -> None:
        for file in self._files.values():
            file.close()

    def append(self, record: Record | Trial) -> None:
        """Write one record as one line. Raises StorageError when it cannot be written."""
        file = self._files[type(record)]
        line = self._encoder.encode(record) + b"\n"
        try:
            written = file.write(line)
        except OSError as error:
            raise _not_written(file.name, error) from error
        if written < len(line):
            raise StorageError(f"{file.name}: a line was cut off; is the disk full?")


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
        raise _not_written(path, error) from error


def _not_written(path: object, error: OSError) -> StorageError:
    return StorageError(f"{path}: cannot be written ({error.strerror})")


class _Head(msgspec.Struct):
    """What can be read of a run.json of any schema."""

    schema: int


def read_run(directory: Path) -> Run:
    """Read run.json. Raises StorageError when it is missing, broken or of another schema."""
    path = directory / RUN
    try:
        data = path.read_bytes()
        schema = msgspec.json.decode(data, type=_Head).schema
        if schema != SCHEMA:
            raise StorageError(f"{path}: schema {schema}, but this version reads {SCHEMA}")
        return msgspec.json.decode(data, type=Run)
    except FileNotFoundError:
        raise StorageError(f"{directory}: not a run directory, {RUN} is missing") from None
    except (OSError, *_NOT_JSON) as error:
        raise StorageError(f"{path}: cannot be read ({error})") from None


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


def read_transcripts(directory: Path, offset: int = 0) -> tuple[list[Transcript], int]:
    """Read the transcripts from a byte of their file on, with the byte after the last whole line.

    Without transcripts the list is empty. Raises StorageError.
    """
    path = directory / TRANSCRIPTS
    if not path.exists():
        return [], offset
    with _opened(path) as file:
        file.seek(offset)
        lines = [line for line in file if line.endswith(b"\n")]
        return list(_decode(lines, path, Transcript, line=1)), offset + sum(map(len, lines))


def _provider(path: Path) -> tuple[ProviderHead, list[Served]] | None:
    """Read the provider's log; None when the provider died before its first line was whole."""
    with _opened(path) as file:
        head = next(_decode([file.readline()], path, ProviderHead, line=1), None)
        return None if head is None else (head, list(_decode(file, path, Served, line=2)))


def _lines(path: Path, kind: type[T]) -> Iterator[T]:
    if path.exists():
        with _opened(path) as file:
            yield from _decode(file, path, kind, line=1)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise StorageError(f"{path}: cannot be read ({error.strerror})") from error


def _decode(lines: Iterable[bytes], path: Path, kind: type[T], line: int) -> Iterator[T]:
    decoder = msgspec.json.Decoder(kind)
    for number, text in enumerate(lines, line):
        try:
            yield decoder.decode(text)
        except _NOT_JSON as error:
            if not text.endswith(b"\n"):
                return  # torn: the process died while it wrote this line
            raise StorageError(f"{path}:{number}: not a record ({error})") from None
