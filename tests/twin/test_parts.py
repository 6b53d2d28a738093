"""Each part of a fit on columns made by hand."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest

from harness.records.clock import SECOND
from harness.records.errors import InputError
from harness.records.keys import WARM_UP
from harness.records.schema import Attempt, PhaseInfo, Run, Tokens, Workflow
from harness.store.run_directory import Records
from harness.twin import ttft_fit
from harness.twin.cache_fit import fit_cache
from harness.twin.cap_fit import fit_cap, is_refusal
from harness.twin.connect_fit import fit_connect
from harness.twin.curves import fit_rising, hats, knots_up_to
from harness.twin.fault_fit import clustered, fit_faults
from harness.twin.fit import fit_observations
from harness.twin.fitted_parts import fitted_parts
from harness.twin.in_flight import active_at, active_before, count_in_flight
from harness.twin.length_fit import cut_by_limit, fit_lengths, length_of, pooled_lengths
from harness.twin.limits_fit import fit_limits
from harness.twin.observations import Observations, observe
from harness.twin.pace_fit import fit_pace, mean_chunk
from harness.twin.profile_text import TwinHead, twin_text
from harness.twin.profile_values import duration_text
from harness.twin.rate_fit import fit_retry_after
from harness.twin.ttft_fit import fit_ttft
from tests.analysis.builders import make_attempt, make_run, make_trial, make_workflow

_CALLS = itertools.count(1)


def attempt(sent: float, first: float = 0.5, last: float = 1.5, **fields: Any) -> Attempt:
    """Return an attempt that was sent at `sent`, with text `first` to `last` seconds later."""
    fields.setdefault("call", next(_CALLS))
    at = [round((sent + moment) * SECOND) for moment in (0, first, last)]
    plain: dict[str, Any] = {
        "ready": at[0], "permit_requested": at[0], "permit_granted": at[0], "sent": at[0],
        "headers": at[1], "first_reasoning": None, "first_answer": at[1], "last_token": at[2],
        "done": at[2], "chunks": 101, "tokens": Tokens(input=10, output=101),
    }  # fmt: skip
    return make_attempt(**(plain | fields))


def refused(sent: float, **fields: Any) -> Attempt:
    """Return an attempt that was refused with 429 at once."""
    nothing: dict[str, Any] = {
        "first_answer": None,
        "last_token": None,
        "chunks": 0,
        "tokens": Tokens(),
    }
    plain = {"done": round(sent * SECOND), "outcome": "rate_limited", "status": 429}
    return attempt(sent, **(nothing | plain | fields))


def failed(sent: float, outcome: str, status: int | None, **fields: Any) -> Attempt:
    """Return an attempt without text."""
    return refused(sent, outcome=outcome, status=status, **fields)


def seen_in(
    attempts: list[Attempt], workflows: list[Workflow] | None = None, run: Run | None = None
) -> Observations:
    names = dict.fromkeys((one.cell, one.repeat, one.execution) for one in attempts)
    trials = [
        make_trial(cell=cell, repeat=repeat, execution=execution)
        for cell, repeat, execution in names
    ]
    whole = Records(run or make_run(), attempts, [], workflows or [make_workflow()], trials, None)
    return observe([whole])


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0476, "47.6 ms"), (0.9999, "1 s"), (1234.5, "1230 s"), (2e-6, "2 us"), (0.0, "1 ns")],
)
def test_a_duration_has_three_digits_and_no_exponent(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_intervals_are_counted_and_one_ends_before_the_next_begins() -> None:
    starts, ends = np.array([0.0, 1.0, 2.0]), np.array([2.0, 3.0, 4.0])
    flight = count_in_flight(starts, ends)
    assert flight.level.max() == 2
    assert flight.seconds(np.array([0.0, 1.0, 0.0])).tolist() == [1, 0, 1]
    assert flight.seconds(np.array([0.0, 0.0, 1.0])).tolist() == [1, 2, 1]
    assert active_before(starts, ends).tolist() == [0, 1, 1]
    assert active_at(np.array([0.0, 1.5, 2.0, 9.0]), starts, ends).tolist() == [1, 2, 2, 0]


def test_a_curve_never_falls_and_goes_through_what_rises() -> None:
    knots = knots_up_to(9)
    assert knots.tolist() == [1, 2, 4, 8, 9]
    made = hats(knots, 9)[[1, 2, 4, 8, 9]]
    found, _ = fit_rising(made, np.array([1.0, 2.0, 4.0, 8.0, 9.0]), knots, 0.01)
    assert found == pytest.approx([1, 2, 4, 8, 9])
    found, _ = fit_rising(made, np.array([1.0, 5.0, 3.0, 3.0, 3.0]), knots, 0.0)
    assert found == pytest.approx([1, 3.5, 3.5, 3.5, 3.5])


def test_the_pace_is_that_of_the_tokens_after_the_first_chunk() -> None:
    one = [attempt(10.0 * n) for n in range(5)]
    two = [attempt(100 + 10.0 * n, last=2.5) for n in range(5) for _ in "ab"]
    pace = fit_pace(seen_in(one + two))
    assert pace is not None
    assert (pace.requests, pace.most, pace.attempts) == ((1, 2), 2, 15)
    assert pace.itl == pytest.approx((0.01, 0.02))
    assert pace.near == pytest.approx((5, 10))


def test_an_attempt_whose_speed_is_far_off_is_left_out_of_the_pace() -> None:
    pace = fit_pace(seen_in([attempt(10.0 * n) for n in range(20)] + [attempt(300, last=90)]))
    assert pace is not None
    assert pace.itl == pytest.approx((0.01,))
    assert (pace.attempts, pace.left_out) == (20, 1)


def test_chunks_have_the_tokens_that_they_have_without_the_half_full_last_ones() -> None:
    parts: dict[str, Any] = {
        "first_reasoning": SECOND,
        "tokens": Tokens(input=9, output=110, reasoning=55),
    }
    assert mean_chunk(seen_in([attempt(1, chunks=12, **parts)])) == pytest.approx(9.91, abs=0.01)
    assert mean_chunk(seen_in([attempt(1)])) == 1
    assert mean_chunk(seen_in([attempt(1, last=0.5, chunks=1)])) is None


def test_without_a_success_with_tokens_there_is_no_pace() -> None:
    assert fit_pace(seen_in([refused(1)])) is None
    assert fit_pace(seen_in([attempt(1, tokens=Tokens())])) is None


def test_whole_responses_whose_length_does_not_matter_have_no_pace() -> None:
    whole: dict[str, Any] = {"first_answer": None, "chunks": 0}
    lengths = ((10, 2.0), (200, 1.0), (400, 0.5))
    attempts = [
        attempt(10.0 * n, last=last, tokens=Tokens(input=9, output=output), **whole)
        for n, (output, last) in enumerate(lengths)
    ]
    with pytest.raises(InputError, match="no time per token can be fitted"):
        fit_pace(seen_in(attempts))


def test_hidden_reasoning_is_no_text_and_its_length_is_told_apart() -> None:
    hidden: dict[str, Any] = {"tokens": Tokens(input=10, output=301, reasoning=200)}
    seen = seen_in([attempt(10.0 * n, **hidden) for n in range(4)])
    pace = fit_pace(seen)
    assert pace is not None
    assert pace.itl == pytest.approx((0.01,))
    lengths = pooled_lengths(seen)
    assert (lengths.reasoning, lengths.hidden) == (None, 200)
    assert lengths.answer.median == pytest.approx(101)


def test_reasoning_that_is_not_reported_follows_from_its_share_of_the_time() -> None:
    sent = attempt(1.0)
    shown: dict[str, Any] = {
        "first_reasoning": sent.first_answer,
        "first_answer": round(1.75 * SECOND),
    }
    lengths = pooled_lengths(seen_in([attempt(1.0, **shown)]))
    assert lengths.reasoning is not None
    assert lengths.reasoning_from == "time"
    assert lengths.reasoning.median == pytest.approx(25, abs=1)


def test_the_time_to_first_token_of_one_request_alone() -> None:
    seen = seen_in([attempt(10.0 * n, first=first) for n, first in enumerate((0.4, 0.5, 0.6))])
    pace = fit_pace(seen)
    assert pace is not None
    ttft = fit_ttft(seen, pace)
    assert ttft is not None
    assert ttft.median == pytest.approx(0.5)
    assert (ttft.slots, ttft.growth, ttft.per_1k, ttft.most) == (None, (), 0, 1)


def test_a_pace_with_one_point_is_constant_beyond_it() -> None:
    parts = fitted_parts(fit_observations(seen_in([attempt(10.0 * n) for n in range(4)])))
    pace = next(one for one in parts if one.name == "pace")
    assert pace.unknown == ("the pace above 1 in flight: taken as that at 1",)


def test_growth_with_the_prompt_is_shown() -> None:
    fit = fit_observations(seen_in([attempt(10.0 * n) for n in range(4)]))
    grows = replace(fit, ttft=replace(fit.ttft, per_1k=2.0))
    value = next(one.value for one in fitted_parts(grows) if one.name == "time to first token")
    assert value == "500 ms, sigma 0.00, plus 2 s for 1,000 input tokens"


def test_what_makes_no_profile_is_one_line_with_the_key_and_the_value() -> None:
    fit = fit_observations(seen_in([attempt(10.0 * n) for n in range(4)]))
    wide = replace(fit, ttft=replace(fit.ttft, sigma=3.0))
    head = TwinHead("twin", "made up", "made up", "2026-11-27")
    with pytest.raises(InputError, match=r"no profile \(ttft\.sigma = 3: must be at most 2\)"):
        twin_text(fitted_parts(wide), head)


def test_a_length_without_spread_and_one_that_was_cut() -> None:
    same = length_of(np.full(9, 50.0), np.zeros(9, bool), np.zeros(9, np.int64))
    assert (same.median, same.sigma) == pytest.approx((50, 0))
    assert same.topic_sigma is None
    lengths = np.exp(np.random.default_rng(1).normal(5, 0.5, 4000))
    cut = lengths > 200
    found = length_of(np.minimum(lengths, 200), cut, np.full(4000, -1))
    assert found.median == pytest.approx(np.exp(5), rel=0.03)
    assert found.sigma == pytest.approx(0.5, abs=0.03)


def test_only_a_length_at_the_limit_is_cut_by_it() -> None:
    phase = PhaseInfo(name="decompose", setting="plan", max_tokens=200)
    run = make_run(phases=(phase,))
    short, long = (
        attempt(n, outcome="truncated", tokens=Tokens(input=1, output=output))
        for n, output in enumerate((120, 200))
    )
    seen = seen_in([short, long, attempt(5)], run=run)
    assert cut_by_limit(seen).tolist() == [False, True, False]
    faults = fit_faults(seen, is_refusal(seen)).faults
    assert [(fault.kind, fault.count) for fault in faults] == [("truncated", 1)]
    assert [one.setting for one in fit_lengths(seen)] == ["plan"]


def test_the_same_answer_in_two_cells_is_one_length() -> None:
    cells = ("async_2_none_attempt", "async_8_none_attempt")
    attempts = [attempt(10 * n, cell=cell, call=1) for n, cell in enumerate(cells)]
    workflows = [make_workflow(cell=cell) for cell in cells]
    seen = seen_in(attempts, workflows, make_run(cells))
    assert pooled_lengths(seen).answer.attempts == 1
    assert seen.trial.tolist() == [0, 1]


def test_runs_follow_each_other_in_scenario_seconds_without_their_warm_up() -> None:
    attempts = [attempt(0, phase=WARM_UP), attempt(10), attempt(10.4)]
    run = make_run(time_scale=0.5)
    one = Records(run, attempts, [], [make_workflow()], [], None)
    seen = observe([one, one])
    assert seen.trial.tolist() == [0, 0, 1, 1]
    assert seen.last_token - seen.sent == pytest.approx(np.full(4, 3.0))
    assert np.diff(seen.sent)[[0, 2]] == pytest.approx([0.8, 0.8])
    assert seen.sent[2] > seen.done[1]


def test_a_cap_explains_the_refusals_at_it_and_not_those_below() -> None:
    busy = [attempt(100.0 * n) for n in range(20) for _ in "abc"]
    at_cap = [refused(100.0 * n + 0.1) for n in range(20)]
    seen = seen_in(busy + at_cap)
    cap = fit_cap(seen, is_refusal(seen))
    assert (cap.cap, cap.refused, cap.against, cap.most) == (3, 20, 0, 3)
    served = [attempt(100.0 * n + more) for n in range(20) for more in (0, 10)]
    idle = seen_in(served + [refused(100.0 * n + 95) for n in range(9)])  # no bucket was empty
    assert fit_cap(idle, is_refusal(idle)).cap is None
    limits = fit_limits(idle)
    assert limits.rate is None
    assert (limits.cap.cap, int(limits.explained.sum()), limits.unexplained) == (None, 0, 9)
    (fault,) = fit_faults(idle, limits.explained).faults
    assert (fault.kind, fault.count, fault.of) == ("rate_limited", 9, 49)


def test_attempts_that_were_broken_off_count_as_far_as_a_fault_would_have_shown() -> None:
    def ended(sent: float, after: float, outcome: str, **fields: Any) -> Attempt:
        done = round((sent + after) * SECOND)
        return attempt(sent, outcome=outcome, finish_reason=None, done=done, **fields)

    seen = seen_in([
        *(attempt(10.0 * n) for n in range(10)),
        *(ended(200.0 + 10 * n, 1.0, "connection_lost") for n in range(4)),  # half a second of text
        *(ended(300.0 + 10 * n, 1.4, "cancelled") for n in range(2)),
        *(ended(400.0 + 10 * n, 0.3, "cancelled", first_answer=None) for n in range(3)),
        *(failed(500.0 + 10 * n, "server_error", 500) for n in range(2)),
    ])  # fmt: skip
    faults = fit_faults(seen, is_refusal(seen)).faults
    assert [(fault.kind, fault.count, fault.of) for fault in faults] == [
        ("reset_in_body", 4, 18), ("server_error", 2, 17),
    ]  # fmt: skip


def test_the_same_failures_in_each_cell_are_no_bursts() -> None:
    prompt = np.tile(np.arange(100), 10)
    trial = np.repeat(np.arange(10), 100)
    failed = np.isin(prompt, [3, 4, 5, 20, 21, 40, 50, 60, 61, 80])
    assert not clustered(failed, trial, prompt)
    in_bursts = (np.arange(1000) + 37 * trial) % 250 < 12  # at another time in each cell
    assert clustered(in_bursts, trial, prompt)


def test_an_admission_while_a_request_ends_is_not_against_a_cap() -> None:
    first = [attempt(100.0 * n) for n in range(20) for _ in "abc"]
    next_one = [attempt(100.0 * n + 1.49) for n in range(20)]  # the others end at 1.5
    at_cap = [refused(100.0 * n + 0.1) for n in range(20)]
    seen = seen_in(first + next_one + at_cap)
    assert fit_cap(seen, is_refusal(seen)).cap == 3
    early = [attempt(100.0 * n + 1.2) for n in range(20)]
    seen = seen_in(first + early + at_cap)
    assert fit_cap(seen, is_refusal(seen)).cap is None


def waited(sent: float, wait: float, **fields: Any) -> Attempt:
    """Return an attempt that had its permit `wait` seconds before it was sent."""
    return attempt(sent, permit_granted=round((sent - wait) * SECOND), **fields)


def test_attempts_open_connections_if_no_complete_response_has_left_one() -> None:
    seen = seen_in([
        waited(0, 0.1, phase=WARM_UP),  # leaves a connection for the first of these
        waited(10, 0.001),
        waited(10.1, 0.1, outcome="connection_lost", finish_reason=None),
        waited(20, 0.001),
        waited(20.2, 0.2, outcome="truncated", finish_reason="length"),
        failed(30, "rate_limited", 429, permit_granted=round(29.999 * SECOND)),
        waited(30.0005, 0.001),
        waited(30.2, 0.001),  # with the connection of the refusal
        waited(30.4, 0.15),
        msgspec.structs.replace(failed(35, "connect_timeout", None), sent=None, finish_reason=None),
        waited(90, 0.001),
        waited(200, 0.1),  # all have been idle for more than a minute
    ])  # fmt: skip
    assert seen.client_wait[seen.opens] == pytest.approx([0.1, 0.2, 0.15, 0.1])
    found = fit_connect(seen)
    assert found.seconds == pytest.approx(0.125 - 0.001)
    assert (found.opened, found.reused, found.own) == pytest.approx((4, 6, 0.001))


def test_the_waits_of_the_client_itself_are_no_time_of_connecting() -> None:
    seen = seen_in([attempt(10.0 * n) for n in range(23)])
    waits = np.array([*range(1, 21), 12, 13, 14]) / 1000
    found = fit_connect(replace(seen, client_wait=waits, opens=np.arange(23) >= 20))
    assert (found.seconds, found.opened) == (None, 3)
    waits[20:] = 0.05, 0.06, 0.07
    found = fit_connect(replace(seen, client_wait=waits, opens=np.arange(23) >= 20))
    assert found.seconds == pytest.approx(0.06 - 0.0105)


def test_without_reuse_each_attempt_opens_a_connection() -> None:
    run = make_run(simulated=False)
    endpoint = run.scenario["endpoint"] | {"reuse_connections": False}
    run = msgspec.structs.replace(run, scenario=run.scenario | {"endpoint": endpoint})
    seen = seen_in([waited(10.0 * n, 0.1) for n in range(5)], run=run)
    found = fit_connect(seen)
    assert (found.seconds, found.opened, found.reused) == pytest.approx((0.1, 5, 0))
    part = next(one for one in fitted_parts(fit_observations(seen)) if one.name == "connecting")
    assert part.unknown[1].startswith("the client's own delay")


def test_a_cached_share_is_that_of_the_attempts_that_report_one() -> None:
    told = [attempt(n, tokens=Tokens(input=100, cached=25, output=101)) for n in range(4)]
    silent = [attempt(10 + n) for n in range(3)]
    cache = fit_cache(seen_in([*told, *silent, refused(20)]))
    assert (cache.attempts, cache.silent, cache.input, cache.share) == (4, 3, 400, 0.25)
    assert fit_cache(seen_in(silent)).share == 0
    parts = {part.name: part for part in fitted_parts(fit_observations(seen_in(silent)))}
    assert parts["cached input"].keys == {}
    assert parts["cached input"].unknown == ("cached_share: no attempt reports cached tokens",)
    parts = {part.name: part for part in fitted_parts(fit_observations(seen_in(told + silent)))}
    assert parts["cached input"].keys == {"cached_share": "0.25"}
    assert "3 attempts without a report" in parts["cached input"].unknown[1]


@pytest.mark.parametrize(
    ("waits", "value"), [([None] * 4, None), ([2.0] * 4, 2.0), ([1.0, 2.0, 3.0, 4.0], "exact")]
)
def test_retry_after_is_nothing_a_time_or_exact(waits: list[float | None], value: object) -> None:
    said = [None if wait is None else round(wait * SECOND) for wait in waits]
    seen = seen_in([attempt(1), *(refused(2, retry_after=wait) for wait in said)])
    assert fit_retry_after(seen, is_refusal(seen)).value == value


def test_faults_are_kinds_of_the_simulator_and_timeouts_of_the_client_are_none() -> None:
    seen = seen_in([
        *(attempt(n) for n in range(16)),
        failed(20, "connection_lost", None, headers=None),
        failed(21, "connection_lost", 200, headers=21 * SECOND),
        failed(22, "unavailable", 503, retry_after=3 * SECOND, done=24 * SECOND),
        failed(23, "first_token_timeout", 200),
        failed(24, "cancelled", None),
        failed(25, "payload_too_large", 413),
    ])  # fmt: skip
    found = fit_faults(seen, is_refusal(seen))
    faults = {fault.kind: fault for fault in found.faults}
    assert faults.keys() == {"reset_before_head", "reset_in_body", "unavailable"}
    assert (faults["unavailable"].retry_after, faults["unavailable"].after) == (3, 2)
    assert all(fault.count == 1 and fault.burst is None for fault in found.faults)
    assert (found.timeouts, found.other) == (1, {"payload_too_large": 1})


def test_growth_with_those_in_service_is_told_by_requests_that_come_alone() -> None:
    """Requests that come together hold each other up, here while none else is in service."""
    attempts, at = [], 0.0
    for others in (0, 20):
        end = at + 41.0
        long = {"tokens": Tokens(input=10, output=4099), "chunks": 4099}  # 10 ms a token
        attempts += [attempt(at, 0.02, end - at, **long) for _ in range(others)]
        for number in range(40):
            first = 0.02 * (1 + others / 20) * (1 + 0.1 * ((number * 7) % 5 - 2))
            attempts.append(attempt(at + 1 + number, first, first + 1))
        at = end + 1
    for _ in range(10):
        attempts += [attempt(at + 0.001 * number, 0.2, 1.2) for number in range(8)]
        at += 2
    seen = seen_in(attempts)
    pace = fit_pace(seen)
    assert pace is not None
    assert not pace.reads
    ttft = fit_ttft(seen, pace)
    assert ttft is not None
    assert ttft.median == pytest.approx(0.02, rel=0.05)
    assert ttft.growth_in_service[-1][1] == pytest.approx(2, rel=0.1)
    assert dict(ttft.growth)[8] > 5


def _with_deadline(
    waits: list[float], deadline: float, outcome: str, at_once: int = 1, at: float = 0.0
) -> list[Attempt]:
    """Return attempts, some at once, those that wait longer than the deadline cut by it."""
    attempts = []
    for begin in range(0, len(waits), at_once):
        for number, wait in enumerate(waits[begin : begin + at_once]):
            sent = at + number / 1000
            if wait <= deadline:
                attempts.append(attempt(sent, wait, wait + 1))
            else:
                done = round((sent + deadline) * SECOND)
                attempts.append(failed(sent, outcome, None, done=done))
        at += deadline + 2
    return attempts


@pytest.mark.parametrize("outcome", ["cancelled", "first_token_timeout"])
@pytest.mark.parametrize(("deadline", "share"), [(1.0, 0.5), (2.0, 0.16)])
def test_a_request_that_was_broken_off_waited_at_least_so_long(
    deadline: float, share: float, outcome: str
) -> None:
    waits = np.exp(np.random.default_rng(4).normal(0, 0.7, 1500)).tolist()
    seen = seen_in(_with_deadline(waits, deadline, outcome))
    pace = fit_pace(seen)
    assert pace is not None
    ttft = fit_ttft(seen, pace)
    assert ttft is not None
    assert ttft.cut == pytest.approx(1500 * share, rel=0.1)
    assert ttft.attempts == 1500 - ttft.cut
    assert ttft.median == pytest.approx(1, rel=0.07)
    assert ttft.sigma == pytest.approx(0.7, rel=0.07)
    assert ttft.growth == ()


def test_a_server_that_says_nothing_does_not_move_the_time_to_first_token() -> None:
    chance = np.random.default_rng(5)
    waits = np.exp(chance.normal(0, 0.5, 600))
    plain, silent = (
        seen_in(_with_deadline(each, 60.0, "first_token_timeout"))
        for each in (waits.tolist(), np.where(chance.random(600) < 0.1, 1e3, waits).tolist())
    )
    found = []
    for seen in (plain, silent):
        pace = fit_pace(seen)
        assert pace is not None
        ttft = fit_ttft(seen, pace)
        assert ttft is not None
        found.append((ttft.median, ttft.sigma))
    assert found[1] == pytest.approx(found[0], rel=0.05)


def test_growth_with_the_load_is_found_if_a_deadline_cuts_the_slow_requests() -> None:
    waits = np.exp(np.random.default_rng(6).normal(0, 0.3, 1200))
    waits[400:] *= 1 + np.arange(800) % 8 / 7  # the eighth of those that wait waits twice as long
    attempts = _with_deadline(waits[:400].tolist(), 1.8, "cancelled")
    attempts += _with_deadline(waits[400:].tolist(), 1.8, "cancelled", 8, 1e4)
    seen = seen_in(attempts)
    pace = fit_pace(seen)
    assert pace is not None
    ttft = fit_ttft(seen, pace)
    assert ttft is not None
    assert ttft.cut > 200
    assert ttft.median == pytest.approx(1, rel=0.05)
    assert ttft.sigma == pytest.approx(0.3, rel=0.1)
    assert ttft.growth[-1] == pytest.approx((8, 2), rel=0.1)


def test_a_cost_of_the_prompt_that_comes_and_goes_between_rounds_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []

    def unclear(wait: Any, *_: Any) -> tuple[float, float]:
        asked.append(len(wait))
        # Each round asks once, or twice if the first answer is none.
        return (0.5 if len(asked) in (1, 2) else 0.5 * (len(asked) % 3 == 2)), 0.1

    monkeypatch.setattr(ttft_fit, "_per_1k", unclear)
    waits = np.exp(np.random.default_rng(4).normal(0, 0.7, 300)).tolist()
    seen = seen_in(_with_deadline(waits, 1.0, "cancelled"))
    pace = fit_pace(seen)
    assert pace is not None
    ttft = fit_ttft(seen, pace)
    assert ttft is not None
    assert (ttft.per_1k, ttft.per_1k_error) == (0.0, 0.1)
    assert len(asked) < 10
