"""Runs against servers whose answers deviate from the API and can be read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.store.run_directory import read_records
from tests.cli.answering import scenario
from tests.cli.picky import Answer, Asked, picky, whole_or_stream

pytestmark = pytest.mark.usefixtures("elsewhere")


def without_done(asked: Asked) -> Answer:
    kind, body = whole_or_stream(asked, {})
    return Answer(200, {"content-type": kind}, body.replace(b"data: [DONE]\n", b""))


@pytest.mark.parametrize("strict", [False, True], ids=["lenient", "strict"])
def test_a_run_counts_and_shows_the_anomalies(
    elsewhere: Path, strict: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    with picky(without_done) as server:
        endpoint = {"kind": "openai", "base_url": server.base_url, "model": "m", "strict": strict}
        path = scenario(elsewhere, "", endpoint=endpoint)
        code = main(["run", str(path), "--out", "run", "--yes", "--verbose"])
    said = " ".join(capsys.readouterr().out.split())
    attempts = read_records(elsewhere / "run").attempts
    assert {attempt.anomalies for attempt in attempts} == {("missing_done",)}
    summary = json.loads((elsewhere / "run" / "summary.json").read_text())
    counted = [cell["attempts"]["anomalies"] for cell in summary["cells"]]
    assert sum(one["missing_done"] for one in counted) == len(attempts)
    assert "deviates from the API: missing_done" in said
    page = (elsewhere / "run" / "report.html").read_text()
    assert "Responses that deviate from the API and could be read" in page
    outcomes = {attempt.outcome for attempt in attempts}
    assert (code, outcomes) == ((1, {"missing_done"}) if strict else (0, {"ok"}))
