"""What `benchmarks.tuning` computes from a bank and from tunes, by hand."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from benchmarks import advice
from benchmarks.gaussian_process import (
    Measured,
    Observations,
    best_guess,
    copies,
    loss_and_slopes,
    next_trial,
)
from benchmarks.tuning import Known, Result, Winner, regret, result_of, winner
from benchmarks.tuning_rivals import (
    first_rung,
    halved,
    next_of_halving,
    spend,
    spread,
    with_own_draws,
    within,
)
from benchmarks.tuning_runs import (
    FIRST_SEED,
    PERMITS,
    TunedSeed,
    TuneStep,
    completed,
    scenario_of,
    versioned,
)

TRUTH = advice.Truth(
    ["fast", "best", "near", "slow"], np.log([80.0, 100.0, 101.5, 120.0]),
    np.array([True, False, False, False]), 1, 3, (20.0, 10.0, math.inf),
)  # fmt: skip


def step(requests: int, leading: str) -> TuneStep:
    return TuneStep(requests, leading, 0.01, 3, ("best",), "")


def a_tune(seed: int, state: str, cell: str | None, leading: str = "best") -> TunedSeed:
    steps = (step(0, ""), step(40, leading), step(70, "slow"))
    return TunedSeed(seed, steps, state, cell, 150, 60.0)


def measured(cell: int, makespan: float, good: float = 20) -> Measured:
    return Measured(cell, 0, makespan, good, 20, 200, 20 - good)


def test_the_regret_of_a_cell_is_relative_to_the_best_one_that_meets_the_slo() -> None:
    assert regret(TRUTH, "best") == 0
    assert regret(TRUTH, "slow") == pytest.approx(0.2)
    assert regret(TRUTH, "fast") == 1  # below the SLO
    assert regret(TRUTH, None) == 1


def test_a_winner_leads_with_the_blocks_that_the_budget_buys() -> None:
    found = winner(TRUTH, [200, 200, 200, 300], 6000)
    assert found is not None
    assert found.cell == "best"
    assert found.blocks == 12
    assert found.ahead == pytest.approx(10 * math.sqrt(12 / 60))
    assert found.is_clear
    fewer = winner(TRUTH, [200, 200, 200, 300], 4500)  # 3.9 errors
    assert fewer is not None
    assert not fewer.is_clear
    assert winner(TRUTH._replace(best=None), [1, 1, 1, 1], 1) is None
    alone = winner(TRUTH._replace(after=None), [200, 200, 200, 300], 6000)
    assert alone is not None
    assert alone.blocks == 30


def test_trials_that_are_no_pairs_have_the_spread_of_both() -> None:
    random = np.random.default_rng(1)
    bank = np.zeros((400, len(PERMITS) * 3, len(advice.COLUMNS)))
    common = random.normal(0, 0.1, (400, 1))
    typical = np.linspace(5, 6, bank.shape[1])
    bank[:, :, 0] = np.exp(typical + common + random.normal(0, 0.01, bank.shape[:2]))
    bank[:, :, 1:3] = 20
    pairs = advice.truth_of(bank, 0.9, PERMITS)
    apart = advice.truth_of(bank, 0.9, PERMITS, paired=False)
    assert pairs.best == apart.best == 0
    assert pairs.leads[1] == pytest.approx(10 * apart.leads[1], rel=0.2)
    mixed = with_own_draws(bank, 3)
    assert sorted(mixed[:, 5, 0]) == sorted(bank[:, 5, 0])
    assert advice.truth_of(mixed, 0.9, PERMITS).leads[1] == pytest.approx(apart.leads[1], rel=0.2)


def test_the_recommendation_is_the_last_decision_within_its_requests() -> None:
    tune = a_tune(0, "proven", "best")
    assert tune.leading_within(69) == tune.steps[1]
    assert tune.leading_within(70) == tune.steps[2]
    assert tune.leading_within(39) is None  # before the first block nothing leads


def test_tunes_are_compared_with_the_truth() -> None:
    known = Known("knee", np.ones((1, 4, len(advice.COLUMNS))), TRUTH, 1000.0)
    seeds = [
        a_tune(0, "proven", "near"),
        a_tune(1, "proven", "slow"),
        a_tune(2, "proven", "fast"),
        a_tune(3, "open", None, leading="fast"),
    ]
    found = result_of(known, seeds)
    assert found.early == [0, 0, 0, 1]
    assert found.early_requests == [0.04] * 4
    assert found.late == pytest.approx([0.015, 0.2, 1, 1])
    assert found.wrong == 2
    assert found.share("proven") == 0.75
    assert "2 of 3" in found.text()


def a_result(provider: str = "knee") -> Result:
    first = Winner("best", 13.0, 9.0, 9.0, is_clear=True)
    seeds = [0.0] * 60
    return Result(provider, first, seeds, seeds, seeds, seeds, ["proven"] * 60, 3, 60.0)


def test_each_limit_can_fail() -> None:
    good = a_result()
    assert not list(good.failures())

    def fails(result: Result) -> str:
        (text,) = result.failures()
        return text

    assert "prove a wrong cell" in fails(good._replace(wrong=4))
    assert "mean regret" in fails(good._replace(early=[0.021] * 60))
    assert "percentile" in fails(good._replace(early=[0.0] * 50 + [0.06] * 10))
    assert "requests" in fails(good._replace(early_requests=[0.061] * 60))
    few = good._replace(states=["proven"] * 41 + ["open"] * 19)
    assert "are proven" in fails(few)
    assert few.winner is not None
    assert not list(few._replace(winner=few.winner._replace(is_clear=False)).failures())
    assert not list(a_result("outages")._replace(early=[0.5] * 60).failures())


class _Line(msgspec.Struct, frozen=True):
    seed: int
    value: int


def test_a_killed_run_repeats_no_seed_that_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "some" / "knee-0.jsonl"
    asked: list[list[int]] = []

    def play(seeds: list[int]) -> Iterator[_Line]:
        asked.append(seeds)
        for seed in reversed(seeds):
            yield _Line(seed, 10 * seed)

    def killed(seeds: list[int]) -> Iterable[_Line]:
        yield _Line(seeds[1], 7)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        completed(path, _Line, range(4), killed)
    with path.open("ab") as file:
        file.write(b'{"seed":3,"val')  # the process ended while it wrote
    found = completed(path, _Line, range(4), play)
    assert asked == [[0, 2, 3]]
    assert [(one.seed, one.value) for one in found] == [(0, 0), (1, 7), (2, 20), (3, 30)]
    assert completed(path, _Line, range(4), play) == found
    assert asked == [[0, 2, 3]]
    assert len(path.read_bytes().splitlines()) == 4


def test_lines_of_other_code_are_kept_apart_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "429-cap-aaaaaaaaaaaa.jsonl").write_text("{}\n")
    path = versioned(tmp_path, "429 cap", "b" * 12)
    assert path.name == "429-cap-bbbbbbbbbbbb.jsonl"
    (said,) = capsys.readouterr().out.splitlines()
    assert said.startswith("Simulated: 429 cap: ")
    assert "429-cap-aaaaaaaaaaaa.jsonl" in said
    path.touch()
    versioned(tmp_path, "429 cap", "b" * 12)
    versioned(tmp_path, "knee", "b" * 12)
    assert not capsys.readouterr().out


def test_the_tunes_choose_from_the_cells_of_the_bank() -> None:
    scenario = scenario_of("knee", 2, 5000)
    assert scenario.seed == FIRST_SEED + 2
    assert tuple(scenario.sweep.permits) == PERMITS
    assert scenario.slo.success_rate == 0.9
    assert len(advice.swept_cells(PERMITS)) == 36
    assert len(advice.swept_cells()) == 24


def test_halving_keeps_the_better_half_and_ends_with_one() -> None:
    makespans = {4: 100.0, 7: 90.0, 2: 80.0, 9: 70.0, 1: 60.0}
    good = {9: 17}  # 85 %, below the SLO
    seen: list[Measured] = []
    start = list(makespans)
    while (at := next_of_halving(start, seen)) is not None:
        seen.append(measured(at, makespans[at], good.get(at, 20)))
    assert [one.cell for one in seen] == [4, 7, 2, 9, 1, 1, 2, 7, 1, 2]
    assert halved(start, seen).best == 1
    assert halved(start, seen[:4]).best == 2
    assert first_rung(10) == 5
    assert first_rung(27) == 14


def test_a_rival_makes_no_trial_beyond_its_requests() -> None:
    rows = np.zeros((5, 2, len(advice.COLUMNS)))
    rows[:, :, advice.COLUMNS.index("attempts")] = [[100, 300]]
    rows[:, 0, 0] = [1, 2, 3, 4, 5]
    seen = spend(rows, 750, lambda seen: (0, 1)[len(seen) % 2])
    assert [(one.cell, one.repeat, one.makespan) for one in seen] == [
        (0, 0, 1),
        (1, 0, 0),
        (0, 1, 2),
    ]
    assert len(within(seen, 400)) == 2
    assert len(within(seen, 399)) == 1


def test_a_spread_has_few_and_many_permits_and_each_policy() -> None:
    swept = advice.swept_cells(PERMITS)
    for count in (6, 14):
        chosen = [swept[at].info for at in spread(count, np.random.default_rng(1))]
        assert len({one.id for one in chosen}) == count
        assert {min(PERMITS), max(PERMITS)} <= {one.permits for one in chosen}
        assert len({one.retry for one in chosen}) == 3


def test_a_gaussian_process_finds_the_best_of_a_smooth_curve_with_a_cliff() -> None:
    """At 24 permits and more, one of two policies is below the SLO."""
    where = np.array([(math.log2(permits), policy) for permits in PERMITS for policy in (0, 1)])
    makespans = 100 * np.exp(0.1 * (where[:, 0] - math.log2(32)) ** 2)
    makespans[(where[:, 1] == 1) & (where[:, 0] > 4.5)] *= 0.9
    best = int(np.argmin(np.where(where[:, 1] == 0, makespans, 1e9)))

    def trial(cell: int) -> Measured:
        fails = where[cell, 1] == 1 and where[cell, 0] > 4.5
        return measured(cell, float(makespans[cell]), 10 if fails else 20)

    seen = [trial(cell) for cell in (0, 9, 16, 23)]
    while len(seen) < 12:
        seen.append(trial(next_trial(where, seen)))
    assert makespans[best_guess(where, seen)] == pytest.approx(makespans[best], rel=0.02)
    assert where[best_guess(where, seen), 1] == 0


def test_a_cell_without_a_failure_stands_for_the_other_policies() -> None:
    where = np.array([(permits, policy) for permits in (1.0, 2.0, 3.0) for policy in (0, 1)])
    seen = [measured(0, 100, 19), measured(3, 60), measured(2, 60), measured(5, 50)]
    assert copies(where, seen).tolist() == [False, False, True, False, True, False]


def test_the_slopes_of_the_likelihood_are_those_of_its_differences() -> None:
    random = np.random.default_rng(4)
    where = np.array([(at % 4, at % 3) for at in range(12)], float)
    data = Observations(where, np.arange(12.0) // 4, random.normal(size=12), np.full(12, 0.01))
    logs = np.log([0.5, 2.0, 0.3, 0.2, 0.1])
    _, slopes = loss_and_slopes(logs, data)
    for at, slope in enumerate(slopes):
        step = 1e-5 * np.eye(5)[at]
        higher, lower = (loss_and_slopes(logs + sign * step, data)[0] for sign in (1, -1))
        assert slope == pytest.approx((higher - lower) / 2e-5, rel=1e-4)
