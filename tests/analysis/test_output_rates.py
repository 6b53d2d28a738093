"""Output tokens in time, on attempts whose times are written by hand."""

from __future__ import annotations

from typing import Any

import pytest

from harness.analysis.output_rates import rate_while_full, seconds_a_token, sent_tokens
from harness.records.clock import SECOND
from harness.records.schema import Tokens
from harness.store.column_values import Words
from harness.store.columns import AttemptTable
from tests.analysis.builders import make_attempt


def table(*fields: dict[str, Any]) -> AttemptTable:
    times = ("permit_granted", "first_answer", "first_reasoning", "last_token", "done")
    return AttemptTable.of(
        [
            make_attempt(
                workflow=number,
                **{name: round(value * SECOND) if name in times and value is not None
                   else value
                   for name, value in one.items()},
            )
            for number, one in enumerate(fields)
        ],
        Words(),
    )  # fmt: skip


def response(start: float, first: float, last: float, tokens: int, **more: Any) -> dict[str, Any]:
    return {
        "permit_granted": start, "first_answer": first, "last_token": last, "done": last,
        "first_reasoning": None, "chunks": 11, "tokens": Tokens(input=1, output=tokens), **more,
    }  # fmt: skip


def test_a_chunk_of_several_tokens_does_not_make_a_token_slower() -> None:
    single, double = response(0, 1, 2, 11), response(0, 1, 2, 22)
    values, known = seconds_a_token(table(single, double))
    assert known.all()
    assert values.tolist() == pytest.approx([0.1, 0.05])


def test_a_response_of_one_chunk_or_without_usage_has_no_time_a_token() -> None:
    one = response(0, 1, 1, 5) | {"chunks": 1}
    silent = response(0, 1, 2, 0) | {"tokens": Tokens()}
    failed = response(0, 1, 2, 11, outcome="truncated")
    assert not seconds_a_token(table(one, silent, failed))[1].any()


def test_reasoning_that_was_not_sent_as_text_is_not_counted() -> None:
    thought = {"tokens": Tokens(input=1, output=30, reasoning=20)}
    shown = response(0, 1, 2, 0) | thought | {"first_reasoning": 1, "first_answer": 1.5}
    assert sent_tokens(table(response(0, 1, 2, 0) | thought, shown)).tolist() == [10, 30]


def test_the_rate_with_all_permits_in_use_counts_the_tokens_of_that_time_alone() -> None:
    attempts = table(response(0, 0, 10, 100), response(5, 5, 15, 100))
    assert rate_while_full(attempts, 1) == pytest.approx(200 / 15)
    assert rate_while_full(attempts, 2) == pytest.approx((50 + 50) / 5)
    assert rate_while_full(attempts, 3) is None


def test_a_permit_is_given_back_before_the_next_attempt_has_it() -> None:
    attempts = table(response(0, 0, 10, 100), response(10, 10, 20, 50))
    assert rate_while_full(attempts, 2) is None
    assert rate_while_full(attempts, 1) == pytest.approx(7.5)
