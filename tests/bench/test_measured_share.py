"""The record of a trial that several processes ran, and how they begin together."""

from __future__ import annotations

import pickle
from pathlib import Path

from harness.analysis.verdict import _processor_share
from harness.bench.measured_share import ShareFacts, trial_record
from harness.bench.spending import SpendingSoFar
from harness.bench.together import TogetherInTrial, shared_folder
from harness.bench.trial import INTERRUPTED
from harness.bench.trial_share import shares
from harness.engine.ledger import BudgetLimits, Ledger
from harness.records.schema import CellInfo, LimitChange
from harness.records.timer_lag import LateTimer, TimerLag
from harness.store.run_directory import Records
from tests.analysis.builders import by_cell, make_run, make_trial

CELL = CellInfo(id="c", mode="async", permits=4, retry="none", permit_scope="attempt")
FIRST = ShareFacts(
    (10, 90), 50, 5, TimerLag({0: 3, 2_000_000: 1}, (LateTimer(40, 2_000_000),)),
    (LimitChange(9, 4), LimitChange(30, 5), LimitChange(50, 4)),
)  # fmt: skip
SECOND = ShareFacts(
    (12, 95), 40, 6, TimerLag({0: 2}, (LateTimer(20, 1_000_000),)),
    (LimitChange(8, 4), LimitChange(40, 6)),
)  # fmt: skip


def test_a_trial_is_the_sum_of_its_shares() -> None:
    trial = trial_record(CELL, 1, 2, [FIRST, SECOND])
    assert (trial.cell, trial.repeat, trial.execution) == ("c", 1, 2)
    assert (trial.start, trial.end) == (10, 95)
    assert (trial.cpu, trial.recording) == (90, 11)
    assert trial.loop_lag == {0: 5, 2_000_000: 1}
    assert trial.late_timers == (LateTimer(20, 1_000_000), LateTimer(40, 2_000_000))
    assert [(change.at, change.limit) for change in trial.limits] == [
        (8, 4), (30, 5), (40, 6), (50, 4)
    ]  # fmt: skip
    assert trial.processes == 2
    assert not trial.interrupted


def test_a_trial_in_one_process_is_its_share() -> None:
    trial = trial_record(CELL, 0, 0, [FIRST])
    assert (trial.start, trial.end, trial.cpu) == (10, 90, 50)
    assert trial.loop_lag == FIRST.lag.loop_lag
    assert trial.limits == FIRST.changes
    assert trial.processes == 1


def test_a_trial_is_interrupted_if_one_share_is() -> None:
    stopped = SECOND._replace(stopped=INTERRUPTED)
    assert trial_record(CELL, 0, 0, [FIRST, stopped]).interrupted


def test_the_processor_time_is_that_of_one_process() -> None:
    for processes in (1, 4):
        trial = make_trial(start=0, end=100, cpu=80, processes=processes)
        (cell,) = by_cell(Records(make_run(), [], [], [], [trial], None))
        assert _processor_share(cell) == 0.8 / processes


def test_shares_begin_at_one_moment_when_all_are_ready() -> None:
    now = 1_000
    with shared_folder() as folder:
        every = [TogetherInTrial(folder, share, lambda: now) for share in shares(3)]
        assert every[0].agree() is None
        assert every[2].agree() is None
        assert every[0].agree() is None
        now = 5_000
        moment = every[1].agree()
        assert moment is not None
        assert moment > now
        now = 9_000
        assert [one.agree() for one in every] == [moment] * 3
        for one in every:
            one.__exit__()
    assert not Path(folder).exists()


def test_what_a_trial_begins_with_can_be_sent_to_a_process() -> None:
    spending = SpendingSoFar(BudgetLimits(attempts=3), Ledger(BudgetLimits(attempts=3)), True)
    assert pickle.loads(pickle.dumps(spending)) == spending
