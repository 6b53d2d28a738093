"""Whole runs with faults at every seam at once: see `benchmarks.survival`."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.survival import survive

SEEDS = 50
AT_ONCE = 25


@pytest.mark.parametrize("first", range(0, SEEDS, AT_ONCE))
def test_runs_survive_kills_full_disks_clock_steps_budgets_and_faults(
    tmp_path: Path, first: int
) -> None:
    """A seed that fails is repeated by `python -m benchmarks.survival --first SEED --seeds 1`."""
    survived = []
    for seed in range(first, first + AT_ONCE):
        folder = tmp_path / str(seed)
        folder.mkdir()
        try:
            survived.append(survive(seed, folder))
        except AssertionError as error:
            again = f"python -m benchmarks.survival --first {seed} --seeds 1"
            raise AssertionError(f"{error}; repeat it with: {again}") from error
    assert max(one.sessions for one in survived) > 1
    assert any(one.is_compared for one in survived)
