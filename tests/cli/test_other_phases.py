"""Every view shows a run whose workflow has phases that this version does not know."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli.main import main
from tests.analysis.played import Shape, make_records
from tests.cli.answering import copied
from tests.cli.test_report import save

OTHER = {"decompose": "plan", "fan_out": "act", "synthesize": "observe"}


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    save(make_records(["sync_1_none_attempt", "async_2_none_attempt"], 2, shape=Shape()), tmp_path)
    for file in tmp_path.glob("*.jsonl"):
        text = file.read_text()
        for phase, other in OTHER.items():
            text = text.replace(f'"{phase}"', f'"{other}"')
        file.write_text(text)
    assert '"plan"' in (tmp_path / "workflows.jsonl").read_text()
    return tmp_path


@pytest.mark.parametrize(
    "command",
    ["report", "compare", "export", "trace", "trace --json", "trace --spans", "trace export"],
)
def test_a_command_ends_well(directory: Path, command: str) -> None:
    name, *rest = command.split()
    runs = [str(directory), *([copied(directory)] if name == "compare" else [])]
    after = rest if rest == ["export"] else []
    options = [] if after else rest
    assert main([name, *after, *runs, *options]) == 0


def test_the_spans_name_the_phase_and_the_model(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["trace", str(directory), "--spans"]) == 0
    printed = capsys.readouterr().out
    assert all(f"phase {other}" in printed for other in OTHER.values())
    assert "chat simulated-reasoner" in printed
