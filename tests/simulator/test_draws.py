from __future__ import annotations

import math
import statistics

from hypothesis import given
from hypothesis import strategies as st

from harness.simulator.draws import Draws


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 3), st.binary(max_size=20)),
        min_size=2,
        unique=True,
    ),
    st.randoms(use_true_random=False),
)
def test_a_draw_does_not_depend_on_the_order_in_which_draws_are_made(
    keys: list[tuple[int, int, bytes]], order: object
) -> None:
    def draw(key: tuple[int, int, bytes]) -> tuple[float, float, int]:
        draws = Draws(*key)
        return (
            draws.lognormal("ttft", 1, 1),
            draws.lognormal("answer", 1, 1),
            draws.generator("text").getrandbits(64),
        )

    shuffled = list(keys)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    again = {key: draw(key) for key in shuffled}
    assert {key: draw(key) for key in keys} == again
    assert len(set(again.values())) == len(keys)


def test_each_purpose_has_a_stream_of_its_own() -> None:
    draws = Draws(1, 0, b"prompt")
    assert draws.lognormal("ttft", 1, 1) != draws.lognormal("answer", 1, 1)
    one, other = draws.generator("a"), draws.generator("b")
    assert one.getrandbits(64) != other.getrandbits(64)
    assert draws.name("cell", 1) != draws.name("cell", 2)


def test_a_log_normal_draw_has_the_median_and_the_spread_asked_for() -> None:
    logs = [math.log(Draws(7, 0, b"%d" % n).lognormal("x", 40, 0.5)) for n in range(4000)]
    assert abs(statistics.median(logs) - math.log(40)) < 0.04  # five standard errors
    assert abs(statistics.stdev(logs) - 0.5) < 0.03
    assert abs(statistics.quantiles(logs, n=100)[98] - (math.log(40) + 0.5 * 2.326)) < 0.1


def test_without_spread_a_draw_is_exactly_the_median() -> None:
    assert Draws(7, 0, b"x").lognormal("ttft", 0.2, 0) == 0.2
