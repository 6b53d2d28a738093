"""`harness report`: the summary, the plots and the report of a run, made again from its records."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.analysis.summary import summarise
from harness.bench.store import RUN, SUMMARY, read_records, write_whole
from harness.errors import InputError
from harness.views.plots.draw import draw_all
from harness.views.report.page import save_report


def report_run(options: argparse.Namespace) -> int:
    """Make again what is made from the records in `options.run`, and say where the report is."""
    directory = Path(options.run)
    if not (directory / RUN).exists():
        raise InputError(f"{directory}: holds no {RUN}; give a directory that harness run made")
    records = read_records(directory)
    summary = summarise(records)
    write_whole(directory / SUMMARY, summary)
    draw_all(summary, records, directory)
    print(save_report(summary, records, directory))
    return 0
