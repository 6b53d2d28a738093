"""Runs the trials of a scenario and writes down what happens."""

from __future__ import annotations

import gc
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

import harness
from harness.bench import cells
from harness.bench.modes import MODES
from harness.bench.resume import RunProgress
from harness.bench.scenario import Scenario, cell_scenario
from harness.bench.spending import TokenMeter, explain, hopeless, is_counted, limits_of
from harness.bench.trial import RecordCollector, Tally
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
from harness.store.run_directory import TrialRecords
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
    profiles: Mapping[str, dict[str, Any]],
    api_keys: Mapping[str, str],
    directory: Path,
    hooks: Hooks,
    jobs: int = 1,
    progress: RunProgress | None = None,
) -> Run:
    """Run every trial of `scenario` into `directory`, which exists and which nobody else writes to.

    `profiles`: by cell id, what the simulated provider simulates; empty for a real model.
    `api_keys`: by cell id. `jobs`: the number of processes for trials in virtual time.
    `progress`: how far an earlier session of the same run had come. Returns the run with its final
    status: `partial` when it was interrupted, in which case all that had ended is saved.
    """
    anchor = take_anchor()
    swept = cells.expand(scenario)
    blocks = cells.order(swept, scenario.sweep.repeats, scenario.seed)
    begun = progress or RunProgress(_describe(scenario, profiles, anchor, swept, blocks))
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
            setting = Setting(scenario, the_run, begun.spent, begun.elapsed, begun.answered)
            stopped = _play_all(setting, begun, todo, writer, hooks, jobs)
        else:
            stopped = _measure_all(scenario, begun, api_keys, todo, writer, hooks)
    finished = _finish(directory, the_run, stopped)
    if stopped is not None and stopped.by == "first_call":
        raise FirstAnswerError(f"{stopped.because}; recorded in {directory}")
    return finished


def _measure_all(
    scenario: Scenario,
    begun: RunProgress,
    api_keys: Mapping[str, str],
    todo: Sequence[tuple[CellInfo, int]],
    writer: run_directory.Writer,
    hooks: Hooks,
) -> Stop | None:
    """Run one trial after another in real time; return what ended them early."""
    own = {cell.id: cell_scenario(scenario, cell) for cell, _ in todo}
    before = time.monotonic_ns()
    try:
        with ExitStack() as running:
            servers = _started(own, api_keys, writer.directory, begun.run.execution, running)
            starting = time.monotonic_ns() - before
            targets = {
                cell: RunningEndpoint(
                    mine, servers[cell], target_of(mine, begun.run, servers[cell])
                )
                for cell, mine in own.items()
            }
            trials = _Trials(scenario, begun, targets, writer, hooks, starting)
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
                at = targets[error.attempt.cell]
                because = hopeless(at.scenario, at.target.base_url, error.attempt)
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
        cell = next(cell for cell in setting.run.cells if cell.id == stopped.cell)
        mine = cell_scenario(setting.scenario, cell)
        because = hopeless(mine, "the simulated provider", stopped)
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


class RunningEndpoint(NamedTuple):
    """A cell's scenario, its server, and how its attempts reach it."""

    scenario: Scenario
    server: EndpointServer
    target: Target

    @property
    def name(self) -> str:
        """Text that differs between cells with different endpoints."""
        return self.scenario.endpoint.model_dump_json()


_OF_REQUESTS = {
    "model", "stream", "price", "extra_body", "extra_body_by_phase", "json_mode", "cache",
    "reuse_connections",
}  # fmt: skip
"""Keys of a remote endpoint that do not change which trials have to settle after one another."""


def _started(
    scenarios: Mapping[str, Scenario],
    api_keys: Mapping[str, str],
    directory: Path,
    execution: int,
    running: ExitStack,
) -> dict[str, EndpointServer]:
    """Start a server for each endpoint of these scenarios, and return the servers by cell id."""
    started: dict[str, EndpointServer] = {}
    servers = {}
    for cell, mine in scenarios.items():
        endpoint = mine.endpoint
        other = {"price"} if endpoint.facts.own_server else _OF_REQUESTS
        same = f"{api_keys[cell]} {endpoint.model_dump_json(exclude=other)}"
        if same not in started:
            log = directory / run_directory.provider_log(execution, len(started))
            server = endpoint.server(api_keys[cell], mine.seed, log)
            started[same] = running.enter_context(server)
        servers[cell] = started[same]
    return servers


class _Trials:
    """Runs one trial after another, each against the server of its cell.

    `starting`: nanoseconds that the servers took to start, which no budget pays for.
    """

    def __init__(
        self,
        scenario: Scenario,
        begun: RunProgress,
        endpoints: Mapping[str, RunningEndpoint],
        writer: run_directory.Writer,
        hooks: Hooks,
        starting: int,
    ) -> None:
        the_run = begun.run
        self._hooks = hooks
        self._scenario = scenario
        self._begun = begun
        self._endpoints = endpoints
        self._writer = writer
        self._now = monotonic_since(the_run.zero)
        self._limits = limits_of(scenario, the_run.away + starting)
        self._ledger = Ledger(self._limits, begun.spent)
        self._answered: set[str] = set()
        self.stopped: Stop | None = None

    def _gate(self, endpoint: RunningEndpoint) -> Gate:
        """Return the gate of the next trial, which goes on from the budget spent so far."""
        return Gate(
            self._limits,
            TokenMeter(endpoint.scenario, self._begun.run.zero),
            self._now,
            self._hooks.sending,
            ledger=self._ledger,
            answered=self._begun.answered or endpoint.name in self._answered,
            book=self._note if is_counted(self._scenario) else None,
        )

    def _note(self, amount: Amount) -> None:
        """Write down what the budget let go out, before it does."""
        self._writer.append(Spent(**amount._asdict()))

    def run(self, cell: CellInfo, repeat: int) -> TrialRecords:
        """Run one trial; Ctrl-C or a budget ends it early, which `stopped` then tells."""
        endpoint = self._endpoints[cell.id]
        endpoint.server.begin_trial(cell.id, repeat)
        gate = self._gate(endpoint)
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
                    program, endpoint.target, cell.permits, self._now, seen.emit, gate
                )
            except KeyboardInterrupt:
                self.stopped = Stop(by="interrupt", because="interrupted")
            except BudgetExhaustedError as error:
                because = explain(error.refusal, self._scenario, gate.ledger)
                self.stopped = Stop(by="budget", because=because)
            ended, cpu = self._now(), time.process_time_ns() - cpu
        self._ledger = gate.ledger
        if gate.answered:
            self._answered.add(endpoint.name)
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
    profiles: Mapping[str, dict[str, Any]],
    anchor: Anchor,
    swept: tuple[CellInfo, ...],
    blocks: tuple[tuple[CellInfo, ...], ...],
) -> Run:
    first = swept[0].id
    profile = profiles.get(first)
    prices = {cell.id: _price(cell_scenario(scenario, cell)) for cell in swept}
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
        endpoint=cells.endpoint_headings(scenario),
        profile=profile,
        code={cell.id: cell_scenario(scenario, cell).policy(cell.retry).code() for cell in swept},
        price=prices[first],
        profiles={cell: own for cell, own in profiles.items() if own != profile},
        prices={cell: own for cell, own in prices.items() if own != prices[first]},
        versions=_versions(scenario),
        host={
            "system": platform.system(),
            "release": platform.release(),
            "machine": platform.machine(),
            "cpus": os.cpu_count(),
        },
    )


def _price(scenario: Scenario) -> dict[str, Any] | None:
    return scenario.price.as_dict() if scenario.price else None


def _versions(scenario: Scenario) -> dict[str, str]:
    names = ("openai", "aiohttp", "httpx2", "uvloop", *scenario.endpoint.facts.packages)
    return {
        "harness": harness.__version__,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in names},
    }
