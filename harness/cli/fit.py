"""`harness fit`: a profile of the simulated provider from the records of runs."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.cli.progress_line import ProgressLine
from harness.cli.views import Views
from harness.config.config_base import name_of_file
from harness.records.clock import SECOND
from harness.records.errors import InputError, StorageError
from harness.records.schema import Run
from harness.report.console import Output, printable_lines, say
from harness.report.html.twin_page import save_twin
from harness.report.line_wrap import wrapped
from harness.store.column_reader import read_columns
from harness.store.columns import AttemptTable
from harness.store.run_directory import Records, replace_file, require_run
from harness.twin.fit import ProviderFit, fit_observations
from harness.twin.fitted_curves import fitted_curves
from harness.twin.fitted_parts import FittedPart, count_of, fitted_parts
from harness.twin.observations import observe
from harness.twin.profile_text import UNFITTED, TwinHead, twin_text

_PART = 22


def fit_profile(options: argparse.Namespace) -> int:
    """Write the profile that was fitted and the page of its curves, and show the parts."""
    path = _profile_path(options.file)
    with ProgressLine(Output(stderr=True), silent=options.json) as progress:
        progress.say("reading the records")
        runs = [read_for_fit(require_run(run)) for run in options.runs]
        require_one_provider(options.runs, [records.run for records in runs])
        require_distinct_runs(options.runs, [records.run for records in runs])
        seen = observe(runs)
        progress.say(f"fitting {count_of(len(seen), 'attempt')}")
        try:
            fit = fit_observations(seen)
        except InputError as error:
            raise InputError(f"{', '.join(options.runs)}: {error}") from None
    parts = fitted_parts(fit)
    text = twin_text(parts, _head(path, [records.run for records in runs], options.runs))
    try:
        replace_file(path, [text.encode()])
    except StorageError as error:
        raise InputError(
            f"{error}; with -o FILE, give a file that can be written, in a folder that exists"
        ) from None
    page = path.with_suffix(".html")
    views = Views(path.parent)
    with views.making(str(page), "the profile is written"):
        is_simulated = any(records.run.simulated for records in runs)
        save_twin(fitted_curves(seen, fit, simulated=is_simulated), page)
    shown = None if views.failed else str(page)
    if options.json:
        found = [dataclasses.asdict(part) | {"keys": list(part.keys)} for part in parts]
        whole = {"profile": str(path), "page": shown, "parts": found}
        sys.stdout.write(json.dumps(whole, indent=2) + "\n")
        return 0
    say(Output(), *_screen(parts, path, shown, fit))
    return 0


def _profile_path(file: str) -> Path:
    """Return the path of the profile. Raises InputError if no profile is found by it."""
    if not file.endswith(".toml"):
        raise InputError(f"-o {file}: a profile is a TOML file; give a name that ends in .toml")
    return Path(file)


def read_for_fit(directory: Path) -> Records:
    """Read a run without the histograms, which no part of a fit needs."""
    try:
        records = read_columns(directory)
    except StorageError as error:
        raise InputError(str(error)) from None
    attempts = records.attempts
    if isinstance(attempts, AttemptTable):
        attempts = attempts.without_gaps()
    return records._replace(attempts=attempts, provider=None)


def require_distinct_runs(names: Sequence[str], runs: Sequence[Run]) -> None:
    """Raise InputError if a run is given twice: its attempts would count twice."""
    seen: set[str] = set()
    for name, run in zip(names, runs, strict=True):
        if run.run_id in seen:
            raise InputError(f"{name}: given twice; give each run once")
        seen.add(run.run_id)


def require_one_provider(
    names: Sequence[str], runs: Sequence[Run], checked: str | None = None
) -> None:
    """Raise InputError if the runs, or the cells of one, name different providers or models.

    `checked`: the name of the run that a prediction is compared with, which is the last one.
    """
    for number, (name, run) in enumerate(zip(names, runs, strict=True)):
        swept = sorted({key for cell in run.cells for key in cell.settings if _of_provider(key)})
        if swept:
            raise InputError(
                f"{name}: sweeps {swept[0]}, so its settings met different providers; fit a run of "
                "one of them"
            )
        one, other = _provider(runs[0]), _provider(run)
        is_checked = checked is not None and number == len(runs) - 1
        way_out = (
            "a twin predicts only the provider and model that it is fitted to, so give --check a "
            f"run there, or fit and check runs at that of {name}"
            if is_checked
            else "give runs at one provider and model"
        )
        if one != other:
            raise InputError(f"{name}: ran at {other}, and {names[0]} at {one}; {way_out}")
        if _endpoint(run).get("override") != _endpoint(runs[0]).get("override"):
            raise InputError(
                f"{name}: its override of the profile is not that of {names[0]}; "
                f"{way_out if is_checked else 'give runs at one provider'}"
            )


def _of_provider(key: str) -> bool:
    return key.startswith("endpoint.")


def _provider(run: Run) -> str:
    """Return where a run sent its calls, and to which model."""
    endpoint = _endpoint(run)
    where = endpoint.get("base_url") or endpoint.get("profile") or "an unknown server"
    return f"{where} with {endpoint['model']}" if endpoint.get("model") else str(where)


def _endpoint(run: Run) -> Mapping[str, Any]:
    endpoint: Mapping[str, Any] = run.scenario.get("endpoint", {})
    return endpoint


def _head(path: Path, runs: Sequence[Run], names: Sequence[str]) -> TwinHead:
    newest = max(run.anchor.unix_ns for run in runs)
    day = datetime.datetime.fromtimestamp(newest / SECOND, datetime.UTC).date().isoformat()
    listed = ", ".join(f"{run.name} ({run.run_id[:8]})" for run in runs)
    is_simulated = " of a simulated provider" if any(run.simulated for run in runs) else ""
    return TwinHead(
        name_of_file(path, "twin"),
        f"Fitted to {count_of(len(runs), 'run')}{is_simulated}",
        f"harness fit, from the records of {listed}; the comments say what these cannot tell",
        day,
    )


def _screen(
    parts: Sequence[FittedPart], path: Path, page: str | None, fit: ProviderFit
) -> list[str]:
    """Return the table: part and value in a line, the evidence below; then what is not known."""
    lines = [
        f"{path}: fitted to {count_of(fit.attempts, 'attempt')} in {count_of(fit.trials, 'trial')}",
        "",
    ]
    for part in parts:
        if len(part.name) < _PART:
            lines += wrapped(part.value, f"{part.name:<{_PART}}")
        else:
            lines += [part.name, *wrapped(part.value, " " * _PART)]
        lines += wrapped(part.evidence, " " * _PART)
    unknown = [text for part in parts for text in part.unknown]
    lines += ["", "The records cannot tell:"]
    for text in (*unknown, UNFITTED):
        lines += wrapped(text, "- ")
    lines.append("")
    if page is not None:
        lines.append(f"Curves and measured points: {page}")
    lines += [f"Next: harness serve {shlex.quote(str(path))}"]
    return [printable_lines(line) for line in lines]
