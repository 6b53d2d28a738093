"""`harness compare`: compares two runs, for people and for CI."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from harness.analysis.compare import compare_runs
from harness.analysis.power import USUAL_POWER
from harness.analysis.regressions import Rule, parse_rule
from harness.analysis.selection import Dataset
from harness.records.errors import InputError, StorageError
from harness.report.comparison_markdown import comparison_markdown
from harness.report.comparison_text import render_comparison
from harness.report.console import Output
from harness.report.wording import in_reading_order
from harness.store.column_reader import read_columns
from harness.store.columns import AttemptTable
from harness.store.run_directory import require_run, writing

EXIT_REGRESSION = 1


def compare_command(options: argparse.Namespace) -> int:
    """Compare two runs and return the exit code: 1 if a rule is broken or has too little power."""
    rules = [parse_rule(text) for text in options.fail_on]
    required: float | None = options.require_power
    if required is not None:
        _require_changes(rules)
    directories = [require_run(run) for run in (options.base, options.new)]
    try:
        base, new = map(_read, directories)
    except StorageError as error:
        raise InputError(str(error)) from None
    if directories[0].samefile(directories[1]):
        raise InputError(
            f"{options.base} and {options.new} are the same run, so nothing can differ; give the "
            "directories of two runs"
        )
    comparison = compare_runs(base, new, rules, USUAL_POWER if required is None else required)
    cells = tuple(in_reading_order(comparison.cells))
    comparison = msgspec.structs.replace(comparison, cells=cells)
    if options.markdown is not None:
        path = Path(options.markdown)
        markdown = comparison_markdown(comparison, options.base, options.new, required)
        with writing(path), path.open("a", encoding="utf-8") as file:
            file.write(markdown)
    if options.json:
        text = msgspec.json.format(msgspec.json.encode(comparison), indent=2)
        sys.stdout.write(text.decode() + "\n")
    else:
        render_comparison(comparison, Output(), options.base, options.new, required)
    lacking = comparison.lacking(required) if required is not None else ()
    return EXIT_REGRESSION if comparison.regressions or lacking else 0


def _require_changes(rules: Sequence[Rule]) -> None:
    """Raise InputError unless each rule names a change, whose power can be required."""
    if not rules:
        raise InputError("--require-power: no --fail-on RULE names the change to be found")
    for rule in rules:
        if rule.limit == 0:
            raise InputError(
                f"--require-power: --fail-on {rule.text} names no change; give a limit other than 0"
            )


def _read(directory: Path) -> Dataset:
    """Read a run without what no comparison needs: two long runs fit into a gigabyte then."""
    records = read_columns(directory)
    attempts = records.attempts
    if isinstance(attempts, AttemptTable):
        attempts = attempts.without_gaps()
    return Dataset.of(records._replace(attempts=attempts, provider=None))
