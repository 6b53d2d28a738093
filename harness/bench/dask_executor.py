"""Plays the trials of a virtual run on the workers of a Dask cluster.

Dask plays a trial again whose worker was lost: its records are the same bytes.
"""

from __future__ import annotations

import pickle
import time
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from harness.bench.child_processes import interrupts_deferred
from harness.bench.dask_cluster import dask_client
from harness.bench.dask_worker import (
    PlayedOnWorker,
    SharedRun,
    forget_session,
    play_on_worker,
    stop_playing,
)
from harness.bench.resume import RunProgress
from harness.bench.same_versions import version_facts
from harness.bench.virtual import Played, Report, Task
from harness.config.validation_messages import one_line
from harness.records.errors import HarnessError

if TYPE_CHECKING:
    from distributed import Client, Future

_TASKS_A_THREAD = 2
"""Trials that are sent for each thread of a worker, so that it never waits for the next one. Those
of a whole sweep would keep their results in the memory of workers."""
_COUNT_EVERY = 2.0
"""Seconds between two counts of the threads of the workers, which can become more."""
_LOOK_EVERY = 5.0
"""Seconds between two looks whether there are workers."""
_WITHOUT_WORKERS = 60.0
"""Seconds without a worker after which the run ends: a cluster can replace one that it lost."""
_FETCH = 30.0
"""Seconds in which a result has to come from its worker."""
_GRACE = 10.0
"""Seconds in which the trials in progress can end after Ctrl-C."""

_SAVED = "the trials that had ended are saved"


class DaskExecutor:
    """Trials as Dask tasks. Use it as a context manager, which leaves no task behind."""

    def __init__(self, address: str, begun: RunProgress) -> None:
        self._address = address
        self._key = uuid.uuid4().hex
        # What a program prints on another machine has no file to go to.
        shared = pickle.dumps(begun._replace(output=None))
        self._shared = SharedRun(self._key, dict(version_facts()), shared)
        self._stack = ExitStack()
        self._left: deque[Task] = deque()
        self._running: dict[Future[bytes], Task] = {}
        self._done: SimpleQueue[Future[bytes]] = SimpleQueue()
        self._ended: deque[Played] = deque()
        self._threads, self._next_count = 0, 0.0
        self._seen_workers = time.monotonic()
        self._next_look = time.monotonic() + _LOOK_EVERY

    def __enter__(self) -> DaskExecutor:
        self._client: Client = self._stack.enter_context(dask_client(self._address))
        # A task and not scattered data: a lost copy is computed again.
        self._sent = self._client.submit(
            tuple, [self._shared.key, self._shared.versions, self._shared.progress],
            key=f"harness-run-{self._key}", pure=False,
        )  # fmt: skip
        return self

    def __exit__(self, *error: object) -> None:
        with self._stack:
            for future in self._running:
                future.cancel()
            self._sent.cancel()
            self._on_workers(forget_session)

    def play(self, tasks: Sequence[Task], report: Report) -> Iterator[Played]:
        """Yield each trial when it has been played, in any order.

        Raises HarnessError, one line, if the cluster is lost, or if a worker cannot play trials.
        """
        self._left.extend(tasks)
        self._send()
        yield from self._played(report)

    def stop(self, report: Report) -> Iterator[Played]:
        """Interrupt the trials in progress and yield what was played of them."""
        self._left.clear()
        self._on_workers(stop_playing)
        for future in list(self._running):  # also one that was taken and not looked at
            future.add_done_callback(self._done.put)
        yield from self._played(report, time.monotonic() + _GRACE)

    def _on_workers(self, function: object) -> None:
        """Call a function with the key on all workers; the cluster may be lost."""
        with suppress(Exception):
            self._client.run(function, self._key, on_error="ignore")

    def _send(self) -> None:
        """Send as many trials as the workers should have."""
        if not self._left:
            return
        if time.monotonic() > self._next_count:
            self._next_count = time.monotonic() + _COUNT_EVERY
            self._threads = sum(self._asked_for_threads().values())
        while self._left and len(self._running) < max(1, _TASKS_A_THREAD * self._threads):
            task = self._left.popleft()
            future = self._client.submit(
                play_on_worker, self._sent, pickle.dumps(task),
                key=f"harness-trial-{self._key}-{task.number}", pure=False,
            )  # fmt: skip
            self._running[future] = task
            future.add_done_callback(self._done.put)

    def _played(self, report: Report, until: float | None = None) -> Iterator[Played]:
        while self._running or self._ended:
            while self._ended:
                yield self._ended[0]
                self._ended.popleft()
            if not self._running:
                return
            if until is not None and time.monotonic() > until:
                return
            try:
                future = self._done.get(timeout=1.0)
            except Empty:
                self._look_for_workers()
                continue
            if future not in self._running:
                continue
            answer = self._answer_of(future)
            if answer is None:
                continue
            # An interruption would lose the trial.
            with interrupts_deferred():
                del self._running[future]
                if answer:
                    result: PlayedOnWorker = pickle.loads(answer)  # noqa: S301 - from our worker
                    self._ended.append(result.played)
                    report(result.tally)
            self._send()

    def _answer_of(self, future: Future[bytes]) -> bytes | None:
        """Return a pickled PlayedOnWorker, nothing of an interrupted session; None: not yet."""
        from distributed import KilledWorker

        try:
            answer = future.result(timeout=_FETCH)
        except TimeoutError:  # its worker was lost meanwhile: it is played again
            self._look_for_workers()
            future.add_done_callback(self._done.put)
            return None
        except HarnessError as error:
            raise type(error)(f"--dask {self._address}: {error}; {_SAVED}") from error
        except KilledWorker as error:
            died = f"{error.allowed_failures + 1} workers that played {self._name_of(future)} died"
            raise self._failed(died) from None
        except Exception as error:  # also of Dask itself, when the scheduler is lost
            raise self._failed(f"{type(error).__name__}: {error}") from None
        return answer

    def _name_of(self, future: Future[bytes]) -> str:
        task = self._running[future]
        return f"repeat {task.repeat + 1} of {task.cell.id}"

    def _asked_for_threads(self) -> dict[str, int]:
        try:
            threads: dict[str, int] = self._client.nthreads()
        except Exception as error:
            raise self._failed(f"the scheduler is lost ({type(error).__name__})") from None
        return threads

    def _look_for_workers(self) -> None:
        """Raise HarnessError if there has been no worker for a while."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + _LOOK_EVERY
        if self._asked_for_threads():
            self._seen_workers = now
        elif now > self._seen_workers + _WITHOUT_WORKERS:
            raise self._failed(f"no worker is left since {_WITHOUT_WORKERS:.0f} s")

    def _failed(self, what: str) -> HarnessError:
        return HarnessError(one_line(f"--dask {self._address}: {what}; {_SAVED}"))
