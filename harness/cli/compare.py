"""`harness compare`: two runs side by side, made for CI."""

from __future__ import annotations

import argparse
import sys

import msgspec

from harness.analysis.compare import compare_runs
from harness.analysis.regressions import judge_rules, parse_rule
from harness.records.errors import InputError, StorageError
from harness.report.comparison_text import render_comparison
from harness.report.console import Output
from harness.report.wording import in_reading_order
from harness.store.run_directory import Records, read_records, require_run

EXIT_REGRESSION = 1


def compare_command(options: argparse.Namespace) -> int:
    """Compare two runs and return 1 when a change breaks a rule of `--fail-on`."""
    rules = [parse_rule(text) for text in options.fail_on]
    comparison = compare_runs(_read(options.base), _read(options.new))
    comparison = msgspec.structs.replace(
        comparison, cells=tuple(in_reading_order(comparison.cells))
    )
    found = judge_rules(comparison, rules)
    if options.json:
        text = msgspec.json.format(msgspec.json.encode(comparison), indent=2)
        sys.stdout.write(text.decode() + "\n")
    else:
        names = [rule.name for rule in rules]
        console = Output()
        render_comparison(comparison, names, found, console, options.base, options.new)
    return EXIT_REGRESSION if any(one.regression for one in found) else 0


def _read(run: str) -> Records:
    directory = require_run(run)
    try:
        return read_records(directory, small=True)
    except StorageError as error:
        raise InputError(str(error)) from None
