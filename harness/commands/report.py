"""`harness report`: the summary, the plots and the report of a run, made again from its records."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.analysis.model import Summary
from harness.analysis.summary import write_summary
from harness.bench.store import read_records
from harness.views.plots.draw import draw_all
from harness.views.report.page import save_report


def report_run(options: argparse.Namespace) -> int:
    """Make everything again that is made from the records of `options.run`, and say where."""
    directory = Path(options.run)
    draw(write_summary(directory), directory)
    print(directory / "report.html")
    return 0


def draw(summary: Summary, directory: Path) -> None:
    """Make the plots and the report of a run from its summary and records."""
    records = read_records(directory)
    draw_all(summary, records, directory)
    save_report(summary, records, directory)
