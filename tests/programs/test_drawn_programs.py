"""The programs that `benchmarks.import_programs` draws, runs and writes as flat spans."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.drawn_programs import (
    KINDS,
    LEAST_CALLS,
    MOST_CALLS,
    Kind,
    asks_of,
    direct_dependencies,
    draw_program,
    tree_line,
)
from benchmarks.import_programs import RECORDED, makespan_error, naive_graph, record
from benchmarks.programs.drawn import FanOut, PlannedAsk

NESTED = Kind("nested", "much", "all")


def _ask(number: int) -> PlannedAsk:
    return PlannedAsk(number, "research", 10, 10, 0.0, "none", 0)


def test_what_each_call_waits_for_directly() -> None:
    inner = FanOut(((_ask(2),), (_ask(3),)))
    steps = (_ask(0), FanOut(((_ask(1), inner), (_ask(4), _ask(5)))), FanOut(((_ask(6),),)))
    assert tree_line(steps) == "0 (1 (2 | 3) | 4 5) (6)"
    assert {number: sorted(before) for number, before in direct_dependencies(steps).items()} == {
        0: [], 1: [0], 2: [1], 3: [1], 4: [0], 5: [4], 6: [2, 3, 5],
    }  # fmt: skip


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_programs_are_drawn_by_their_seed(kind: Kind) -> None:
    for seed in map(str, range(10)):
        program = draw_program(kind, seed)
        assert program == draw_program(kind, seed)
        asks = [*asks_of(program.steps)]
        assert LEAST_CALLS <= len(asks) <= MOST_CALLS
        assert [one.number for one in asks] == [*range(len(asks))]
        before = direct_dependencies(program.steps)
        for one in asks:
            assert all(reading.number < one.number for reading in one.reads)
            read = {reading.number for reading in one.reads}
            if kind.passing == "all":
                assert read >= before[one.number]
            if kind.passing == "control":
                assert not read


def test_a_recorded_run_is_the_program_and_its_file_does_not_show_it(tmp_path: Path) -> None:
    program = draw_program(NESTED, "0")
    truth = direct_dependencies(program.steps)
    runs, further = record(NESTED, program, 0, tmp_path / "traces.jsonl")
    for run in (*runs, *further):
        ends = {call.number: call.end for call in run.calls}
        for call in run.calls:
            assert call.start > max((ends[one] for one in truth[call.number]), default=run.begin)
    assert makespan_error(truth, [truth], further) == 0.0
    assert makespan_error(truth, map(naive_graph, runs), further) > 0.0

    lines = (tmp_path / "traces.jsonl").read_text(encoding="utf-8").splitlines()
    spans = [
        span
        for line in lines
        for resource in json.loads(line)["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]
    roots = {span["spanId"] for span in spans if "parentSpanId" not in span}
    assert len(roots) == RECORDED
    assert all(span.get("parentSpanId", span["spanId"]) in roots for span in spans)
    assert {span["name"] for span in spans} == {"run", "chat model-large"}
    keys = {attribute["key"] for span in spans for attribute in span["attributes"]}
    assert all(key.startswith("gen_ai.") and "messages" not in key for key in keys)
    assert not any(set(span) & {"events", "links"} for span in spans)
