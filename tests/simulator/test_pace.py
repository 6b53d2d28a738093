from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.simulator.pace import Measured, Speed
from harness.simulator.profiles import load_profile

curves = st.lists(st.tuples(st.floats(0.1, 50), st.floats(0, 1e6)), min_size=2, max_size=8).map(
    lambda steps: list(
        zip(
            itertools.accumulate(run for run, _ in steps),
            itertools.accumulate((rise for _, rise in steps), initial=1.0),
            strict=False,
        )
    )
)
"""Points whose time per token never falls."""


@given(curves)
def test_a_measured_pace_goes_through_its_points(points: list[tuple[float, float]]) -> None:
    for n, itl in points:
        assert Measured(points, n - 1).itl(1) == pytest.approx(itl)


@given(curves, st.floats(0, 60))
def test_a_measured_pace_never_falls_where_the_points_do_not(
    points: list[tuple[float, float]], background: float
) -> None:
    measured = Measured(points, background)
    paces = [measured.itl(n) for n in range(1, 120)]
    assert all(one <= other * (1 + 1e-9) for one, other in itertools.pairwise(paces))
    assert paces[0] >= points[0][1] * (1 - 1e-9)


def test_before_the_points_it_is_constant_and_beyond_them_a_straight_line() -> None:
    measured = Measured([(2, 10.0), (4, 14.0), (8, 30.0)], 0)
    assert [measured.itl(n) for n in (0, 1, 2)] == [10, 10, 10]
    assert [measured.itl(n) for n in (8, 9, 12)] == [30, 34, 46]
    falling = Measured([(1, 30.0), (2, 20.0)], 0)
    assert falling.itl(50) == 20


def test_two_points_are_a_straight_line_as_the_formula_has_it() -> None:
    line, formula = Measured([(1, 30.0), (101, 230.0)], 3), Speed(28, 2, 0, 3)
    for n in (1, 2, 50, 97):
        assert line.itl(n) == pytest.approx(formula.itl(n))


def test_a_profile_says_its_pace_by_the_formula_or_by_points() -> None:
    assert load_profile("plain-chat").pace(1e9).itl(10) == pytest.approx(10 / 2857 * 1e9, rel=1e-3)
    points = [{"requests": 1, "itl": "10ms"}, {"requests": 11, "itl": "20ms"}]
    measured = load_profile("streams", {"itl_a": 0, "itl_points": points}).pace(1000.0)
    assert measured.itl(6) == pytest.approx(15.0)
