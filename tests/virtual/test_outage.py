"""The scenario `outage`: a minute of 503s in 1500 calls, repeated."""

from __future__ import annotations

from collections import Counter

import pytest

from harness.config import shipped_scenarios
from harness.records.clock import SECOND
from harness.records.failures import OK
from harness.store.run_directory import Records, read_records
from tests.virtual.test_sweeps import play

REPEATS = [4, pytest.param(20, marks=pytest.mark.more)]
START, MINUTE = 300 * SECOND, 60 * SECOND
MOST_ATTEMPTS = 25
SLACK = 0.05


@pytest.fixture(scope="module", params=REPEATS, ids=lambda repeats: f"{repeats} repeats")
def repeats(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, repeats: int) -> tuple[Records, Records]:
    """The batch with the breaker that parks, in the outage and without one."""
    folder = tmp_path_factory.mktemp("outage")
    path = folder / "outage.toml"
    path.write_text((shipped_scenarios.folder() / "outage.toml").read_text())
    parking = ("sweep.retry=['parking']", f"sweep.repeats={repeats}")
    down = play(path, "down", *parking, jobs=2)
    up = play(path, "up", *parking, "endpoint.faults=[]", jobs=2)
    return read_records(down), read_records(up)


def makespans(records: Records) -> dict[int, int]:
    return {trial.repeat: trial.end - trial.start for trial in records.trials}


def sent_in_the_outage(records: Records) -> Counter[int]:
    """Attempts by repeat that were sent while the server refused every request."""
    first = {trial.repeat: trial.end for trial in records.trials}
    for attempt in records.attempts:
        assert attempt.sent is not None
        first[attempt.repeat] = min(first[attempt.repeat], attempt.sent)
    return Counter(
        attempt.repeat
        for attempt in records.attempts
        if attempt.sent is not None
        and START <= attempt.sent - first[attempt.repeat] < START + MINUTE
    )


def test_a_breaker_that_parks_sends_next_to_nothing_into_it(
    runs: tuple[Records, Records], repeats: int
) -> None:
    sent = sent_in_the_outage(runs[0])
    assert len(sent) == repeats
    assert max(sent.values()) <= MOST_ATTEMPTS


def test_it_loses_nothing(runs: tuple[Records, Records], repeats: int) -> None:
    for records in runs:
        assert len(records.calls) == 1500 * repeats
        assert {call.outcome for call in records.calls} == {OK}
        assert {workflow.outcome for workflow in records.workflows} == {OK}


def test_it_ends_as_much_later_as_the_outage_is_long(
    runs: tuple[Records, Records], repeats: int
) -> None:
    down, up = map(makespans, runs)
    assert len(down) == repeats
    for repeat, makespan in down.items():
        assert makespan <= (1 + SLACK) * (up[repeat] + MINUTE), repeat
