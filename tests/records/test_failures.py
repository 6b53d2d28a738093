"""The table of failures, and the exceptions that end a command."""

from __future__ import annotations

import pytest

from harness.records import errors
from harness.records.failures import (
    FAILURES,
    OK,
    is_failure,
    is_retryable,
    of_status,
)

RETRY = [408, 409, 429, 500, 502, 503, 504, 529]
DO_NOT_RETRY = [400, 401, 402, 403, 404, 405, 413, 422, 451, 301, 304]


@pytest.mark.parametrize("status", RETRY)
def test_statuses_that_may_pass_are_worth_another_try(status: int) -> None:
    assert is_retryable(of_status(status))


@pytest.mark.parametrize("status", DO_NOT_RETRY)
def test_statuses_that_stay_are_not(status: int) -> None:
    assert not is_retryable(of_status(status))


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, OK),
        (204, OK),
        (302, "http_error"),
        (401, "unauthorized"),
        (402, "insufficient_balance"),
        (418, "http_error"),
        (429, "rate_limited"),
        (500, "server_error"),
        (503, "unavailable"),
        (529, "server_error"),
    ],
)
def test_a_status_has_its_class(status: int, outcome: str) -> None:
    assert of_status(status) == outcome


def test_every_status_is_fine_or_a_failure_of_the_table() -> None:
    for status in range(200, 600):
        assert (of_status(status) == OK) == (status < 300)
        assert of_status(status) == OK or of_status(status) in FAILURES


def test_every_failure_says_what_it_looks_like_and_what_can_be_done() -> None:
    assert OK not in FAILURES
    for name, row in FAILURES.items():
        assert name == row.name
        assert name.replace("_", "").isalpha()
        assert row.seen
        assert row.advice


def test_what_the_deadlines_end_is_not_tried_again() -> None:
    assert not is_retryable("call_timeout")
    assert not is_retryable("workflow_timeout")
    assert is_retryable("first_token_timeout")
    assert is_retryable("idle_timeout")


def test_the_exit_codes_are_those_that_the_tree_of_exceptions_shows() -> None:
    assert errors.__doc__ is not None
    for line in errors.__doc__.splitlines():
        name, _, rest = line.lstrip("├└─ ").partition(" ")
        if name.endswith("Error"):
            assert getattr(errors, name).exit_code == int(rest.split()[0])
            assert issubclass(getattr(errors, name), errors.HarnessError)


@pytest.mark.parametrize("outcome", [OK, *FAILURES])
def test_every_outcome_but_success_and_cancellation_is_a_failure(outcome: str) -> None:
    assert is_failure(outcome) == (outcome not in ("ok", "cancelled"))
