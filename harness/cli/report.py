"""`harness report`: the summary, the plots and the report of a run, made again from its records."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import msgspec
from rich.text import Text

from harness.analysis.model import Summary
from harness.analysis.selection import Dataset
from harness.analysis.summary import summarise, write_summary
from harness.bench.cell_code import code_of_cells
from harness.cli.results import show_results
from harness.cli.views import Views
from harness.config.tables import nearest
from harness.records.errors import HarnessError, InputError
from harness.report.chart_text import chart_lines
from harness.report.charts.catalogue import CHARTS
from harness.report.charts.model import Chart
from harness.report.console import Output, say
from harness.report.html.page import REPORT, save_report
from harness.report.plots.draw import save_plot
from harness.report.tables import subject
from harness.store.column_reader import read_columns
from harness.store.run_directory import Records, no_collector, require_run
from harness.telemetry.jaeger import require_address


def report_run(options: argparse.Namespace) -> int:
    """Make the views of the run `options.run` again, and show its results."""
    directory = require_run(options.run)
    require_address(os.environ)
    views = Views(directory)
    if options.only is not None:
        _show_only(options.only, directory, views, as_text=options.text)
        return HarnessError.exit_code if views.failed else 0
    if options.text:
        raise InputError("--text: only together with --only NAME")
    summary = None
    with no_collector():
        records = _read(directory)
        with views.making("summary.json", views.report_again):
            summary = write_summary(directory, records)
            draw(summary, records, directory, views)
    if summary is not None:
        show_results(summary, directory, views, verbose=options.verbose)
    return HarnessError.exit_code if views.failed else 0


def _read(directory: Path) -> Dataset:
    """Read a run; it gets the code to paste of this version, if that knows its policies."""
    records = read_columns(directory)
    code = code_of_cells(records.run) or records.run.code
    return Dataset.of(records._replace(run=msgspec.structs.replace(records.run, code=code)))


def _show_only(name: str, directory: Path, views: Views, *, as_text: bool) -> None:
    """Draw one chart, as files whose paths are printed or as text."""
    make = {chart.name: chart.make for chart in CHARTS}
    if name not in make:
        known = ", ".join(make)
        raise InputError(f"--only {name}: no such plot{nearest(name, list(make))}; known: {known}")
    records = _read(directory)
    summary = summarise(records)
    lines: list[str | Text] = []
    with views.making(f"plots/{name}", views.report_again):
        chart = make[name](subject(summary, records))
        if not as_text:
            lines += map(str, save_plot(chart, name, summary, directory))
        elif chart is not None:
            lines += chart_lines(chart, summary)
    if not lines and not views.failed:
        raise InputError(f"--only {name}: nothing to show in {directory}")
    say(Output(), *lines)


def draw(summary: Summary, records: Records, directory: Path, views: Views) -> None:
    """Make the plots and the report of a run from its summary and records."""
    about = subject(summary, records)
    charts: dict[str, Chart | None] = {}
    for name, _, make, _ in CHARTS:
        with views.making(f"plots/{name}", views.report_again):
            charts[name] = make(about)
            save_plot(charts[name], name, summary, directory)
    with views.making(REPORT, views.report_again):
        save_report(about, charts, directory, os.environ)
