"""Runs the trials of a scenario and writes their records."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib import metadata
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, Self

import msgspec

import harness
from harness.bench import cells
from harness.bench.cell_code import code_of_cell
from harness.bench.endpoint_rest import EndpointRest
from harness.bench.executors import ExecutorChoice, play_in_order
from harness.bench.marked_answers import AnswerMarks, SeenAnswers, seen_answers
from harness.bench.measured_share import ShareFacts, measure_share, trial_record
from harness.bench.race import TrialBatch, judge_records, trial_batches
from harness.bench.resume import RunProgress
from harness.bench.running_endpoints import RunningEndpoint, start_endpoints
from harness.bench.scenario import Scenario
from harness.bench.spending import (
    SpendingSoFar,
    TokenMeter,
    hopeless_outcomes,
    is_counted,
    limits_of,
)
from harness.bench.trial import INTERRUPTED, Tally, is_recorded
from harness.bench.trial_share import WHOLE_TRIAL, TrialShare
from harness.bench.user_code import (
    OUTPUT_FILE,
    code_versions,
)
from harness.bench.virtual import Played, Task
from harness.config.request_settings import Secrets
from harness.engine.budget_gate import Gate
from harness.engine.ledger import Amount, Ledger
from harness.records.clock import ReadClock, monotonic_since, take_anchor
from harness.records.errors import FirstAnswerError
from harness.records.ids import new_run_id
from harness.records.schema import (
    SCHEMA,
    Attempt,
    Call,
    CellInfo,
    Record,
    Run,
    Spent,
    Stop,
    Trial,
    Workflow,
)
from harness.records.tune_blocks import TuneBlock
from harness.store import run_directory
from harness.store.run_directory import TrialRecords
from harness.transports.target import Target

if TYPE_CHECKING:
    from harness.bench.share_processes import EndedTrial, ShareProgress, ShareTask
    from harness.workflows.gateway import OpenGateway

ReadTrial = Callable[[], TrialRecords]


class TrialPlan(Protocol):
    """Chooses the trials of a run while it goes on."""

    def __call__(
        self, begun: RunProgress, directory: Path, record: Callable[[TuneBlock], None], /
    ) -> Iterator[TrialBatch]:
        """Yield each batch of trials when those before it have ended.

        `record`: writes a decision into the run directory.
        """


class TrialShares(Protocol):
    """Processes, here or on other machines, that run each trial in real time together."""

    runs_single: bool
    """Whether they run a trial that has one share, too."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...

    def most(self, spending: SpendingSoFar) -> int:
        """Return how many can have a share of a trial that begins with this budget."""

    def prepare(self, targets: Sequence[Target]) -> None:
        """Wait until all are ready for trials at these targets. Raises HarnessError."""

    def measure(
        self,
        tasks: Sequence[ShareTask],
        scenario: Scenario,
        report: Callable[[ShareProgress], None],
    ) -> EndedTrial:
        """Run all shares of a trial, and write their records. Raises HarnessError."""

    def end(self) -> None:
        """End all processes."""


class TrialsLeft(NamedTuple):
    """The number of trials left, at most, and the number of cells that are still in the race."""

    trials: int
    cells: int


class Hooks(NamedTuple):
    """Functions that are called during a run.

    `record`, `sending` and `tally` are called while a trial is measured, so they must only count.
    In real time, `record` is called with each record when it ends, and `sending` with 1 when an
    attempt is sent and -1 when it has ended. In virtual time, and for a trial that several
    processes run, `tally` is called instead of `record`, with what has been counted since its last
    call, and `sending` with the sum of its changes. The others are called between trials.
    """

    before_trial: Callable[[CellInfo, int, TrialsLeft], None]
    """Called with the cell, the repeat, and what is left, including this trial."""
    after_trial: Callable[[Run, ReadTrial], None]
    """Called with a function that returns the records of the trial, decoded only if called."""
    record: Callable[[Record], None]
    sending: Callable[[int], None]
    tally: Callable[[Tally], None]


def run(
    scenario: Scenario,
    profiles: Mapping[str, dict[str, Any]],
    secrets: Mapping[str, Secrets],
    directory: Path,
    hooks: Hooks,
    executor: ExecutorChoice = ExecutorChoice(),  # noqa: B008 - has no state
    progress: RunProgress | None = None,
    plan: TrialPlan | None = None,
    twin: dict[str, Any] | None = None,
    processes: int = 1,
    gateway: OpenGateway | None = None,
) -> Run:
    """Run every trial of `scenario` into `directory`, which exists and has no other writer.

    `profiles`: by cell id, the profile of the simulated provider; empty for a real model.
    `secrets`: by cell id. `executor`: plays trials in virtual time; with a cluster, its workers
    run those in real time, too. `progress`: of the earlier
    sessions of the run. `plan`: chooses the trials while the run goes on; otherwise each setting
    has its repeats. `twin`: that a new run starts from, as in `Run`. `processes`: how many run each
    trial of a new run in real time together. `gateway`: how that of a run with the workflow
    `gateway` is reached. Returns the run
    with its final status. If it is interrupted, the status is `partial`, and all records that had
    ended are saved.
    """
    swept = cells.expand(scenario)
    blocks = () if plan else cells.order(swept, scenario.sweep.most_repeats, scenario.seed)
    begun = progress or RunProgress(
        scenario,
        describe_run(
            scenario,
            profiles,
            swept,
            blocks,
            tuned=plan is not None,
            twin=twin,
            processes=processes,
            on_cluster=executor.dask is not None and not scenario.is_virtual,
        ),
    )
    begun = begun._replace(output=directory / OUTPUT_FILE, gateway=gateway)
    run_directory.write_whole(directory / run_directory.RUN_FILE, begun.run)
    counted = is_counted(scenario)
    marks = AnswerMarks(begun)
    has_metrics = any(
        mine.endpoint.facts.metrics for mine in cells.scenarios_by_cell(scenario).values()
    )
    several = begun.run.processes > 1 and not begun.run.on_cluster
    open_writer = partial(
        run_directory.Writer,
        directory, scenario.transcripts, counted, scenario.records, has_metrics, plan is not None,
    )  # fmt: skip
    others: Literal["start", "none"] = "start" if several else "none"
    with open_writer(others, workers=begun.run.on_cluster) as writer:
        if plan is None:
            looks = scenario.sweep.looks
            todo = trial_batches(blocks, looks, begun.whole, judge_records(directory))
        else:
            todo = plan(begun, directory, writer.append)
        if begun.run.virtual:
            stopped = _play_all(begun, todo, writer, hooks, executor)
        else:
            apart = _trial_shares(begun, executor, writer, partial(open_writer, "join"))
            stopped = _measure_all(begun, secrets, todo, writer, hooks, marks, apart)
    if stopped is None and plan is not None:
        stopped = _ended_by_budget(directory)
    finished = msgspec.structs.replace(
        marks.marking(begun.run), status="partial" if stopped else "complete", stopped=stopped
    )
    run_directory.write_whole(directory / run_directory.RUN_FILE, finished)
    if stopped is not None and stopped.by == "first_call":
        raise FirstAnswerError(f"{stopped.because}; recorded in {directory}")
    return finished


def _ended_by_budget(directory: Path) -> Stop | None:
    """Return that a tune ended because of its budget; None if it did not."""
    last = next(reversed(list(run_directory.each(directory, TuneBlock))), None)
    if last is None or not last.over_budget:
        return None
    return Stop(by="budget", because=last.end)


def _trial_shares(
    begun: RunProgress,
    executor: ExecutorChoice,
    writer: run_directory.Writer,
    join_writing: Callable[[], run_directory.Writer],
) -> TrialShares | None:
    """Return the processes or machines that run each trial together; None for this process alone.

    `join_writing`: returns a writer for a process that appends to the files beside others.
    """
    if executor.dask is not None:
        from harness.bench.cluster_shares import ClusterShares  # imports Dask

        return ClusterShares(executor.dask, begun, writer)
    if begun.run.processes > 1 and not begun.run.on_cluster:
        from harness.bench.share_processes import ShareProcesses

        return ShareProcesses(begun.run.processes, begun, join_writing)
    return None


def _measure_all(
    begun: RunProgress,
    secrets: Mapping[str, Secrets],
    todo: Iterator[TrialBatch],
    writer: run_directory.Writer,
    hooks: Hooks,
    marks: AnswerMarks,
    apart: TrialShares | None = None,
) -> Stop | None:
    """Run one trial after another in real time; return why they ended early.

    `apart`: the processes or machines that run each trial together; None for this process alone.
    """
    before = time.monotonic_ns()
    now = monotonic_since(begun.run.zero)
    try:
        with ExitStack() as running:
            first = next(todo, None)
            if first is None:
                return None
            if apart is not None:  # they start while the servers do
                running.enter_context(apart)
            endpoints = start_endpoints(begun, secrets, first, writer.directory, running)
            if apart is not None:
                running.callback(apart.end)  # before the servers end
                apart.prepare([endpoint.target for endpoint in endpoints.values()])
            starting = time.monotonic_ns() - before  # is not charged to the budget
            limits = limits_of(begun.scenario, begun.run.away + starting)
            ledger, answered = Ledger(limits, begun.spent), set[str]()
            rest = EndpointRest()
            for cell, repeat, left, rest_s in _each_trial(chain([first], todo)):
                endpoint = endpoints[cell.id]
                facts = endpoint.scenario.endpoint.facts
                if facts.simulation is None:
                    rest.wait(rest_s - facts.settle * begun.run.time_scale)
                name = endpoint.scenario.endpoint.model_dump_json()  # identifies the endpoint
                hooks.before_trial(cell, repeat, left)
                endpoint.server.begin_trial(cell.id, repeat)
                spending = SpendingSoFar(limits, ledger, begun.answered or name in answered)
                most = 1 if apart is None else apart.most(spending)
                shares = (
                    (WHOLE_TRIAL,)
                    if apart is None
                    else cells.shares_of_trial(begun, cell, repeat, most)
                )
                if apart is None or (len(shares) == 1 and not apart.runs_single):
                    ended = _measure(begun, cell, repeat, endpoint, spending, now, writer, hooks)
                else:
                    ended = _measure_apart(
                        begun, cell, repeat, endpoint, spending, now, writer, hooks, apart, shares
                    )
                if marks.note(ended.seen):
                    begun = begun._replace(run=marks.marking(begun.run))
                    run_directory.write_whole(writer.directory / run_directory.RUN_FILE, begun.run)
                ledger, stopped = ended.spending.ledger, ended.stopped
                if ended.spending.answered:
                    answered.add(name)
                _keep(ended.trial, ended.read, stopped, begun, writer, hooks)
                if stopped is not None:
                    return stopped
                rest.begin()
    except KeyboardInterrupt:  # between two trials, or while a server started or ended
        return INTERRUPTED
    return None


def _each_trial(
    todo: Iterable[TrialBatch],
) -> Iterator[tuple[CellInfo, int, TrialsLeft, float]]:
    """Yield each trial of the batches with what is left, including it, and the rest before it."""
    for batch in todo:
        most = len(batch.trials) + batch.later
        for done, (cell, repeat) in enumerate(batch.trials):
            yield cell, repeat, TrialsLeft(most - done, len(batch.cells)), batch.rest_s


class _Ended(NamedTuple):
    """A trial in real time that has ended, and a function that returns its records.

    `seen`: what its answers show. `spending`: at its end. `stopped`: why it ended early.
    """

    trial: Trial
    read: ReadTrial
    seen: SeenAnswers
    spending: SpendingSoFar
    stopped: Stop | None


def _measure(
    begun: RunProgress,
    cell: CellInfo,
    repeat: int,
    endpoint: RunningEndpoint,
    spending: SpendingSoFar,
    now: ReadClock,
    writer: run_directory.Writer,
    hooks: Hooks,
) -> _Ended:
    """Run one trial in real time, in this process."""

    def book(amount: Amount) -> None:
        writer.append(Spent(**amount._asdict()))

    def write(record: Record) -> None:
        writer.append(record)
        hooks.record(record)

    limits, ledger, answered = spending
    gate = Gate(
        limits,
        TokenMeter(endpoint.scenario, begun.run.zero) if limits.has_any else None,
        now,
        hooks.sending,
        ledger=ledger,
        answered=answered,
        book=book if is_counted(begun.scenario) else None,
        hopeless=hopeless_outcomes(endpoint.scenario),
    )
    written = run_directory.RecordsFrom(writer.directory)
    with _sampling(begun, cell, repeat, endpoint, now, writer):
        facts, seen = measure_share(
            begun, cell, repeat, WHOLE_TRIAL, endpoint.scenario, endpoint.target, gate, now, write
        )
    trial = trial_record(cell, repeat, begun.run.execution, [facts])
    records = TrialRecords(trial, seen.attempts, seen.calls, seen.workflows)
    if endpoint.scenario.workflow.is_gateway:  # they were not kept
        read = (written.read(Attempt), written.read(Call), written.read(Workflow))
        records = TrialRecords(trial, *read)
    spending = SpendingSoFar(limits, gate.ledger, gate.answered)
    return _Ended(trial, lambda: records, seen_answers(records.attempts), spending, facts.stopped)


def _measure_apart(
    begun: RunProgress,
    cell: CellInfo,
    repeat: int,
    endpoint: RunningEndpoint,
    spending: SpendingSoFar,
    now: ReadClock,
    writer: run_directory.Writer,
    hooks: Hooks,
    apart: TrialShares,
    shares: Sequence[TrialShare],
) -> _Ended:
    """Run one trial in real time in several processes, which send or write its records."""
    from harness.bench.share_processes import ShareTask
    from harness.bench.together import shared_folder

    def report(progress: ShareProgress) -> None:
        hooks.tally(progress.tally)
        hooks.sending(progress.sending)

    written = run_directory.RecordsFrom(writer.directory)
    with shared_folder() as folder, _sampling(begun, cell, repeat, endpoint, now, writer):
        began, cpu = now(), time.process_time_ns()
        ended = apart.measure(
            [ShareTask(cell, repeat, share, endpoint.target, spending, folder) for share in shares],
            endpoint.scenario,
            report,
        )
        cpu = time.process_time_ns() - cpu
    own = ShareFacts((began, now()), cpu, 0)
    facts = [share.facts for share in ended.shares] or [own]
    trial = msgspec.structs.replace(
        trial_record(cell, repeat, begun.run.execution, facts),
        cpu=cpu + sum(share.facts.cpu for share in ended.shares),
        interrupted=ended.stopped is not None,
        processes=len(shares),
    )

    def read() -> TrialRecords:
        return TrialRecords(
            trial, written.read(Attempt), written.read(Call), written.read(Workflow)
        )

    seen = [share.seen for share in ended.shares]
    marked = SeenAnswers(any(one.marked for one in seen), any(one.unmarked for one in seen))
    return _Ended(trial, read, marked, ended.spending, ended.stopped)


@contextmanager
def _sampling(
    begun: RunProgress,
    cell: CellInfo,
    repeat: int,
    endpoint: RunningEndpoint,
    now: ReadClock,
    writer: run_directory.Writer,
) -> Iterator[None]:
    """Read the metrics of the server during a trial, and write them at its end."""
    from harness.bench.server_metrics import sampling

    server, key = endpoint.server, (cell.id, repeat, begun.run.execution)
    with sampling(
        server.metrics_url, server.metrics_key, now, key, endpoint.target.request
    ) as samples:
        yield
    for sample in samples:
        writer.append(sample)


def _play_all(
    begun: RunProgress,
    todo: Iterator[TrialBatch],
    writer: run_directory.Writer,
    hooks: Hooks,
    executor: ExecutorChoice,
) -> Stop | None:
    """Play the trials in virtual time; return why they ended early."""
    counted = is_counted(begun.scenario)

    def keep(played: Played) -> None:
        task = played.task
        hooks.before_trial(task.cell, task.repeat, left[task.number])
        if counted:  # before the records, so that a killed run has not spent less than they say
            writer.append(Spent(**played.account.ledger.spent._asdict()))
        for kind, lines in played.lines.items():
            writer.extend(kind, lines)
        if played.file is not None:
            from harness.store.trial_files import trial_path  # imports NumPy

            writer.add_file(trial_path(writer.directory, played.trial), played.file)
        _keep(played.trial, played.records, played.stopped, begun, writer, hooks)

    left: list[TrialsLeft] = []

    def each_batch() -> Iterator[Sequence[Task]]:
        for batch in todo:
            tasks = []
            for cell, repeat, rest, _ in _each_trial([batch]):
                tasks.append(Task(len(left), cell, repeat))
                left.append(rest)
            yield tasks

    return play_in_order(executor.open(begun), each_batch(), keep, hooks.tally)


def _keep(
    trial: Trial,
    read: ReadTrial,
    stopped: Stop | None,
    begun: RunProgress,
    writer: run_directory.Writer,
    hooks: Hooks,
) -> None:
    """Write the record of a trial, unless its file has it."""
    if is_recorded(stopped):
        if begun.scenario.records == "full":
            is_real = not begun.run.virtual  # a virtual one can be run again
            if is_real:  # so that no trial is recorded without its records
                writer.sync()
            writer.append(trial)
            if is_real:
                writer.sync()
        with run_directory.no_collector():
            hooks.after_trial(begun.run, read)


def describe_run(
    scenario: Scenario,
    profiles: Mapping[str, dict[str, Any]],
    swept: tuple[CellInfo, ...],
    blocks: tuple[tuple[CellInfo, ...], ...],
    *,
    tuned: bool = False,
    twin: dict[str, Any] | None = None,
    processes: int = 1,
    on_cluster: bool = False,
) -> Run:
    """Return the record of a run that begins now.

    `profiles`: as in `run`. `tuned`, `twin`, `processes`: as in `Run`.
    """
    own = cells.scenarios_by_cell(scenario)
    prices = {cell: mine.price.as_dict() if mine.price else None for cell, mine in own.items()}
    limits = [mine.workflow.max_tokens for mine in own.values()]
    phases = tuple(
        msgspec.structs.replace(info, max_tokens=None)
        if any(limit[info.setting] != info.max_tokens for limit in limits)
        else info
        for info in scenario.plan.phases
    )
    profile, price = profiles.get(swept[0].id), prices[swept[0].id]
    packages = ("openai", "aiohttp", "httpx2", "uvloop", *scenario.endpoint.facts.packages)
    return Run(
        schema=SCHEMA,
        run_id=new_run_id(),
        name=scenario.name,
        status="running",
        anchor=take_anchor(),
        seed=scenario.seed,
        simulated=profile is not None,
        virtual=scenario.is_virtual,
        time_scale=scenario.time_scale,
        cells=swept,
        repeats=scenario.sweep.most_repeats,
        order=tuple(tuple(cell.id for cell in block) for block in blocks),
        scenario=scenario.as_dict(),
        phases=phases,
        endpoint=cells.endpoint_headings(scenario),
        profile=profile,
        code={cell.id: code_of_cell(own[cell.id], cell) for cell in swept},
        price=price,
        profiles={cell: other for cell, other in profiles.items() if other != profile},
        prices={cell: other for cell, other in prices.items() if other != price},
        tuned=tuned,
        twin=twin,
        processes=processes,
        on_cluster=on_cluster,
        versions={
            "harness": harness.__version__,
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in packages},
            **code_versions(scenario),
        },
        host={
            "system": platform.system(),
            "release": platform.release(),
            "machine": platform.machine(),
            "cpus": os.cpu_count(),
        },
    )
