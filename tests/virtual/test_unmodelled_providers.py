"""Mechanisms that profiles lack, by hand, and as trials that the engine plays."""

from __future__ import annotations

from itertools import pairwise
from random import Random
from typing import Any

import pytest

from benchmarks.unmodelled_providers import (
    SCENARIO,
    UNMODELLED,
    BlockingPrefill,
    EventfulModel,
    FrontEnd,
    OtherTenant,
    Seconds,
    UnmodelledSimulation,
    trials,
)
from harness.bench.scenario_file import parse_scenario
from harness.bench.virtual import Played
from harness.records.clock import SECOND
from harness.records.histogram import bucket
from harness.records.schema import Attempt
from harness.simulator.model import ServedRequest
from harness.simulator.pace import Speed
from harness.simulator.profiles import Profile
from harness.simulator.rates import Rates
from harness.simulator.request_parser import make_request
from harness.simulator.script import ChunkLayout
from harness.simulator.virtual import gaps

FLAT = Speed(10, 0, 0, 0)
SCALE = Seconds(SECOND)
TROUBLE = """
[timeouts]
call = "20s"
first_token = "1s"
IDLE
[sweep]
permits = [2, 8, 24]
retry = ["hedged", "patient"]
[retry.hedged]
kind = "stack"
layers = ["late", "patient"]
[retry.late]
kind = "hedge"
after = "600ms"
ratio = 0.5
burst = 10
[retry.patient]
"""
"""Deadlines that pass, hedges, and siblings that are cancelled."""


def prefill(rates: Rates | None = None, slots: int | None = None) -> BlockingPrefill:
    """Return a model in which a prompt of n tokens is read in 100 + n nanoseconds."""
    return BlockingPrefill(FLAT, slots, rates, SCALE, each=100e-9, per_token=1e-9)


def front_end(pace: Speed = FLAT, per_token: float = 5e-9) -> FrontEnd:
    return FrontEnd(pace, None, None, SCALE, each=100e-9, per_token=per_token, most=0.9)


def arrive(
    model: EventfulModel, now: int, wait: int, writes: list[int], prompt: int = 0
) -> ServedRequest:
    model.prompt_tokens = prompt
    return model.arrive(now, wait, writes)


def drive(model: EventfulModel) -> dict[ServedRequest, list[int]]:
    seen: dict[ServedRequest, list[int]] = {}
    while (at := model.next_due()) is not None:
        for job, moments in model.pop_due(at).items():
            seen.setdefault(job, []).extend(moments)
    return seen


def test_decoding_stands_still_while_a_prompt_is_read() -> None:
    model = prefill()
    first = arrive(model, 0, 20, [0, 1, 2, 3, 4], prompt=30)
    second = arrive(model, 100, 70, [0, 1], prompt=50)
    # The first prompt is read from 20 to 150, the second from 170 to 320. A token takes 10.
    assert drive(model) == {first: [150, 160, 170, 330, 340], second: [320, 330]}


def test_half_a_token_is_kept_over_a_pause_and_counts_as_work() -> None:
    model = prefill()
    first = arrive(model, 0, 0, [0, 9], prompt=10)
    arrive(model, 110, 5, [0], prompt=10)
    assert [model.work_done(at, first) for at in (114, 115, 120, 200, 225, 235)] == [
        pytest.approx(work) for work in (0.4, 0.5, 0.5, 0.5, 0.5, 1.5)
    ]


def test_a_request_that_ends_while_a_prompt_is_read_starts_no_decoding() -> None:
    model = prefill()
    first, stays = (arrive(model, 0, 0, [0, 9]) for _ in range(2))
    read = arrive(model, 45, 0, [0, 1], prompt=10)
    model.cancel(100, first)
    assert drive(model) == {stays: [0, 200], read: [155, 165]}


def test_prompts_are_read_one_after_another_without_those_that_were_cancelled() -> None:
    model = prefill()
    first, second, third, fourth = (arrive(model, 0, 10, [0, 1], prompt=10) for _ in range(4))
    model.cancel(15, first)  # is being read, and is read to the end
    model.cancel(15, third)
    assert drive(model) == {second: [230, 350], fourth: [340, 350]}


def test_a_prompt_whose_request_waits_for_a_slot_is_read_when_it_has_one() -> None:
    model = prefill(slots=1)
    first = arrive(model, 0, 0, [0, 1], prompt=10)
    second = arrive(model, 0, 5, [0], prompt=200)
    assert drive(model) == {first: [110, 120], second: [425]}


def test_a_failure_is_answered_without_reading_the_prompt() -> None:
    model = prefill()
    model.prompt_tokens = 50
    failed = model.arrive(0, 7, [0], needs_slot=False)
    assert drive(model) == {failed: [7]}


@pytest.mark.parametrize("slowing", [0.0, 1e6])
def test_each_gap_is_exact_with_pauses_and_speeds_that_change(slowing: float) -> None:
    random, rates, pace = Random(1), Rates(), Speed(1e7, slowing, 0, 0)
    model = BlockingPrefill(pace, None, rates, SCALE, each=0.05, per_token=1e-4)
    now, layouts = 0, dict[ServedRequest, ChunkLayout]()
    for _ in range(40):
        now += random.randrange(400_000_000)
        length = random.randrange(1, 80)
        job = arrive(model, now, random.randrange(10**8), list(range(length)), prompt=500)
        layouts[job] = ChunkLayout(0, length, 1)
    came = drive(model)
    assert len(came) == 40
    with UNMODELLED["blocking prefill"].playing():
        for job, moments in came.items():
            place = job.origin, moments[0], moments[-1], rates, job.place
            found = sorted(gaps.gaps_of(layouts[job], len(moments), *place))
            true = [later - at for at, later in pairwise(moments)]
            assert set(found) <= {bucket(gap + off) for gap in true for off in (-1, 0, 1)}
            assert all({bucket(gap + off) for off in (-1, 0, 1)} & set(found) for gap in true)


def test_requests_pass_a_front_end_one_after_another() -> None:
    model = front_end()
    jobs = [arrive(model, 0, 20, [0]) for _ in range(3)]
    model.cancel(50, jobs[1])  # waits in the queue, and takes nothing
    assert drive(model) == {jobs[0]: [120], jobs[2]: [220]}


def test_the_tokens_that_are_sent_leave_less_of_a_front_end_to_requests() -> None:
    model = front_end()
    decoding = arrive(model, 0, 0, [0, 20])
    late = arrive(model, 200, 0, [0])
    # Decodes from 100 to 300 and takes half of the front end: the other half gives 50 of 100 by
    # then, and the whole the rest.
    assert drive(model) == {decoding: [100, 300], late: [350]}


def test_decoding_is_no_faster_than_a_front_end() -> None:
    model = front_end(per_token=9e-9)  # two requests: 18 every 10, of which it can do 9
    first, second = arrive(model, 0, 100, [0, 10]), arrive(model, 0, 0, [0, 10])
    assert drive(model) == {first: [200, 400], second: [200, 400]}


def test_another_tenant_takes_slots_and_time_unseen() -> None:
    def played(seed: int, slots: int | None = 4) -> list[int]:
        model = OtherTenant(
            Speed(1e7, 1e7, 0, 0), slots, None, SCALE,
            on=30, off=30, per_second=2, tokens=100, sigma=0.5, refused_at=20,
        )  # fmt: skip
        assert model.next_due() is None
        model.start(0, Random(seed))
        jobs = [arrive(model, at * SECOND, 10, [0, 50]) for at in range(0, 300, 30)]
        came: dict[ServedRequest, list[int]] = {}
        while len(came) < 10 or not all(job.gone for job in jobs):
            due = model.next_due()
            assert due is not None
            for job, moments in model.pop_due(due).items():
                came.setdefault(job, []).extend(moments)
        assert set(came) == set(jobs)
        return [
            came[job][-1] - at * SECOND for at, job in zip(range(0, 300, 30), jobs, strict=True)
        ]

    assert played(1) == played(1) != played(2)
    alone = 50 * 20_000_000 + 10
    assert min(played(1) + played(2)) == alone
    assert max(played(1) + played(2)) > 3 * alone
    assert played(1, slots=None) != played(1)


@pytest.mark.parametrize("name", UNMODELLED)
def test_a_base_is_a_valid_profile_without_the_mechanism(name: str) -> None:
    profile = UNMODELLED[name].profile
    assert Profile.model_validate(profile).as_dict() == profile
    assert not profile["ttft"]["per_1k_input_tokens"], "the mechanism has this time"


def attempts_of(played: Played) -> list[Attempt]:
    return list(played.records().attempts)


def trouble(idle: str = "") -> Any:
    before, rest = SCENARIO.replace("SEED", "1").split("[timeouts]")
    policy = rest.partition("[retry.patient]")[2]
    return parse_scenario(before + TROUBLE.replace("IDLE", idle) + policy.lstrip(), "trouble")


@pytest.mark.parametrize("name", UNMODELLED)
def test_records_of_a_trial_with_a_mechanism_are_consistent(name: str) -> None:
    provider = UNMODELLED[name]
    with provider.playing():
        played = trials(trouble(), provider.profile)
    plain = trials(trouble(), provider.profile)
    outcomes = set[str]()
    for one, without in zip(played, plain, strict=True):
        assert len(one.records().workflows) == 20
        whole = {key(each): each.tokens for each in attempts_of(without) if each.outcome == "ok"}
        for attempt in attempts_of(one):
            outcomes.add(attempt.outcome)
            times = [attempt.sent, attempt.first_text, attempt.last_token, attempt.done]
            known = [time for time in times if time is not None]
            assert known == sorted(known)
            assert sum(attempt.gaps.values()) == max(attempt.chunks - 1, 0)
            if attempt.outcome == "ok":
                assert len(known) == 4
                if attempt.phase != "synthesize":  # its prompt depends on which calls failed
                    assert attempt.tokens == whole.get(key(attempt), attempt.tokens)
                assert attempt.chunks == attempt.tokens.output
            if attempt.gaps:
                assert attempt.first_text is not None
                assert attempt.last_token is not None
                total = sum(gap * count for gap, count in attempt.gaps.items())
                span = attempt.last_token - attempt.first_text
                assert 0 <= span - total <= 0.008 * span + attempt.chunks
    assert {"ok", "cancelled"} <= outcomes
    assert outcomes & {"first_token_timeout", "call_timeout"}
    assert ("rate_limited" in outcomes) == (name == "tenant at the cap")
    assert [one.lines for one in played] != [one.lines for one in plain]


def key(attempt: Attempt) -> tuple[Any, ...]:
    return (attempt.workflow, attempt.phase, attempt.branch)


@pytest.mark.parametrize("name", UNMODELLED)
def test_a_provider_that_is_asked_for_each_chunk_gives_the_same_records(name: str) -> None:
    """With a short idle deadline, each chunk is an event."""
    provider = UNMODELLED[name]
    with provider.playing():
        rare = trials(trouble('idle = "60s"'), provider.profile)
        often = trials(trouble('idle = "21s"'), provider.profile)
    for one, other in zip(rare, often, strict=True):
        assert one.trial == other.trial
        assert attempts_of(one) == attempts_of(other)


def test_a_pause_that_is_longer_than_the_idle_deadline_is_an_idle_timeout() -> None:
    provider = UNMODELLED["blocking prefill"]
    with provider.playing():
        played = trials(trouble('idle = "300ms"'), provider.profile)
    outcomes = [attempt.outcome for one in played for attempt in attempts_of(one)]
    assert "idle_timeout" in outcomes
    plain = trials(trouble('idle = "300ms"'), provider.profile)
    assert not any(each.outcome == "idle_timeout" for one in plain for each in attempts_of(one))


@pytest.mark.parametrize("name", ["busy tenant", "tenant at the cap"])
def test_seed_repeat_and_cell_determine_the_other_tenant(name: str) -> None:
    provider = UNMODELLED[name]
    request = make_request(
        [("user", "What makes the tides?")], model="m", phase=None, wants_json=False,
        max_tokens=None, stream=True, include_usage=True,
    )  # fmt: skip

    def in_service(seed: int, cell: str, repeat: int) -> tuple[int, ...]:
        profile = Profile.model_validate(provider.profile)
        simulation = UnmodelledSimulation(provider.build, profile, seed, 1.0, cell)
        simulation.arrive(0, request, repeat)
        counts = []
        for at in range(60, 300, 5):
            simulation.pop_due(at * SECOND)
            counts.append(simulation.active)
        return tuple(counts)

    trials_of = [(seed, cell, repeat) for seed in (1, 2) for cell in "ab" for repeat in (0, 1)]
    histories = [in_service(*trial) for trial in trials_of]
    assert len(set(histories)) == 8
    assert histories == [in_service(*trial) for trial in trials_of]
    most = 24 if name == "tenant at the cap" else 64
    assert 20 <= max(map(max, histories)) <= most
    assert min(map(min, histories)) == 0


def test_after_playing_a_provider_is_its_base_again() -> None:
    provider = UNMODELLED["front end"]
    before = trials(trouble(), provider.profile)
    with provider.playing():
        trials(trouble(), provider.profile)
    assert [one.lines for one in trials(trouble(), provider.profile)] == [
        one.lines for one in before
    ]
