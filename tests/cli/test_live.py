"""What is shown while a run goes on."""

import io
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from harness.bench.runner import TrialsLeft
from harness.bench.trial import Tally
from harness.cli.live import Counters, LiveView, Race, lines
from harness.cli.views import Views
from harness.records.schema import CellInfo
from tests.analysis.builders import make_attempt, make_workflow

CELL = CellInfo(
    id="async_8_full-jitter_attempt", mode="async", permits=8, retry="full-jitter",
    permit_scope="attempt",
)  # fmt: skip


def test_a_run_that_adds_repeats_shows_its_block_and_the_cells_that_are_left() -> None:
    counters = Counters(trials=120, workflows=2, cost=None, race=Race(cells=12, repeats=10))
    counters.begin(CELL, repeat=0, left=TrialsLeft(120, 12))
    assert "block 1 of at most 10, 12 of 12 settings left" in lines(counters, 1.0, 80)[0]
    counters.add(Tally(workflows=2))
    counters.begin(CELL, repeat=6, left=TrialsLeft(12, 3))
    first = lines(counters, 1.0, 80)[0]
    assert "block 7 of at most 10, 3 of 12 settings left" in first
    assert first.endswith("at most 0:12")  # 24 workflows, each half a second


def test_attempts_failures_429_spend_and_what_is_in_flight_are_counted() -> None:
    counters = Counters(trials=4, workflows=2, cost=lambda attempt: 0.25)
    counters.begin(CELL, repeat=1, left=TrialsLeft(3, 1))
    counters.sending(1)
    counters.sending(1)
    counters.sending(-1)
    counters.note(make_attempt(outcome="ok", status=200))
    counters.note(make_attempt(outcome="rate_limited", status=429))
    shown = "\n".join(lines(counters, 10.0, 80))
    assert "trial 2/4" in shown
    assert "1 in flight" in shown
    assert "2 attempts (0.2/s)" in shown
    assert "1 failed, 1 of them 429" in shown
    assert "$0.5000 spent" in shown


@given(st.integers(20, 200), st.integers(0, 10**9), st.floats(0, 1e6))
def test_no_line_is_wider_than_the_terminal(width: int, attempts: int, seconds: float) -> None:
    counters = Counters(trials=10**6, workflows=10**6, cost=None)
    counters.begin(CELL, repeat=10**5, left=TrialsLeft(10, 1))
    counters.total.attempts = attempts
    assert all(len(line) <= width for line in lines(counters, seconds, width))


def test_time_left_follows_from_what_has_ended_and_is_not_guessed_before() -> None:
    counters = Counters(trials=2, workflows=2, cost=None)
    counters.begin(CELL, repeat=0, left=TrialsLeft(2, 1))
    assert "left" not in lines(counters, 30.0, 80)[0]
    counters.total.workflows = 1
    assert "1:30 left" in lines(counters, 30.0, 80)[0]


def test_a_run_that_goes_on_counts_what_had_ended_before_and_reckons_from_what_has_since() -> None:
    before = {("sync_1_none_attempt", 0): 4, (CELL.id, 1): 1}
    counters = Counters(3, 4, lambda attempt: 0.25, ended=before, spent=1.5)
    counters.begin(CELL, repeat=1, left=TrialsLeft(2, 1))
    first, trial, totals = lines(counters, 30.0, 80)
    assert first.count("━") == 10  # 5 of 12
    assert "left" not in first
    assert "1/4 workflows" in trial
    assert "$1.5000 spent" in totals
    counters.note(make_workflow())
    assert "3:00 left" in lines(counters, 30.0, 80)[0]  # six more


def test_elsewhere_than_on_a_terminal_each_trial_is_a_plain_line() -> None:
    said = io.StringIO()
    counters = Counters(trials=2, workflows=2, cost=None)
    with LiveView(counters, Console(file=said, width=80), Views(Path())) as view:
        view.before_trial(CELL, 0, TrialsLeft(2, 1))
        view.before_trial(CELL, 1, TrialsLeft(1, 1))
    assert said.getvalue().splitlines() == [
        "trial 1/2: async, 8 permits, full-jitter, repeat 1",
        "trial 2/2: async, 8 permits, full-jitter, repeat 2",
    ]


def test_a_long_run_has_a_plain_line_for_each_tenth() -> None:
    for race in (None, Race(cells=1, repeats=87)):
        said = io.StringIO()
        counters = Counters(trials=87, workflows=2, cost=None, race=race)
        with LiveView(counters, Console(file=said, width=80), Views(Path())) as view:
            for repeat in range(87):
                view.before_trial(CELL, repeat, TrialsLeft(87 - repeat, 1))
                counters.add(Tally(attempts=3, failed=1, workflows=2))
        lines = said.getvalue().splitlines()
        assert len(lines) == 10
        place = (
            "trial 10/87: " if race is None else "block 10 of at most 87, 1 of 1 settings left: "
        )
        assert lines[1].startswith(place)
        assert lines[1].endswith("repeat 10; 18 workflows, 27 attempts, 9 failed; 0:00")


def test_on_a_terminal_what_was_drawn_is_gone_when_the_run_has_ended() -> None:
    said = io.StringIO()
    counters = Counters(trials=1, workflows=1, cost=None)
    console = Console(file=said, width=80, force_terminal=True)
    with LiveView(counters, console, Views(Path())) as view:
        view.before_trial(CELL, 0, TrialsLeft(1, 1))
    assert "trial 1/1: async" not in said.getvalue()


def test_what_was_counted_elsewhere_is_added_and_a_trial_in_virtual_time_has_been_played() -> None:
    counters = Counters(trials=2, workflows=2, cost=lambda attempt: 0.0, virtual=True)
    counters.begin(CELL, repeat=0, left=TrialsLeft(2, 1))
    counters.add(Tally(attempts=7, failed=2, rate_limited=1, workflows=2, cost=0.5))
    shown = "\n".join(lines(counters, 10.0, 80))
    assert "7 attempts (0.7/s)  2 failed, 1 of them 429  $0.5000 spent" in shown
    assert "repeat 1: ended" in shown
    assert "0:10 left" in shown
    assert "in flight" not in shown
