"""`harness trace`: shows the traces of a stored run, or sends them to a collector."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from harness.analysis.selection import Dataset
from harness.cli.views import warn_of_missing_ids
from harness.records.clock import SECOND
from harness.records.errors import InputError, PreflightError
from harness.records.keys import TrialKey
from harness.records.schema import Run, Workflow
from harness.report.console import Output
from harness.report.path_text import PathSummary, in_scenario_seconds, path_summaries, render_paths
from harness.report.tree_text import tree_lines
from harness.report.waterfall import Waterfall, Waterfalls, find_workflow, slowest
from harness.report.waterfall_text import render_waterfall
from harness.report.wording import counted, simulated_line
from harness.store.run_directory import require_run
from harness.store.trial_reader import TrialReader
from harness.telemetry.delivery_log import DeliveryAccount, MetricsAccount, without_span
from harness.telemetry.export import TRACES, export_stored
from harness.telemetry.jaeger import jaeger_of
from harness.telemetry.metric_export import METRICS_FILE
from harness.telemetry.otlp_http import check_collector
from harness.telemetry.otlp_target import open_target, switched_off
from harness.telemetry.perfetto_file import write_perfetto
from harness.telemetry.spans import TraceMaker

_T = TypeVar("_T")

EXIT_UNDELIVERED = 4
EXPORT = "export"
MOST_FAILED = 8
"""The most workflows that `--failed` draws without `--slowest`."""


def trace(options: argparse.Namespace) -> int:
    """Show workflows of a run, or export its traces."""
    if options.run == EXPORT:
        if options.key is None:
            raise InputError("trace export: no run; write harness trace export RUN")
        return export_traces(options)
    if options.endpoint or options.again:
        raise InputError("--endpoint, --again: only for harness trace export RUN")
    if options.key is not None and (options.failed or options.slowest is not None):
        raise InputError(f"{options.key}: a KEY together with --failed or --slowest; leave out one")
    if options.perfetto is not None:
        return write_lanes(options)
    if options.spans and options.json:
        raise InputError("--spans together with --json; leave out one")
    return show_run(options)


def write_lanes(options: argparse.Namespace) -> int:
    """Write a Perfetto trace of the run, and print how much is in it."""
    for name in ("key", "failed", "slowest", "spans", "json"):
        if getattr(options, name):
            raise InputError(
                f"--perfetto {options.perfetto}: it has all workflows; leave out {name}"
            )
    directory = require_run(options.run)
    path = Path(options.perfetto)
    if path.exists() and not path.is_file():
        raise InputError(f"--perfetto {path}: is no plain file; give the name of one: run.pftrace")
    if path.suffix != ".pftrace" and directory.resolve() in path.resolve().parents:
        raise InputError(f"--perfetto {path}: may replace a file of the run; end it in .pftrace")
    stored = TrialReader(directory)
    written = write_perfetto(path, stored)
    if stored.run.simulated:
        print(simulated_line(stored.run))
    print(
        f"{counted(written.permit_slices, 'slice')} of permits and "
        f"{counted(written.workflow_slices, 'slice')} of workflows in {path} "
        f"({written.size / 1e6:.1f} MB): open it at https://ui.perfetto.dev"
    )
    return 0


def show_run(options: argparse.Namespace) -> int:
    """Draw the selected workflows; without a selection also the critical path of each cell."""
    directory = require_run(options.run)
    stored = TrialReader(directory)
    run = stored.run
    chosen = _chosen(stored, options)
    is_plain = options.key is None and options.slowest is None and not options.failed
    if options.spans:
        warn_of_missing_ids(directory)
        _print_spans(chosen, stored, with_run=is_plain)
        return 0
    left_out = 0
    if options.failed and options.slowest is None and not options.json:
        chosen, left_out = chosen[:MOST_FAILED], len(chosen[MOST_FAILED:])
    cells = path_summaries(stored.by_trial()) if is_plain or options.json else []
    drawn = _of_each(chosen, stored, lambda records, one: Waterfalls(records).of(one))
    if options.json:
        sys.stdout.write(_as_json(cells, drawn, run))
        return 0
    console = Output()
    if cells:
        render_paths(cells, run, console)
        print()
    jaeger = jaeger_of(directory / TRACES, run.run_id, os.environ)
    for number, one in enumerate(drawn):
        if number:
            print()
        has_trace = jaeger is not None and jaeger.has(one.path.workflow)
        link = jaeger.trace(run.run_id, one.path.workflow) if jaeger and has_trace else None
        render_waterfall(one, run, console, link, whole=options.key is not None)
    if left_out:
        every = (
            f"harness trace {shlex.quote(options.run)} --failed --slowest {MOST_FAILED + left_out}"
        )
        print(f"\n… {counted(left_out, 'more workflow')}: {every}")
    if not drawn:
        print("No workflow of this run failed." if options.failed else "No workflow has ended.")
    return 0


def _of_each(
    chosen: Sequence[Workflow], stored: TrialReader, make: Callable[[Dataset, Workflow], _T]
) -> list[_T]:
    """Make something of each workflow with the records of its trial; each trial is read once."""
    made: dict[int, _T] = {}
    by_trial: dict[TrialKey, list[int]] = {}
    for number, one in enumerate(chosen):
        by_trial.setdefault((one.cell, one.repeat), []).append(number)
    for trial, numbers in by_trial.items():
        records = Dataset.of(stored.records(trial))
        made |= {number: make(records, chosen[number]) for number in numbers}
        del records  # before the next ones are read
    return [made[number] for number in range(len(chosen))]


def _print_spans(chosen: Sequence[Workflow], stored: TrialReader, *, with_run: bool) -> None:
    """Print the spans of the chosen workflows as trees; `with_run`: the run trace before them."""
    maker = TraceMaker(stored.run)
    seconds = in_scenario_seconds(stored.run.time_scale)
    trees = [maker.of_run(stored.trials)] if with_run else []
    trees += _of_each(
        chosen, stored, lambda records, one: maker.of_workflows([one], *records.groups.of(one))
    )
    if stored.run.simulated:
        print(simulated_line(stored.run))
    for spans in trees:
        print("\n".join(["", *tree_lines(spans, seconds)]))


def _chosen(stored: TrialReader, options: argparse.Namespace) -> list[Workflow]:
    if options.key is not None:
        return [find_workflow(stored.workflows_by_trial, stored.run.run_id, options.key)]
    most = options.slowest or (None if options.failed else 1)
    return slowest(stored.workflows_by_trial(), most, failed=options.failed)


def _as_json(cells: list[PathSummary], drawn: list[Waterfall], run: Run) -> str:
    """Return the critical paths as JSON, in real seconds and shares of the latency."""
    said = {
        "run_id": run.run_id,
        "simulated": run.simulated,
        "time_scale": run.time_scale,
        "cells": [
            {
                "id": cell.info.id,
                "workflows": cell.path.workflows,
                "share": {part: cell.path.share(part) for part in cell.path.parts},
                "fan_outs_held_by": cell.path.held_by,
                "one_permit_more": cell.more and cell.more._asdict(),
            }
            for cell in cells
        ],
        "workflows": [
            {
                "key": one.key,
                "trace_id": one.trace_id,
                "outcome": one.path.workflow.outcome,
                "latency_s": one.path.latency / SECOND,
                "critical_path_s": {k: v / SECOND for k, v in one.path.parts().items()},
                "phases_s": {k: v / SECOND for k, v in one.path.phases().items()},
                "stragglers": [
                    {
                        "phase": held.phase,
                        "branch": held.branch,
                        "behind_s": held.behind / SECOND,
                        "because": held.because,
                        "excess_s": held.excess / SECOND,
                    }
                    for held in one.path.stragglers
                ],
            }
            for one in drawn
        ],
    }
    return msgspec.json.format(msgspec.json.encode(said), indent=2).decode() + "\n"


def export_traces(options: argparse.Namespace) -> int:
    """Send the spans of the stored run `options.key` and print the result."""
    directory = require_run(options.key)
    off = switched_off(os.environ)
    if options.endpoint and off:
        raise InputError(f"{off}: forbids sending; unset it to send to {options.endpoint}")
    target = open_target(options.endpoint, os.environ, "--endpoint")
    problem = check_collector(target) if target else None
    if problem:
        raise PreflightError(f"{problem}; start a collector there, or name another --endpoint")
    for_metrics = open_target(options.endpoint, os.environ, "--endpoint", "metrics")
    stored = TrialReader(directory)
    account = export_stored(
        directory, stored, target, os.environ, options.again, metrics_target=for_metrics
    )
    print(f"{account.made} spans in {directory / TRACES}")
    metrics = account.metrics or MetricsAccount()
    print(f"{metrics.made} data points in {directory / METRICS_FILE}")
    warn_of_missing_ids(directory)
    if account.endpoint is None and metrics.endpoint is None:
        print("Not sent: name an --endpoint, or set OTEL_EXPORTER_OTLP_ENDPOINT.")
    for one in (account, metrics):
        _print_delivery(one)
    if account.left_out:
        print(f"{without_span(account)}.")
    is_complete = not account.undelivered and not account.refused and not metrics.is_incomplete
    return 0 if is_complete else EXIT_UNDELIVERED


def _print_delivery(account: DeliveryAccount | MetricsAccount) -> None:
    if account.endpoint is None:
        return
    if isinstance(account, MetricsAccount) and account.unsupported:
        print(f"{account.endpoint}: takes no metrics")
        return
    print(
        f"{account.endpoint}: {account.delivered} delivered, {account.refused} refused, "
        f"{account.undelivered} undelivered"
    )
    if account.problem and (account.undelivered or account.refused):
        print(f"Last problem: {account.problem}")
