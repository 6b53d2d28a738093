"""`harness report`: the summary, the plots and the report of a run, made again from its records."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.analysis.model import Summary
from harness.analysis.summary import write_summary
from harness.bench.store import RUN, read_records
from harness.errors import InputError
from harness.views.plots.draw import draw_all
from harness.views.report.page import save_report


def report_run(options: argparse.Namespace) -> int:
    """Make again what is made from the records in `options.run`, and say where the report is."""
    directory = Path(options.run)
    if not (directory / RUN).exists():
        raise InputError(f"{directory}: holds no {RUN}; give a directory that harness run made")
    print(draw(write_summary(directory), directory))
    return 0


def draw(summary: Summary, directory: Path) -> Path:
    """Make the plots and the report of a run from its summary and records; return the report."""
    records = read_records(directory)
    draw_all(summary, records, directory)
    return save_report(summary, records, directory)
