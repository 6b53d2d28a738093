"""What a Dask worker executes for trials in virtual time.

A trial is played in a thread of the worker. Trials of one process are played one after another,
because random numbers of programs and standard output belong to the whole process.
"""

from __future__ import annotations

import ctypes
import pickle
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

from harness.bench.resume import RunProgress
from harness.bench.same_versions import first_difference, version_facts
from harness.bench.trial import Tally
from harness.bench.user_code import check_code, code_versions
from harness.bench.virtual import Played, VirtualSpending, opening, play
from harness.config.unexpected_errors import unexpected
from harness.config.validation_messages import one_line
from harness.records.errors import HarnessError, InputError
from harness.simulator.memo import PromptMemory

_ONE_TRIAL = threading.Lock()
_INSTRUCTIONS = 1_000
"""More than any that pass before an exception that is due is raised."""
_INTERRUPTS = threading.Lock()
_playing: dict[str, int] = {}
"""The thread that plays a trial that can be interrupted, by the key of its session."""
_stopped: set[str] = set()
"""The keys of the sessions that were interrupted."""


class SharedRun(NamedTuple):
    """What all trials of a session share, for workers.

    `key`: of the session. `versions`: of the process that keeps the records. `progress`: a pickled
    RunProgress.
    """

    key: str
    versions: Mapping[str, str]
    progress: bytes


class PlayedOnWorker(NamedTuple):
    """A trial that a worker played, and what was counted in it."""

    played: Played
    tally: Tally


class _LoadedRun(NamedTuple):
    key: str
    progress: RunProgress
    account: VirtualSpending
    memory: PromptMemory


_loaded: list[_LoadedRun] = []
"""The session whose trials this process played last."""


def play_on_worker(shared: tuple[str, Mapping[str, str], bytes], task: bytes) -> bytes:
    """Play a pickled Task of a session, and return a pickled PlayedOnWorker.

    `shared`: a SharedRun. Returns nothing if the session was interrupted before. Raises
    HarnessError.
    """
    run = SharedRun(*shared)
    with _ONE_TRIAL:
        if run.key in _stopped:
            return b""
        tally = Tally()
        try:
            loaded = _load(run)
            played = play(
                loaded.progress,
                pickle.loads(task),  # noqa: S301 - a cluster executes any code
                loaded.account,
                tally.add,
                loaded.memory,
                _Interruptible(run.key),
            )
        except HarnessError:
            raise
        except KeyboardInterrupt:  # came when the trial had ended
            return b""
        except Exception as error:
            raise unexpected(error) from None
        return pickle.dumps(PlayedOnWorker(played, tally))


def _load(run: SharedRun) -> _LoadedRun:
    """Return a session, read once. Raises InputError if this process cannot play its trials."""
    if _loaded and _loaded[0].key == run.key:
        return _loaded[0]
    _loaded.clear()
    difference = first_difference(run.versions, version_facts())
    if difference is not None:
        raise InputError(f"a Dask worker {difference}; install the same on all machines")
    progress = loaded_progress(run.progress)
    _loaded.append(_LoadedRun(run.key, progress, opening(progress), PromptMemory()))
    return _loaded[0]


def loaded_progress(pickled: bytes) -> RunProgress:
    """Read a RunProgress, and check that its programs are on this machine. Raises InputError."""
    try:
        progress: RunProgress = pickle.loads(pickled)  # noqa: S301 - as above
    except ImportError as error:  # of another package that adds kinds
        raise InputError(
            one_line(f"a Dask worker lacks a package ({error}); install it on all machines")
        ) from None
    check_code(progress.scenario)
    for name, code in code_versions(progress.scenario).items():
        began_with = progress.run.versions.get(name)
        if began_with != code:
            raise InputError(
                one_line(
                    f"a Dask worker has {code}, and the run was started with {began_with}; "
                    "put the same file at the same path on all machines, for example by a shared "
                    "folder"
                )
            )
    return progress


def stop_playing(key: str) -> None:
    """Interrupt the trial of a session that this process plays, and play no other of it."""
    with _INTERRUPTS:
        if key in _playing and key not in _stopped:
            _interrupt(_playing[key])
        _stopped.add(key)


def forget_session(key: str) -> None:
    """Release what a session shared between its trials."""
    if _loaded and _loaded[0].key == key:
        _loaded.clear()


class _Interruptible:
    """Lets `stop_playing` raise a KeyboardInterrupt inside this context manager."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __enter__(self) -> None:
        with _INTERRUPTS:
            if self._key in _stopped:
                raise KeyboardInterrupt
            _playing[self._key] = threading.get_ident()

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        with _INTERRUPTS:
            _playing.pop(self._key, None)
            is_due = self._key in _stopped and kind is not KeyboardInterrupt
        if is_due:
            _take_interrupt()


def _interrupt(thread: int) -> None:
    """Raise KeyboardInterrupt in a thread, between two instructions of Python."""
    raised = ctypes.py_object(KeyboardInterrupt)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), raised)


def _take_interrupt() -> None:
    """Let a KeyboardInterrupt that is due in this thread be raised here.

    It is not dropped by setting no exception in its place: the interpreter would look for one
    before each function as long as the process lives, and for ever where a function is traced.
    """
    with suppress(KeyboardInterrupt):
        for _ in range(_INSTRUCTIONS):
            pass
