"""`harness trace`: what a stored run's traces show, and sending them to a collector."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from harness.bench.store import RUN, Records, read_records
from harness.errors import InputError, PreflightError
from harness.views.traces.export import TRACES, export_stored
from harness.views.traces.ledger import Account
from harness.views.traces.otlp_http import check
from harness.views.traces.otlp_target import open_target, switched_off

EXIT_UNDELIVERED = 4


def export_run(options: argparse.Namespace) -> int:
    """Send the spans of the stored run `options.run` and say what became of each."""
    directory, records = _read(options.run)
    off = switched_off(os.environ)
    if options.endpoint and off:
        raise InputError(f"{off}: forbids sending; unset it to send to {options.endpoint}")
    target = open_target(options.endpoint, os.environ, "--endpoint")
    problem = check(target) if target else None
    if problem:
        raise PreflightError(f"{problem}; start a collector there, or name another --endpoint")
    account = export_stored(directory, records, target, os.environ, options.again)
    for line in told(account, directory):
        print(line)
    return EXIT_UNDELIVERED if account.undelivered or account.refused else 0


def told(account: Account, directory: Path) -> list[str]:
    """Return what became of a run's spans, in lines for a person."""
    lines = [f"{account.made} spans in {directory / TRACES}"]
    if account.endpoint is None:
        lines.append("Sent nowhere: name an --endpoint, or set OTEL_EXPORTER_OTLP_ENDPOINT.")
    else:
        lines.append(
            f"{account.endpoint}: {account.delivered} delivered, {account.refused} refused, "
            f"{account.undelivered} undelivered"
        )
    if account.problem and (account.undelivered or account.refused):
        lines.append(f"Last problem: {account.problem}")
    if account.left_out:
        lines.append(f"{account.left_out} attempts of workflows that did not end have no span.")
    return lines


def _read(run: str) -> tuple[Path, Records]:
    directory = Path(run)
    if not (directory / RUN).exists():
        raise InputError(f"{directory}: holds no {RUN}; give a directory that harness run made")
    return directory, read_records(directory)
