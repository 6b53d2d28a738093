"""Runs the trials of a scenario and writes down what happens."""

from __future__ import annotations

import gc
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

import harness
from harness.bench import cells
from harness.bench.modes import MODES
from harness.bench.resume import RunProgress
from harness.bench.scenario import Scenario
from harness.bench.spending import TokenMeter, explain, hopeless, is_counted, limits_of
from harness.bench.trial import RecordCollector, Tally, TrialRecords
from harness.bench.virtual import Played, Setting, Task
from harness.bench.workers import play_in_order
from harness.endpoints.section import EndpointServer
from harness.engine.budget_gate import BudgetExhaustedError, FirstCallError, Gate
from harness.engine.ledger import Amount, Ledger
from harness.records.clock import Anchor, monotonic_since, take_anchor
from harness.records.errors import FirstAnswerError
from harness.records.histogram import Histogram
from harness.records.ids import new_run_id
from harness.records.schema import (
    SCHEMA,
    Attempt,
    Call,
    CellInfo,
    Record,
    Run,
    RunStatus,
    Spent,
    Stop,
    Transcript,
    Trial,
    Workflow,
)
from harness.store import run_directory
from harness.transports.exchange import Target


class Hooks(NamedTuple):
    """What the caller wants to be told.

    `record`, `sending` and `tally` are called while a trial is measured and must do no more than
    count: each record as it ends, each attempt that goes out (1) or comes back (-1), and in virtual
    time, instead of these, how many records there were since the last time. The others are called
    between trials.
    """

    before_trial: Callable[[CellInfo, int, int], None]
    """The cell, its repeat, and how many trials are still to come, this one included."""
    after_trial: Callable[[Run, TrialRecords], None]
    record: Callable[[Record], None]
    sending: Callable[[int], None]
    tally: Callable[[Tally], None]


def run(
    scenario: Scenario,
    profile: dict[str, Any] | None,
    api_key: str,
    directory: Path,
    hooks: Hooks,
    jobs: int = 1,
    progress: RunProgress | None = None,
) -> Run:
    """Run every trial of `scenario` into `directory`, which exists and which nobody else writes to.

    `profile`: what the simulated provider simulates, None for a real model. `api_key` is for a
    live endpoint. `jobs`: how many processes play the trials of virtual time. Returns the run with
    its final status: `partial` when it was interrupted, in which case all that had ended is saved.
    `progress`: how far an earlier session of the same run had come.
    """
    anchor = take_anchor()
    swept = cells.expand(scenario)
    blocks = cells.order(swept, scenario.sweep.repeats, scenario.seed)
    begun = progress or RunProgress(_describe(scenario, profile, anchor, swept, blocks))
    the_run = begun.run
    run_directory.write_whole(directory / run_directory.RUN_FILE, the_run)
    todo = [
        (cell, repeat)
        for repeat, block in enumerate(blocks)
        for cell in block
        if (cell.id, repeat) not in begun.whole
    ]
    with run_directory.Writer(directory, scenario.transcripts, is_counted(scenario)) as writer:
        if the_run.virtual:
            assert profile is not None, "virtual time is for the simulated provider"
            setting = Setting(
                scenario, profile, the_run, begun.spent, begun.elapsed, begun.answered
            )
            stopped = _play_all(setting, begun, todo, writer, hooks, jobs)
        else:
            stopped = _measure_all(scenario, begun, api_key, todo, writer, hooks)
    finished = _finish(directory, the_run, stopped)
    if stopped is not None and stopped.by == "first_call":
        raise FirstAnswerError(f"{stopped.because}; recorded in {directory}")
    return finished


def _measure_all(
    scenario: Scenario,
    begun: RunProgress,
    api_key: str,
    todo: Sequence[tuple[CellInfo, int]],
    writer: run_directory.Writer,
    hooks: Hooks,
) -> Stop | None:
    """Run one trial after another in real time; return what ended them early."""
    log = writer.directory / run_directory.provider_log(begun.run.execution)
    before = time.monotonic_ns()
    try:
        with scenario.endpoint.server(api_key, scenario.seed, log) as server:
            starting = time.monotonic_ns() - before
            trials = _Trials(scenario, begun, server, writer, hooks, starting)
            try:
                for done, (cell, repeat) in enumerate(todo):
                    hooks.before_trial(cell, repeat, len(todo) - done)
                    ended = trials.run(cell, repeat)
                    writer.append(ended.trial)
                    with run_directory.no_collector():
                        hooks.after_trial(begun.run, ended)
                    if trials.stopped:
                        break
            except FirstCallError as error:
                because = hopeless(scenario, trials.target.base_url, error.attempt)
                return Stop(by="first_call", because=because)
            return trials.stopped
    except KeyboardInterrupt:  # between two trials, or while the server started or ended
        return Stop(by="interrupt", because="interrupted")


def _play_all(
    setting: Setting,
    begun: RunProgress,
    todo: Sequence[tuple[CellInfo, int]],
    writer: run_directory.Writer,
    hooks: Hooks,
    jobs: int,
) -> Stop | None:
    """Play the trials in virtual time; return what ended them early."""
    tasks = [
        Task(number, cell, repeat, begun.finished(cell.id, repeat))
        for number, (cell, repeat) in enumerate(todo)
    ]
    counted = is_counted(setting.scenario)

    def keep(played: Played) -> None:
        task = played.task
        hooks.before_trial(task.cell, task.repeat, len(todo) - task.number)
        if counted:  # before the records: whoever is killed in between has spent them
            writer.append(Spent(**played.account.ledger.spent._asdict()))
        for kind, lines in zip((Attempt, Call, Workflow, Transcript), played.lines, strict=True):
            writer.extend(kind, lines)
        if played.hopeless is None:
            writer.append(played.trial)
            with run_directory.no_collector():
                hooks.after_trial(setting.run, played.records())

    stopped = play_in_order(setting, tasks, jobs, keep, hooks.tally)
    if isinstance(stopped, Attempt):
        because = hopeless(setting.scenario, "the simulated provider", stopped)
        return Stop(by="first_call", because=because)
    return stopped


def _finish(directory: Path, the_run: Run, stopped: Stop | None) -> Run:
    """Write and return the run as it ended."""
    status: RunStatus = "partial" if stopped else "complete"
    finished = msgspec.structs.replace(the_run, status=status, stopped=stopped)
    run_directory.write_whole(directory / run_directory.RUN_FILE, finished)
    return finished


def target_of(scenario: Scenario, the_run: Run, server: EndpointServer) -> Target:
    """Return where the attempts of a run go: `server`, which has been started."""
    endpoint, facts = scenario.endpoint, scenario.endpoint.facts
    by_phase = facts.extra_body_by_phase
    return Target(
        base_url=server.base_url,
        api_key=server.api_key,
        model=endpoint.model,
        stream=endpoint.stream,
        extra_body=facts.extra_body,
        run_id=the_run.run_id,
        anchor=the_run.zero,
        simulated=facts.simulation is not None,
        extra_body_by_phase={
            info.name: by_phase.get(info.setting, {}) for info in scenario.plan.phases
        },
        settings={info.name: info.setting for info in scenario.plan.phases},
        reuse_connections=facts.reuse_connections,
        own_server=facts.own_server,
    )


class _Trials:
    """Runs one trial after another against the same server.

    `starting`: nanoseconds that the server took to start, which no budget pays for.
    """

    def __init__(
        self,
        scenario: Scenario,
        begun: RunProgress,
        server: EndpointServer,
        writer: run_directory.Writer,
        hooks: Hooks,
        starting: int,
    ) -> None:
        the_run = begun.run
        self._hooks = hooks
        self._scenario = scenario
        self._begun = begun
        self._server = server
        self._writer = writer
        self._now = monotonic_since(the_run.zero)
        meter = TokenMeter(scenario, the_run.zero)
        limits = limits_of(scenario, the_run.away + starting)
        self._gate = Gate(
            limits,
            meter,
            self._now,
            hooks.sending,
            ledger=Ledger(limits, begun.spent),
            answered=begun.answered,
            book=self._note if is_counted(scenario) else None,
        )
        self.target = target_of(scenario, the_run, server)
        self.stopped: Stop | None = None

    def _note(self, amount: Amount) -> None:
        """Write down what the budget let go out, before it does."""
        self._writer.append(Spent(**amount._asdict()))

    def run(self, cell: CellInfo, repeat: int) -> TrialRecords:
        """Run one trial; Ctrl-C or a budget ends it early, which `stopped` then tells."""
        self._server.begin_trial(cell.id, repeat)
        writer, tell = self._writer, self._hooks.record

        spent: list[int] = []  # appending to it is safe in threads, adding up is not

        def keep(record: Record) -> None:
            began = time.thread_time_ns()
            writer.append(record)
            tell(record)
            spent.append(time.thread_time_ns() - began)

        seen = RecordCollector(keep)
        lag: Histogram = {}
        begun = self._begun
        finished = begun.finished(cell.id, repeat)
        program = cells.trial_program(self._scenario, begun.run, cell, repeat, finished)
        with _quiet_collector():
            began, cpu = self._now(), time.process_time_ns()
            try:
                lag = MODES[cell.mode](
                    program, self.target, cell.permits, self._now, seen.emit, self._gate
                )
            except KeyboardInterrupt:
                self.stopped = Stop(by="interrupt", because="interrupted")
            except BudgetExhaustedError as error:
                because = explain(error.refusal, self._scenario, self._gate.ledger)
                self.stopped = Stop(by="budget", because=because)
            ended, cpu = self._now(), time.process_time_ns() - cpu
        trial = Trial(
            cell=cell.id,
            repeat=repeat,
            execution=begun.run.execution,
            start=min((workflow.ready for workflow in seen.workflows), default=began),
            end=max((workflow.done for workflow in seen.workflows), default=ended),
            cpu=cpu,
            loop_lag=lag,
            interrupted=self.stopped is not None,
            recording=sum(spent),
        )
        return TrialRecords(trial, seen.attempts, seen.calls, seen.workflows)


@contextmanager
def _quiet_collector() -> Iterator[None]:
    """Keep the garbage collector off all that is there already: its pauses would be measured."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _describe(
    scenario: Scenario,
    profile: dict[str, Any] | None,
    anchor: Anchor,
    swept: tuple[CellInfo, ...],
    blocks: tuple[tuple[CellInfo, ...], ...],
) -> Run:
    return Run(
        schema=SCHEMA,
        run_id=new_run_id(),
        name=scenario.name,
        status="running",
        anchor=anchor,
        seed=scenario.seed,
        simulated=profile is not None,
        virtual=scenario.is_virtual,
        time_scale=scenario.time_scale,
        cells=swept,
        repeats=scenario.sweep.repeats,
        order=tuple(tuple(cell.id for cell in block) for block in blocks),
        scenario=scenario.as_dict(),
        phases=scenario.plan.phases,
        endpoint=scenario.endpoint.facts.heading,
        profile=profile,
        code={cell.id: scenario.policy(cell.retry).code() for cell in swept},
        price=scenario.price.as_dict() if scenario.price else None,
        versions=_versions(scenario),
        host={
            "system": platform.system(),
            "release": platform.release(),
            "machine": platform.machine(),
            "cpus": os.cpu_count(),
        },
    )


def _versions(scenario: Scenario) -> dict[str, str]:
    names = ("openai", "aiohttp", "httpx2", "uvloop", *scenario.endpoint.facts.packages)
    return {
        "harness": harness.__version__,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in names},
    }
