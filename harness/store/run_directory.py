"""The run directory: appends and flushes records as they end, and reads them back.

Each line is written in one call, so a killed process leaves at most one incomplete line, the last
one. A line is complete if it ends with a newline: readers ignore the last line without one, even if
it is JSON, and the next writer removes it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gc
import math
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, NoReturn, TypeVar

import msgspec

from harness.records.errors import InputError, StorageError
from harness.records.provider_log import ProviderHead, Served
from harness.records.schema import (
    SCHEMA,
    Attempt,
    Call,
    CellInfo,
    Record,
    RecordsKept,
    Run,
    Spent,
    Transcript,
    Trial,
    Workflow,
)
from harness.records.server_sample import ServerSample
from harness.records.trial_worker import TrialWorker
from harness.records.tune_blocks import TuneBlock, valid_decisions
from harness.store.compact_records import served_type
from harness.store.run_lock import cut_torn_line

_T = TypeVar("_T")
_NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError)

RUN_FILE = "run.json"
ATTEMPTS_FILE = "attempts.jsonl"
CALLS_FILE = "calls.jsonl"
WORKFLOWS_FILE = "workflows.jsonl"
TRIALS_FILE = "trials.jsonl"
TRANSCRIPTS_FILE = "transcripts.jsonl"
PROVIDER_FILE = "provider.jsonl"
SPENDING_FILE = "spending.jsonl"
SERVER_FILE = "server_metrics.jsonl"
TUNE_FILE = "tune.jsonl"
WORKERS_FILE = "workers.jsonl"
SUMMARY_FILE = "summary.json"
TRIALS_FOLDER = "trials"
"""The folder of a run that keeps only what its statistics need; see `trial_files`."""
_PART = ".part"
"""The end of the name of a file that is being written."""

FILES: dict[type, str] = {
    Attempt: ATTEMPTS_FILE, Call: CALLS_FILE, Workflow: WORKFLOWS_FILE, Trial: TRIALS_FILE,
    Transcript: TRANSCRIPTS_FILE, Spent: SPENDING_FILE, ServerSample: SERVER_FILE,
    TuneBlock: TUNE_FILE, TrialWorker: WORKERS_FILE,
}  # fmt: skip
"""The file of each kind of record."""
_IN_TRIALS = (Attempt, Call, Workflow, Trial)
"""The kinds that are in `TRIALS_FOLDER` instead if the run keeps only what its statistics need."""


class Records(NamedTuple):
    """All records of a run directory, in the order in which they were written.

    `server`: what the model's own server said of its load. `tune`: the decisions of a tune.
    `candidates`: all settings that a tune could choose, once `run` has only those that it tried.
    """

    run: Run
    attempts: Sequence[Attempt]
    calls: Sequence[Call]
    workflows: list[Workflow]
    trials: list[Trial]
    provider: tuple[ProviderHead, list[Served]] | None
    server: Sequence[ServerSample] = ()
    tune: Sequence[TuneBlock] = ()
    candidates: Sequence[CellInfo] = ()


class TrialRecords(NamedTuple):
    """One trial with everything that was recorded in it."""

    trial: Trial
    attempts: list[Attempt]
    calls: list[Call]
    workflows: list[Workflow]


OtherWriters = Literal["none", "start", "join"]
"""Whether other processes append to the files of a run at the same time as a writer."""


class Writer:
    """Appends records to a run directory. Use it as a context manager.

    `transcripts`: also write transcripts. `budget`: also write the spent amounts. `server`: also
    write what the server says. `tune`: also write the decisions of a tune. `workers`: also
    write which machines ran a trial. `records`: with
    "summary", trials are written with `add_file`.
    Incomplete last lines and files of an earlier
    session are removed. What cannot be written completely is removed, and nothing is written after
    it. So a full disk leaves a directory that can be read and resumed.
    `others`: processes that append to the same files at the same time, each with a writer of its
    own. "none"; "start" where this one starts before them; "join" where it starts after that one.
    Each line is written under a lock of its file, and removes an incomplete line of a process that
    was killed before it.
    """

    def __init__(
        self,
        directory: Path,
        transcripts: bool = False,
        budget: bool = False,
        records: RecordsKept = "full",
        server: bool = False,
        tune: bool = False,
        others: OtherWriters = "none",
        workers: bool = False,
    ) -> None:
        self._others = others
        self.directory = directory
        is_summary = records == "summary"
        unwanted: dict[type, bool] = {
            Transcript: not transcripts, Spent: not budget, ServerSample: not server,
            TuneBlock: not tune, TrialWorker: not workers,
        }  # fmt: skip
        unwanted |= dict.fromkeys(_IN_TRIALS, is_summary)
        self._kinds = [kind for kind in FILES if not unwanted.get(kind)]
        self._encoder = msgspec.json.Encoder()
        self._files: dict[type, BinaryIO] = {}
        self._failed: StorageError | None = None

    def __enter__(self) -> Writer:
        is_first = self._others != "join"
        for path in (self.directory / TRIALS_FOLDER).glob(f"*{_PART}") if is_first else ():
            with writing(path):
                path.unlink()
        for kind in self._kinds:
            path = self.directory / FILES[kind]
            try:
                if is_first:
                    cut_torn_line(path)
                self._files[kind] = path.open("a+b", buffering=0)
            except OSError as error:
                self._close()
                raise _not_written(path, error) from error
        with writing(self.directory):
            _sync_folder(self.directory)
        return self

    def __exit__(self, *error: object) -> None:
        try:
            if self._failed is None:
                self.sync()
        finally:
            self._close()

    def _close(self) -> None:
        for file in self._files.values():
            file.close()

    def append(
        self, record: Record | Trial | Spent | ServerSample | TuneBlock | TrialWorker
    ) -> None:
        """Write one record as one line. Raises StorageError if it cannot be written."""
        self.extend(type(record), self._encoder.encode(record) + b"\n")

    def extend(self, kind: type, lines: bytes) -> None:
        """Write whole lines of records of one kind. Raises StorageError as `append` does."""
        if not lines:
            return
        if self._failed is not None:
            raise self._failed
        file = self._files[kind]
        if self._others == "none":
            self._write(file, lines)
            return
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            end = file.seek(0, os.SEEK_END)  # others have written
            if end and os.pread(file.fileno(), 1, end - 1) != b"\n":
                cut_torn_line(self.directory / FILES[kind])
                file.seek(0, os.SEEK_END)
            self._write(file, lines)
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)

    def _write(self, file: BinaryIO, lines: bytes) -> None:
        """Append lines to a file whose position is its end."""
        written = 0
        try:
            written = file.write(lines)
            if written == len(lines):
                return
            reason = "a line was cut off; is the disk full?"
        except OSError as error:
            reason = str(error.strerror)
        with contextlib.suppress(OSError):
            file.truncate(file.tell() - written)
        self._fail(f"{file.name}: cannot be written ({reason})")

    def add_file(self, path: Path, data: bytes) -> None:
        """Write a whole file of the run. Raises StorageError as `append` does."""
        if self._failed is not None:
            raise self._failed
        try:
            with writing(path.parent):
                path.parent.mkdir(exist_ok=True)
            replace_file(path, [data])
        except StorageError as error:
            self._fail(str(error))

    def sync(self) -> None:
        """Wait until all records are on the disk. Raises StorageError as `append` does."""
        for file in self._files.values():
            try:
                os.fsync(file.fileno())
            except OSError as error:
                self._fail(f"{file.name}: cannot be written ({error.strerror})")

    def _fail(self, problem: str) -> NoReturn:
        self._failed = StorageError(
            f"{problem}; make room and go on with `harness run --resume {self.directory}`"
        )
        raise self._failed


def write_whole(path: Path, value: object) -> None:
    """Write `value` as indented JSON, atomically: a reader sees either the old or the new file."""
    replace_file(path, [msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"])


def replace_file(path: Path, parts: Iterable[bytes]) -> None:
    """Write a whole file atomically. Raises StorageError."""
    part = path.with_name(path.name + _PART)
    with writing(path):
        try:
            with part.open("wb") as file:
                file.writelines(parts)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
            _sync_folder(path.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                part.unlink()
            raise


def _sync_folder(folder: Path) -> None:
    """Wait until the names of the files in a folder are on the disk. Raises OSError."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def append_to_file(path: Path, lines: Iterable[bytes]) -> None:
    """Append lines to a file; create it if it does not exist. Raises StorageError.

    An incomplete last line is removed first. What cannot be written completely is removed.
    """
    with writing(path):
        cut_torn_line(path)
        with path.open("ab", buffering=0) as file:
            for line in lines:
                before = file.tell()
                try:
                    written = file.write(line)
                    if written != len(line):
                        raise OSError(errno.ENOSPC, "a line was cut off; is the disk full?")
                except OSError:
                    with contextlib.suppress(OSError):
                        file.truncate(before)
                    raise


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Return a context in which an OSError is raised as a StorageError that names `path`."""
    try:
        yield
    except OSError as error:
        raise _not_written(path, error) from error


def _not_written(path: object, error: OSError) -> StorageError:
    return StorageError(f"{path}: cannot be written ({error.strerror})")


def require_run(name: str, option: str = "") -> Path:
    """Return the run directory with this name. Raises InputError if it contains no run.

    `option`: the option that named it, for the message.
    """
    directory = Path(name)
    try:
        problem = None if (directory / RUN_FILE).exists() else f"contains no {RUN_FILE}"
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
    if problem is not None:
        raise InputError(f"{option}{directory}: {problem}; give a directory that harness run made")
    return directory


_TABLES = ("workflow", "endpoint", "load", "sweep", "slo")
"""The tables of a scenario that every view reads."""
_RESTORE = "restore the file, or run the scenario again"


class _Head(msgspec.Struct):
    """The fields of run.json that every schema has."""

    schema: int


def read_run(directory: Path) -> Run:
    """Read run.json. Raises StorageError if it is missing, broken or of a newer schema."""
    path = directory / RUN_FILE
    try:
        data = path.read_bytes()
        schema = msgspec.json.decode(data, type=_Head).schema
        if not 1 <= schema <= SCHEMA:
            raise StorageError(
                f"{path}: schema {schema}, but this version reads 1 to {SCHEMA}; install the "
                "version that wrote it"
            )
        run = msgspec.json.decode(data, type=Run)
    except FileNotFoundError:
        raise StorageError(f"{directory}: not a run directory, {RUN_FILE} is missing") from None
    except (OSError, *_NOT_JSON) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise StorageError(f"{path}: cannot be read ({why}); {_RESTORE}") from None
    absent = [name for name in _TABLES if not isinstance(run.scenario.get(name), dict)]
    if absent or not 0 < run.time_scale < math.inf:
        wrong = f"no scenario.{absent[0]}" if absent else f"time_scale = {run.time_scale:g}"
        raise StorageError(f"{path}: the file is damaged ({wrong}); {_RESTORE}")
    return run


def read_records(directory: Path) -> Records:
    """Read a whole run directory. Raises StorageError as `read_run` does.

    See `column_reader.read_columns` for long runs.
    """
    run = read_run(directory)
    with no_collector():
        return Records(
            run=run,
            attempts=list(each(directory, Attempt)),
            calls=list(each(directory, Call)),
            workflows=list(each(directory, Workflow)),
            trials=list(each(directory, Trial)),
            provider=read_provider(directory, run),
            server=tuple(each(directory, ServerSample)),
            tune=valid_decisions(each(directory, TuneBlock)),
        )


def read_workflows(directory: Path) -> Records:
    """Read a run without attempts, calls and the provider's log. Raises as `read_run` does."""
    workflows, trials = list(each(directory, Workflow)), list(each(directory, Trial))
    return Records(read_run(directory), [], [], workflows, trials, None)


def each(directory: Path, kind: type[_T]) -> Iterator[_T]:
    """Iterate over the records of one kind in the order written; no file counts as empty.

    Raises StorageError as `read_run` does.
    """
    path = directory / FILES[kind]
    if path.exists():
        with opened(path) as file:
            yield from decode_lines(file, path, kind)
    elif kind in _IN_TRIALS and (directory / TRIALS_FOLDER).exists():
        from harness.store.trial_files import trial_files  # imports NumPy

        for trial in trial_files(directory, read_run(directory)):
            yield from trial.read().each(kind)


class RecordsFrom:
    """The records that are appended to a run from now on."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        paths = {kind: directory / FILES[kind] for kind in (Attempt, Call, Workflow)}
        self._starts: dict[type, int] = {
            kind: path.stat().st_size if path.exists() else 0 for kind, path in paths.items()
        }

    def read(self, kind: type[_T]) -> list[_T]:
        """Return the attempts, calls or workflows, in the order written. Raises StorageError."""
        path = self._directory / FILES[kind]
        if not path.exists():
            return []
        with opened(path) as file:
            file.seek(self._starts[kind])
            return list(decode_lines(file, path, kind))


def read_transcripts(directory: Path, offset: int = 0) -> tuple[list[Transcript], int]:
    """Return the transcripts from byte `offset` on, and the position after the last complete line.

    The list is empty if there are no transcripts. Raises StorageError.
    """
    path = directory / TRANSCRIPTS_FILE
    if not path.exists():
        return [], offset
    with opened(path) as file:
        file.seek(offset)
        lines = [line for line in file if line.endswith(b"\n")]
        return list(decode_lines(lines, path, Transcript)), offset + sum(map(len, lines))


def provider_log(execution: int, server: int = 0) -> str:
    """Return the name of a log of the simulated provider.

    Each session of a run has its own, and so has each `server`, from 0, that the session starts.
    """
    if server:
        return f"provider-{execution}.{server}.jsonl"
    return PROVIDER_FILE if execution == 0 else f"provider-{execution}.jsonl"


def read_spent(directory: Path) -> Spent | None:
    """Return the amounts that the budget had allowed at the end; None without a budget."""
    last = deque(each(directory, Spent), maxlen=1)
    return last[0] if last else None


def read_provider(
    directory: Path, run: Run, *, small: bool = False
) -> tuple[ProviderHead, list[Served]] | None:
    """Read the provider's logs of all sessions, with all times relative to the first anchor.

    `small`: with packed histograms.
    Each log has its own anchor, and each session has another zero on the monotonic clock.
    """
    kind = served_type(run) if small else Served
    anchors = [(0, run.anchor), *((one.execution, one.anchor) for one in run.resumed)]
    head, every, first = None, list[Served](), 0
    for (execution, anchor), server in product(anchors, range(max(1, len(run.cells)))):
        path = directory / provider_log(execution, server)
        found = _provider(path, kind) if path.exists() else None
        if found is None:
            continue
        after = found[0].anchor.monotonic_ns - anchor.monotonic_ns
        if head is None:
            first = after
            zero = run.anchor.monotonic_ns + after
            head = msgspec.structs.replace(
                found[0], anchor=msgspec.structs.replace(found[0].anchor, monotonic_ns=zero)
            )
        every += [_moved(served, after - first) for served in found[1]]
    return None if head is None else (head, every)


_MOMENTS = (
    "arrived", "first_scheduled", "first_written", "first_answer_written", "last_scheduled",
    "last_written", "done",
)  # fmt: skip


def _moved(served: Served, by: int) -> Served:
    if by == 0:
        return served
    times = {name: getattr(served, name) for name in _MOMENTS}
    moved = {name: None if time is None else time + by for name, time in times.items()}
    return msgspec.structs.replace(served, **moved)


def _provider(path: Path, kind: type[Served]) -> tuple[ProviderHead, list[Served]] | None:
    """Read the provider's log; None if the provider ended before it had written its first line."""
    with opened(path) as file:
        head = next(decode_lines([file.readline()], path, ProviderHead), None)
        return None if head is None else (head, list(decode_lines(file, path, kind, 2, Served)))


@contextmanager
def no_collector() -> Iterator[None]:
    """Turn off the cyclic garbage collector, which is slow with many records.

    Records, spans and model calls form no cycles.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading. Raises StorageError for an OSError in the context."""
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise StorageError(f"{path}: cannot be read ({error.strerror})") from error


def decode_lines(
    lines: Iterable[bytes],
    path: Path,
    kind: type[_T],
    line: int = 1,
    otherwise: type[_T] | None = None,
) -> Iterator[_T]:
    """Decode each complete line as `kind`, or else as `otherwise`. Raises StorageError.

    `path`, and `line`, the number of the first line, are for the message.
    """
    decoder = msgspec.json.Decoder(kind)
    other = decoder if otherwise is None else msgspec.json.Decoder(otherwise)
    for number, text in enumerate(lines, line):
        if not text.endswith(b"\n"):
            return  # incomplete: the process ended while it wrote this line
        try:
            try:
                yield decoder.decode(text)
            except msgspec.ValidationError:
                yield other.decode(text)
        except _NOT_JSON as error:
            raise StorageError(
                f"{path}:{number}: not a record ({error}); correct the line, or remove it"
            ) from None
