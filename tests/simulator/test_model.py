"""The provider's time, by hand and against exact arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from harness.simulator.model import Model, ServedRequest
from harness.simulator.pace import Speed

FLAT = Speed(10, 0, 0, 0)
SHARED = Speed(0, 10, 0, 0)  # ITL(n) = 10 n: one processor, cut in equal parts


def drive(model: Model) -> dict[ServedRequest, list[int]]:
    """Let a model run out by itself, visiting only the moments it asks for."""
    seen: dict[ServedRequest, list[int]] = {}
    while (at := model.next_due()) is not None:
        for job, moments in model.pop_due(at).items():
            assert all(moment == at for moment in moments)
            seen.setdefault(job, []).extend(moments)
    return seen


def let_in(model: Model, now: int, wait: int, writes: Sequence[int]) -> ServedRequest:
    return model.arrive(now, wait, writes)


def test_a_request_alone_gets_its_first_text_after_its_wait_and_then_one_token_per_itl() -> None:
    model = Model(FLAT)
    job = let_in(model, 1000, 200, [0, 1, 2, 5])
    assert drive(model) == {job: [1200, 1210, 1220, 1250]}


def test_two_requests_share_the_processor_while_both_decode() -> None:
    model = Model(SHARED)
    first = let_in(model, 0, 0, [0, 1, 2, 3])
    second = let_in(model, 0, 15, [0, 1])
    # Alone until 15: one token and a half. Then both at half speed: the first one's second token
    # comes after another half token (25), its third at 45; the second one's next at 35, when it
    # leaves, so the rest of the third (half a token) is done at full speed.
    assert drive(model) == {first: [0, 10, 25, 40], second: [15, 35]}


def test_background_requests_slow_everyone() -> None:
    model = Model(Speed(0, 10, 0, 3))
    job = let_in(model, 0, 0, [0, 1])
    assert drive(model) == {job: [0, 40]}


def test_the_quadratic_term_counts() -> None:
    assert Speed(5, 3, 2, 1).itl(3) == 5 + 3 * 4 + 2 * 16


def test_slots_are_taken_in_turn_and_a_wait_begins_with_the_slot() -> None:
    model = Model(FLAT, slots=1)
    first = let_in(model, 0, 5, [0, 1])
    second = let_in(model, 1, 5, [0, 2])
    third = let_in(model, 2, 0, [0])
    assert model.active == 3
    assert drive(model) == {first: [5, 15], second: [20, 40], third: [40]}
    assert model.active == 0


def test_a_slot_that_is_given_up_goes_to_the_first_who_still_waits() -> None:
    model = Model(FLAT, slots=1)
    first, second, third = (let_in(model, at, 5, [0]) for at in (0, 1, 2))
    model.cancel(3, second)
    model.cancel(4, first)
    assert drive(model) == {third: [9]}
    assert let_in(model, 20, 0, [0]).first_at == 20  # the slot is free again


def test_a_slot_that_is_passed_on_late_is_passed_on_when_it_was_free() -> None:
    """A driver that comes late sees the moments that there would have been."""
    model = Model(FLAT, slots=1)
    first, second = let_in(model, 0, 5, [0, 1]), let_in(model, 0, 5, [0])
    let_in(model, 0, 5, [0])
    assert model.pop_due(22) == {first: [5, 15], second: [20]}


def test_what_is_not_worked_on_needs_no_slot() -> None:
    model = Model(FLAT, slots=1)
    served = let_in(model, 0, 5, [0, 10])
    aside = model.arrive(0, 7, [0], needs_slot=False)
    assert drive(model) == {served: [5, 105], aside: [7]}


def test_a_request_that_holds_stays_after_its_last_text_and_slows_nobody() -> None:
    model = Model(SHARED, slots=2)
    held = model.arrive(0, 0, [0, 1], holds=True)
    other = let_in(model, 0, 0, [0, 1, 2])
    waiting = let_in(model, 0, 0, [0])
    assert drive(model) == {held: [0, 20], other: [0, 20, 30], waiting: [30]}
    assert (model.active, held.gone) == (1, False)
    assert model.work_done(1000, held) == 1
    model.cancel(1000, held)
    assert model.active == 0


def test_a_request_whose_text_never_comes_gets_keep_alives_for_ever() -> None:
    model = Model(FLAT)
    job = model.arrive(0, None, [], patience=30, holds=True)
    assert [model.next_due() for _ in range(3) if model.pop_due(model.next_due() or 0)] == [
        60, 90, 120,
    ]  # fmt: skip
    model.cancel(130, job)
    assert model.next_due() is None


def test_a_cancelled_request_gets_nothing_more_and_frees_its_place_and_its_share() -> None:
    model = Model(SHARED)
    stays = let_in(model, 0, 0, [0, 1, 2])
    goes = let_in(model, 0, 0, [0, 100])
    model.cancel(10, goes)  # until here each did half a token
    assert model.active == 1
    assert drive(model) == {stays: [0, 15, 25]}


def test_cancelling_a_request_whose_text_is_due_but_not_fetched_drops_that_text() -> None:
    model = Model(FLAT)
    job = let_in(model, 0, 0, [0])
    model.cancel(7, job)
    assert model.pop_due(7) == {}
    assert model.active == 0


def test_keep_alives_come_until_the_first_text() -> None:
    model = Model(FLAT)
    job = model.arrive(0, 100, [0, 1, 9], patience=30)
    asked: list[tuple[int, dict[ServedRequest, list[int]]]] = []
    while (at := model.next_due()) is not None:
        asked.append((at, model.pop_due(at)))
    texts = [(at, due) for at, due in asked if due.get(job)]
    assert [at for at, due in asked if due == {job: []}] == [30, 60, 90]
    assert texts == [(at, {job: [at]}) for at in (100, 110, 190)]


def test_a_request_that_gets_all_its_text_at_once_has_keep_alives_while_it_decodes() -> None:
    model = Model(FLAT)
    job = model.arrive(0, 10, [4], patience=20)
    assert model.pop_due(45) == {job: []}
    assert model.pop_due(50) == {job: [50]}


def test_precision_does_not_wear_off_however_much_was_done_before() -> None:
    model = Model(Speed(1, 0, 0, 0))
    let_in(model, 0, 0, [0, 10**16])
    assert model.pop_due(10**16)
    job = let_in(model, 10**16, 0, [0, 1, 2, 3])
    assert drive(model) == {job: [10**16 + k for k in range(4)]}


def test_what_is_due_stays_due_until_it_is_fetched() -> None:
    model = Model(FLAT)
    job = let_in(model, 0, 5, [0, 1])
    let_in(model, 100, 1000, [0])  # settles the first, long over
    assert model.next_due() == 5
    assert model.pop_due(100) == {job: [5, 15]}


def test_the_contexts_of_all_that_decode_slow_each_token() -> None:
    model = Model(FLAT, per_context=0.5)
    first = model.arrive(0, 0, [0, 1, 3], context=20)
    second = model.arrive(0, 30, [0, 1], context=40)
    # 20 ns a token alone; 40 ns with both, from 30 on; 20 again after the second.
    assert drive(model) == {first: [0, 20, 70 + 10], second: [30, 70]}


def test_no_token_is_made_while_a_prompt_is_read() -> None:
    model = Model(FLAT)
    first = model.arrive(0, 0, [0, 5])
    second = model.arrive(0, 12, [0, 1], reading=100)
    assert model.work_done(60, first) == 1.2
    assert drive(model) == {first: [0, 150], second: [112, 122]}


def test_prompts_that_come_while_others_are_read_are_read_together_afterwards() -> None:
    model = Model(FLAT)
    waits = [0, 10, 20, 500]
    jobs = [model.arrive(0, wait, [0, 1], reading=100) for wait in waits]
    assert drive(model) == {
        jobs[0]: [100, 310], jobs[1]: [300, 310], jobs[2]: [300, 310], jobs[3]: [600, 610],
    }  # fmt: skip


def test_the_prompts_of_a_batch_share_its_cost() -> None:
    model = Model(FLAT, per_batch=50)
    jobs = [model.arrive(0, wait, [0], reading=0) for wait in (0, 10, 20)]
    assert drive(model) == {jobs[0]: [50], jobs[1]: [100], jobs[2]: [100]}


def test_prompts_of_requests_that_are_given_up_are_not_read_if_it_has_not_begun() -> None:
    model = Model(FLAT)
    reads = model.arrive(0, 0, [0], reading=100)
    waits = model.arrive(0, 10, [0], reading=100)
    later = model.arrive(0, 20, [0, 1], reading=100)
    model.cancel(50, reads)  # is read to the end
    model.cancel(50, waits)
    assert drive(model) == {later: [200, 210]}
    alone = model.arrive(1000, 0, [0], reading=100)
    model.cancel(1050, alone)
    assert model.next_due() is None


class Plan(NamedTuple):
    """One request of a random load; `cancel` is how long after its arrival it is given up."""

    after: int
    wait: int
    steps: list[int]
    cancel: int | None


plans = st.lists(
    st.builds(
        Plan,
        after=st.integers(0, 3_000),
        wait=st.integers(0, 2_000),
        steps=st.lists(st.integers(1, 4), max_size=8),
        cancel=st.none() | st.integers(0, 5_000),
    ),
    min_size=1,
    max_size=12,
)
speeds = st.builds(
    Speed,
    a=st.integers(1, 200).map(float),
    b=st.integers(0, 100).map(float),
    c=st.integers(0, 5).map(float),
    background=st.integers(0, 5).map(float),
)


def writes_of(plan: Plan) -> list[int]:
    writes = [0]
    for step in plan.steps:
        writes.append(writes[-1] + step)
    return writes


def happenings(load: Sequence[Plan]) -> list[tuple[int, int, int]]:
    """Return (time, 0 for arrival or 1 for cancel, which) in order of time."""
    out, now = [], 0
    for which, plan in enumerate(load):
        now += plan.after
        out.append((now, 0, which))
        if plan.cancel is not None:
            out.append((now + plan.cancel, 1, which))
    return sorted(out)


def run(load: Sequence[Plan], speed: Speed, slots: int | None, steps: bool) -> list[list[int]]:
    """Run a load; with `steps` also visit every moment the model asks for in between."""
    model = Model(speed, slots)
    jobs: dict[int, ServedRequest] = {}
    seen: dict[ServedRequest, list[int]] = {}

    def fetch(now: int) -> None:
        for job, moments in model.pop_due(now).items():
            seen.setdefault(job, []).extend(moments)
        assert slots is None or model.decoding <= slots

    for at, kind, which in happenings(load):
        while steps and (due := model.next_due()) is not None and due <= at:
            fetch(due)
        fetch(at)
        if kind == 0:
            jobs[which] = model.arrive(at, load[which].wait, writes_of(load[which]))
        else:
            model.cancel(at, jobs[which])
    while (due := model.next_due()) is not None:
        fetch(due)
    assert (model.active, model.decoding) == (0, 0)
    return [seen.get(jobs[which], []) for which in range(len(load))]


def exact(load: Sequence[Plan], speed: Speed) -> list[list[Fraction]]:
    """Processor sharing by definition: between two events each request does dt / ITL(n)."""
    pending = happenings(load)
    waiting: dict[int, Fraction] = {}
    left: dict[int, list[Fraction]] = {}
    texts: list[list[Fraction]] = [[] for _ in load]
    now = Fraction(0)
    while pending or waiting or left:
        n = len(left) + Fraction(speed.background)
        itl = Fraction(speed.a) + Fraction(speed.b) * n + Fraction(speed.c) * n * n
        events = [now + work[0] * itl for work in left.values()]
        events += [*waiting.values(), *(Fraction(at) for at, _, _ in pending[:1])]
        then = min(events)
        for work in left.values():
            work[:] = [piece - (then - now) / itl for piece in work]
        now = then
        for which in [which for which, work in left.items() if work[0] == 0]:
            texts[which].append(now)
            left[which].pop(0)
            if not left[which]:
                del left[which]
        for which in [which for which, at in waiting.items() if at == now]:
            del waiting[which]
            left[which] = [Fraction(write) for write in writes_of(load[which])]
        while pending and pending[0][0] == now and not any(work[0] == 0 for work in left.values()):
            _, kind, which = pending.pop(0)
            if kind == 0:
                waiting[which] = now + load[which].wait
                break  # a wait of nothing ends before the next happening
            waiting.pop(which, None)
            left.pop(which, None)
    return texts


@given(plans, speeds)
def test_every_text_is_due_when_exact_processor_sharing_says_so(
    load: list[Plan], speed: Speed
) -> None:
    load = [plan._replace(cancel=None) for plan in load]
    texts = run(load, speed, None, steps=True)
    expected = exact(load, speed)
    for got, want in zip(texts, expected, strict=True):
        assert len(got) == len(want)
        # Moments are whole nanoseconds: each of two changes a request rounds by half of one, and
        # a pace that changes stretches that.
        slack = 1 + len(load) * speed.itl(len(load)) / speed.itl(1)
        assert all(abs(one - other) <= slack for one, other in zip(got, want, strict=True))


@given(plans, speeds, st.none() | st.integers(1, 4))
def test_a_late_driver_changes_no_moment(load: list[Plan], speed: Speed, slots: int | None) -> None:
    assert run(load, speed, slots, steps=True) == run(load, speed, slots, steps=False)


@given(plans, speeds)
def test_the_work_done_is_the_time_with_work_when_the_processor_is_cut_in_equal_parts(
    load: list[Plan], speed: Speed
) -> None:
    """With ITL(n) = b n, n requests together make one token every b: none is lost or made up."""
    b = max(1.0, speed.b)
    load = [plan._replace(after=0, wait=0, cancel=None) for plan in load]
    texts = run(load, Speed(0, b, 0, 0), None, steps=True)
    tokens = sum(sum(plan.steps) for plan in load)
    end = max((moments[-1] for moments in texts), default=0)
    assert abs(end - tokens * b) <= 2 * len(load) + 1


@given(plans, speeds, st.integers(1, 4))
def test_a_cancelled_request_never_gets_text_later(
    load: list[Plan], speed: Speed, slots: int
) -> None:
    texts = run(load, speed, slots, steps=True)
    now = 0
    for plan, moments in zip(load, texts, strict=True):
        now += plan.after
        assert moments == sorted(moments)
        if plan.cancel is None:
            assert len(moments) == len(plan.steps) + 1
        else:
            assert all(moment <= now + plan.cancel for moment in moments)
