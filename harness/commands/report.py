"""`harness report`: the summary, the plots and the report of a run, made again from its records."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.analysis.summary import summarise
from harness.bench.store import SUMMARY, read_records, write_whole
from harness.views.plots.draw import draw_all
from harness.views.report.page import save_report


def report_run(options: argparse.Namespace) -> int:
    """Make everything again that is made from the records of `options.run`, and say where."""
    directory = Path(options.run)
    records = read_records(directory)
    summary = summarise(records)
    write_whole(directory / SUMMARY, summary)
    draw_all(summary, records, directory)
    print(save_report(summary, records, directory))
    return 0
