"""Reads a stored run one trial at a time, so that a run of any length fits into memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from harness.records.keys import TrialKey
from harness.records.schema import Attempt, Call, Run, Transcript, Trial, Workflow
from harness.store.record_checks import each_once, of_known_trials
from harness.store.run_directory import (
    FILES,
    TRIALS_FOLDER,
    Records,
    decode_lines,
    each,
    opened,
    read_run,
)

if TYPE_CHECKING:
    from harness.store.trial_files import TrialFile

_T = TypeVar("_T", Attempt, Call, Workflow, Transcript)


class _Owner(msgspec.Struct):
    """The fields of a record that name its trial."""

    cell: str
    repeat: int


@dataclass(slots=True)
class _Section:
    """A part of a file with the records of one trial: its bytes, and the number of its first line.

    The sessions of a resumed run write a section each.
    """

    start: int
    end: int
    line: int


_Sections = dict[TrialKey, list[_Section]]


class TrialReader:
    """Reads the records of the run in `directory`. Raises StorageError as `read_run` does.

    `run`: run.json. `trials`: the records of all trials, which are few, in the order written.
    A file is scanned when records of its kind are first wanted; only positions are kept.
    """

    def __init__(self, directory: Path) -> None:
        self.run = read_run(directory)
        self.trials = list(
            each_once(of_known_trials(each(directory, Trial), self.run, directory / FILES[Trial]))
        )
        self._directory = directory
        self._found: dict[type, _Sections] = {}
        self._files: dict[TrialKey, list[TrialFile]] | None = None
        if (directory / TRIALS_FOLDER).exists():
            from harness.store.trial_files import trial_files  # imports NumPy

            self._files = {}
            for file in trial_files(directory, self.run):
                self._files.setdefault(file.key, []).append(file)

    def keys(self, *kinds: type) -> list[TrialKey]:
        """Return the trials that have records of `kinds`, cell by cell in the order of run.json."""
        if self._files is not None:
            every = set(self._files)
        else:
            every = {trial for kind in kinds for trial in self._sections(kind)}
        order = {cell.id: at for at, cell in enumerate(self.run.cells)}
        return sorted(every, key=lambda trial: (order[trial[0]], trial[1]))

    def by_trial(self) -> Iterator[Records]:
        """Iterate over the records of each trial; the iterator keeps none of them."""
        return map(self.records, self.keys(Attempt, Call, Workflow))

    def workflows_by_trial(self) -> Iterator[Records]:
        """Iterate over the same without calls and attempts, which are not read."""
        return map(self._workflows, self.keys(Workflow))

    def records(self, trial: TrialKey) -> Records:
        """Return the records of one trial, in the order written."""
        attempts, calls = list(self.each(Attempt, trial)), list(self.each(Call, trial))
        return self._workflows(trial)._replace(attempts=attempts, calls=calls)

    def each(self, kind: type[_T], trial: TrialKey) -> Iterator[_T]:
        """Iterate over the records of one kind of one trial, in the order written."""
        if self._files is not None:
            for stored in self._files.get(trial, ()):
                yield from stored.read().each(kind)
            return
        sections = self._sections(kind).get(trial)
        if not sections:
            return
        path = self._directory / FILES[kind]
        with opened(path) as file:
            for section in sections:
                file.seek(section.start)
                lines = _until(file, section.end - section.start)
                yield from decode_lines(lines, path, kind, section.line)

    def _workflows(self, trial: TrialKey) -> Records:
        mine = [one for one in self.trials if (one.cell, one.repeat) == trial]
        return Records(self.run, [], [], list(self.each(Workflow, trial)), mine, None)

    def _sections(self, kind: type) -> _Sections:
        if kind not in self._found:
            self._found[kind] = _scan(self._directory / FILES[kind], self.run)
        return self._found[kind]


def _until(file: Iterator[bytes], size: int) -> Iterator[bytes]:
    """Yield lines of `size` bytes in all."""
    while size > 0:
        line = next(file)
        size -= len(line)
        yield line


def _scan(path: Path, run: Run) -> _Sections:
    """Return the sections of each trial in a file; no file counts as empty."""
    found: _Sections = {}
    if not path.exists():
        return found
    read = 0

    def measured(lines: Iterator[bytes]) -> Iterator[bytes]:
        nonlocal read
        for line in lines:
            read += len(line)
            yield line

    with opened(path) as file:
        current, section = None, _Section(0, 0, 1)
        owners = of_known_trials(decode_lines(measured(file), path, _Owner), run, path)
        for number, owner in enumerate(owners, 1):
            if owner != current:
                current, section = owner, _Section(section.end, read, number)
                found.setdefault((owner.cell, owner.repeat), []).append(section)
            section.end = read
    return found
