"""`[load]`: a closed loop or an open one, and no mixture."""

from __future__ import annotations

import pytest

from harness.bench import cells
from harness.bench.scenario import Scenario
from harness.bench.scenario_file import parse_scenario
from harness.engine.effects import FanOut, Now, Program, Sleep, now, step
from harness.records.errors import InputError

OPEN = """
name = "open"
[workflow]
topics = ["tides"]
[endpoint]
time_scale = 0.5
[load]
workflows = 4
arrivals = { process = "poisson", per_second = 2.0 }
[objective]
minimise = "workflow_p95"
"""


def open_scenario(*overrides: str) -> Scenario:
    return parse_scenario(OPEN, "open.toml", overrides)


def does_nothing(ready: int) -> Program[None]:
    yield from now()


def due(repeat: int, *overrides: str) -> list[int]:
    program = cells.load(open_scenario(*overrides), [does_nothing] * 4, repeat)
    assert step(program, None) == Now()
    forked = step(program, 100)
    assert isinstance(forked, FanOut)
    sleeps = [step(branch, None) for branch in forked.branches]
    return [asked.until for asked in sleeps if isinstance(asked, Sleep)]


def test_every_cell_of_a_repeat_meets_the_same_arrivals_and_another_repeat_others() -> None:
    assert due(0) == due(0) == sorted(due(0))
    assert due(0) != due(1)
    assert len(due(0)) == 4
    assert min(due(0)) > 100


def test_arrivals_are_due_in_scenario_seconds() -> None:
    constant = 'load.arrivals.process="constant"'
    assert due(0, constant) == [100, 100 + 250_000_000, 100 + 500_000_000, 100 + 750_000_000]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            "load.in_flight=2",
            "load.in_flight = 2: has no effect with load.arrivals, which limits nothing in "
            "flight; remove one of the two",
        ),
        (
            'objective.minimise="makespan"',
            "objective.minimise = 'makespan': with load.arrivals, the arrivals determine "
            "the makespan; use 'workflow_p95' or 'cost_per_successful_workflow'",
        ),
        (
            "load.arrivals.per_second=0",
            "load.arrivals.per_second = 0: must be at least 0.000001",
        ),
        (
            'load.arrivals.process="bursts"',
            "load.arrivals.process = 'bursts': must be 'poisson', 'constant' or 'recorded'",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(override: str, said: str) -> None:
    with pytest.raises(InputError, match=r".*") as refused:
        open_scenario(override)
    assert said in str(refused.value)


def test_nothing_limits_how_many_are_in_flight() -> None:
    assert open_scenario().load.at_once == 4
