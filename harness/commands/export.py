"""`harness export`: the records of a run as tables for other tools."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.bench.store import RUN, read_records
from harness.errors import InputError
from harness.views.export import export

FOLDER = "export"


def export_run(options: argparse.Namespace) -> int:
    """Write the tables of `options.run` and say where they are."""
    directory = Path(options.run)
    if not (directory / RUN).exists():
        raise InputError(f"{directory}: holds no {RUN}; give a directory that harness run made")
    out = Path(options.out) if options.out else directory / FOLDER
    for path in export(read_records(directory), out, options.format):
        print(path)
    return 0
