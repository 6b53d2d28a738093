"""The rules of the limits that adapt, fed by hand."""

from __future__ import annotations

import ast
import pkgutil
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import harness.limits
from harness.config.tables import SettingError
from harness.limits import Aimd, Elastic, Gradient2, InspectAI
from harness.limits.elastic import Trend
from harness.limits.protocol import Observation
from harness.limits.registry import BUILT_IN_LIMITS, LIMIT_KINDS
from harness.limits.section import LimitSection
from harness.records.clock import SECOND
from tests.limits.observed import histories, play, seen

KINDS = sorted(BUILT_IN_LIMITS)


def section(kind: str, **keys: Any) -> LimitSection:
    found: LimitSection = LIMIT_KINDS.validate({"kind": kind, **keys})
    return found


@pytest.mark.parametrize("kind", KINDS)
@given(history=histories(), low=st.integers(1, 40), more=st.integers(0, 60))
def test_a_limit_stays_within_its_bounds(
    kind: str, history: list[Observation], low: int, more: int
) -> None:
    limits = play(section(kind, min=low, max=low + more).limiter(1.0), history)
    assert all(low <= limit <= low + more for limit in limits)


@pytest.mark.parametrize("kind", KINDS)
@given(history=histories())
def test_a_rule_is_a_pure_function(kind: str, history: list[Observation]) -> None:
    """Its states can be kept and used again, and it has no state of its own."""
    rule = section(kind).limiter(1.0)
    states = [rule.first()]
    for one in history:
        states.append(rule.observed(states[-1], one))
    for state, one, after in zip(states, history, states[1:], strict=False):
        assert rule.observed(state, one) == after
    assert section(kind).limiter(1.0).first() == states[0]


@pytest.mark.parametrize("kind", KINDS)
@given(history=histories())
def test_a_scenario_second_can_last_any_time(kind: str, history: list[Observation]) -> None:
    """With a scale of 2 and all times doubled, the limits are the same."""

    def doubled(one: Observation) -> Observation:
        return one._replace(
            now=2 * one.now,
            sent=None if one.sent is None else 2 * one.sent,
            first_text=None if one.first_text is None else 2 * one.first_text,
            retry_after=None if one.retry_after is None else 2 * one.retry_after,
        )

    real = play(section(kind).limiter(1.0), history)
    assert play(section(kind).limiter(2.0), list(map(doubled, history))) == real


@pytest.mark.parametrize("kind", KINDS)
def test_a_limit_that_is_not_used_does_not_grow(kind: str) -> None:
    if kind == "aimd":
        pytest.skip("its rule does not look at the attempts in flight")
    limits = play(section(kind, start=40).limiter(1.0), [seen(n, in_flight=3) for n in range(200)])
    assert set(limits) == {40}


@pytest.mark.parametrize("kind", KINDS)
def test_a_burst_of_429s_cuts_once(kind: str) -> None:
    """What follows within a cooldown, at the same number in flight, changes no more."""
    together = [seen(1 + n / 1000, "rate_limited", in_flight=40) for n in range(20)]
    limits = play(section(kind, start=40).limiter(1.0), together)
    assert limits[1] < 40
    assert set(limits[1:]) == {limits[1]}


@pytest.mark.parametrize("kind", KINDS)
def test_other_failures_never_raise_a_limit(kind: str) -> None:
    failed = [seen(n, "failed", in_flight=20) for n in range(200)]
    assert max(play(section(kind, start=20).limiter(1.0), failed)) == 20


def test_aimd_follows_its_source() -> None:
    rule = Aimd().limiter(1.0)
    fine = [seen(n / 10) for n in range(50)]
    assert play(rule, fine)[-1] == 12, "one for each 25 successes"
    assert play(rule, [seen(1, "rate_limited")])[-1] == 7, "floor(0.75 * 10)"
    asked = [seen(1, "rate_limited", retry_after=30), seen(30, "rate_limited")]
    assert play(rule, asked)[-1] == 7, "in the cooldown that the server asked for"
    assert play(rule, [*asked, seen(31.5, "rate_limited")])[-1] == 5


def test_gradient2_follows_its_source() -> None:
    rule = Gradient2(start=20).limiter(1.0)
    steady = play(rule, [seen(n, in_flight=20) for n in range(3)])
    assert steady == [20, 20, 21, 22], "each step adds a fifth of the queue of 4"
    history = [seen(n, in_flight=80) for n in range(200)]
    slow = [seen(200 + n, in_flight=80, took=20.0) for n in range(5)]
    limits = play(rule, [*history, *slow])
    assert limits[200] == 100
    # Four times as slow: the gradient is 1.5 / 4, of which 0.5 is used; 0.8 L + 0.2 (0.5 L + 4)
    assert limits[201] == int(0.8 * 100 + 0.2 * (0.5 * 100 + 4))


def test_gradient2_sees_no_difference_between_long_and_short_answers() -> None:
    """The original looks at the latency and would take long answers for a slow server."""
    rule = Gradient2(start=50).limiter(1.0)
    mixed = [
        seen(n, in_flight=50, took=1.0 if n % 2 else 50.0, tokens=20 if n % 2 else 1000)
        for n in range(200)
    ]
    assert play(rule, mixed)[-1] == 100


def test_inspect_ai_follows_its_source() -> None:
    rule = InspectAI().limiter(1.0)
    clean = [seen(n / 10, in_flight=20) for n in range(20)]
    assert play(rule, clean)[-1] == 40, "a clean round doubles"
    refused = seen(2.1, "rate_limited", in_flight=40)
    assert play(rule, [*clean, refused])[-1] == 32, "floor(0.8 * 40)"
    cold = [seen(3 + n / 10, in_flight=32) for n in range(60)]
    assert play(rule, [*clean, refused, *cold])[-1] == 32, "rounds do not count in a cooldown"
    later = [seen(20 + n / 10, in_flight=32) for n in range(32)]
    assert play(rule, [*clean, refused, *later])[-1] == 33, "then 5 % a round"


def test_a_long_retry_after_freezes_inspect_ai_and_not_elastic() -> None:
    """One 429 every 80 seconds, each with a Retry-After of 89 seconds, and 400 successes."""
    history = []
    for at in range(400):
        if at % 80 == 40:
            history.append(seen(at, "rate_limited", in_flight=30, retry_after=89))
        history.append(seen(at + 0.5, in_flight=30))
    frozen = play(InspectAI(start=30).limiter(1.0), history)
    assert frozen[-1] == frozen[42] == 48
    assert frozen[40] == 60, "before the first 429"
    thawed = play(Elastic(start=30).limiter(1.0), history)
    assert thawed[42] == 27
    assert thawed[120] == 28, "beyond its threshold only when 60 s have passed"


class TestElastic:
    RULE = Elastic(start=10, max=64).limiter(1.0)

    def test_it_starts_slowly_and_doubles_with_each_round(self) -> None:
        limits = play(self.RULE, [seen(n / 10, in_flight=10 + n) for n in range(30)])
        assert limits == list(range(10, 41))

    def test_it_stops_where_the_time_per_token_grows_in_proportion(self) -> None:
        """The throughput is the same with 20 and with 60 in flight."""
        state, at = self.RULE.first(), 0.0
        reached = []
        for _ in range(4000):
            took = max(state.limit, 20) / 4
            at += took / state.limit
            state = self.RULE.observed(state, seen(at, in_flight=state.limit, took=took))
            reached.append(state.limit)
        assert min(reached[1000:]) >= 15
        assert max(reached[1000:]) <= 40

    def test_a_429_shows_how_many_are_enough(self) -> None:
        history = [seen(n / 10, in_flight=10 + n) for n in range(30)]
        refused = seen(3, "rate_limited", in_flight=21)
        assert play(self.RULE, [*history, refused])[-1] == 19, "5 % below the 20 that were served"

    def test_each_429_of_an_episode_stops_the_permits_that_are_released(self) -> None:
        """A cap that has fallen: calls end, and what is sent in their place is refused."""
        refused = [seen(1 + n / 5, "rate_limited", in_flight=10 - n) for n in range(6)]
        assert play(self.RULE, refused)[1:] == [8, 8, 7, 6, 5, 4]

    def test_after_an_episode_it_returns_to_half_of_its_threshold(self) -> None:
        first = seen(1, "rate_limited", in_flight=41)
        rule = Elastic(start=40).limiter(1.0)
        few = [seen(1.5, "rate_limited", in_flight=4), seen(2, "rate_limited", in_flight=3)]
        assert play(rule, [first, *few])[-1] == 2
        assert play(rule, [first, *few, seen(3.9, in_flight=2)])[-1] == 2, "in the cooldown"
        assert play(rule, [first, *few, seen(4, in_flight=2)])[-1] == 19, "half of 38"

    def test_no_episode_takes_more_than_half(self) -> None:
        rule = Elastic(start=40).limiter(1.0)
        history = [
            seen(1, "rate_limited", in_flight=41),
            seen(10, "rate_limited", in_flight=3),
            seen(13, in_flight=2),
        ]
        assert play(rule, history)[-1] == 9, "half of half of 38"


@given(
    st.lists(st.tuples(st.integers(1, 60), st.integers(50, 500)), min_size=20, max_size=60),
    st.floats(0, 1),
    st.floats(0.001, 0.1),
    st.floats(0, 0.01),
)
def test_the_trend_finds_the_model_that_made_the_service_times(
    points: list[tuple[int, int]], once: float, fixed: float, slope: float
) -> None:
    """Of c + t (a + b n), exactly, as nothing is left to chance."""
    points = [*points, (1, 50), (60, 50), (1, 500), (60, 500)]
    trend = Trend()
    for n, tokens in points:
        took = round((once + tokens * (fixed + slope * n)) * SECOND)
        trend = trend.added(seen(1, in_flight=n, tokens=tokens), took, 1e9)
    weight = sum(tokens for _, tokens in points)
    pace = len(points) * once / weight + fixed + slope * 20
    assert trend.elasticity(20) == pytest.approx(1 - 20 * slope / pace, abs=0.01)


def test_a_slope_that_may_be_chance_is_no_slope() -> None:
    """The speed of the server varies, and has nothing to do with the permits in use."""
    random = Random(4)
    found = []
    for _ in range(50):
        trend = Trend()
        for _ in range(80):
            n, tokens = random.randint(30, 32), random.randint(50, 500)
            took = round(tokens * 0.02 * random.lognormvariate(0, 0.3) * SECOND)
            trend = trend.added(seen(1, in_flight=n, tokens=tokens), took, 80)
        found.append(trend.elasticity(31))
    assert sorted(found)[10] > 0.35
    assert Trend().elasticity(5) == 1


# The table of kinds


def test_the_names_for_type_checkers_are_those_of_the_table() -> None:
    tree = ast.parse(Path(harness.limits.__file__).read_text())
    declared = {
        f"{node.module}:{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("harness.limits.")
        for alias in node.names
        if alias.asname
    }
    assert declared == set(BUILT_IN_LIMITS.values())


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_a_documented_class_whose_code_makes_it_again(kind: str) -> None:
    cls = pkgutil.resolve_name(BUILT_IN_LIMITS[kind])
    assert getattr(harness.limits, cls.__name__) is cls
    made = section(kind, max=48)
    assert cls.__doc__
    again = eval(made.expression(), {"harness": harness})
    assert again == made
    assert f"harness.limits.{cls.__name__}(" in made.expression()


def test_an_unknown_name_is_an_error_as_in_any_module() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Elastik'"):
        _ = harness.limits.Elastik  # type: ignore[attr-defined]


def test_bounds_that_do_not_agree_are_one_line() -> None:
    with pytest.raises(ValueError, match=r"^Elastic: min = 9: is above max = 8; lower it, or ra"):
        Elastic(min=9, max=8)
    with pytest.raises(SettingError, match="unknown kind"):
        section("vegas")
