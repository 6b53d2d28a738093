"""`harness report`: the summary, the plots and the report of a run, made again from its records."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import msgspec

from harness.analysis.model import Summary
from harness.analysis.selection import Dataset
from harness.analysis.summary import summarise, write_summary
from harness.config.validation_messages import nearest
from harness.policies.resolve import code_of
from harness.records.errors import InputError
from harness.report.html.page import save_report
from harness.report.plots.draw import PLOTS, draw_all
from harness.store.run_directory import Records, no_collector, read_records, require_run


def report_run(options: argparse.Namespace) -> int:
    """Make again what is made from the records in `options.run`, and say where the report is."""
    directory = require_run(options.run)
    if options.only is not None:
        print("\n".join(map(str, _draw_only(options.only, directory))))
        return 0
    with no_collector():
        records = _read(directory)
        print(draw(write_summary(directory, records), records, directory))
    return 0


def _read(directory: Path) -> Records:
    """Read a run; one that an earlier version recorded gets the code to paste."""
    records = read_records(directory, small=True)
    code = records.run.code or code_of(records.run)
    return Dataset.of(records._replace(run=msgspec.structs.replace(records.run, code=code)))


def _draw_only(name: str, directory: Path) -> list[Path]:
    """Draw one plot and return its files."""
    names = [plot for plot, _ in PLOTS]
    if name not in names:
        raise InputError(
            f"--only {name}: no such plot{nearest(name, names)}; there are {', '.join(names)}"
        )
    records = _read(directory)
    written = draw_all(summarise(records), records, directory, name)
    if not written:
        raise InputError(f"--only {name}: {directory} holds nothing that this plot shows")
    return written


def draw(summary: Summary, records: Records, directory: Path) -> Path:
    """Make the plots and the report of a run from its summary and records; return the report."""
    draw_all(summary, records, directory)
    return save_report(summary, records, directory, os.environ)
