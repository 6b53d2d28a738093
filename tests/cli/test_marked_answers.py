"""A run against `harness serve` as if it were a real model is shown as simulated everywhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.store.run_directory import read_records
from tests.cli.answering import copied, scenario, working


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[str]:
    with working(tmp_path) as base_url:
        yield base_url


def test_every_view_says_so(
    provider: str, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = scenario(elsewhere, provider, load={"workflows": 1})
    assert main(["run", str(file), "--out", "out"]) == 0
    said = capsys.readouterr().out
    records = read_records(Path("out"))
    assert all(attempt.marked_simulated for attempt in records.attempts)
    assert (records.run.simulated, records.run.marked_answers) == (True, "all")
    summary = json.loads(Path("out/summary.json").read_text())
    assert (summary["simulated"], summary["marked_answers"]) == (True, "all")
    line = "its answers have the mark of the simulated provider"
    assert line in Path("out/report.html").read_text()
    assert "SIMULATED by the endpoint\n" in said
    assert "scenario seconds" not in said
    assert main(["trace", "out"]) == 0
    assert line in " ".join(capsys.readouterr().out.split())
    assert main(["compare", "out", copied(Path("out"))]) == 0
    assert "\nSIMULATED\n" in capsys.readouterr().out
