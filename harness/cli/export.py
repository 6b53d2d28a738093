"""`harness export`: the records of a run as tables for other tools."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.cli.views import warn_of_missing_ids
from harness.report.export import export
from harness.store.baseline import save_baseline
from harness.store.run_directory import require_run

FOLDER = "export"


def export_tables(options: argparse.Namespace) -> int:
    """Write the tables of `options.run` and say where they are."""
    directory = require_run(options.run)
    if options.baseline is not None:
        save_baseline(directory, Path(options.baseline))
        print(options.baseline)
        return 0
    out = Path(options.out) if options.out else directory / FOLDER
    for path in export(directory, out, options.format):
        print(path)
    warn_of_missing_ids(directory)
    return 0
