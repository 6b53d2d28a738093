"""The parts that a call is drawn with: they fill it, and are those of the summary."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from harness.analysis.call_segments import CallSegment, segments_of_call
from harness.analysis.cells import time_spent as shares_of
from harness.analysis.selection import Dataset
from harness.records.clock import SECOND
from harness.records.schema import Attempt, Call
from harness.report.charts.model import PART_LOOKS
from harness.report.charts.timeline import look_of
from tests.analysis.builders import make_attempt, make_call
from tests.analysis.played import Shape, make_records

IDS = ("sync_1_none_attempt", "async_2_none_attempt", "async_8_full-jitter_attempt")
PARTS = {look: part for part, (_, look) in PART_LOOKS.items()}


@pytest.fixture(scope="module")
def records() -> Dataset:
    shape = Shape(failure_rate=0.2)
    return Dataset.of(make_records(IDS, 2, workflows=5, branches=3, shape=shape, time_scale=0.05))


def drawn_parts(call: Call, attempts: Sequence[Attempt]) -> list[CallSegment]:
    """Return the parts of a call, each named by the colour that it is drawn in."""
    return [
        piece._replace(part=PARTS[look_of(piece.part)])
        for piece in segments_of_call(call, attempts)
    ]


def test_the_pieces_of_a_call_fill_it_without_gap_or_overlap(records: Dataset) -> None:
    attempts = {call.call_key: [] for call in records.calls}  # type: ignore[var-annotated]
    for attempt in records.attempts:
        attempts[attempt.call_key].append(attempt)
    parts = set()
    for call in records.calls:
        cut = drawn_parts(call, attempts[call.call_key])
        parts |= {piece.part for piece in cut}
        ends = [call.ready, *(piece.end for piece in cut)]
        assert [piece.start for piece in cut] == ends[:-1]
        assert ends[-1] == call.done
    assert parts == set(PART_LOOKS)


def test_the_pieces_add_up_to_the_shares_of_the_summary(records: Dataset) -> None:
    for cell in records.cells.values():
        wanted = shares_of(cell.tried())
        assert wanted
        whole = sum(call.done - call.ready for call in cell.calls)
        spent = dict.fromkeys(PART_LOOKS, 0)
        for call in cell.calls:
            of_call = [one for one in cell.attempts if one.call_key == call.call_key]
            for piece in drawn_parts(call, of_call):
                spent[piece.part] += piece.end - piece.start
        assert {part: time / whole for part, time in spent.items()} == pytest.approx(
            {part: getattr(wanted, part) for part in PART_LOOKS}
        )


@pytest.mark.parametrize(
    ("fields", "parts"),
    [
        ({}, ["to_first_token", "reasoning", "answer", "other"]),
        ({"first_reasoning": None}, ["to_first_token", "answer", "other"]),
        ({"first_answer": None}, ["to_first_token", "reasoning", "other"]),
        ({"first_reasoning": None, "first_answer": None, "last_token": None}, ["other"]),
        ({"outcome": "rate_limited", "permit_granted": 5, "sent": 9},
         ["permit_wait", "other", "failed_attempts"]),
        ({"outcome": "cancelled", "sent": None}, ["other"]),
    ],
)  # fmt: skip
def test_an_attempt_is_cut_at_the_moments_it_reached(
    fields: dict[str, object], parts: list[str]
) -> None:
    attempt = make_attempt(**fields)
    cut = drawn_parts(make_call(), [attempt])
    assert [piece.part for piece in cut] == parts
    assert shares_of([(make_call(), [attempt])]), "the summary can be made of it"
    for part in PART_LOOKS:
        length = sum(piece.end - piece.start for piece in cut if piece.part == part)
        wanted = getattr(shares_of([(make_call(), [attempt])]), part)
        assert length / SECOND == pytest.approx(wanted)


def test_a_permit_that_came_too_late_is_permit_wait() -> None:
    call = make_call(outcome="call_timeout", attempts=0)
    assert [piece.part for piece in drawn_parts(call, [])] == ["permit_wait"]
