"""The schedule of an open loop over an hour, with a client that is late for each arrival."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random

import pytest

from harness.engine.budget_gate import Gate
from harness.engine.effects import Program, now
from harness.engine.ledger import BudgetLimits
from harness.engine.load import arrival_times, open_loop
from harness.records.clock import SECOND
from harness.simulator.virtual.clock import VirtualClock
from harness.simulator.virtual.loop_mode import virtual_loop_mode
from harness.simulator.virtual.modes import VirtualMode, virtual_async_mode, virtual_sync_mode
from tests.virtual.single import trial

LATE = SECOND // 100
HOUR = 3600
MODES: dict[str, Callable[..., None] | VirtualMode] = {
    "sync": virtual_sync_mode,
    "async": virtual_async_mode,
    "event loop": partial(virtual_loop_mode, serial=False),
}


class LateClock(VirtualClock):
    """The clock of a client whose timers all ring `LATE` too late."""

    def go_to(self, moment: int) -> None:
        if moment > self.time:
            super().go_to(moment + LATE)


@pytest.mark.parametrize("process", ["constant", "poisson"])
@pytest.mark.parametrize("mode", MODES)
def test_arrivals_do_not_drift_in_an_hour_although_every_timer_is_late(
    mode: str, process: str
) -> None:
    """If each arrival counted from the one before, the last would be 36 s late."""
    seen: list[tuple[int, int]] = []

    def start(ready: int) -> Program[None]:
        started = yield from now()
        seen.append((ready, started))

    times = arrival_times(process, 1.0, HOUR, Random(5))
    due = [round(at * SECOND) for at in times]
    clock = LateClock()
    gate = Gate(BudgetLimits(), None, clock.now)
    MODES[mode](open_loop([start] * HOUR, due), trial(), clock, lambda _: None, gate)
    assert sorted(ready for ready, _ in seen) == due
    lateness = [started - ready for ready, started in seen]
    assert min(lateness) >= 0
    assert max(lateness) <= LATE
