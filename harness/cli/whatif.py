"""`harness whatif`: predicts settings that were not measured, with a twin of the provider."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import msgspec

from harness.cli.fit import read_for_fit, require_one_provider
from harness.records.errors import InputError
from harness.report.console import Output
from harness.report.prediction_text import render_check, render_prediction
from harness.store.run_directory import Records, require_run
from harness.twin.check_prediction import compare_with
from harness.twin.predict import predict
from harness.twin.prediction import CheckedPrediction, Prediction


def predict_settings(options: argparse.Namespace) -> int:
    """Predict, compare with a run if one is given, and show it."""
    if options.check is not None and options.set:
        raise InputError(
            f"--set {options.set[0]}: --check predicts the settings of {options.check}; leave out "
            "one of the two"
        )
    names = [*options.runs, *([options.check] if options.check is not None else [])]
    records = [read_for_fit(require_run(run)) for run in names]
    require_one_provider(names, [each.run for each in records])
    runs = records[: len(options.runs)]
    found = _found(options, runs, records[-1] if options.check is not None else None)
    if options.json:
        text = msgspec.json.format(msgspec.json.encode(found), indent=2)
        sys.stdout.write(text.decode() + "\n")
        return 0
    console = Output()
    width = max(80, min(console.width, 120))
    if isinstance(found, CheckedPrediction):
        render_check(found, console, width)
    else:
        render_prediction(found, console, width)
    return 0


def _found(
    options: argparse.Namespace, runs: Sequence[Records], other: Records | None
) -> Prediction | CheckedPrediction:
    try:
        prediction = predict(runs, options.set, of=other, seed=options.seed)
    except InputError as error:
        raise InputError(f"{', '.join(options.runs)}: {error}") from None
    return prediction if other is None else compare_with(prediction, other)
