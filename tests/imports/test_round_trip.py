"""Programs run in virtual time, their spans are imported, and the dependencies are the same."""

from __future__ import annotations

from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.cli.main import main
from harness.imports.series_parallel import (
    CallFork,
    CallTree,
    ProgramCall,
    Steps,
    dependencies,
    numbers_in,
)
from harness.workflows.replay.data_file import (
    ReplayedCall,
    ReplayedWorkflow,
    encoded_data,
    read_data,
)

RUNS = 6
SCENARIO = """
name = "made"
[workflow]
kind = "replay"
data = "made.replay.jsonl"
[endpoint]
profile = "plain-chat"
time = "virtual"
[load]
workflows = {runs}
in_flight = 1
[sweep]
permits = [64]
"""

widths = st.lists(st.integers(1, 4), min_size=1, max_size=5)
"""Fan-outs of single calls, one after another; 1 is a call."""


def numbered(tree: list[int]) -> CallTree:
    """Return the tree of the widths, with the calls numbered in its order."""
    number, steps = 0, list[CallTree]()
    for width in tree:
        calls = tuple(ProgramCall(number + one) for one in range(width))
        steps.append(calls[0] if width == 1 else CallFork(calls))
        number += width
    return steps[0] if len(steps) == 1 else Steps(tuple(steps))


def imported(folder: Path, tree: CallTree, seed: int) -> list[ReplayedWorkflow]:
    """Run a program several times, and return what is imported from its spans.

    The input of a call tells which one it is; outputs are drawn for each run.
    """
    chance, needs = Random(seed), dependencies(tree)
    workflows = [
        ReplayedWorkflow(
            float(run),
            tuple(
                ReplayedCall(
                    input=100 + number, output=chance.randint(20, 400),
                    after=tuple(sorted(needs[number])),
                )
                for number in sorted(numbers_in(tree))
            ),
        )
        for run in range(RUNS)
    ]  # fmt: skip
    (folder / "made.replay.jsonl").write_bytes(encoded_data(workflows))
    scenario, out = folder / "made.toml", folder / "run"
    scenario.write_text(SCENARIO.format(runs=RUNS))
    assert main(["run", str(scenario), "--out", str(out), "--quiet"]) == 0
    (spans,) = (out / "traces").glob("async*.otlp.jsonl")
    assert main(["import", str(spans), "-o", str(folder / "again.toml")]) == 0
    return list(read_data(str(folder / "again.replay.jsonl")).workflows)


def by_input(workflow: ReplayedWorkflow) -> dict[int, set[int]]:
    """Return the dependencies of a workflow, with calls named by their input."""
    calls = workflow.calls
    return {call.input: {calls[one].input for one in call.after} for call in calls}


@given(widths, st.integers(0, 1000))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_fan_outs_are_found_again(tree: list[int], seed: int) -> None:
    program = numbered(tree)
    wanted = {
        100 + number: {100 + one for one in before}
        for number, before in dependencies(program).items()
    }
    with TemporaryDirectory() as name:
        found = imported(Path(name), program, seed)
    assert len(found) == RUNS
    assert all(by_input(one) == wanted for one in found)


def test_branches_of_several_steps_are_found_again(tmp_path: Path) -> None:
    chain = Steps(tuple(ProgramCall(number) for number in (1, 2)))
    other = Steps(tuple(ProgramCall(number) for number in (3, 4)))
    program = Steps((ProgramCall(0), CallFork((chain, other)), ProgramCall(5)))
    found = imported(tmp_path, program, 1)
    wanted = {100: set(), 101: {100}, 102: {101}, 103: {100}, 104: {103}, 105: {102, 104}}
    assert all(by_input(one) == wanted for one in found)
