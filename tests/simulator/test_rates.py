from __future__ import annotations

from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from harness.simulator.model import Model, ServedRequest
from harness.simulator.pace import Speed
from harness.simulator.rates import Rates

ARRIVALS = st.lists(
    st.tuples(st.integers(0, 2000), st.integers(1, 500), st.integers(1, 40)), min_size=1, max_size=8
)


TICK = 100_000
"""Nanoseconds: a token takes ten, so that what rounding to one nanosecond moves is a crumb."""


@given(ARRIVALS, st.sampled_from([0.0, 3.0]), st.sampled_from([0, 70]))
@example(  # reading begins when a piece is written
    [(0, 59, 14), (0, 138, 14), (0, 211, 1), (10, 201, 1), (200, 328, 1), (0, 1, 1)], 0.0, 70
)
def test_the_moment_of_each_piece_of_work_is_when_the_model_wrote_it(
    arrivals: list[tuple[int, int, int]], slowing: float, reading: int
) -> None:
    """Busy times apart from each other included; the last piece of each is left out."""
    rates = Rates()
    speed = Speed(10.0 * TICK, slowing * TICK, 0.0, 0.0)
    model = Model(speed, None, rates, slowing * TICK / 100)
    written: dict[ServedRequest, list[int]] = {}
    now = 0
    for pause, wait, tokens in arrivals:
        now += pause * TICK
        for job, moments in model.pop_due(now).items():
            written.setdefault(job, []).extend(moments)
        context, reads = 10 * tokens, reading * TICK or None
        arrived = model.arrive(now, wait * TICK, range(tokens), context=context, reading=reads)
        assert arrived is not None
    while (due := model.next_due()) is not None:
        for job, moments in model.pop_due(due).items():
            written.setdefault(job, []).extend(moments)
    for job, moments in written.items():
        for work, moment in enumerate(moments[1:-1], start=1):
            assert abs(rates.moment(job.origin + work) - moment) <= 1
        itl = rates.constant(job.origin, job.origin + len(moments) - 1)
        if slowing == reading == 0 and len(moments) > 1:
            assert itl == 10 * TICK
        if itl is not None:
            since = 1 if reading else 0  # a pause directly after the first is not told
            assert all(abs(later - at - itl) <= 1 for at, later in pairwise(moments[since:]))
