from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.records.errors import InputError
from harness.simulator.profiles import Length, Profile, load_profile, shipped_profiles

MINIMAL = """
name = "mine"
description = "one"
source = "made up for a test"
date = 2026-01-02
itl_a = "20ms"
ttft = { median = "1.5s" }
answer_tokens = { median = 10 }
"""


def test_the_shipped_profiles_load_and_are_called_like_their_files() -> None:
    profiles = shipped_profiles()
    assert [profile.name for profile in profiles] == [
        "deepseek-flash", "deepseek-reasoner", "plain-chat", "rate-limited", "retrograde",
        "streams", "vllm-single-gpu",
    ]  # fmt: skip
    for profile in profiles:
        assert load_profile(profile.name) == profile
        plain = json.loads(json.dumps(profile.as_dict()))
        assert plain["itl_a"] == profile.itl_a
        assert Profile.model_validate(plain) == profile
        assert profile.source


def test_deepseek_reasoner_makes_20_to_22_tokens_a_second_however_many_run() -> None:
    profile = load_profile("deepseek-reasoner")
    assert 20 <= 1 / profile.itl_a <= 22
    assert profile.itl_b == profile.itl_c == 0
    assert profile.reasoning_tokens is not None


def test_plain_chat_meets_the_published_throughput_at_three_loads() -> None:
    profile = load_profile("plain-chat")
    for n, throughput in ((10, 2857), (50, 5694), (100, 5518)):
        itl = profile.itl_a + profile.itl_b * n + profile.itl_c * n * n
        assert n / itl == pytest.approx(throughput, rel=0.001)
    assert profile.reasoning_tokens is None


def throughput(name: str, requests: int) -> float:
    """Tokens a second of all requests together."""
    return requests / load_profile(name).pace(1.0).itl(requests)


def test_the_single_gpu_has_a_knee_and_a_queue() -> None:
    measured = {4: 210, 8: 377, 16: 644, 32: 975, 48: 1190}
    for n, tokens in measured.items():
        assert throughput("vllm-single-gpu", n) == pytest.approx(tokens, rel=0.002)
    gains = [
        throughput("vllm-single-gpu", 2 * n) / throughput("vllm-single-gpu", n)
        for n in (4, 8, 16, 24)
    ]
    assert gains == sorted(gains, reverse=True)
    assert load_profile("vllm-single-gpu").slots == 48


def test_the_retrograde_server_falls_beyond_its_peak() -> None:
    peak = max(range(1, 257), key=lambda n: throughput("retrograde", n))
    assert peak == 32
    assert throughput("retrograde", 128) / throughput("retrograde", 32) == pytest.approx(
        0.51, abs=0.01
    )


def test_a_file_of_ones_own_is_read_and_durations_are_seconds(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(MINIMAL + 'itl_b = "3us"\nkeep_alive_every = 2\nretry_after = "1m"\n')
    profile = load_profile(str(path))
    assert (profile.ttft.median, profile.itl_a) == (1.5, 0.02)
    assert profile.itl_b == pytest.approx(3e-6)
    assert (profile.keep_alive_every, profile.retry_after) == (2.0, 60.0)


def test_lengths_fall_back_to_the_general_ones_but_json_is_as_long_as_it_is() -> None:
    profile = load_profile("streams", {"reasoning_tokens.median": 5})
    assert profile.lengths("research", False) == (Length(median=5), Length(median=100))
    assert profile.lengths("synthesize", False) == (Length(median=5), Length(median=100))
    assert profile.lengths(None, False) == (Length(median=5), Length(median=100))
    assert load_profile("plain-chat").lengths("decompose", True) == (None, None)


@pytest.mark.parametrize(
    "overrides",
    [{"ttft.median": "9s"}, {"ttft": {"median": "9s"}}, {"ttft": {"median": 9}}],
)
def test_an_override_may_be_dotted_or_nested_and_leaves_the_rest(
    overrides: Mapping[str, object],
) -> None:
    profile = load_profile("deepseek-reasoner", overrides)
    assert profile.ttft.median == 9.0
    assert profile.ttft.sigma == load_profile("deepseek-reasoner").ttft.sigma


def test_an_override_may_add_a_table_that_the_profile_does_not_have() -> None:
    profile = load_profile("streams", {"phases.step.answer_tokens.median": 3})
    assert profile.lengths("step", False) == (None, Length(median=3))
    assert profile.lengths("step", True) == (None, Length(median=3))
    assert profile.lengths(None, False) == (None, Length(median=100))


def test_a_table_of_lengths_at_its_old_place_is_named_with_the_new_one() -> None:
    with pytest.raises(InputError) as raised:
        load_profile("streams", {"decompose.answer_tokens.median": 3})
    assert str(raised.value) == (
        "profile streams: decompose: lengths of a phase are read from phases.decompose; rename "
        "this table"
    )


@pytest.mark.parametrize(
    ("name", "overrides", "said"),
    [
        ("deepseek-reasonr", {}, "no such profile (did you mean 'deepseek-reasoner'?); use one of"),
        (
            "elsewhere/x.toml",
            {},
            "no such file; correct the path, or use one of deepseek-flash, "
            "deepseek-reasoner, plain-chat, rate-limited, retrograde, streams, "
            "vllm-single-gpu",
        ),
        (
            "streams",
            {"itl_aa": 1},
            "itl_aa: unknown key (did you mean 'itl_a'?); known here: answer",
        ),
        ("streams", {"ttft.medain": 1}, "ttft.medain: unknown key (did you mean 'median'?)"),
        (
            "streams",
            {"itl_a": "fast"},
            'itl_a = \'fast\': must be a duration, such as "500ms", "1.2s" or "2m", '
            "or a number of seconds",
        ),
        (
            "streams",
            {"itl_a": True},
            'itl_a = true: must be a duration, such as "500ms", "1.2s" or "2m", '
            "or a number of seconds",
        ),
        ("streams", {"itl_a": 0}, "itl_a: missing; add itl_a, or itl_points"),
        ("streams", {"itl_a": float("nan")}, "itl_a = nan: must be at least 0"),
        ("streams", {"itl_a": float("inf")}, "itl_a = inf: must be at most 86400"),
        ("streams", {"itl_b": -1}, "itl_b = -1: must be at least 0"),
        ("streams", {"ttft.sigma": 3}, "ttft.sigma = 3: must be at most 2"),
        ("streams", {"ttft": 1}, "ttft = 1: must be a table; write [ttft] with its keys below it"),
        ("streams", {"itl_a.x": 1}, "itl_a: is a value, not a table; remove what follows it"),
        (
            "streams",
            {"concurrency_cap": True},
            "concurrency_cap = true: must be a whole number",
        ),
        ("streams", {"concurrency_cap": "4"}, "concurrency_cap = '4': must be a whole number"),
        ("streams", {"ttft.sigma": True}, "ttft.sigma = true: must be a number"),
        ("streams", {"concurrency_cap": 0}, "concurrency_cap = 0: must be at least 1"),
        ("streams", {"tokens_per_chunk": 1.5}, "tokens_per_chunk = 1.5: must be a whole number"),
        ("streams", {"answer_tokens.median": 0}, "answer_tokens.median = 0: must be at least 1"),
        (
            "streams",
            {"retry_after": "soon"},
            'retry_after = \'soon\': must be a duration, such as "500ms", "1.2s" or "2m", '
            "or a number of seconds",
        ),
        (
            "streams",
            {"retry_after": -1},
            'retry_after = -1: must be a duration greater than 0 and at most "24h", or "exact"',
        ),
        (
            "streams",
            {"itl_points": [{"requests": 1, "itl": 1}, {"requests": 2, "itl": 1}]},
            "itl_a: cannot be combined with itl_points; remove one of the two",
        ),
        (
            "streams",
            {"itl_points": [{"requests": 1, "itl": 1}]},
            "itl_points = [{'requests': 1, 'itl': 1}]: at least two points are required; add one",
        ),
        (
            "streams",
            {"itl_points": [{"requests": 2, "itl": 1}, {"requests": 1, "itl": 1}]},
            "itl_points = [{'requests': 2, 'itl': 1}, {'requests': 1, 'itl': 1}]: "
            "`requests` must increase from point to point; sort them",
        ),
        (
            "streams",
            {"itl_points": [{"request": 2}]},
            "itl_points[0].request: unknown key (did you mean 'requests'?); known here: "
            "itl, requests",
        ),
        (
            "streams",
            {"cap_steps": [{"at": 2, "cap": 1}, {"at": 2, "cap": 2}]},
            "cap_steps = [{'at': 2, 'cap': 1}, {'at': 2, 'cap': 2}]: `at` must increase "
            "from step to step; sort them",
        ),
        ("streams", {"requests_per_minute": 0}, "requests_per_minute = 0: must be at least 1"),
        (
            "streams",
            {"faults": [{"kind": "unavailble", "probability": 1}]},
            "faults[0].kind = 'unavailble': unknown fault (did you mean 'unavailable'?); "
            "use one of: bad_gateway, bad_request, blank_",
        ),
        (
            "streams",
            {"faults": [{"kind": "silent"}]},
            "faults[0] = {'kind': 'silent'}: must say when; add probability = 0.1, or "
            "arrivals = 1, or a burst, or an outage",
        ),
        (
            "streams",
            {"name": "a b"},
            "name = 'a b': must have at most 64 letters, digits, '.' and '-', and begin with a ",
        ),
        ("streams", {"date": "soon"}, "date = 'soon': must be a date, such as 2026-01-31"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(
    name: str, overrides: Mapping[str, object], said: str
) -> None:
    with pytest.raises(InputError) as caught:
        load_profile(name, overrides)
    text = str(caught.value)
    assert text.startswith(f"profile {name}: ")
    assert said in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"name = ", "invalid TOML"),
        (b"\xff", "cannot be read"),
        (b'name = "x"', "description: missing; add it"),
    ],
)
def test_a_file_that_is_no_profile_is_said_in_one_line(
    tmp_path: Path, content: bytes, said: str
) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=said) as caught:
        load_profile(str(path))
    assert "\n" not in str(caught.value)


def test_a_name_with_a_line_break_is_said_in_one_line() -> None:
    with pytest.raises(InputError, match=r"^profile no such: no such profile; use one of .*\Z"):
        load_profile("no\nsuch")


@given(st.text(max_size=8), st.none() | st.text(max_size=8) | st.floats() | st.booleans())
def test_no_override_whatever_breaks_the_rule_of_one_line(key: str, value: object) -> None:
    try:
        load_profile("streams", {key: value})
    except InputError as error:
        assert "\n" not in str(error)  # noqa: PT017 - valid overrides are no error


GROWS = {"growth": [{"requests": 2, "factor": 1}, {"requests": 10, "factor": 3}]}


def test_the_time_to_first_token_grows_along_lines_and_never_falls_beyond_the_last_point() -> None:
    ttft = load_profile("streams", {"ttft": GROWS}).ttft
    assert [ttft.factor(n, 99) for n in (1, 2, 6, 10, 14)] == [1, 1, 2, 3, 4]
    falls = {"growth": [{"requests": 2, "factor": 3}, {"requests": 4, "factor": 1}]}
    ttft = load_profile("streams", {"ttft": falls}).ttft
    assert [ttft.factor(n, 99) for n in (1, 3, 9)] == [3, 2, 1]
    assert load_profile("streams").ttft.factor(99, 99) == 1
    both = load_profile("streams", {"ttft": GROWS | {"growth_in_service": GROWS["growth"]}}).ttft
    assert [both.factor(6, n) for n in (2, 6, 10)] == [2, 4, 6]


def test_a_profile_without_growth_is_written_as_before() -> None:
    assert "cached_share" not in load_profile("streams").as_dict()
    assert load_profile("streams", {"cached_share": 0.5}).as_dict()["cached_share"] == 0.5
    plain = load_profile("streams").as_dict()
    assert plain["ttft"].keys() == {"median", "sigma", "per_1k_input_tokens"}
    assert not any("per_1k" in key for key in plain)
    costs = {"itl_per_1k_context": "40us", "prefill_per_1k_input_tokens": "13ms"}
    grows = load_profile("streams", {"ttft": GROWS, **costs})
    assert Profile.model_validate(json.loads(json.dumps(grows.as_dict()))) == grows


@pytest.mark.parametrize("points", [[(1, 1)], [(4, 1), (2, 3)]])
def test_points_of_growth_are_two_or_more_in_order(points: list[tuple[int, int]]) -> None:
    growth = [{"requests": n, "factor": factor} for n, factor in points]
    with pytest.raises(InputError, match=r"ttft\.growth = .*(two points|sort them)"):
        load_profile("streams", {"ttft.growth": growth})
    with pytest.raises(InputError, match=r"ttft\.growth_in_service = .*(two points|sort them)"):
        load_profile("streams", {"ttft.growth_in_service": growth})
