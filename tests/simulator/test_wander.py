"""A speed that wanders: its distribution, its memory, and what it does to a request."""

from __future__ import annotations

import math
from random import Random

import numpy as np
import pytest

from harness.records.clock import SECOND
from harness.simulator.model import Model
from harness.simulator.pace import Speed
from harness.simulator.profiles import load_profile
from harness.simulator.rates import Rates
from harness.simulator.request_parser import make_request
from harness.simulator.simulation import ServedCompletion, Simulation
from harness.simulator.wander import Wander, slowest_factor

OVER = 180 * SECOND


def test_the_factor_is_log_normal_and_forgets_itself_over_the_given_time() -> None:
    found = []
    for seed in range(1500):
        wander = Wander(0.15, OVER, Random(seed))
        found.append([math.log(wander.factor(at)) for at in (0, OVER, 10 * OVER)])
    logs = np.array(found)
    assert logs.std(axis=0) == pytest.approx([0.15] * 3, rel=0.1)
    assert logs.mean(axis=0) == pytest.approx([0.0] * 3, abs=0.02)
    assert np.corrcoef(logs[:, 0], logs[:, 1])[0, 1] == pytest.approx(math.exp(-1), abs=0.08)
    assert abs(np.corrcoef(logs[:, 0], logs[:, 2])[0, 1]) < 0.1


def test_the_factor_is_constant_until_the_next_change_and_has_a_limit() -> None:
    wander = Wander(0.5, OVER, Random(1))
    change = wander.next_change(5)
    assert wander.factor(5) == wander.factor(change - 1) != wander.factor(change)
    factors = [wander.factor(at * OVER) for at in range(5000)]
    assert max(factors) <= slowest_factor(0.5)


def test_a_request_takes_the_sum_of_its_parts_at_the_speeds_that_it_met() -> None:
    wander, rates = Wander(0.4, 80, Random(4)), Rates()
    model = Model(Speed(1.0, 0.0, 0.0, 0.0), rates=rates)
    model.let_wander(0, wander)
    job = model.arrive(0, 0, [0, 200])
    ends: list[int] = []
    while (due := model.next_due()) is not None:
        ends += model.pop_due(due).get(job, [])
    work, at = 0.0, 0
    while True:
        until, factor = wander.next_change(at), wander.factor(at)
        if work + (until - at) / factor >= 200:
            break
        work, at = work + (until - at) / factor, until
    assert ends == [0, at + round((200 - work) * factor)]
    assert rates.moment(200.0) == pytest.approx(ends[1], abs=1)


def length(seed: int, repeat: int, cell: str) -> int:
    """Return the nanoseconds of one response whose number of tokens is fixed."""
    override = {"wander": {"sigma": 0.15, "over": "3m"}, "answer_tokens": {"median": 500}}
    simulation = Simulation(load_profile("plain-chat", override), seed, 1.0, cell)
    request = make_request(
        [("user", "tides")], model="m", phase=None, wants_json=False, max_tokens=None,
        stream=True, include_usage=True,
    )  # fmt: skip
    served = simulation.arrive(0, request, repeat, every_chunk=False)
    assert isinstance(served, ServedCompletion)
    last = 0
    while (due := simulation.next_due()) is not None:
        simulation.pop_due(due)
        last = due
    return last


def test_each_trial_has_its_own_path_and_the_same_one_each_time() -> None:
    assert length(1, 0, "a") == length(1, 0, "a")
    assert len({length(1, 0, "a"), length(1, 0, "b"), length(1, 1, "a"), length(2, 0, "a")}) == 4


def test_the_slowest_chunk_is_that_of_the_slowest_speed() -> None:
    plain = Simulation(load_profile("plain-chat"), 1, 1.0, "a").slowest_chunk(8)
    override = {"wander": {"sigma": 0.15, "over": "3m"}}
    wandering = Simulation(load_profile("plain-chat", override), 1, 1.0, "a").slowest_chunk(8)
    assert wandering == pytest.approx(plain * slowest_factor(0.15), rel=1e-3)
