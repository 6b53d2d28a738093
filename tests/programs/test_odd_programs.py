"""Programs that raise, catch or await what a workflow seldom does, in every mode.

Each has its record, keeps no permit, and never ends the run.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from harness.records.schema import Workflow
from tests.programs.modes import EVERY, run_in

PLACE = "tests.programs.odd:run_one"
NO_LOOP = (
    r".*no event loop; use harness\.sleep and harness\.gather, or mode = 'async' in real time"
    r"( \(.*\))?"
)


def outcome(mode: str, name: str, **settings: Any) -> Workflow:
    [workflow] = run_in(mode, PLACE, name, **settings).workflows
    return workflow


every_mode = pytest.mark.parametrize("mode", EVERY)


@every_mode
@pytest.mark.parametrize(
    "name",
    [
        "never_asks", "returns_none", "returns_number", "ask_never_awaited", "gathers_nothing",
        "gathers_none_of_nothing", "branch_never_asks", "many_branches", "deep",
        "catches_a_branch", "continues_after_cancellation",
    ],
)  # fmt: skip
def test_these_are_ok(mode: str, name: str) -> None:
    found = outcome(mode, name)
    assert found.error is None
    assert found.outcome in ("ok", "degraded")


ERRORS = {
    "raises_at_once": r"ValueError: at once \(odd\.py, line \d+\)",
    "raises_after_a_call": r"ValueError: after a call \(odd\.py, line \d+\)",
    "raises_in_a_phase": r"KeyError: 'in a phase' \(odd\.py, line \d+\)",
    "raises_in_a_branch": r"ValueError: in a branch \(odd\.py, line \d+\)",
    "exits": r"the program called sys\.exit\(3\)",
    "exits_in_a_branch": r"the program called sys\.exit\(3\)",
    "exits_while_closed": r"the program called sys\.exit\([34]\)",
    "raises_cancelled": "the program cancelled itself",
    "raises_generator_exit": "the program raised GeneratorExit",
    "raises_own_base_exception": "the program raised OwnError",
    "raises_stop_iteration": "RuntimeError: coroutine raised StopIteration.*",
    "raises_lines": r"ValueError: one.*two[^\x1b]* \(odd\.py, line \d+\)",
    "raises_bad_text": r"Bad.*",
    "returns_bad_text": r".*no text.*",
    "returns_surrogates": "ValueError.*",
    "too_many_calls": "the program makes more than 20 calls; raise workflow.most_calls",
    "too_many_calls_in_branches": "the program makes more than 20 calls.*",
    "awaits_twice": r"RuntimeError: ask\('work'\) was awaited before; make another one.*",
    "gathers_twice": "ValueError: gather: a member is given twice.*",
    "gathers_awaited": r"RuntimeError: gather: one\(\) was awaited before.*",
    "gathers_text": "TypeError: gather: 'text' cannot be awaited.*",
    "gathers_a_list": r"TypeError: gather: \[ask\('work'\)\] cannot be awaited.*",
    "awaits_text": "TypeError: .*",
}


@every_mode
@pytest.mark.parametrize("name", ERRORS)
def test_these_fail_with_one_line(mode: str, name: str) -> None:
    found = outcome(mode, name, most_calls=20)
    assert found.outcome == "failed"
    assert found.error is not None
    assert re.fullmatch(ERRORS[name], found.error), found.error
    assert found.error.isprintable()


@every_mode
def test_a_judged_result_is_recorded(mode: str) -> None:
    found = outcome(mode, "returns_scored")
    assert (found.outcome, found.ok) == ("ok", False)


OF_THE_LOOP = {
    "sleeps_in_asyncio": None,
    "waits_for_a_future": r"the program made no call for 0\.2 s, .*",
    "gathers_in_asyncio": r"RuntimeError: ask\('work'\) was awaited outside of a workflow.*",
    "creates_a_task": r"RuntimeError: ask\('work'\) was awaited outside of a workflow.*",
    "times_out": None,
    "times_out_in_a_gather": None,
    "times_out_twice": None,
    "times_out_asleep": None,
    "cancels_its_task": "the program cancelled itself",
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::DeprecationWarning")
@every_mode
@pytest.mark.parametrize("name", OF_THE_LOOP)
def test_what_needs_an_event_loop_has_one_or_is_refused(mode: str, name: str) -> None:
    asyncio.set_event_loop(None)  # or asyncio.gather makes one that nobody closes
    found = outcome(mode, name, own_time_limit=0.2)
    expected = OF_THE_LOOP[name] if mode == "async" else NO_LOOP
    if expected is None:
        assert found.error is None
    else:
        assert found.error is not None
        assert re.fullmatch(expected, found.error), found.error


def test_a_branch_can_cancel_itself() -> None:
    found = outcome("async", "cancels_in_a_branch")
    assert (found.outcome, found.error) == ("degraded", None)


def test_a_call_that_timed_out_is_cancelled_and_the_program_continues() -> None:
    for name in ("times_out", "times_out_in_a_gather", "times_out_twice"):
        records = run_in("async", PLACE, name)
        slow = [one for one in records.attempts if one.phase == "slow"]
        assert {one.outcome for one in slow} == {"cancelled"}
        assert [one.outcome for one in records.calls if one.phase == "slow"] == [
            "cancelled" for _ in slow
        ]
        assert records.calls[-1].outcome == "ok"
        [workflow] = records.workflows
        assert all(one.end <= records.calls[-1].ready for one in workflow.phases[:-1])
