"""What a trial in virtual time leaves in memory, where no garbage collector runs meanwhile."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.bench import virtual
from harness.simulator.virtual.modes import VIRTUAL_MODES
from tests.virtual.test_cancellation import FAULT, scenario
from tests.virtual.test_sweeps import play

EVERY = (
    "",
    'on_branch_failure = "fail-fast"',
    'on_branch_failure = "quorum"\nquorum = 0.5',
)


@pytest.mark.parametrize("branches", EVERY)
def test_a_trial_leaves_nothing_to_a_collector_that_is_off_while_it_plays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, branches: str
) -> None:
    """A few objects of the loop's own, but nothing for each call."""
    found: list[int] = []

    def counted(*trial: Any) -> None:
        assert not gc.isenabled()
        gc.collect()
        VIRTUAL_MODES["async"](*trial)
        found.append(gc.collect())

    modes: Mapping[str, Callable[..., None]] = {"async": counted}
    monkeypatch.setattr(virtual, "VIRTUAL_MODES", modes)
    asyncio.run(asyncio.sleep(0))  # what is made once is made
    play(scenario(tmp_path, branches, FAULT), "out")
    assert gc.isenabled()
    assert len(found) == 2
    assert max(found) < 100
