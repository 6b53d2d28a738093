"""Where prompts and answers go, by the standard variable."""

from __future__ import annotations

import pytest

from harness.records.errors import InputError
from harness.telemetry.content import CAPTURE_VARIABLE, LIMIT, Capture, capture


@pytest.mark.parametrize(
    ("value", "places"),
    [
        ("", None),
        ("false", None),
        ("NO_CONTENT", None),
        ("true", (True, False)),
        (" True ", (True, False)),
        ("SPAN_ONLY", (True, False)),
        ("event_only", (False, True)),
        ("Span_And_Event", (True, True)),
    ],
)
def test_the_variable_says_where_content_goes(value: str, places: tuple[bool, bool] | None) -> None:
    wanted = capture({CAPTURE_VARIABLE: value})
    assert wanted == (None if places is None else Capture(*places, LIMIT))


@pytest.mark.parametrize("value", ["yes", "1", "span", "all"])
def test_another_value_is_refused_in_one_line(value: str) -> None:
    with pytest.raises(InputError, match=f"^{CAPTURE_VARIABLE}: ") as refused:
        capture({CAPTURE_VARIABLE: value})
    assert "span_only" in str(refused.value)
