"""The lengths of prompts show whose answers they contain."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.imports import CASES, measured
from harness.imports.alignment import NO_FLOW, KnownFlow, TimedItem, aligned
from harness.imports.happens_before import inferred
from harness.imports.prompt_flow import PromptFlow, PromptFlows, TokenTable, prompt_flows
from harness.imports.recorded import RecordedCall, RecordedTrace
from harness.imports.series_parallel import CallFork, ProgramCall, Steps
from harness.imports.tree_search import flow_cost

RUNS = 10
SECOND = 1_000_000_000


def lengths(
    reads: list[list[int]], random: Random, runs: int = RUNS
) -> tuple[TokenTable, TokenTable, TokenTable]:
    """Return tokens read and written, and those of the input of each run, which all calls read."""
    written = np.array([[random.randint(50, 900) for _ in reads] for _ in range(runs)], float)
    document = np.array([[random.randint(100, 3000)] for _ in range(runs)], float)
    own = [random.randint(30, 300) for _ in reads]
    read = np.array([
        [
            own[call] + document[run, 0] + written[run, those].sum() + random.randint(-2, 2)
            for call, those in enumerate(reads)
        ]
        for run in range(runs)
    ])  # fmt: skip
    return read, written, document


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 14))
def test_the_answers_in_prompts_are_found(seed: int, count: int) -> None:
    random = Random(seed)
    reads = [
        sorted(random.sample(range(call), random.randint(0, min(call, 4)))) for call in range(count)
    ]
    read, written, document = lengths(reads, random)
    before = np.triu(np.ones((count, count), dtype=bool), 1)
    found = prompt_flows(read, written, document, before)
    wrong = [
        call
        for call, flow in enumerate(found.at)
        if flow is not None and flow.reads != set(reads[call])
    ]
    assert not wrong
    assert found.told >= 0.9


def test_one_run_that_is_matched_wrongly_changes_nothing() -> None:
    read, written, document = lengths([[], [0], [0, 1], [2]], Random(1))
    read[3], written[3] = read[3, [2, 0, 3, 1]], written[3, [2, 0, 3, 1]]
    before = np.triu(np.ones((4, 4), dtype=bool), 1)
    found = prompt_flows(read, written, document, before)
    reads = [flow.reads for flow in found.at if flow is not None]
    assert reads == [frozenset(), {0}, {0, 1}, {2}]


def test_lengths_of_chance_tell_nothing() -> None:
    random = Random(2)
    read, written = (
        np.array([[random.randint(50, 3000) for _ in range(12)] for _ in range(RUNS)], float)
        for _ in range(2)
    )
    before = np.triu(np.ones((12, 12), dtype=bool), 1)
    found = prompt_flows(read, written, read[:, :1], before)
    assert not any(flow and flow.reads for flow in found.at)


@pytest.mark.parametrize("runs", [1, 3])
def test_few_runs_tell_nothing(runs: int) -> None:
    read, written, document = lengths([[], [0]], Random(3), runs)
    before = np.triu(np.ones((2, 2), dtype=bool), 1)
    assert prompt_flows(read, written, document, before).at == (None, None)


def test_unknown_tokens_and_answers_of_one_length_tell_nothing() -> None:
    read, written, document = lengths([[], [0], [1]], Random(4))
    read[0, 1] = np.nan
    read[:, 2] += 400 - written[:, 1]
    written[:, 1] = 400
    before = np.triu(np.ones((3, 3), dtype=bool), 1)
    first, second, third = prompt_flows(read, written, document, before).at
    assert first is not None
    assert second is None
    assert third is not None
    assert 1 in third.untold


def test_a_tree_whose_calls_read_what_they_wait_for_costs_less() -> None:
    def flow(*reads: int) -> PromptFlow:
        return PromptFlow(frozenset(reads), frozenset(), (), 100.0, 2.0)

    flows = {0: flow(), 1: flow(0), 2: flow(0), 3: flow(1, 2)}
    joined = {0: frozenset[int](), 1: frozenset({0}), 2: frozenset({0}), 3: frozenset({1, 2})}
    chain = {0: frozenset[int](), 1: frozenset({0}), 2: frozenset({1}), 3: frozenset({2})}
    apart = joined | {3: frozenset({1})}
    assert flow_cost(joined, flows) < flow_cost(chain, flows) < flow_cost(apart, flows)


def test_the_length_of_a_prompt_decides_its_place() -> None:
    """Two calls begin in one moment; only their prompts tell which branch each is."""
    tree = Steps((ProgramCall(0), CallFork((ProgramCall(1), ProgramCall(2)))))
    run = [
        TimedItem(0, SECOND, "", 500, 70),
        TimedItem(SECOND, 2 * SECOND, "", 270, 10),
        TimedItem(SECOND, 3 * SECOND, "", 110, 10),
    ]
    none = frozenset[int]()
    told = (
        None,
        PromptFlow(none, none, (), 110, 2.0),
        PromptFlow(frozenset({0}), none, (), 200, 2.0),
    )
    same = [[0.0] * 3] * 3
    labels = [""] * 3
    found = aligned(tree, labels, run, 0, 1e7, same, KnownFlow(PromptFlows(told, 0.0), ()))
    assert found is not None
    assert found[1] == [0, 2, 1]
    plain = aligned(tree, labels, run, 0, 1e7, same, NO_FLOW)
    assert plain is not None
    assert plain[1] == [0, 1, 2]


def test_a_join_is_found_that_times_do_not_show() -> None:
    """A short call beside a chain ends before the chain's second call in all runs."""
    random = Random(5)
    traces = []
    for number in range(RUNS):
        first, second, short = (random.randint(100, 900) for _ in range(3))
        times = [(0.0, 5.0), (0.0, 1.0), (5.01, 9.0), (9.02, 12.0)]
        tokens = [(300, first), (200, short), (90 + first, second), (50 + second + short, 40)]
        calls = [
            RecordedCall(str(at), int(start * SECOND), int(end * SECOND), *counts)
            for at, ((start, end), counts) in enumerate(zip(times, tokens, strict=True))
        ]
        traces.append(RecordedTrace(str(number), 0, 0, tuple(calls)))
    assert {found.after for found in inferred(traces)} == {((), (), (0,), (1, 2))}


def test_prompts_that_contain_answers_show_nested_programs() -> None:
    case = next(case for case in CASES if "contain answers, times vary by 0.3" in case.name)
    scores = [measured(case, seed) for seed in range(6)]
    right = sum(score.right for score in scores)
    assert right / (right + sum(score.wrong for score in scores)) > 0.95
    assert right / (right + sum(score.missed for score in scores)) > 0.95
