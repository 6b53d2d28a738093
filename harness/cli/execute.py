"""Runs a scenario: the checks before it, the trials, then the traces, summary and report."""

from __future__ import annotations

import argparse
import functools
import math
import os
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from harness.analysis.model import Summary
from harness.bench import preflight
from harness.bench.cells import endpoint_headings, scenarios_by_cell, server_key
from harness.bench.estimate import Estimate, of_chosen_trials
from harness.bench.executors import chosen_executor
from harness.bench.resume import RunProgress, changes, progress_of, require_profiles, with_budget
from harness.bench.runner import Hooks, ReadTrial, TrialPlan, run
from harness.bench.scenario import Scenario
from harness.bench.user_code import check_code, code_versions, refusing_requests
from harness.cli.gateway import lines_for_shell
from harness.cli.live import LIVE_VIEW, Counters, LiveView, Race
from harness.cli.main import EXIT_INTERRUPTED
from harness.cli.plan import confirm, estimate_run, profiles_of
from harness.cli.results import show_results
from harness.cli.views import RUN_CONTINUES, Views, warn
from harness.config.prices import cost_usd
from harness.config.request_settings import Secrets
from harness.records.errors import HarnessError, InputError
from harness.records.schema import Attempt, Record, Run, Trial
from harness.records.tune_blocks import TRIALS_A_BLOCK, TuneBlock
from harness.report.next_steps import Rerun
from harness.report.wording import cell_labels
from harness.simulator.profiles import Profile
from harness.store.run_directory import (
    RUN_FILE,
    SUMMARY_FILE,
    each,
    no_collector,
    read_run,
    require_run,
)
from harness.store.run_lock import locked
from harness.store.trial_reader import TrialReader
from harness.telemetry.content import CAPTURE_VARIABLE as CONTENT
from harness.telemetry.content import capture
from harness.telemetry.delivery_log import DeliveryAccount, without_span
from harness.telemetry.export import AT_THE_END, MOST_TRACED_CALLS, Exporter, export_stored
from harness.telemetry.jaeger import require_address
from harness.telemetry.log_lines import RunLog, logging_to
from harness.telemetry.otlp_target import OtlpTarget, open_target, switched_off
from harness.telemetry.resource import RESOURCE_VARIABLE, parse_pairs
from harness.workflows.gateway import OpenGateway

EXIT_BUDGET = 3
EXIT_NO_SUCCESS = 1
_EXIT_STOPPED = {
    "budget": EXIT_BUDGET,
    "interrupt": EXIT_INTERRUPTED,
    "first_call": EXIT_INTERRUPTED,
    "lost_process": HarnessError.exit_code,
}
"""The exit code of a run that ended early, by what ended it."""


def start_run(
    scenario: Scenario,
    profiles: Mapping[str, Profile],
    expected: Estimate | None,
    options: argparse.Namespace,
    *,
    is_tune: bool = False,
    twin: dict[str, Any] | None = None,
    gateway: OpenGateway | None = None,
) -> int:
    """Check that the run can begin, ask for confirmation, run it, and return the exit code.

    `is_tune`: choose the trials while the run goes on. `twin`: the profile that a tune starts from.
    `gateway`: how that of a run with the workflow `gateway` is reached; such a run sends nothing of
    its own, so that there is nothing to expect and to confirm.
    """
    preflight.require_free(options.out)
    _tell_code(scenario, options)
    with refusing_requests(scenario):
        check_code(scenario)
        keys = _preflight(scenario, options)
        if expected is not None:
            confirm(scenario, expected, options.yes, options.quiet)
        _wait(scenario, keys, options)
        directory = preflight.run_directory(scenario.name, options.out)
        with locked(directory):
            plain = _plain(profiles)
            return _execute(
                scenario, plain, keys, directory, expected, options, None, is_tune, twin, gateway
            )


def resume_run(options: argparse.Namespace) -> int:
    """Continue the run that the options name, and return the exit code."""
    for name in ("scenario", "out", "dry_run", "endpoint", "model", "api_key_env", "twin"):
        if getattr(options, name, None):
            raise InputError(
                f"--resume {options.resume}: {name} cannot be given with it; the run has its own"
            )
    directory = require_run(options.resume, "--resume ")
    with locked(directory):
        before = read_run(directory)
        if before.serves_requests:
            raise InputError(
                f"--resume {options.resume}: is a run of a gateway, which ended with it; start "
                "another one with `harness gateway`; `harness fit` takes several runs"
            )
        was_complete = before.status == "complete"
        progress = with_budget(progress_of(directory), options.set)
        scenario = progress.scenario
        profiles = profiles_of(scenario, str(directory / RUN_FILE))
        require_profiles(progress.run, _plain(profiles))
        for line in changes(progress.run, scenario):
            warn(line)
        if was_complete and not options.quiet:
            warn(f"{directory}: the run is complete, so nothing is left to run")
        _tell_code(scenario, options)
        _require_same_processes(progress.run, options)
        _require_same_place(progress.run, options)
        with refusing_requests(scenario):
            check_code(scenario)
            keys = _preflight(scenario, options)
            is_tune = progress.run.tuned
            expected = estimate_run(scenario, profiles)
            if is_tune:
                expected = of_chosen_trials(expected, TRIALS_A_BLOCK)
            if not was_complete:
                confirm(scenario, expected, options.yes, options.quiet)
                _wait(scenario, keys, options)
            return _execute(
                scenario, _plain(profiles), keys, directory, expected, options, progress, is_tune
            )


def _require_same_processes(run: Run, options: argparse.Namespace) -> None:
    if options.processes not in (None, run.processes):
        raise InputError(
            f"--processes {options.processes}: the run began with {run.processes}, and a resumed "
            "run keeps that number, so that all its trials measure the same; leave it out"
        )


def _require_same_place(run: Run, options: argparse.Namespace) -> None:
    if run.virtual or run.on_cluster == (options.dask is not None):
        return
    if run.on_cluster:
        raise InputError(
            f"--resume {options.resume}: the run is measured on a Dask cluster; add --dask "
            "SCHEDULER with the address of its scheduler"
        )
    raise InputError(
        f"--dask {options.dask}: the run began on one machine, and a resumed run goes on there, so "
        "that all its trials measure the same; leave it out"
    )


def _preflight(scenario: Scenario, options: argparse.Namespace) -> dict[str, Secrets]:
    """Check that the run can begin, and return the secrets of its endpoints by cell id."""
    executor = chosen_executor(scenario, options.jobs, options.dask)
    if options.processes is not None and options.dask is not None:
        raise InputError(
            f"--dask {options.dask}: --processes {options.processes} is for the processes of this "
            "machine; leave out one"
        )
    if options.processes is not None:
        preflight.check_processes(scenario, options.processes)
    open_target(options.otlp, os.environ)
    open_target(options.otlp, os.environ, signal="metrics")
    require_address(os.environ)
    parse_pairs(RESOURCE_VARIABLE, os.environ.get(RESOURCE_VARIABLE, ""))
    own = scenarios_by_cell(scenario)
    keys = {}
    for cell, mine in own.items():
        environment = preflight.environment_for([mine], os.environ)
        keys[cell] = preflight.secrets(mine, environment)
        preflight.environment_of(mine)
    if scenario.is_virtual:
        preflight.enough_files(executor.jobs)
    else:
        preflight.open_files(scenario)
    if not options.no_preflight:
        endpoints = {mine.endpoint.model_dump_json(): mine.endpoint for mine in own.values()}
        for endpoint in endpoints.values():
            endpoint.check()
    executor.check(scenario)
    return keys


def _tell_code(scenario: Scenario, options: argparse.Namespace) -> None:
    """Say which programs of the user the run is about to execute."""
    if not options.quiet:
        for code in code_versions(scenario).values():
            print(f"program {code}", file=sys.stderr)


def _wait(scenario: Scenario, keys: Mapping[str, Secrets], options: argparse.Namespace) -> None:
    """Wait until the servers of the run answer, and check that they do."""
    waited = set()
    for cell, mine in scenarios_by_cell(scenario).items():
        one = (keys[cell], server_key(mine))
        if one not in waited:
            mine.endpoint.wait(keys[cell], _say_nothing if options.quiet else warn)
            waited.add(one)


def _say_nothing(_: str) -> None:
    pass


def _plain(profiles: Mapping[str, Profile]) -> dict[str, dict[str, Any]]:
    return {cell: profile.as_dict() for cell, profile in profiles.items()}


def _execute(
    scenario: Scenario,
    profiles: Mapping[str, dict[str, Any]],
    keys: Mapping[str, Secrets],
    directory: Path,
    expected: Estimate | None,
    options: argparse.Namespace,
    progress: RunProgress | None,
    is_tune: bool,
    twin: dict[str, Any] | None = None,
    gateway: OpenGateway | None = None,
) -> int:
    """Run the trials into `directory`, write and show what follows, and return the exit code.

    `profiles` and `keys`: by cell id. `progress`: of the run to resume, None for a new run, which
    starts from `twin`.
    """
    target = open_target(options.otlp, os.environ)
    silent = options.quiet or options.json
    if not silent:
        print(f"{scenario.name} into {directory}\n{endpoint_headings(scenario)}", file=sys.stderr)
    _warn_of_variables(scenario, options)
    for_metrics = open_target(options.otlp, os.environ, signal="metrics")
    traces = _exporter(scenario, expected, directory, target, for_metrics)
    views = Views(directory)
    counters = _counters(scenario, progress, each(directory, Attempt), expected)
    log = RunLog(lambda: read_run(directory)) if options.log_level else None
    # Among log lines the live view is plain lines, also on a terminal.
    # The file is given, as what a program prints to sys.stderr goes elsewhere meanwhile.
    console = Console(
        file=sys.stderr, stderr=True, quiet=silent, force_terminal=False if log else None
    )
    with (
        logging_to(sys.stderr, options.log_level, options.log_format),
        LiveView(counters, console, views) as view,
    ):
        hooks = _hooks(view, traces, counters, log, views)
        executor = chosen_executor(scenario, options.jobs, options.dask)
        several = options.processes or 1
        if executor.dask is not None and not scenario.is_virtual:
            several = executor.check(scenario) or 1
        plan = _tune_plan(directory, view, views, silent) if is_tune else None
        if gateway is not None:
            gateway = _shown_in(view, gateway, live=console.is_terminal and not silent)
        finished = run(
            scenario, profiles, keys, directory, hooks, executor, progress, plan, twin,
            several, gateway,
        )  # fmt: skip
    if gateway is not None and finished.stopped is None and not counters.total.workflows:
        warn(f"no request has ended at the gateway, so {directory} has nothing to report")
        return 0
    account = None
    try:
        with views.making("the traces", views.traces_again):
            account = finish_traces(
                finished, traces, directory, target, for_metrics, wait=options.otlp_wait
            )
        if (
            account is None
            and traces is None
            and expected is not None
            and (options.verbose or options.otlp)
        ):
            _warn_of_no_traces(scenario, expected, directory)
        return _show(scenario, finished, account, directory, options, views)
    except KeyboardInterrupt:
        warn(f"interrupted; {_next_command(finished, directory)}")
        return EXIT_INTERRUPTED


def _shown_in(view: LiveView, gateway: OpenGateway, *, live: bool) -> OpenGateway:
    """Return a gateway whose lines appear above the live view, where there is one."""

    def ready(url: str) -> None:
        if live:
            for line in lines_for_shell(url):
                view.line(line)
        else:
            gateway.ready(url)
        view.line("Ctrl-C ends the gateway and shows what it recorded")

    return gateway._replace(ready=ready, say=view.line)


def _next_command(finished: Run, directory: Path) -> str:
    """Return what to do about a run whose results were not shown, because of Ctrl-C."""
    if finished.stopped is None:
        return f"the run is complete: `harness report {directory}` shows its results"
    if finished.serves_requests:
        return f"`harness report {directory}` shows what was recorded"
    return f"`harness run --resume {directory}` continues the run"


def _show(
    scenario: Scenario,
    finished: Run,
    account: DeliveryAccount | None,
    directory: Path,
    options: argparse.Namespace,
    views: Views,
) -> int:
    """Write the summary and the views of a run, show its results, and return the exit code."""
    summary = None
    with views.making("summary.json", views.report_again):
        summary = _summarise(finished, directory, views)
    if account is not None:
        _warn_of_delivery(account, directory)
    stopped = finished.stopped
    if stopped is not None and stopped.by == "budget":
        warn(f"stopped: {stopped.because}")
    if stopped is not None and stopped.by == "lost_process":
        warn(f"stopped: {stopped.because}; {_next_command(finished, directory)}")
    interrupted = finished.stopped is not None and finished.stopped.by == "interrupt"
    if interrupted and (options.quiet or options.json or summary is None):
        warn(f"interrupted; {_next_command(finished, directory)}")
    if summary is not None and options.json:
        sys.stdout.write((directory / SUMMARY_FILE).read_text())
    elif summary is not None and not options.quiet:
        show_results(
            summary,
            directory,
            views,
            verbose=options.verbose,
            interrupted=interrupted,
            rerun=rerun_of(options, scenario, finished),
        )
    return _exit_code(finished, summary)


def _warn_of_variables(scenario: Scenario, options: argparse.Namespace) -> None:
    """Warn of variables of the environment without the effect that the user may expect."""
    if options.otlp and (off := switched_off(os.environ)):
        warn(f"{off} is set: no span is sent to {options.otlp}")
    if capture(os.environ) and not scenario.transcripts:
        warn(f"{CONTENT} is set, but without transcripts = true there is no content to send")


def _warn_of_no_traces(scenario: Scenario, expected: Estimate, directory: Path) -> None:
    because = (
        "the run keeps a summary only"
        if scenario.records == "summary"
        else f"{expected.calls} planned calls are more than {MOST_TRACED_CALLS}"
    )
    warn(
        f"no traces: {because}; "
        f"`harness trace export {directory}` writes them, and sends them with --endpoint URL"
    )


def _exporter(
    scenario: Scenario,
    expected: Estimate | None,
    directory: Path,
    target: OtlpTarget | None,
    for_metrics: OtlpTarget | None,
) -> Exporter | None:
    """Return what makes the traces while the run goes on.

    None for a run in virtual time that is long or keeps a summary only.
    """
    # Decided by the scenario alone, so that the same run always writes the same files.
    calls = 0 if expected is None else expected.calls
    is_long = scenario.is_virtual and calls > MOST_TRACED_CALLS
    if is_long or scenario.records == "summary":
        return None
    earlier = each(directory, Trial)
    return Exporter(
        directory,
        target,
        os.environ,
        _is_reachable(target),
        earlier=earlier,
        metrics_target=for_metrics,
    )


def finish_traces(
    finished: Run,
    traces: Exporter | None,
    directory: Path,
    target: OtlpTarget | None,
    for_metrics: OtlpTarget | None,
    *,
    wait: bool,
) -> DeliveryAccount | None:
    """Complete the traces of a run; None if none were made."""
    account = None if traces is None else traces.finish(finished, wait=wait)
    is_wanted = (target or for_metrics) is not None and wait
    # An earlier session that was killed left incomplete traces, or none.
    if is_wanted if traces is None else finished.resumed:
        seconds = math.inf if wait else AT_THE_END
        stored = TrialReader(directory)
        return export_stored(
            directory, stored, target, os.environ, seconds=seconds, metrics_target=for_metrics
        )
    return account


def _hooks(
    view: LiveView, traces: Exporter | None, counters: Counters, log: RunLog | None, views: Views
) -> Hooks:
    """Build the hooks of the run. While a trial is measured, they call only counters and log."""
    live = functools.partial(views.safe, LIVE_VIEW, way_out=RUN_CONTINUES)
    export = None
    if traces is not None:
        export = views.safe("the traces", traces.after_trial, views.traces_again)
    before_trial, note = live(view.before_trial), live(counters.note)
    sending, add = live(counters.sending), live(counters.add)
    if log is None:

        def export_trial(the_run: Run, read: ReadTrial) -> None:
            if export is not None:  # otherwise the records are not decoded
                export(the_run, read())

        return Hooks(before_trial, export_trial, note, sending, add)
    log_record = views.safe("the log", log.record, RUN_CONTINUES)
    log_trial = views.safe("the log", log.after_trial, RUN_CONTINUES)

    def after_trial(the_run: Run, read: ReadTrial) -> None:
        records = read()
        if (
            the_run.virtual or the_run.on_cluster or records.trial.processes > 1
        ):  # its records have not been passed to `record`
            ended: list[Record] = [*records.attempts, *records.calls]
            for one in ended:
                log_record(one)
        log_trial(records.workflows)
        if export is not None:
            export(the_run, records)

    def record(record: Record) -> None:
        note(record)
        log_record(record)

    return Hooks(before_trial, after_trial, record, sending, add)


def _summarise(finished: Run, directory: Path, views: Views) -> Summary:
    """Write the summary, the plots and the report; after Ctrl-C only the summary, which is fast."""
    # Imported late: importing the analysis and the plots takes longer than starting a run.
    from harness.analysis.selection import Dataset
    from harness.analysis.summary import write_summary

    with no_collector():
        records = Dataset.read(directory)
        summary = write_summary(directory, records)
        if finished.stopped is None or finished.stopped.by != "interrupt":
            with views.making("the plots and the report", views.report_again):
                from harness.cli.report import draw

                draw(summary, records, directory, views)
    return summary


def _is_reachable(target: OtlpTarget | None) -> bool:
    """Return whether the collector accepts connections; print a warning if it does not."""
    if target is None:
        return True
    from harness.telemetry.otlp_http import check_collector

    problem = check_collector(target)
    if problem:
        warn(f"{problem}; the run continues, and the collector is tried again at its end")
    return problem is None


def _counters(
    scenario: Scenario, progress: RunProgress | None, earlier: Iterable[Attempt],
    expected: Estimate | None,
) -> Counters:  # fmt: skip
    prices = {cell: mine.price for cell, mine in scenarios_by_cell(scenario).items()}
    trials = 1 if expected is None else expected.trials
    ended = {trial: len(ended) for trial, ended in progress.ended.items()} if progress else {}

    def cost(attempt: Attempt) -> float:
        price = prices[attempt.cell]
        return cost_usd(price, attempt.tokens, time.time_ns()) if price else 0.0

    is_priced = any(prices.values())
    spent = sum(map(cost, earlier)) if is_priced else 0.0
    workflows, cost_of = scenario.load.workflows, cost if is_priced else None
    sweep = scenario.sweep
    race = Race(len(prices), sweep.most_repeats) if sweep.repeats == "auto" else None
    is_told = expected is None or expected.a_block is not None  # each decision of a tune is a line
    return Counters(trials, workflows, cost_of, scenario.is_virtual, ended, spent, race, is_told)


def _tune_plan(directory: Path, view: LiveView, views: Views, silent: bool) -> TrialPlan:
    """Return what chooses the trials of a tune. Each decision is shown in one line."""
    from harness.analysis.summary import change_of_provider
    from harness.report.tune_text import PROVEN, block_line
    from harness.tune.blocks import TunePlan  # imports the twin

    def tell(block: TuneBlock) -> None:
        if not silent:
            labels = cell_labels(read_run(directory).cells)
            changed = change_of_provider(directory) if block.end == PROVEN else None
            view.line(block_line(block, labels, changed))

    return TunePlan(views.safe(LIVE_VIEW, tell, RUN_CONTINUES))


def _warn_of_delivery(account: DeliveryAccount, directory: Path) -> None:
    if account.undelivered or account.refused:
        warn(
            f"{account.undelivered} of {account.made} spans not delivered, {account.refused} "
            f"refused: {account.problem or 'no time was left'}; they can still be sent: "
            f"harness trace export {directory} --endpoint {account.endpoint}"
        )
    metrics = account.metrics
    if metrics is not None and metrics.is_incomplete:
        warn(
            f"{metrics.undelivered} of {metrics.made} data points of metrics not delivered, "
            f"{metrics.refused} refused: {metrics.problem or 'no time was left'}; they can still "
            f"be sent: harness trace export {directory}"
        )
    if account.left_out:
        warn(without_span(account))


def rerun_of(options: argparse.Namespace, scenario: Scenario, finished: Run) -> Rerun | None:
    """Return how to run the scenario again; None for a resumed run, and for a gateway."""
    if options.scenario is None or finished.serves_requests:
        return None
    own = {"--endpoint": options.endpoint, "--model": options.model}
    own["--api-key-env"] = options.api_key_env
    own["--twin"] = options.twin if finished.tuned else None
    words = [word for name, value in own.items() if value is not None for word in (name, value)]
    budget = scenario.budget.model_dump(exclude_none=True)
    settle = scenario.endpoint.facts.settle
    verb: Literal["run", "tune"] = "tune" if finished.tuned else "run"
    blocks = finished.repeats if finished.tuned else 0
    return Rerun(
        options.scenario, tuple(options.set), tuple(words), budget, settle, verb,
        options.processes or 1, blocks,
    )  # fmt: skip


def _exit_code(finished: Run, summary: Summary | None) -> int:
    if finished.stopped is not None:
        return _EXIT_STOPPED[finished.stopped.by]
    if summary is None:
        return HarnessError.exit_code
    if finished.serves_requests:
        return 0  # whatever became of them, it has served them
    rates = [cell.success_rate.value for cell in summary.cells if cell.success_rate]
    return 0 if any(rates) else EXIT_NO_SUCCESS
