"""`harness report`: the summary, the plots and the report of a run, made again from its records."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import msgspec

from harness.analysis.model import Summary
from harness.analysis.selection import Dataset
from harness.analysis.summary import summarise, write_summary
from harness.cli.views import Views
from harness.config.tables import nearest
from harness.policies.resolve import code_of
from harness.records.errors import HarnessError, InputError
from harness.report.html.page import REPORT, save_report
from harness.report.plots.draw import PLOTS, draw_all
from harness.store.run_directory import Records, no_collector, read_records, require_run
from harness.telemetry.jaeger import require_address


def report_run(options: argparse.Namespace) -> int:
    """Make the views of the run `options.run` again, and print the path of the report."""
    directory = require_run(options.run)
    require_address(os.environ)
    views = Views(directory)
    if options.only is not None:
        print("".join(f"{path}\n" for path in _draw_only(options.only, directory, views)), end="")
        return HarnessError.exit_code if views.failed else 0
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


def _draw_only(name: str, directory: Path, views: Views) -> list[Path]:
    """Draw one plot and return its files."""
    names = [plot for plot, _ in PLOTS]
    if name not in names:
        raise InputError(
            f"--only {name}: no such plot{nearest(name, names)}; there are {', '.join(names)}"
        )
    records = _read(directory)
    written: list[Path] = []
    with views.making(f"plots/{name}", views.report_again):
        written = draw_all(summarise(records), records, directory, name)
    if not written and not views.failed:
        raise InputError(f"--only {name}: {directory} holds nothing that this plot shows")
    return written


def draw(summary: Summary, records: Records, directory: Path, views: Views) -> None:
    """Make the plots and the report of a run from its summary and records."""
    for name, _ in PLOTS:
        with views.making(f"plots/{name}", views.report_again):
            draw_all(summary, records, directory, name)
    with views.making(REPORT, views.report_again):
        save_report(summary, records, directory, os.environ)
