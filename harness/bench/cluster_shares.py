"""Runs each trial in real time on the workers of a Dask cluster, each with a share of it.

Each worker has a fixed part of the workflows, the permits and the budget, so no worker has to ask
another. Workers send their records in pieces. When one is lost, what has come from it is kept, the
others are interrupted, and the trial is left as after a kill.
"""

from __future__ import annotations

import asyncio
import pickle
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from harness.bench.child_processes import interrupts_deferred
from harness.bench.clock_offset import ClockOffset, RoundTrip, clock_offset
from harness.bench.dask_cluster import dask_client
from harness.bench.dask_shares import (
    Sealed,
    TakenMessages,
    end_share_process,
    interrupt_share,
    read_clock,
    send_share,
    start_share_process,
    take_messages,
)
from harness.bench.resume import RunProgress
from harness.bench.scenario import Scenario
from harness.bench.share_child import (
    FinishedShare,
    RecordPiece,
    ShareMessage,
    ShareReady,
    ShareSession,
    ShareStart,
    ShareWaiting,
    WorkerTask,
)
from harness.bench.share_processes import EndedShare, EndedTrial, ShareProgress, ShareTask
from harness.bench.spending import SpendingSoFar, explain, is_counted
from harness.bench.trial import INTERRUPTED
from harness.bench.trial_share import share_of_limits
from harness.config.validation_messages import one_line
from harness.engine.ledger import Amount, BudgetLimits, Ledger
from harness.records.clock import SECOND, monotonic_since
from harness.records.errors import HarnessError
from harness.records.schema import Spent, Stop
from harness.records.trial_worker import TrialWorker
from harness.store.run_directory import Writer
from harness.transports.target import Target

if TYPE_CHECKING:
    from distributed import Client

_POLL = 0.5
"""Seconds between two questions to all workers for their messages, of a few workers."""
_POLL_A_WORKER = 0.002
"""As many seconds for each worker keep a scheduler below half of a core: `benchmarks.cluster_costs`
measures what a question takes."""
_ANSWER = 30.0
"""Seconds in which a worker has to answer; otherwise it is lost."""
_READY = 120.0
"""Seconds in which the processes of all workers have to be ready for the first trial."""
_ROUND_TRIPS = 8
"""Questions for the time of a worker's clock before each trial."""
_LEAD = SECOND // 2
"""Nanoseconds from the moment at which all shares are ready to the start, for a few workers."""
_LEAD_A_WORKER = SECOND // 100


class ClusterShares:
    """The processes of a session on the workers. Use it as a context manager."""

    runs_single = True
    """A trial with one share runs on a worker, too."""

    def __init__(self, address: str, begun: RunProgress, writer: Writer) -> None:
        self._address = address
        self._begun = begun
        self._writer = writer
        self._key = uuid.uuid4().hex
        self._now = monotonic_since(begun.run.zero)
        self._stack = ExitStack()
        self._workers: list[str] = []
        self._hosts: dict[str, str] = {}
        self._starts: dict[str, int] = {}

    def __enter__(self) -> ClusterShares:
        self._client: Client = self._stack.enter_context(dask_client(self._address))
        self._stack.callback(self.end)
        found = sorted(self._client.nthreads())
        self._workers = found[: self._begun.run.processes]
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def end(self) -> None:
        """End the processes on all workers."""
        if self._workers:
            self._ask(self._workers, end_share_process, self._key)
            self._workers = []

    def most(self, spending: SpendingSoFar) -> int:
        """Return how many workers can have a share of a trial: each needs an attempt."""
        attempts = spending.limits.attempts
        if attempts is None:
            return len(self._workers)
        return max(1, min(len(self._workers), attempts - spending.ledger.spent.attempts))

    def prepare(self, targets: Sequence[Target]) -> None:
        """Wait until a process on every worker is ready for trials. Raises HarnessError."""
        # What a program prints on another machine has no file to go to.
        progress = pickle.dumps(self._begun._replace(output=None))
        session = Sealed(pickle.dumps(ShareSession(progress, list(targets))))
        self._starts = dict.fromkeys(self._workers, 0)
        self._all_answered(self._ask(self._workers, start_share_process, self._key, session))
        until = time.monotonic() + _READY
        while len(self._hosts) < len(self._workers):
            waiting = [worker for worker in self._workers if worker not in self._hosts]
            for worker, messages in self._taken(waiting):
                if isinstance(messages, str):
                    raise self._failed(f"{messages} before the first trial")
                for message in messages:
                    if isinstance(message, HarnessError):
                        raise type(message)(f"--dask {self._address}: worker {worker}: {message}")
                    if isinstance(message, ShareReady):
                        self._hosts[worker] = message.host
            if time.monotonic() > until:
                raise self._failed(f"worker {waiting[0]} is not ready after {_READY:.0f} s")
            time.sleep(_POLL / 5)

    def measure(
        self,
        tasks: Sequence[ShareTask],
        scenario: Scenario,
        report: Callable[[ShareProgress], None],
    ) -> EndedTrial:
        """Run all shares of a trial, and interrupt the others if one ends early or is lost.

        `scenario`: of the cell. Ctrl-C ends all shares; a second one raises KeyboardInterrupt.
        Raises the HarnessError of a process when the others have ended.
        """
        workers = self._workers[: len(tasks)]
        spending = tasks[0].spending
        clocks = self._clocks(workers)
        limits = {
            worker: share_of_limits(spending.limits, task.share, spending.ledger.spent)
            for worker, task in zip(workers, tasks, strict=True)
        }
        self._note_workers(tasks, workers, clocks)
        self._book(spending.ledger.spent, limits.values())
        sent = {
            worker: pickle.dumps(
                WorkerTask(
                    task.cell, task.repeat, task.share, task.target, limits[worker],
                    spending.answered, clocks[worker].offset,
                )
            )
            for worker, task in zip(workers, tasks, strict=True)
        }  # fmt: skip
        running = _RunningShares(workers, report)
        self._send(running, sent)
        while running.busy:
            try:
                time.sleep(max(_POLL, _POLL_A_WORKER * len(running.busy)))
                taken = self._taken(list(running.busy))
                with interrupts_deferred():  # an interruption would lose messages
                    for worker, messages in taken:
                        self._take(running, worker, messages)
                self._let_start(running)
                self._pass_on_stop(running)
            except KeyboardInterrupt:
                if running.stopped == INTERRUPTED:
                    raise
                running.stop(INTERRUPTED)
        if running.error is not None:
            raise running.error
        return self._ended_trial(running, workers, limits, spending, scenario)

    def _take(
        self, running: _RunningShares, worker: str, messages: list[ShareMessage] | str
    ) -> None:
        """Take the messages of a worker, or how it was lost."""
        if isinstance(messages, str):
            self._lose(running, worker, messages)
            return
        for message in messages:
            if isinstance(message, RecordPiece):
                for kind, lines in message.lines.items():
                    self._writer.extend(kind, lines)
                running.committed[worker] = message.committed
                running.report(ShareProgress(message.tally, message.sending))
            elif isinstance(message, ShareWaiting):
                running.waiting.add(worker)
            elif isinstance(message, FinishedShare):
                running.busy.remove(worker)
                running.ended[worker] = message
                if message.facts.stopped is not None and message.refusal is None:
                    running.stop(message.facts.stopped)
            elif isinstance(message, HarnessError):
                running.busy.remove(worker)
                running.error = running.error or message
                running.stop(INTERRUPTED)

    def _send(self, running: _RunningShares, sent: Mapping[str, bytes]) -> None:
        """Send each worker what is for it."""
        sealed = {worker: Sealed(content) for worker, content in sent.items()}
        for worker, answer in self._ask(list(sent), send_share, self._key, sealed).items():
            if isinstance(answer, BaseException):
                self._lose(running, worker, _text(answer))

    def _let_start(self, running: _RunningShares) -> None:
        """Send the moment at which the load begins, once all shares wait for it."""
        if running.waiting and running.waiting >= running.busy:
            lead = _LEAD + _LEAD_A_WORKER * len(running.busy)
            start = pickle.dumps(ShareStart(self._now() + lead))
            self._send(running, dict.fromkeys(running.waiting & running.busy, start))
            running.waiting.clear()

    def _pass_on_stop(self, running: _RunningShares) -> None:
        """Interrupt the other shares once something has ended the trial."""
        if running.stopped is not None and not running.is_told:
            running.is_told = True
            self._ask(list(running.busy), interrupt_share, self._key)

    def _lose(self, running: _RunningShares, worker: str, how: str) -> None:
        running.busy.discard(worker)
        because = (
            f"the Dask worker {worker} was lost in a trial ({how}); all records that had arrived "
            "are saved"
        )
        running.stop(Stop(by="lost_process", because=one_line(because)))

    def _taken(self, workers: Sequence[str]) -> list[tuple[str, list[ShareMessage] | str]]:
        """Return the new messages of each worker, or how it was lost."""
        starts = {worker: self._starts[worker] for worker in workers}
        found: list[tuple[str, list[ShareMessage] | str]] = []
        for worker, answer in self._ask(workers, take_messages, self._key, starts).items():
            if isinstance(answer, BaseException):
                found.append((worker, _text(answer)))
                continue
            taken = TakenMessages(*answer)
            self._starts[worker] += len(taken.messages)
            messages: list[ShareMessage] = [
                pickle.loads(message)  # noqa: S301 - from our own process
                for message in taken.messages
            ]
            found.append((worker, messages))
            is_over = messages and isinstance(messages[-1], FinishedShare | HarnessError)
            if taken.exit_code is not None and not is_over:
                found.append((worker, f"its process ended with {taken.exit_code}"))
        return found

    def _clocks(self, workers: Sequence[str]) -> dict[str, ClockOffset]:
        """Measure how far the clock of each worker is ahead of ours."""
        trips: dict[str, list[RoundTrip]] = {worker: [] for worker in workers}

        async def ask(worker: str) -> None:
            for _ in range(_ROUND_TRIPS):
                asked = time.monotonic_ns()
                answer = await self._client.run(read_clock, workers=[worker], on_error="return")
                answered = time.monotonic_ns()
                if isinstance(answer.get(worker), int):
                    trips[worker].append(RoundTrip(asked, answer[worker], answered))

        async def ask_all() -> None:
            for worker in workers:  # one after another: a burst would make each trip longer
                await asyncio.wait_for(ask(worker), _ANSWER)

        self._in_loop(ask_all())
        for worker, own in trips.items():
            if not own:
                raise self._failed(f"worker {worker} does not answer")
        return {worker: clock_offset(own) for worker, own in trips.items()}

    def _note_workers(
        self,
        tasks: Sequence[ShareTask],
        workers: Sequence[str],
        clocks: Mapping[str, ClockOffset],
    ) -> None:
        for task, worker in zip(tasks, workers, strict=True):
            clock = clocks[worker]
            self._writer.append(
                TrialWorker(
                    cell=task.cell.id,
                    repeat=task.repeat,
                    execution=self._begun.run.execution,
                    rank=task.share.rank,
                    of=task.share.of,
                    worker=worker,
                    host=self._hosts[worker],
                    clock_offset=clock.offset,
                    clock_uncertainty=clock.uncertainty,
                    round_trips=clock.round_trips,
                )
            )

    def _book(self, spent: Amount, limits: Iterable[BudgetLimits]) -> None:
        """Record that the shares may spend all that they have, in case this process is killed."""
        if is_counted(self._begun.scenario):
            most = spent
            for own in limits:
                most = _sum(most, Amount(*(part or 0 for part in own[:3])))
            self._writer.append(Spent(**most._asdict()))

    def _ended_trial(
        self,
        running: _RunningShares,
        workers: Sequence[str],
        limits: Mapping[str, BudgetLimits],
        before: SpendingSoFar,
        scenario: Scenario,
    ) -> EndedTrial:
        """Put the ends of the shares together."""
        spent = before.ledger.spent
        for worker in workers:
            if worker in running.ended:
                spent = _sum(spent, running.ended[worker].spent)
            else:
                spent = _sum(spent, _most_spent(limits[worker], running.committed[worker]))
        if is_counted(self._begun.scenario):
            self._writer.append(Spent(**spent._asdict()))
        ledger = Ledger(before.limits, spent)
        ended = [running.ended[worker] for worker in workers if worker in running.ended]
        answered = before.answered or any(share.answered for share in ended)
        spending = SpendingSoFar(before.limits, ledger, answered)
        refusal = next((share.refusal for share in ended if share.refusal is not None), None)
        stopped = running.stopped
        if stopped is None and refusal is not None:
            because = explain(refusal, scenario, ledger)
            if len(workers) > 1 and refusal.limit != "seconds":
                because += f"; each of {len(workers)} workers has a fixed share of it"
            stopped = Stop(by="budget", because=because)
        shares = [EndedShare(one.facts, one.seen, spending, one.refusal) for one in ended]
        return EndedTrial(shares, spending, stopped)

    def _ask(self, workers: Sequence[str], function: Any, *arguments: object) -> dict[str, Any]:
        """Call a function on workers, each by itself; return an exception for each without answer.

        Not by one call for all workers, for which one that hangs would hold up the others. The
        scheduler is asked first which workers there are: it would try for long to reach another.
        """
        answers: dict[str, Any] = {}

        async def ask(worker: str, known: Mapping[str, int]) -> None:
            try:
                if worker not in known:
                    raise ConnectionError("it has left the cluster")
                asked = self._client.run(function, *arguments, workers=[worker], on_error="return")
                answers[worker] = (await asyncio.wait_for(asked, _ANSWER))[worker]
            except Exception as error:
                answers[worker] = error

        async def ask_all() -> None:
            try:
                known = await asyncio.wait_for(self._client.nthreads(), _ANSWER)
            except Exception as error:
                answers.update(dict.fromkeys(workers, error))
                return
            await asyncio.gather(*(ask(worker, known) for worker in workers))

        self._in_loop(ask_all())
        return answers

    def _in_loop(self, asking: Any) -> None:
        """Run a coroutine in the event loop of the client."""
        loop: Any = self._client.loop
        try:
            asyncio.run_coroutine_threadsafe(asking, loop.asyncio_loop).result()
        except TimeoutError:
            raise self._failed("a worker does not answer") from None

    def _all_answered(self, answers: Mapping[str, Any]) -> None:
        for worker, answer in answers.items():
            if isinstance(answer, BaseException):
                raise self._failed(f"worker {worker} is lost ({_text(answer)})")

    def _failed(self, what: str) -> HarnessError:
        return HarnessError(one_line(f"--dask {self._address}: {what}"))


class _RunningShares:
    """A trial while it runs. `busy`: the workers whose shares run."""

    def __init__(self, workers: Sequence[str], report: Callable[[ShareProgress], None]) -> None:
        self.busy = set(workers)
        self.waiting = set[str]()
        self.report = report
        self.ended: dict[str, FinishedShare] = {}
        self.committed = dict.fromkeys(workers, Amount())
        self.stopped: Stop | None = None
        self.error: HarnessError | None = None
        self.is_told = False

    def stop(self, stop: Stop) -> None:
        """End the trial. The first reason counts, but a lost worker before others."""
        if self.stopped is None or stop.by == "lost_process":
            self.stopped = stop


def _most_spent(limits: BudgetLimits, committed: Amount) -> Amount:
    """Return the most that a lost share can have spent: all that it had, where that is limited."""
    return Amount(
        *(used if most is None else most for most, used in zip(limits[:3], committed, strict=True))
    )


def _sum(one: Amount, other: Amount) -> Amount:
    return Amount(*map(sum, zip(one, other, strict=True)))


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
