"""What the processes of one trial have in common: its start, its budget, its policy, its limit."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.bench.trial_share import TrialShare
from harness.engine.adaptive_limit import AdaptiveLimit
from harness.engine.budget_gate import Gate
from harness.engine.permits import Turnstile
from harness.engine.shared_cell import SharedCell, SharedFlag, SharedState
from harness.engine.shared_policy import SharedPolicy, shared_policy
from harness.policies.protocol import Policy
from harness.policies.stack import Stack
from harness.records.clock import SECOND, ReadClock
from harness.store.run_directory import writing

_LEAD = SECOND // 50
"""Nanoseconds from the moment at which all processes are ready to the start."""

_MEMORY = Path("/dev/shm")  # noqa: S108 - the file system for shared memory
"""Files in it are never written to a disk."""


@contextmanager
def shared_folder() -> Iterator[Path]:
    """Make a folder for what the processes of a trial share, and remove it at the end."""
    place = _MEMORY if os.access(_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="harness-", dir=place) as folder:
        yield Path(folder)


class TogetherInTrial:
    """What one process has in common with the others of a trial. Use it as a context manager.

    `folder`: the same for all of them, and new for each trial. `share`: of this process. `budget`,
    `limit`: cells for the state of the gate and of a limit that adapts. `answers`: whether an
    answer has shown that requests can succeed. Raises StorageError.
    """

    def __init__(self, folder: Path, share: TrialShare, now: ReadClock) -> None:
        self.share = share
        with writing(folder):
            self.budget = SharedCell(folder / "budget")
            self.limit = SharedCell(folder / "limit")
            self.answers = SharedFlag(folder / "answers")
            self._policy_cell = SharedCell(folder / "policy")
            self._start_cell = SharedCell(folder / "start")
        self._policy: SharedPolicy | None = None
        self._now = now
        self._ready: frozenset[int] = frozenset()
        self._start: int | None = None
        self._starting = SharedState(self._start_cell, self._load, self._dump)
        self._is_ended = False

    def __enter__(self) -> TogetherInTrial:
        return self

    def __exit__(self, *error: object) -> None:
        cells = (self.budget, self.limit, self._policy_cell, self._start_cell, self.answers)
        for cell in cells:
            cell.close()

    def policy(self, policy: Stack) -> Policy:
        """Return the policy of the trial with the state that all processes share."""
        shared = shared_policy(policy, self._policy_cell)
        if isinstance(shared, SharedPolicy):
            self._policy = shared
        return shared

    def agree(self) -> int | None:
        """Return the moment at which the load begins; None until all processes have asked."""
        if self._start is None and (self._starting.is_new or self.share.rank not in self._ready):
            with self._starting:
                self._ready |= {self.share.rank}
                if len(self._ready) == self.share.of and self._start is None:
                    self._start = self._now() + _LEAD
        return self._start

    def look(self, permits: Turnstile, gate: Gate, adaptive: AdaptiveLimit | None) -> None:
        """Take over what other processes have done.

        If the budget has refused an attempt of another process and nothing of this one is in
        flight, interrupt this process as Ctrl-C does: it has nothing else that ends its trial.
        """
        if self._policy is not None:
            self._policy.look(permits.ring)
        if adaptive is not None:
            adaptive.look(permits, self._now())
        if gate.look() and not self._is_ended:
            self._is_ended = True
            os.kill(os.getpid(), signal.SIGINT)

    def _load(self, state: Any) -> None:
        self._ready, self._start = state

    def _dump(self) -> Any:
        return self._ready, self._start
