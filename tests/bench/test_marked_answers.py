"""A run is simulated as soon as one of its answers has the mark of the simulated provider."""

from __future__ import annotations

import msgspec
import pytest

from harness.bench.marked_answers import AnswerMarks, seen_answers
from harness.bench.resume import RunProgress
from harness.bench.scenario_file import parse_scenario
from harness.records.schema import Attempt, MarkedAnswers, Run
from harness.report.wording import simulated_line
from tests.analysis.builders import make_attempt, make_run

SCENARIO = parse_scenario('name = "a"\n[workflow]\ntopics = "t"', "a")
LIVE = make_run(["async_2_none_attempt"], simulated=False)
PLAIN = make_attempt()
MARKED = make_attempt(marked_simulated=True)
REFUSED = make_attempt(outcome="rate_limited", status=429, marked_simulated=True)
OF_A_PROXY = make_attempt(outcome="bad_gateway", status=502)
UNANSWERED = make_attempt(outcome="connect_failed", status=None)


def marked(run: Run, *trials: list[Attempt], answered: bool = False) -> Run:
    marks = AnswerMarks(RunProgress(SCENARIO, run, answered=answered))
    for attempts in trials:
        assert marks.note(seen_answers(attempts)) == (marks.marking(run) != run)
        run = marks.marking(run)
    return run


@pytest.mark.parametrize(
    ("trials", "found"),
    [
        ([[PLAIN], [UNANSWERED]], "none"),
        ([[MARKED, UNANSWERED, OF_A_PROXY], [MARKED]], "all"),
        ([[REFUSED]], "all"),
        ([[MARKED], [MARKED, PLAIN]], "some"),
        ([[PLAIN], [MARKED]], "some"),
        ([[OF_A_PROXY], []], "none"),
    ],
)
def test_what_is_marked_is_found(trials: list[list[Attempt]], found: MarkedAnswers) -> None:
    run = marked(LIVE, *trials)
    assert (run.simulated, run.marked_answers) == (found != "none", found)
    assert not run.has_simulator


def test_the_answers_of_earlier_sessions_count() -> None:
    assert marked(LIVE, [MARKED], answered=True).marked_answers == "some"
    once = msgspec.structs.replace(LIVE, simulated=True, marked_answers="all")
    assert marked(once, [MARKED], answered=True) == once
    assert marked(once, [PLAIN], answered=True).marked_answers == "some"
    twice = msgspec.structs.replace(once, marked_answers="some")
    assert marked(twice, [MARKED], answered=True) == twice


def test_a_run_with_a_simulator_of_its_own_stays_as_it_is() -> None:
    simulated = make_run(["async_2_none_attempt"])
    assert marked(simulated, [MARKED], [PLAIN]) == simulated
    assert simulated.has_simulator


def test_the_line_says_how_much_was_simulated() -> None:
    line = simulated_line(marked(LIVE, [MARKED]))
    assert line == "SIMULATED by the endpoint: its answers have the mark of the simulated provider"
    line = simulated_line(marked(LIVE, [MARKED, PLAIN]))
    assert line == "SIMULATED in part: some answers have the mark of the simulated provider"
    assert len(line) <= 80
    assert simulated_line(LIVE) == ""
