"""The scenario `permit-scope`: a permit given back during backoff is worth more than one held."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from scipy import stats

from harness.config import shipped_scenarios
from harness.store.run_directory import read_records
from tests.virtual.test_sweeps import play

REPEATS = 8


def gains(folder: Path, probability: float) -> list[float]:
    """Logs of how many times as long a trial takes when permits are held, by repeat."""
    path = folder / "permit-scope.toml"
    path.write_text((shipped_scenarios.folder() / "permit-scope.toml").read_text())
    out = play(
        path,
        f"out-{probability}",
        f"sweep.repeats={REPEATS}",
        "load.workflows=30",
        f"endpoint.faults=[{{kind = 'unavailable', probability = {probability}}}]",
        jobs=2,
    )
    lasted = {
        (trial.cell.rpartition("_")[2], trial.repeat): trial.end - trial.start
        for trial in read_records(out).trials
    }
    return [
        math.log(lasted["call", repeat] / lasted["attempt", repeat]) for repeat in range(REPEATS)
    ]


@pytest.mark.parametrize(("probability", "least"), [(0.2, 1.1), (0.4, 1.25)])
def test_giving_permits_back_wins_the_more_the_more_attempts_fail(
    tmp_path: Path, probability: float, least: float
) -> None:
    found = stats.ttest_1samp(gains(tmp_path, probability), 0).confidence_interval(0.99)
    assert math.exp(found.low) > least
