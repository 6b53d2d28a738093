"""Critical paths of runs in virtual time, and a permit more against the cell that has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.analysis.critical_path import one_permit_more, paths_of
from harness.records.clock import SECOND
from harness.records.groups import WorkflowGroups
from harness.store.run_directory import Records, read_records
from harness.telemetry.spans import TraceMaker
from tests.analysis.builders import by_cell
from tests.virtual.test_sweeps import play

SCENARIO = """
name = "why-slow"
seed = 11
[workflow]
topics = ["tides", "kelp", "dunes"]
sub_questions = 6
[endpoint]
kind = "simulated"
profile = "deepseek-reasoner"
time = "virtual"
FAULTS
[load]
workflows = 24
in_flight = 4
[timeouts]
call = "1h"
first_token = "1h"
idle = "1h"
[sweep]
mode = ["async"]
permits = [3, 4, 7, 8]
retry = ["patient"]
permit_scope = ["attempt", "call"]
repeats = 4
[retry.patient]
kind = "exponential"
attempts = 12
base = "2s"
cap = "20s"
"""
FAULTS = """
[[endpoint.faults]]
kind = "unavailable"
probability = 0.15
[[endpoint.faults]]
kind = "reset_in_body"
probability = 0.05
"""


def played(folder: Path, faults: str) -> Records:
    path = folder / "why-slow.toml"
    path.write_text(SCENARIO.replace("FAULTS", faults))
    return read_records(play(path, "out", jobs=2))


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Records:
    records = played(tmp_path_factory.mktemp("faulty"), FAULTS)
    assert len({attempt.outcome for attempt in records.attempts}) > 2
    return records


def test_the_parts_of_every_path_add_up_to_the_nanosecond(faulty: Records) -> None:
    paths = list(paths_of(faulty.workflows, WorkflowGroups(faulty.calls, faulty.attempts)))
    assert len(paths) == 24 * 8 * 4
    for path in paths:
        assert sum(path.parts().values()) == path.latency
        assert path.parts().get("other", 0) < path.latency / 100, "all of it is accounted for"


def test_every_span_lies_within_its_parent(faulty: Records) -> None:
    spans = TraceMaker(faulty.run).of_workflows(faulty.workflows, faulty.calls, faulty.attempts)
    by_id = {span.span_id: span for span in spans}
    assert len(by_id) == len(spans)
    for span in spans:
        if span.parent_id is not None:
            parent = by_id[span.parent_id]
            assert parent.start <= span.start <= span.end <= parent.end


@pytest.mark.parametrize("faults", ["", FAULTS], ids=["without faults", "with faults"])
def test_what_one_permit_more_would_buy_is_what_the_cell_that_has_it_needed(
    tmp_path: Path, faults: str, request: pytest.FixtureRequest
) -> None:
    """The estimate is for a provider as fast with one more call at once, as this one is."""
    records = request.getfixturevalue("faulty") if faults else played(tmp_path, faults)
    cells = {(cell.info.permit_scope, cell.info.permits): cell for cell in by_cell(records)}
    for scope in ("attempt", "call"):
        for permits in (3, 7):
            bought = one_permit_more(cells[scope, permits], 4)
            assert bought is not None
            more = cells[scope, permits + 1].whole_trials()
            took = 1.0
            for trial in more:
                took *= ((trial.end - trial.start) / SECOND) ** (1 / len(more))
            assert bought.makespan_s.value == pytest.approx(took, rel=0.01 if not faults else 0.1)
            assert bought.ratio.value < 1
