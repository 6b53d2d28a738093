"""The headers of limits say when one is reset; what they say is a hint and can never raise."""

from __future__ import annotations

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.transports.rate_limits import rate_limit_reset

NOW = 1_800_000_000.0
"""2027-01-15 08:00:00 UTC."""


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"x-ratelimit-reset-requests": "1s"}, 1),
        ({"X-RateLimit-Reset-Tokens": "6m0s"}, 360),
        ({"x-ratelimit-reset-tokens": "1h2m3.5s"}, 3723.5),
        ({"x-ratelimit-reset-requests": "120ms"}, 0.12),
        ({"x-ratelimit-reset-requests": "7"}, 7),
        ({"x-ratelimit-reset": "1800000005"}, 5),
        ({"x-ratelimit-reset": "1800000005000"}, 5),
        ({"x-ratelimit-reset": "2027-01-15T08:00:30Z"}, 30),
        ({"ratelimit-reset": "9"}, 9),
        ({"ratelimit": "limit=100, remaining=0, reset=50"}, 50),
        ({"ratelimit": '"default";r=0;t=30'}, 30),
        ({"ratelimit": '"burst";r=0;t=3, "day";r=80;t=9000'}, 3),
        (
            {
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "20s",
                "x-ratelimit-remaining-tokens": "500",
                "x-ratelimit-reset-tokens": "1s",
            },
            20,
        ),
        ({"x-ratelimit-reset-requests": "20s", "x-ratelimit-reset-tokens": "1s"}, 1),
        ({"x-ratelimit-reset-requests": "0"}, None),
        ({"x-ratelimit-reset": "1700000000"}, None),
        ({"x-ratelimit-reset": "soon"}, None),
        ({"x-ratelimit-reset": "1s soon"}, None),
        ({"x-ratelimit-reset": "inf"}, None),
        ({"x-ratelimit-reset": "9" * 400}, None),
        ({"ratelimit": "x"}, None),
    ],
)
def test_the_reset_of_a_limit_is_read(headers: dict[str, str], seconds: float | None) -> None:
    found = rate_limit_reset(429, httpx2.Headers(headers), NOW)
    assert found == (None if seconds is None else pytest.approx(seconds * 1e9))
    assert rate_limit_reset(200, httpx2.Headers(headers), NOW) is None


@given(st.text(), st.sampled_from(["ratelimit", "x-ratelimit-reset", "ratelimit-reset"]))
def test_no_value_raises(value: str, name: str) -> None:
    found = rate_limit_reset(429, {name: value}, NOW)
    assert found is None or found > 0
