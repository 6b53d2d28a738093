"""Which trials a run with looks runs, and when it ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from harness.analysis.decision import Judgement
from harness.analysis.looks import Looks, first_proof, growing_looks, one_look
from harness.bench.cells import order
from harness.bench.race import trial_batches
from harness.records.keys import TrialKey
from harness.records.schema import CellInfo


def judgement(dropped: Mapping[str, int], *, is_final: bool) -> Judgement:
    return Judgement("open", None, None, {}, False, (), None, False, dropped, is_final)


class Course(NamedTuple):
    """A made-up run: the repeats after which each cell is dropped, and after which it is settled.

    `finished`: trials of earlier sessions.
    """

    cells: tuple[CellInfo, ...]
    looks: Looks
    drops: dict[str, int]
    settled: int
    finished: frozenset[TrialKey] = frozenset()

    def judge(self, repeats: int, dropped: Mapping[str, int]) -> Judgement:
        found = {name: count for name, count in self.drops.items() if count <= repeats}
        found = {name: dropped.get(name, repeats) for name in {*found, *dropped}}
        return judgement(found, is_final=repeats >= self.settled)

    def trials(self) -> list[TrialKey]:
        blocks = order(self.cells, self.looks.repeats[-1], 3)
        found = trial_batches(blocks, self.looks, self.finished, self.judge)
        return [(cell.id, repeat) for batch in found for cell, repeat in batch.trials]


def cells(count: int) -> tuple[CellInfo, ...]:
    return tuple(
        CellInfo(id=f"c{at}", mode="async", permits=at + 1, retry="none", permit_scope="attempt")
        for at in range(count)
    )


@st.composite
def courses(draw: st.DrawFn) -> Course:
    swept = cells(draw(st.integers(1, 6)))
    looks = growing_looks(draw(st.integers(1, 40)))
    lost = draw(st.sets(st.sampled_from([cell.id for cell in swept])))
    drops = {name: draw(st.integers(1, 50)) for name in sorted(lost)}
    return Course(swept, looks, drops, draw(st.integers(1, 60)))


@given(courses())
def test_a_dropped_cell_never_runs_and_all_others_run_until_it_is_settled(course: Course) -> None:
    trials = course.trials()
    assert len(set(trials)) == len(trials)
    last = course.looks.repeats[-1]
    end = next((count for count in course.looks.repeats if count >= course.settled), last)
    for cell in course.cells:
        drop = course.drops.get(cell.id, last)
        ends = next((count for count in course.looks.repeats if count >= drop), last)
        assert sorted(at for name, at in trials if name == cell.id) == list(range(min(end, ends)))


@given(courses(), st.data())
def test_a_resumed_run_runs_exactly_what_is_missing(course: Course, data: st.DataObject) -> None:
    whole = course.trials()
    finished = data.draw(st.sets(st.sampled_from(whole)))
    rest = course._replace(finished=frozenset(finished)).trials()
    assert rest == [trial for trial in whole if trial not in finished]


@given(courses())
def test_a_batch_says_how_many_trials_and_cells_are_left(course: Course) -> None:
    blocks = order(course.cells, course.looks.repeats[-1], 3)
    batches = list(trial_batches(blocks, course.looks, (), course.judge))
    for at, batch in enumerate(batches):
        later = sum(len(other.trials) for other in batches[at + 1 :])
        assert batch.later >= later
        assert batch.cells == {cell.id for cell, _ in batch.trials}


def test_a_fixed_number_of_repeats_is_one_batch_without_a_decision() -> None:
    def judge(*_: object) -> Judgement:
        raise AssertionError("nothing is to be decided")

    blocks = order(cells(3), 5, 1)
    (batch,) = trial_batches(blocks, one_look(5), (), judge)
    assert (len(batch.trials), batch.later) == (15, 0)
    assert [cell for cell, _ in batch.trials] == [cell for block in blocks for cell in block]


def test_the_first_look_that_can_prove_a_rate() -> None:
    looks = growing_looks(60)
    assert first_proof(looks, 0.95, 1) is None
    assert first_proof(looks, 0.95, 1000) == 4
    assert first_proof(looks, 1.0, 1000) is None
    assert first_proof(one_look(2), 0.95, 36) == 2
    assert first_proof(one_look(2), 0.95, 35) is None
    assert first_proof(looks, 0.0, 1) == 4
