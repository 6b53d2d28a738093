"""A baseline: the files of a run that `harness compare` reads, to keep beside the code."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from harness.records.errors import InputError
from harness.store.run_directory import (
    ATTEMPTS_FILE,
    CALLS_FILE,
    RUN_FILE,
    TRIALS_FILE,
    TRIALS_FOLDER,
    TUNE_FILE,
    WORKFLOWS_FILE,
    read_run,
    writing,
)

_READ = (
    RUN_FILE, ATTEMPTS_FILE, CALLS_FILE, WORKFLOWS_FILE, TRIALS_FILE, TUNE_FILE, TRIALS_FOLDER,
)  # fmt: skip
"""What a comparison reads. A run has some of them, according to its kind."""


def save_baseline(run: Path, directory: Path) -> None:
    """Copy the files of `run` that a comparison reads into `directory`, which becomes a run.

    A run that is there is replaced once all files are copied. Raises InputError if `directory`
    contains something else, or if it is `run`; StorageError if the run cannot be read, or the
    files cannot be written.
    """
    read_run(run)
    if directory.exists():
        _require_replaceable(run, directory)
    with writing(directory):
        directory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".baseline-", dir=directory.parent) as folder:
            new = Path(folder) / "new"
            new.mkdir()
            for name in _READ:
                source = run / name
                if source.is_dir():
                    shutil.copytree(source, new / name, copy_function=shutil.copyfile)
                elif source.exists():
                    shutil.copyfile(source, new / name)
            if directory.exists():
                directory.rename(Path(folder) / "old")
            new.rename(directory)


def _require_replaceable(run: Path, directory: Path) -> None:
    if not directory.is_dir():
        raise InputError(f"--baseline {directory}: is a file; name a new directory")
    if directory.samefile(run):
        raise InputError(f"--baseline {directory}: is the run itself; name another directory")
    names = {path.name for path in directory.iterdir()}
    if names and (RUN_FILE not in names or not names <= set(_READ)):
        other = sorted(names - set(_READ) or names)[0]
        raise InputError(
            f"--baseline {directory}: contains {other}, so it is no baseline and is not replaced; "
            "name a new directory"
        )
