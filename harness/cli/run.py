"""`harness run`: from a scenario file to records, spans, a summary, plots and a table."""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec

from rich.console import Console

from harness.analysis.model import Summary
from harness.bench import preflight
from harness.bench.cells import expand
from harness.bench.resume import (
    RunProgress,
    changes,
    progress_of,
    require_profiles,
    scenario_of,
    with_budget,
)
from harness.bench.runner import Hooks, run
from harness.bench.scenario import (
    Scenario,
    cell_scenario,
    distinct_endpoints,
    load_scenario,
    swept_options,
)
from harness.bench.virtual import processes
from harness.cli.live import LIVE_VIEW, Counters, LiveView
from harness.cli.plan import confirm, estimate_run, show_plan
from harness.cli.views import RUN_CONTINUES, Views
from harness.config import shipped_scenarios
from harness.config.dotenv import with_file
from harness.config.prices import cost_usd
from harness.records.errors import HarnessError, InputError
from harness.records.schema import Attempt, Record, Run
from harness.report.console import Output, wrapped
from harness.simulator.profiles import Profile, load_profile
from harness.store.run_directory import (
    RUN_FILE,
    SUMMARY_FILE,
    TrialRecords,
    no_collector,
    read_records,
    read_run,
    require_run,
)
from harness.store.run_lock import locked
from harness.telemetry.content import CAPTURE_VARIABLE as CONTENT
from harness.telemetry.content import capture
from harness.telemetry.delivery_log import DeliveryAccount, without_span
from harness.telemetry.export import AT_THE_END, TRACES, Exporter, export_stored
from harness.telemetry.jaeger import jaeger_of, links, require_address
from harness.telemetry.log_lines import RunLog, logging_to
from harness.telemetry.otlp_http import check_collector
from harness.telemetry.otlp_target import OtlpTarget, open_target, switched_off
from harness.telemetry.resource import RESOURCE_VARIABLE, parse_pairs

EXIT_INTERRUPTED = 130
EXIT_BUDGET = 3
EXIT_NO_SUCCESS = 1

Say = Callable[[str], None]
_P = ParamSpec("_P")


class _Job(NamedTuple):
    """What is run, into which directory, and how far it had come before.

    `profiles`: what the simulated provider simulates, by cell id. `keys`: the API keys, likewise.
    """

    scenario: Scenario
    profiles: Mapping[str, Profile]
    directory: Path
    keys: Mapping[str, str]
    progress: RunProgress | None = None


def run_scenario(options: argparse.Namespace) -> int:
    """Run the scenario that the options name, or go on with a run, and show what came of it."""
    if options.resume:
        return _resume(options)
    if options.scenario is None:
        raise InputError("run: no scenario; give one, or go on with a run: --resume RUN")
    scenario = load_scenario(shipped_scenarios.find(options.scenario), options.set)
    profiles = _profiles(scenario, options.scenario)
    expected = estimate_run(scenario, profiles)
    if options.dry_run:
        if not options.quiet:
            show_plan(scenario, expected, options.json)
        return 0
    keys = _preflight(scenario, options)
    confirm(scenario, expected, options.yes, options.quiet)
    directory = preflight.run_directory(scenario.name, options.out)
    with locked(directory):
        return _go(_Job(scenario, profiles, directory, keys), options)


def _resume(options: argparse.Namespace) -> int:
    """Go on with the run that `--resume` names."""
    for name in ("scenario", "out", "dry_run"):
        if getattr(options, name):
            raise InputError(
                f"--resume {options.resume}: {name} cannot be given with it; the run has its own"
            )
    directory = require_run(options.resume, "--resume ")
    with locked(directory):
        progress = with_budget(progress_of(directory), options.set)
        scenario = scenario_of(progress.run)
        profiles = _profiles(scenario, str(directory / RUN_FILE))
        require_profiles(progress.run, _plain(profiles))
        for line in changes(progress.run):
            _warn(line)
        keys = _preflight(scenario, options)
        confirm(scenario, estimate_run(scenario, profiles), options.yes, options.quiet)
        return _go(_Job(scenario, profiles, directory, keys, progress), options)


def _preflight(scenario: Scenario, options: argparse.Namespace) -> dict[str, str]:
    """Make sure that the run can begin, and return the keys of its endpoints by cell id."""
    processes(scenario, options.jobs)
    open_target(options.otlp, os.environ)
    require_address(os.environ)
    parse_pairs(RESOURCE_VARIABLE, os.environ.get(RESOURCE_VARIABLE, ""))
    own = {cell.id: cell_scenario(scenario, cell) for cell in expand(scenario)}
    keys = {cell: preflight.api_key(mine, _environment(mine)) for cell, mine in own.items()}
    if not scenario.is_virtual:
        preflight.open_files(scenario)
    if not options.no_preflight:
        for mine in distinct_endpoints(own.values()):
            mine.endpoint.check()
    return keys


def _go(job: _Job, options: argparse.Namespace) -> int:
    """Run the trials that are left and show what came of all."""
    say = _nothing if options.quiet or options.json else _say
    scenario, directory = job.scenario, job.directory
    target = open_target(options.otlp, os.environ)
    say(f"{scenario.name} into {directory}\n{scenario.endpoint.facts.heading}")
    if options.otlp and (off := switched_off(os.environ)):
        _warn(f"{off} is set: no span is sent to {options.otlp}")
    if capture(os.environ) and not scenario.transcripts:
        _warn(f"{CONTENT} is set, but without transcripts = true there is no content to send")
    earlier = read_records(directory, small=True) if job.progress else None
    trials = earlier.trials if earlier else ()
    traces = Exporter(directory, target, os.environ, _is_reachable(target), earlier=trials)
    views = Views(directory)
    counters = _counters(scenario, job.progress, earlier.attempts if earlier else ())
    del earlier  # it may be large
    log = RunLog(lambda: read_run(directory)) if options.log_level else None
    with (
        logging_to(sys.stderr, options.log_level, options.log_format),
        LiveView(counters, _live_console(options), views) as view,
    ):
        hooks = _hooks(view, traces, counters, log, views)
        jobs = processes(scenario, options.jobs)
        profiles = _plain(job.profiles)
        finished = run(scenario, profiles, job.keys, directory, hooks, jobs, job.progress)
    account = None
    with views.making("the traces", views.traces_again):
        account = traces.finish(finished, wait=options.otlp_wait)
        if finished.resumed:
            # An earlier session that was killed left incomplete traces, or none.
            seconds = math.inf if options.otlp_wait else AT_THE_END
            records = read_records(directory)
            account = export_stored(directory, records, target, os.environ, seconds=seconds)
    summary = None
    with views.making("summary.json", views.report_again):
        summary = _summarise(finished, directory, views)
    if summary is not None:
        _show(summary, directory, options, views)
    if account is not None:
        _warn_of_delivery(account, directory)
    if finished.stopped is not None and finished.stopped.by == "budget":
        _warn(f"stopped: {finished.stopped.because}")
    return _exit_code(finished, summary)


def _hooks(
    view: LiveView, traces: Exporter, counters: Counters, log: RunLog | None, views: Views
) -> Hooks:
    """Build the event hooks: while a trial is measured, only counters and the log are called."""

    def live(function: Callable[_P, None]) -> Callable[_P, None]:
        return views.safe(LIVE_VIEW, function, RUN_CONTINUES)

    export = views.safe("the traces", traces.after_trial, views.traces_again)
    before_trial, note = live(view.before_trial), live(counters.note)
    sending, add = live(counters.sending), live(counters.add)
    if log is None:
        return Hooks(before_trial, export, note, sending, add)
    log_record = views.safe("the log", log.record, RUN_CONTINUES)
    log_trial = views.safe("the log", log.after_trial, RUN_CONTINUES)

    def after_trial(the_run: Run, records: TrialRecords) -> None:
        if the_run.virtual:  # the trial ran elsewhere, and none of its records has been logged
            ended: list[Record] = [*records.attempts, *records.calls]
            for one in ended:
                log_record(one)
        log_trial(records.workflows)
        export(the_run, records)

    def record(record: Record) -> None:
        note(record)
        log_record(record)

    return Hooks(before_trial, after_trial, record, sending, add)


def _live_console(options: argparse.Namespace) -> Console:
    """Return where the live view goes; among log lines it is plain lines too."""
    quiet = options.quiet or options.json
    return Console(stderr=True, quiet=quiet, force_terminal=False if options.log_level else None)


def _summarise(finished: Run, directory: Path, views: Views) -> Summary:
    """Write the summary, the plots and the report; after Ctrl-C only the summary, which is fast."""
    # Imported late: importing the analysis and the plots takes longer than starting a run.
    from harness.analysis.selection import Dataset
    from harness.analysis.summary import write_summary

    with no_collector():
        records = Dataset.of(read_records(directory, small=True))
        summary = write_summary(directory, records)
        if finished.stopped is not None and finished.stopped.by == "interrupt":
            _warn(
                f"interrupted; `harness report {directory}` draws the plots and the report, "
                f"`harness run --resume {directory}` goes on"
            )
        else:
            with views.making("the plots and the report", views.report_again):
                from harness.cli.report import draw

                draw(summary, records, directory, views)
    return summary


def _profiles(scenario: Scenario, where: str) -> dict[str, Profile]:
    """Return what the simulated provider simulates in each cell; `where` names the file."""
    profiles = {}
    for cell in expand(scenario):
        simulation = cell_scenario(scenario, cell).endpoint.facts.simulation
        if simulation is None:
            continue
        try:
            profiles[cell.id] = load_profile(
                simulation.profile, simulation.overrides, "endpoint.override."
            )
        except InputError as error:
            options = " and ".join(swept_options(scenario, cell, "endpoint"))
            raise InputError(f"{where}: {f'with {options}: ' * bool(options)}{error}") from None
    return profiles


def _plain(profiles: Mapping[str, Profile]) -> dict[str, dict[str, Any]]:
    return {cell: profile.as_dict() for cell, profile in profiles.items()}


def _environment(scenario: Scenario) -> Mapping[str, str]:
    """Return the environment, completed by .env if the endpoint's key is not in it."""
    variable = scenario.endpoint.facts.key_variable
    return os.environ if variable is None else with_file(os.environ, Path(".env"), variable)


def _is_reachable(target: OtlpTarget | None) -> bool:
    """Return whether the collector answers, and say so if there is one that does not."""
    problem = check_collector(target) if target else None
    if problem:
        _warn(f"{problem}; the run goes on, and the collector is tried once more at its end")
    return problem is None


def _counters(
    scenario: Scenario, progress: RunProgress | None, earlier: Sequence[Attempt]
) -> Counters:
    trials = len(expand(scenario)) * scenario.sweep.repeats
    prices = {cell.id: cell_scenario(scenario, cell).price for cell in expand(scenario)}
    ended = {trial: len(ended) for trial, ended in progress.ended.items()} if progress else {}

    def cost(attempt: Attempt) -> float:
        price = prices[attempt.cell]
        return cost_usd(price, attempt.tokens, time.time_ns()) if price else 0.0

    is_priced = any(prices.values())
    spent = sum(map(cost, earlier)) if is_priced else 0.0
    return Counters(
        trials, scenario.load.workflows, cost if is_priced else None, scenario.is_virtual, ended,
        spent,
    )  # fmt: skip


def _show(summary: Summary, directory: Path, options: argparse.Namespace, views: Views) -> None:
    """Print the results: the summary as JSON, or the table and the links into Jaeger."""
    if options.json:
        sys.stdout.write((directory / SUMMARY_FILE).read_text())
    elif not options.quiet:
        # Written outside of the view: an error of standard output is not a failed view.
        for text in (_table(summary, directory, views), _links(directory, views)):
            sys.stdout.write(text)


def _warn_of_delivery(account: DeliveryAccount, directory: Path) -> None:
    if account.undelivered or account.refused:
        _warn(
            f"{account.undelivered} of {account.made} spans not delivered, {account.refused} "
            f"refused: {account.problem or 'no time was left'}; they can still be sent: "
            f"harness trace export {directory} --endpoint {account.endpoint}"
        )
    if account.left_out:
        _warn(without_span(account))


def _table(summary: Summary, directory: Path, views: Views) -> str:
    """Return the table of the results as text, as far as it could be made."""
    from harness.report.terminal import render_summary

    output = Output()
    with output.capture() as capture, views.making("the table", views.report_again):
        render_summary(summary, directory, output)
    return capture.get()


def _links(directory: Path, views: Views) -> str:
    """Return links to delivered traces in Jaeger as text; empty when there are none."""
    lines: list[str] = []
    with views.making("the links to Jaeger", views.traces_again):
        jaeger = jaeger_of(directory / TRACES, read_run(directory).run_id, os.environ)
        found = links(read_records(directory, small=True), jaeger) if jaeger else []
        for link in found:
            lines += [*wrapped(f"Jaeger, {link.what}:"), f"  {link.url}"]
    return "".join(f"{line}\n" for line in lines)


def _exit_code(finished: Run, summary: Summary | None) -> int:
    if finished.stopped is not None:
        return EXIT_BUDGET if finished.stopped.by == "budget" else EXIT_INTERRUPTED
    if summary is None:
        return HarnessError.exit_code
    rates = [cell.success_rate.value for cell in summary.cells if cell.success_rate]
    return 0 if any(rates) else EXIT_NO_SUCCESS


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _warn(line: str) -> None:
    print(f"harness: {line}", file=sys.stderr, flush=True)


def _nothing(line: str) -> None:
    """Say nothing: --quiet."""
