"""`harness whatif`: predicts settings that were not measured, with a twin of the provider."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from harness.analysis.settings import runs_command
from harness.cli.fit import read_for_fit, require_distinct_runs, require_one_provider
from harness.cli.progress_line import ProgressLine
from harness.cli.views import Views
from harness.records.errors import InputError, StorageError
from harness.records.schema import Run
from harness.report.console import Output, say
from harness.report.html.prediction_page import render_prediction_page
from harness.report.html.templating import write_page
from harness.report.prediction_text import render_check, render_prediction
from harness.store.run_directory import Records, require_run
from harness.twin.check_prediction import compare_with
from harness.twin.measured_means import measured_means
from harness.twin.predict import predict
from harness.twin.prediction import CheckedPrediction, Prediction


def predict_settings(options: argparse.Namespace) -> int:
    """Predict, compare with a run if one is given, show it, and write the page if it is asked."""
    page = _page_path(options.file)
    if options.check is not None and options.set:
        raise InputError(
            f"--set {options.set[0]}: --check predicts the settings of {options.check}; leave out "
            "one of the two"
        )
    names = [*options.runs, *([options.check] if options.check is not None else [])]
    with ProgressLine(Output(stderr=True), silent=options.json) as progress:
        progress.say("reading the records")
        records = [read_for_fit(require_run(run)) for run in names]
        require_one_provider(names, [each.run for each in records], options.check)
        runs = records[: len(options.runs)]
        require_distinct_runs(options.runs, [each.run for each in runs])
        _require_playable(names, [each.run for each in records])
        other = records[-1] if options.check is not None else None
        found = _found(options, runs, other, progress)
    is_written, problem = False, None
    if page is not None:  # first, because who reads the output may close it early
        shown = records[-1] if options.check is not None else runs[0]
        try:
            is_written = _write_page(found, shown, options.set, page)
        except InputError as error:
            problem = error
    _show(found, as_json=options.json)
    if problem is not None:
        raise problem
    if is_written and not options.json:
        say(Output(), "", f"Page: {page}")
    return 0


def _require_playable(names: Sequence[str], runs: Sequence[Run]) -> None:
    """Raise InputError for a run whose workflows virtual time cannot play."""
    for name, run in zip(names, runs, strict=True):
        fit = f"`harness fit {name} -o twin.toml` makes a twin of the provider"
        if run.serves_requests:
            raise InputError(
                f"{name}: the requests that a gateway got belong to no scenario, so they cannot be "
                f"played; {fit}, and --set endpoint.profile=twin.toml of harness run or tune uses "
                "it in a scenario with a simulated endpoint"
            )
        if runs_command(run.scenario):
            raise InputError(
                f"{name}: a command runs in real time, so it cannot be played; {fit}, and harness "
                "run or tune runs the command against it with endpoint = { profile = 'twin.toml', "
                "time_scale = 0.1 }"
            )


def _page_path(file: str | None) -> Path | None:
    """Return the path of the page. Raises InputError for one that cannot be written."""
    if file is None:
        return None
    if not file.endswith(".html"):
        raise InputError(f"-o {file}: the page is an HTML file; give a name that ends in .html")
    path = Path(file)
    if not path.parent.is_dir() or path.is_dir():
        why = "is a folder" if path.is_dir() else "is in a folder that does not exist"
        raise InputError(f"-o {file}: {why}; give a file that can be written")
    return path


def _show(found: Prediction | CheckedPrediction, *, as_json: bool) -> None:
    if as_json:
        text = msgspec.json.format(msgspec.json.encode(found), indent=2)
        sys.stdout.write(text.decode() + "\n")
        return
    console = Output()
    width = max(80, min(console.width, 120))
    if isinstance(found, CheckedPrediction):
        render_check(found, console, width)
    else:
        render_prediction(found, console, width)


def _write_page(
    found: Prediction | CheckedPrediction, run: Records, changes: Sequence[str], path: Path
) -> bool:
    """Write the page, and return whether it could be made; else a line says why.

    Raises InputError if the file cannot be written.
    """
    text = ""
    views = Views(path.parent)
    with views.making(str(path), "the prediction is complete without it"):
        text = render_prediction_page(found, measured_means(run), changes)
    if views.failed:
        return False
    try:
        write_page(path, text)
    except StorageError as error:
        raise InputError(f"-o {error}; give a file that can be written") from None
    return True


def _found(
    options: argparse.Namespace,
    runs: Sequence[Records],
    other: Records | None,
    progress: ProgressLine,
) -> Prediction | CheckedPrediction:
    try:
        prediction = predict(runs, options.set, of=other, seed=options.seed, on_step=progress.say)
    except InputError as error:
        raise InputError(f"{', '.join(options.runs)}: {error}") from None
    return prediction if other is None else compare_with(prediction, other)
