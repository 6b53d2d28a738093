"""Plays the trials of a run in virtual time with one of several executors.

An executor has two methods and knows nothing of order: `play` yields trials as they end, and `stop`
yields those in progress after Ctrl-C. It plays in this process (`inline_executor`), in processes of
this machine (`workers`) or on the machines of a Dask cluster (`dask_executor`). The records are the
same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import chain
from typing import NamedTuple, Protocol

from harness.bench.resume import RunProgress
from harness.bench.scenario import Scenario
from harness.bench.trial import INTERRUPTED
from harness.bench.virtual import Played, Report, Task, limited_together, processes
from harness.records.errors import InputError
from harness.records.schema import Stop


class TrialExecutor(Protocol):
    """Plays trials in virtual time."""

    def play(self, tasks: Sequence[Task], report: Report) -> Iterator[Played]:
        """Yield each trial when it has been played, in any order.

        `report` is called with what has been counted since its last call. Raises HarnessError. A
        trial that is stopped early ends the run.
        """

    def stop(self, report: Report) -> Iterator[Played]:
        """Interrupt the trials in progress, after a KeyboardInterrupt in the iterator of `play`.

        Yields what was played of them, and may yield again the trial that was yielded last.
        """


class ExecutorChoice(NamedTuple):
    """What plays the trials: `jobs` processes, or the Dask cluster with the scheduler `dask`."""

    jobs: int = 1
    dask: str | None = None

    def check(self, scenario: Scenario) -> int | None:
        """Return the number of workers of the cluster; None without one.

        Raises PreflightError if the cluster cannot run the scenario as this machine would.
        """
        if self.dask is None:
            return None
        from harness.bench.dask_cluster import workers_for  # imports Dask

        return workers_for(scenario, self.dask)

    def open(self, begun: RunProgress) -> AbstractContextManager[TrialExecutor]:
        """Return the executor for a session. It leaves no process behind."""
        if self.dask is not None:
            from harness.bench.dask_executor import DaskExecutor  # imports Dask

            return DaskExecutor(self.dask, begun)
        if self.jobs > 1:
            from harness.bench.workers import Workers  # imports multiprocessing

            return Workers(self.jobs, begun)
        from harness.bench.inline_executor import InlineExecutor

        return InlineExecutor(begun)


def chosen_executor(scenario: Scenario, jobs: int | None, dask: str | None) -> ExecutorChoice:
    """Return what plays the trials of a scenario; `jobs`, `dask`: the values of the options.

    Raises InputError if the scenario, or one option beside the other, does not allow it.
    """
    if dask is None:
        return ExecutorChoice(processes(scenario, jobs))
    if jobs is not None:
        raise InputError(
            f"--dask {dask}: --jobs {jobs} is for the processes of this machine; leave out one"
        )
    limited = limited_together(scenario)
    if scenario.is_virtual and limited is not None:
        raise InputError(
            f"--dask {dask}: {limited} limits all trials together, so they are played one after "
            "another; leave out one of the two"
        )
    return ExecutorChoice(dask=dask)


def play_in_order(
    opening: AbstractContextManager[TrialExecutor],
    batches: Iterable[Sequence[Task]],
    keep: Callable[[Played], None],
    report: Report,
) -> Stop | None:
    """Play the trials with an executor and pass them to `keep` in their order.

    The trials are numbered from 0. The next batch is fetched when all trials of one are kept.

    After Ctrl-C the trials that have ended are kept, too. Returns why the run ended early.
    """
    try:
        with opening as executor:
            return _kept_in_order(executor, batches, keep, report)
    except KeyboardInterrupt:  # while an executor was opened or closed
        return INTERRUPTED


def _kept_in_order(
    executor: TrialExecutor,
    batches: Iterable[Sequence[Task]],
    keep: Callable[[Played], None],
    report: Report,
) -> Stop | None:
    from harness.bench.child_processes import interrupts_deferred  # imports multiprocessing

    waiting: dict[int, Played] = {}
    number = 0
    try:
        for played in chain.from_iterable(executor.play(tasks, report) for tasks in batches):
            waiting[played.task.number] = played
            while number in waiting:
                with interrupts_deferred():
                    kept = waiting.pop(number)
                    keep(kept)
                    number += 1
                if kept.stopped is not None:
                    return kept.stopped
    except KeyboardInterrupt:
        for played in executor.stop(report):
            if played.task.number >= number:  # it is not kept yet
                waiting[played.task.number] = played
        for _, ended in sorted(waiting.items()):
            keep(ended)
        return INTERRUPTED
    return None
