"""Every figure of a cell, from records small enough to work it out by hand."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import asdict, replace

from harness.analysis.call_segments import tiles
from harness.analysis.cells import (
    CountingRules,
    MeasuredCell,
    count_bursts,
    gaps,
    is_unavailable,
    terms_of,
    time_spent,
)
from harness.analysis.metrics import compared_metrics, summarise_cell
from harness.analysis.model import Cell
from harness.analysis.statistics import over_repeats
from harness.records.clock import SECOND
from harness.records.failures import is_failure
from harness.records.groups import WorkflowRecords
from harness.records.histogram import merge
from harness.records.schema import Backoff, Branches, Phase, Tokens
from harness.store.column_values import Words
from harness.store.columns import AttemptTable
from harness.store.run_directory import Records
from tests.analysis.builders import (
    MS,
    by_cell,
    known,
    make_attempt,
    make_call,
    make_run,
    make_trial,
    make_workflow,
)
from tests.analysis.played import Shape, make_records

ALL_BRANCHES = CountingRules(in_flight=1)


def summarised(records: Records, terms: CountingRules = ALL_BRANCHES) -> Cell:
    (cell,) = by_cell(records)
    return summarise_cell(MeasuredCell(cell, terms, None))


def by_hand(**lists: Any) -> Records:
    empty: dict[str, Any] = {"attempts": [], "calls": [], "workflows": [], "trials": []}
    return Records(**({"run": make_run(), "provider": None} | empty | lists))


def test_a_cell_without_records_has_counts_of_zero_and_no_figures() -> None:
    cell = summarised(by_hand())
    assert cell.repeats == cell.workflows.started == cell.attempts.total == 0
    assert cell.makespan_s is None
    assert cell.throughput.calls_per_s is None
    assert cell.success_rate is None
    assert cell.time_spent is None
    assert cell.attempts.amplification is None
    assert cell.ttft_s.n == 0
    assert set(cell.phases) == {"decompose", "fan_out", "synthesize"}


def test_makespan_throughput_and_goodput_are_over_the_trial() -> None:
    workflows = [
        make_workflow(done=2 * SECOND),
        make_workflow(workflow=1, done=4 * SECOND),
        make_workflow(workflow=2, outcome="failed", done=SECOND),
    ]
    trials = [make_trial(end=4 * SECOND)]
    records = by_hand(workflows=workflows, calls=[make_call()] * 6, trials=trials)
    cell = summarised(records, CountingRules(in_flight=1, latency=3.0 * SECOND))
    assert cell.makespan_s is not None
    assert cell.makespan_s.value == 4.0
    assert cell.throughput.workflows_per_s is not None
    assert cell.throughput.workflows_per_s.value == 0.75
    assert cell.throughput.calls_per_s is not None
    assert cell.throughput.calls_per_s.value == 1.5
    assert cell.goodput_workflows_per_s is not None
    assert cell.goodput_workflows_per_s.value == 0.25
    assert cell.success_rate is not None
    assert cell.success_rate.value == pytest.approx(2 / 3)


def _cpu_run(**fields: Any) -> Records:
    """Return a run of two repeats with 4 and 2 attempts, which took 8 and 2 ms of processor time.

    One of the first four attempts is that of a warm-up. An earlier execution of the first repeat
    had more attempts.
    """
    attempts = [
        make_attempt(phase="warm-up", workflow=-1, execution=1),
        *(make_attempt(workflow=at, execution=1) for at in range(3)),
        *(make_attempt(workflow=at) for at in range(3)),
        *(make_attempt(repeat=1, workflow=at) for at in range(2)),
    ]
    ended = [
        *(make_workflow(workflow=at, execution=1) for at in range(3)),
        *(make_workflow(repeat=1, workflow=at) for at in range(2)),
    ]
    trials = [
        make_trial(cpu=90 * MS, interrupted=True),
        make_trial(execution=1, cpu=8 * MS),
        make_trial(repeat=1, cpu=2 * MS),
    ]
    run = make_run(repeats=2, time_scale=0.1)
    return by_hand(run=replace(run, **fields), attempts=attempts, workflows=ended, trials=trials)


def test_the_processor_time_of_a_trial_is_shared_by_all_its_attempts() -> None:
    low, value, high = known(summarised(_cpu_run()).client_cpu_per_attempt_s)
    assert value == pytest.approx((0.002 * 0.001) ** 0.5)
    assert low < value < high


def test_virtual_time_has_no_processor_time_of_the_client() -> None:
    assert summarised(_cpu_run(virtual=True)).client_cpu_per_attempt_s is None


def test_an_interrupted_trial_and_one_without_a_measurement_have_no_processor_time() -> None:
    records = _cpu_run()
    cut, again, whole = records.trials
    for trials in ([cut, whole], [replace(again, cpu=0), whole]):
        cell = summarised(records._replace(trials=trials))
        assert cell.client_cpu_per_attempt_s is not None
        assert cell.client_cpu_per_attempt_s.value == pytest.approx(0.001)


@pytest.mark.parametrize(
    ("outcome", "good", "least", "success"),
    [
        ("ok", 4, None, True),
        ("degraded", 3, None, False),
        ("degraded", 3, 3, True),
        ("degraded", 2, 3, False),
        ("failed", 4, 1, False),
    ],
)
def test_a_success_is_ok_or_degraded_with_enough_branches(
    outcome: str, good: int, least: int | None, success: bool
) -> None:
    workflow = make_workflow(outcome=outcome, branches=Branches(total=4, ok=good))
    assert CountingRules(1, least).is_success(workflow) is success


@pytest.mark.parametrize(
    ("outcome", "ok", "least", "success"),
    [
        ("ok", True, None, True), ("ok", False, None, False), ("failed", True, None, False),
        ("degraded", True, None, True), ("degraded", False, 0, False),
        ("degraded", True, 4, False), ("degraded", True, 3, True),
    ],
)  # fmt: skip
def test_a_program_says_itself_whether_its_result_is_good(
    outcome: str, ok: bool, least: int | None, success: bool
) -> None:
    workflow = make_workflow(outcome=outcome, ok=ok, branches=Branches(total=5, ok=3))
    assert CountingRules(1, least).is_success(workflow) is success


def test_the_latency_asked_for_is_scaled_to_the_time_of_the_records() -> None:
    run = make_run(time_scale=0.02, in_flight=3, extra_toml='[slo]\nworkflow_latency = "2m"')
    terms = terms_of(run, run.cells[0])
    assert terms.in_flight == 3
    assert terms.latency == pytest.approx(2.4 * SECOND)
    in_time, late = make_workflow(done=int(2.4 * SECOND)), make_workflow(done=int(2.5 * SECOND))
    assert terms.is_good(in_time)
    assert not terms.is_good(late)


def test_attempts_are_counted_by_outcome_and_against_calls() -> None:
    attempts = [
        make_attempt(outcome="rate_limited", attempt=1),
        make_attempt(attempt=2),
        make_attempt(phase="synthesize"),
    ]
    calls = [make_call(attempts=2), make_call(phase="synthesize", outcome="call_timeout")]
    cell = summarised(by_hand(workflows=[make_workflow()], attempts=attempts, calls=calls))
    assert cell.attempts.by_outcome == {"ok": 2, "rate_limited": 1}
    assert (cell.attempts.total, cell.attempts.failed, cell.attempts.amplification) == (3, 1, 1.5)
    assert asdict(cell.calls) == {"started": 2, "succeeded": 1, "failed": 1, "cancelled": 0}


def test_what_was_cancelled_is_no_failure_and_what_never_began_is_no_call() -> None:
    attempts = [make_attempt(), make_attempt(branch=1, outcome="cancelled")]
    calls = [
        make_call(),
        make_call(branch=1, outcome="cancelled"),
        make_call(branch=2, outcome="cancelled", attempts=0),
    ]
    records = by_hand(workflows=[make_workflow()], attempts=attempts, calls=calls)
    cell = summarised(records)
    assert asdict(cell.calls) == {"started": 2, "succeeded": 1, "failed": 0, "cancelled": 1}
    assert cell.attempts.by_outcome == {"cancelled": 1, "ok": 1}
    assert (cell.attempts.failed, cell.attempts.amplification) == (0, 1.0)
    assert cell.calls_lost is not None
    assert cell.calls_lost.value == 0
    assert cell.call_latency_s.n == 1
    compared = compared_metrics()["amplification"].by_repeat(
        MeasuredCell(by_cell(records)[0], ALL_BRANCHES)
    )
    assert compared == {0: cell.attempts.amplification} == {0: 1.0}


def test_tokens_count_abandoned_attempts_and_waste_is_what_was_not_used() -> None:
    tokens = Tokens(input=10, cached=4, output=7, reasoning=3)
    attempts = [
        make_attempt(execution=0, tokens=tokens),
        make_attempt(execution=1, tokens=tokens, outcome="connection_lost"),
        make_attempt(execution=1, attempt=2, tokens=Tokens()),
    ]
    cell = summarised(by_hand(workflows=[make_workflow(execution=1)], attempts=attempts))
    assert cell.attempts.total == 2
    assert asdict(cell.tokens) == {
        "input": 20, "output": 14, "reasoning": 6, "cached": 8, "wasted": 34, "unreported": 1,
    }  # fmt: skip


def test_of_two_hedged_successes_the_later_is_wasted_and_costs() -> None:
    tokens = Tokens(input=1000, cached=0, output=100, reasoning=0)
    attempts = [
        make_attempt(tokens=tokens, done=400),
        make_attempt(attempt=2, hedge=True, tokens=tokens, done=300),
        make_attempt(branch=1, tokens=tokens, done=500),
    ]
    run = make_run(price={"input": 2.0, "cached": 1.0, "output": 10.0, "source": "made up"})
    cell = summarised(
        by_hand(run=run, workflows=[make_workflow()], attempts=attempts),
        terms_of(run, run.cells[0]),
    )
    assert cell.tokens.wasted == 1100
    assert cell.wasted_usd == pytest.approx(0.003)


def test_spending_counts_every_attempt_and_a_success_bears_what_counts() -> None:
    price = {"input": 2.0, "cached": 1.0, "output": 10.0, "source": "made up"}
    tokens = Tokens(input=1000, cached=500, output=100, reasoning=50)
    attempts = [make_attempt(execution=number, tokens=tokens) for number in (0, 1)]
    workflows = [make_workflow(execution=1), make_workflow(workflow=1, outcome="failed")]
    run = make_run(price=price)
    cell = summarised(
        by_hand(run=run, attempts=attempts, workflows=workflows), terms_of(run, run.cells[0])
    )
    assert cell.cost_usd == pytest.approx(2 * 0.0025)
    assert cell.cost_per_successful_workflow_usd == pytest.approx(0.0025)
    unpriced = summarised(by_hand(attempts=attempts, workflows=workflows))
    assert unpriced.cost_usd is unpriced.cost_per_successful_workflow_usd is None
    nothing = summarised(by_hand(run=run, workflows=[workflows[1]]), terms_of(run, run.cells[0]))
    assert (nothing.cost_usd, nothing.cost_per_successful_workflow_usd) == (0.0, None)


def test_waits_and_latencies_are_the_differences_that_define_them() -> None:
    attempt = make_attempt(
        ready=0, permit_requested=10 * MS, permit_granted=30 * MS, sent=31 * MS,
        first_reasoning=100 * MS, first_answer=200 * MS, last_token=290 * MS, done=300 * MS,
    )  # fmt: skip
    pause = Backoff(start=400 * MS, end=450 * MS, planned=50 * MS, source="policy")
    call = make_call(ready=5 * MS, done=305 * MS, backoffs=(pause,), attempts=2)
    workflow = make_workflow(ready=MS, done=2001 * MS)
    cell = summarised(by_hand(attempts=[attempt] * 6, calls=[call] * 6, workflows=[workflow]))
    expected = {
        "permit_wait_s": 0.020, "client_wait_s": 0.001, "ttft_s": 0.069,
        "time_to_first_answer_s": 0.169, "call_latency_s": 0.300, "backoff_s": 0.050,
    }  # fmt: skip
    for name, seconds in expected.items():
        spread = getattr(cell, name)
        assert (spread.n, spread.p50.value) == (6, pytest.approx(seconds)), name
    assert cell.workflow_latency_s.mean is not None
    assert cell.workflow_latency_s.mean.value == pytest.approx(2.0)


def test_an_attempt_that_never_sent_or_never_spoke_has_no_such_time() -> None:
    silent = make_attempt(first_reasoning=None, first_answer=None, last_token=None)
    unsent = make_attempt(sent=None, headers=None, first_reasoning=None, first_answer=None)
    cell = summarised(by_hand(attempts=[silent, unsent], workflows=[make_workflow()]))
    assert (cell.ttft_s.n, cell.time_to_first_answer_s.n, cell.client_wait_s.n) == (0, 0, 1)
    assert cell.permit_wait_s.n == 2


def test_phases_have_a_latency_a_share_and_failures() -> None:
    phases = (
        Phase(name="decompose", start=0, end=SECOND, outcome="ok"),
        Phase(name="fan_out", start=SECOND, end=4 * SECOND, outcome="failed"),
    )
    workflow = make_workflow(phases=phases, done=4 * SECOND, outcome="failed")
    cell = summarised(by_hand(workflows=[workflow]))
    assert [cell.phases[name].share for name in cell.phases] == [0.25, 0.75, 0.0]
    assert [cell.phases[name].failed for name in cell.phases] == [0, 1, 0]
    assert cell.phases["synthesize"].latency_s.n == 0


def test_time_is_cut_at_every_moment_of_a_call() -> None:
    pause = Backoff(start=300 * MS, end=400 * MS, planned=100 * MS, source="policy")
    call = make_call(ready=0, done=1000 * MS, attempts=2, backoffs=(pause,))
    failed = make_attempt(
        ready=0, permit_requested=0, permit_granted=50 * MS, sent=100 * MS, done=300 * MS,
        outcome="unavailable",
    )  # fmt: skip
    served = make_attempt(
        attempt=2, ready=400 * MS, permit_requested=400 * MS, permit_granted=420 * MS,
        sent=420 * MS, first_reasoning=500 * MS, first_answer=700 * MS, last_token=980 * MS,
        done=1000 * MS,
    )  # fmt: skip
    spent = time_spent(WorkflowRecords([call], [failed, served]).tried())
    assert spent is not None
    assert asdict(spent) == pytest.approx(
        {
            "permit_wait": 0.07,
            "backoff": 0.1,
            "failed_attempts": 0.2,
            "to_first_token": 0.08,
            "reasoning": 0.2,
            "answer": 0.28,
            "other": 0.07,
        }
    )


def test_a_permit_that_came_too_late_was_still_waited_for() -> None:
    never = make_call(ready=0, done=100, attempts=0, outcome="workflow_timeout")
    pause = Backoff(start=120, end=150, planned=30, source="policy")
    again = make_call(ready=100, done=200, attempts=1, backoffs=(pause,), outcome="call_timeout")
    failed = make_attempt(
        ready=100, permit_requested=100, permit_granted=100, sent=100, done=120,
        outcome="rate_limited",
    )  # fmt: skip
    spent = time_spent(WorkflowRecords([never, again], [failed]).tried())
    assert spent is not None
    assert spent.permit_wait == pytest.approx((100 + 50) / 200)
    assert spent.other == pytest.approx(0)


def test_an_answer_before_any_reasoning_is_not_counted_twice() -> None:
    attempt = make_attempt(sent=0, first_reasoning=500, first_answer=300, last_token=900, done=1000)
    spent = time_spent(WorkflowRecords([make_call(ready=0, done=1000)], [attempt]).tried())
    assert spent is not None
    assert (spent.to_first_token, spent.reasoning, spent.answer) == (0.3, 0.0, 0.6)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    failure_rate=st.floats(0, 0.6),
    permits=st.integers(1, 6),
    scope=st.sampled_from(["attempt", "call"]),
)
def test_shares_of_time_are_never_negative_and_add_up_to_one(
    seed: int, failure_rate: float, permits: int, scope: str
) -> None:
    records = make_records(
        [f"async_{permits}_full-jitter_{scope}"], 1, seed=seed,
        shape=Shape(failure_rate=failure_rate),
    )  # fmt: skip
    spent = summarised(records).time_spent
    assert spent is not None
    assert min(asdict(spent).values()) >= -1e-12
    assert sum(asdict(spent).values()) == pytest.approx(1)


def test_gaps_are_all_gaps_of_each_repeat() -> None:
    records = make_records(["async_4_none_attempt"], 2)
    (cell,) = by_cell(records)
    observed = gaps(cell)
    assert [*observed] == [0, 1]
    for repeat, found in observed.items():
        mine = merge(each.gaps for each in records.attempts if each.repeat == repeat)
        assert found.counts.sum() == sum(mine.values())


def test_gaps_of_a_single_repeat_have_the_cluster_they_belong_to() -> None:
    records = make_records(["async_4_none_attempt"], 1)
    (cell,) = by_cell(records)
    (observed,) = gaps(cell).values()
    assert set(observed.clusters) == set(cell.clusters.values())
    for number in set(cell.clusters.values()):
        mine = merge(
            each.gaps
            for each in records.attempts
            if cell.clusters[each.repeat, each.workflow] == number
        )
        assert observed.counts[observed.clusters == number].sum() == sum(mine.values())


def test_speed_up_is_paired_with_the_sync_trial_of_the_same_repeat() -> None:
    def trials(cell: str, ends: list[int]) -> list[Any]:
        return [
            make_trial(cell=cell, repeat=repeat, end=end * SECOND)
            for repeat, end in enumerate(ends)
        ]

    names = ("sync_1_none_attempt", "async_2_none_attempt")
    both = [*trials(names[0], [8, 16, 24]), *trials(names[1], [4, 4, 3])]
    records = by_hand(run=make_run(names, 3), trials=both)
    sync, fast = by_cell(records)
    speedup = known(summarise_cell(MeasuredCell(fast, ALL_BRANCHES, sync)).speedup_over_sync)
    assert speedup[1] == pytest.approx((2 * 4 * 8) ** (1 / 3))
    assert speedup[0] < speedup[1] < speedup[2]
    assert summarise_cell(MeasuredCell(fast, ALL_BRANCHES, None)).speedup_over_sync is None
    own = summarise_cell(MeasuredCell(sync, ALL_BRANCHES, sync)).speedup_over_sync
    assert own is not None
    assert (own.value, own.low, own.high) == (1.0, None, None)


def test_overhead_lowers_the_scheduling_efficiency_and_nothing_else_does() -> None:
    terms = CountingRules(in_flight=2)
    for wait, expected in ((0.0, 1.0), (40.0, 0.8)):
        shape = Shape(client_wait_ms=wait, failure_rate=0.2)
        cell = summarised(make_records(["async_2_full-jitter_attempt"], shape=shape), terms)
        efficiency = cell.scheduling_efficiency
        assert efficiency is not None
        assert efficiency.value == pytest.approx(expected, abs=0.1 if wait else 1e-9)
        assert cell.critical_path_bound_s is not None
        assert cell.makespan_s is not None
        assert cell.critical_path_bound_s < cell.makespan_s.value


def test_the_parts_of_a_call_of_one_attempt_are_those_of_its_tiles() -> None:
    records = make_records(["async_4_none_attempt"], 2, shape=Shape(failure_rate=0.3))
    attempts = {attempt.call_key: attempt for attempt in records.attempts}
    for call in records.calls:
        shares = time_spent(WorkflowRecords([call], [attempts[call.call_key]]).tried())
        parts = Counter[str]()
        for piece in tiles(call, [attempts[call.call_key]]):
            parts[piece.part] += piece.length
        assert shares is not None
        whole = call.done - call.ready
        for part in ("permit_wait", "failed_attempts", "to_first_token", "reasoning", "answer"):
            assert getattr(shares, part) == pytest.approx(parts[part] / whole)
        assert shares.other == pytest.approx((parts["other"] + parts["client_wait"]) / whole)


def burst_table(outcomes: str) -> AttemptTable:
    """Return attempts sent one after another; `x` failed, `r` was refused."""
    names = {".": "ok", "x": "unavailable", "r": "rate_limited"}
    return AttemptTable.of(
        [
            make_attempt(workflow=number, sent=number * SECOND, outcome=names[letter])
            for number, letter in enumerate(outcomes)
        ],
        Words(),
    )


def test_a_burst_is_a_run_of_failures_longer_than_chance() -> None:
    calm, burst = "." * 200, "x" * 12
    assert count_bursts(burst_table(calm), is_failure) == 0
    assert count_bursts(burst_table(calm + burst + calm + burst + calm), is_failure) == 2
    assert count_bursts(burst_table((calm[:9] + "x") * 50), is_failure) == 0
    assert count_bursts(burst_table("x" * 50), is_failure) == 0, "nothing else happened"
    refused = burst_table(calm + burst.replace("x", "r") + calm)
    assert count_bursts(refused, is_unavailable) == 0


def test_a_cell_that_met_few_bursts_has_no_intervals() -> None:
    records = make_records(["async_4_none_attempt"], 3)
    (cell,) = by_cell(records)
    measured = MeasuredCell(cell)
    assert summarise_cell(measured).makespan_s == over_repeats(measured.makespans.values())
    measured.bursts = 3
    summary = summarise_cell(measured)
    assert summary.bursts == 3
    figures = [summary.makespan_s, summary.success_rate, summary.workflow_latency_s.mean]
    figures += [phase.latency_s.mean for phase in summary.phases.values()]
    assert all(one is not None and one.low is one.high is None for one in figures)


@pytest.mark.parametrize(("failed", "shown"), [(0, True), (1, True), (5, False), (19, True)])
def test_a_median_that_bursts_move_between_outcomes_has_no_interval(
    failed: int, shown: bool
) -> None:
    records = make_records(["async_4_none_attempt"], 3, workflows=20)
    for repeat in range(3):
        mine = [one for one in records.workflows if one.repeat == repeat]
        for at, one in enumerate(mine):
            is_failed = at < failed
            changed = replace(
                one,
                outcome="failed" if is_failed else "ok",
                done=one.ready + (SECOND if is_failed else (9 + at) * SECOND),
            )
            records.workflows[records.workflows.index(one)] = changed
    (cell,) = by_cell(records)
    measured = MeasuredCell(cell)
    assert known(summarise_cell(measured).workflow_latency_s.p50)
    measured.bursts = 20
    median = summarise_cell(measured).workflow_latency_s.p50
    assert median is not None
    assert (median.low is not None) == shown
