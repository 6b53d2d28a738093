"""What was asked and answered is kept when the scenario asks, and only then."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from harness.bench import cells
from harness.bench.scenario_file import parse_scenario
from harness.records.schema import Said, Transcript
from harness.store.run_directory import TRANSCRIPTS_FILE, Writer

TRANSCRIPT = Transcript(
    cell="sync_1_none_attempt", repeat=0, workflow=0, execution=0, phase="fan_out", branch=2,
    call=1, outcome="ok", messages=(Said(role="user", content="Why “tides”?"),),
    reasoning="The moon …", answer="It pulls.",
)  # fmt: skip


def test_a_transcript_is_one_line_that_reads_back_the_same(tmp_path: Path) -> None:
    with Writer(tmp_path, transcripts=True) as writer:
        writer.append(TRANSCRIPT)
    [line] = (tmp_path / TRANSCRIPTS_FILE).read_bytes().splitlines()
    assert msgspec.json.decode(line, type=Transcript) == TRANSCRIPT


def test_without_transcripts_there_is_no_file_for_them(tmp_path: Path) -> None:
    with Writer(tmp_path):
        pass
    assert not (tmp_path / TRANSCRIPTS_FILE).exists()


@pytest.mark.parametrize(("said", "kept"), [("", False), ("transcripts = true\n", True)])
def test_calls_keep_their_transcript_when_the_scenario_asks(said: str, kept: bool) -> None:
    scenario = parse_scenario(f'{said}name = "s"\nworkflow.topics = "tides"', "test")
    [cell] = cells.expand(scenario)
    assert cells.terms(scenario, cell).keep_transcripts is kept
