"""Dependencies are recovered from times."""

from __future__ import annotations

import random

from harness.imports.happens_before import inferred
from harness.imports.recorded import RecordedCall, RecordedTrace
from harness.imports.series_parallel import (
    CallFork,
    CallTree,
    ProgramCall,
    Steps,
    dependencies,
    tree_of_order,
)

_SECOND = 10**9
A, B, C, D, E, F = map(ProgramCall, range(6))
PROGRAM = Steps((A, CallFork((B, Steps((C, D)))), E, F))


def played(
    tree: CallTree, chance: random.Random, name: str = ""
) -> tuple[RecordedTrace, list[int]]:
    """Return a run of a program, and the number of each of its calls in the program."""
    times: dict[int, tuple[float, float]] = {}

    def play(node: CallTree, at: float) -> float:
        if isinstance(node, ProgramCall):
            start = at + chance.lognormvariate(0, 0.5) * 0.02
            times[node.number] = start, start + 5 * chance.lognormvariate(0, 0.5)
            return times[node.number][1]
        if isinstance(node, Steps):
            for part in node.parts:
                at = play(part, at)
            return at
        return max(play(part, at) for part in node.parts)

    play(tree, 0.0)
    order = sorted(times, key=lambda one: times[one])
    calls = []
    for one in order:
        start, end = (round(at * _SECOND) for at in times[one])
        calls.append(RecordedCall(str(one), start, end, 100 + one, 10))
    return RecordedTrace(name, 0, 0, tuple(calls)), order


def test_ten_runs_show_the_program() -> None:
    runs = [played(PROGRAM, random.Random(seed)) for seed in range(10)]
    found = inferred([trace for trace, _ in runs])
    wanted = dependencies(PROGRAM)
    for one, (_, order) in zip(found, runs, strict=True):
        got = {order[at]: {order[each] for each in after} for at, after in enumerate(one.after)}
        assert got == wanted


def test_gaps_count_from_the_last_call_that_was_waited_for() -> None:
    trace, _ = played(Steps((A, B)), random.Random(1))
    (found,) = inferred([trace])
    assert found.after == ((), (0,))
    assert found.gaps[1] == trace.calls[1].start - trace.calls[0].end


def test_a_permit_is_no_dependency() -> None:
    """Six calls of a fan-out under two permits: each begins when any other ends."""
    traces = []
    for seed in range(10):
        chance, free, calls = random.Random(seed), [0.0, 0.0], []
        for number in range(6):
            start = free.pop(free.index(min(free)))
            end = start + 5 * chance.lognormvariate(0, 0.8)
            free.append(end)
            begin, done = round(start * _SECOND), round(end * _SECOND)
            calls.append(RecordedCall(str(number), begin, done, 100 + number, 10))
        calls.sort(key=lambda call: call.start)
        traces.append(RecordedTrace(str(seed), 0, 0, tuple(calls)))
    found = inferred(traces)
    assert not any(after for one in found for after in one.after)


def test_an_answer_in_a_prompt_is_a_dependency() -> None:
    text = "a sentence that the model has written"
    calls = (
        RecordedCall("a", 0, 5, 1, 1, answer=text),
        RecordedCall("b", 1, 90_000, 1, 1),
        RecordedCall("c", 80_000, 99_000, 1, 1, prompt=f"Sum up: {text}"),
    )
    (found,) = inferred([RecordedTrace("t", 0, 0, calls)])
    assert 0 in found.after[2]
    assert 1 not in found.after[2]


def test_an_order_that_is_no_tree_is_parted_where_the_evidence_is_least() -> None:
    order = {(0, 2), (0, 3), (1, 3)}
    tree = tree_of_order(range(4), order, {(0, 2): 9.0, (0, 3): 0.1, (1, 3): 9.0})
    assert dependencies(tree) == {0: frozenset(), 1: frozenset(), 2: {0}, 3: {1}}
