"""`harness compare`: compares two runs, for people and for CI."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec

from harness.analysis.compare import compare_runs
from harness.analysis.regressions import judge_rules, parse_rule
from harness.analysis.selection import Dataset
from harness.records.errors import InputError, StorageError
from harness.report.comparison_text import render_comparison
from harness.report.console import Output
from harness.report.wording import in_reading_order
from harness.store.column_reader import read_columns
from harness.store.columns import AttemptTable
from harness.store.run_directory import require_run

EXIT_REGRESSION = 1


def compare_command(options: argparse.Namespace) -> int:
    """Compare two runs and return 1 when a change breaks a rule of `--fail-on`."""
    rules = [parse_rule(text) for text in options.fail_on]
    directories = [require_run(run) for run in (options.base, options.new)]
    try:
        base, new = map(_read, directories)
    except StorageError as error:
        raise InputError(str(error)) from None
    comparison = compare_runs(base, new)
    cells = tuple(in_reading_order(comparison.cells))
    comparison = msgspec.structs.replace(comparison, cells=cells)
    found = judge_rules(comparison, rules)
    if options.json:
        text = msgspec.json.format(msgspec.json.encode(comparison), indent=2)
        sys.stdout.write(text.decode() + "\n")
    else:
        names = [rule.name for rule in rules]
        render_comparison(comparison, names, found, Output(), options.base, options.new)
    return EXIT_REGRESSION if any(one.regression for one in found) else 0


def _read(directory: Path) -> Dataset:
    """Read a run without what no comparison needs: two long runs fit into a gigabyte then."""
    records = read_columns(directory)
    attempts = records.attempts
    if isinstance(attempts, AttemptTable):
        attempts = attempts.without_gaps()
    return Dataset.of(records._replace(attempts=attempts, provider=None))
