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
from harness.cli.views import Views
from harness.config.tables import nearest
from harness.policies.resolve import code_of
from harness.records.errors import HarnessError, InputError
from harness.report.chart_text import chart_lines
from harness.report.charts.catalogue import CHARTS, charts_of
from harness.report.console import Output
from harness.report.html.page import REPORT, save_report
from harness.report.plots.draw import draw_all
from harness.report.waterfall_text import say
from harness.store.run_directory import Records, no_collector, read_records, require_run
from harness.telemetry.jaeger import require_address


def report_run(options: argparse.Namespace) -> int:
    """Make the views of the run `options.run` again, and print the path of the report."""
    directory = require_run(options.run)
    require_address(os.environ)
    views = Views(directory)
    if options.only is not None:
        _show_only(options.only, directory, views, as_text=options.text)
        return HarnessError.exit_code if views.failed else 0
    if options.text:
        raise InputError("--text: only together with --only NAME")
    with no_collector():
        records = _read(directory)
        with views.making("summary.json", views.report_again):
            draw(write_summary(directory, records), records, directory, views)
    if not views.failed & {"summary.json", REPORT}:
        print(directory / REPORT)
    return HarnessError.exit_code if views.failed else 0


def _read(directory: Path) -> Records:
    """Read a run; one that an earlier version recorded gets the code to paste."""
    records = read_records(directory, small=True)
    code = records.run.code or code_of(records.run)
    return Dataset.of(records._replace(run=msgspec.structs.replace(records.run, code=code)))


def _show_only(name: str, directory: Path, views: Views, *, as_text: bool) -> None:
    """Draw one chart, as files whose paths are printed or as text."""
    names = [chart.name for chart in CHARTS]
    if name not in names:
        raise InputError(
            f"--only {name}: no such plot{nearest(name, names)}; there are {', '.join(names)}"
        )
    records = _read(directory)
    summary = summarise(records)
    lines: list[str | Text] = []
    with views.making(f"plots/{name}", views.report_again):
        if as_text:
            charts = (chart for _, chart in charts_of(summary, records, name) if chart)
            lines = [line for chart in charts for line in chart_lines(chart, summary)]
        else:
            lines = [str(path) for path in draw_all(summary, records, directory, name)]
    if not lines and not views.failed:
        raise InputError(f"--only {name}: {directory} holds nothing that this plot shows")
    console = Output()
    for line in lines:
        say(console, line)


def draw(summary: Summary, records: Records, directory: Path, views: Views) -> None:
    """Make the plots and the report of a run from its summary and records."""
    for chart in CHARTS:
        with views.making(f"plots/{chart.name}", views.report_again):
            draw_all(summary, records, directory, chart.name)
    with views.making(REPORT, views.report_again):
        save_report(summary, records, directory, os.environ)
