"""What broke off before its usage came was received all the same."""

from __future__ import annotations

from harness.analysis.token_estimates import received_output
from harness.records.schema import Attempt, Tokens
from harness.store.column_values import Words
from harness.store.columns import AttemptTable
from tests.analysis.builders import make_attempt

WHOLE = make_attempt(chunks=10, tokens=Tokens(input=7, output=40, reasoning=5))
CUT = make_attempt(outcome="connection_lost", chunks=3, tokens=Tokens())


def estimated(*attempts: Attempt) -> list[Attempt]:
    return list(received_output(AttemptTable.of(attempts, Words())))


def test_the_output_of_a_response_that_broke_off_is_reckoned_from_its_chunks() -> None:
    whole, cut = estimated(WHOLE, CUT)
    assert whole == WHOLE
    assert cut.tokens == Tokens(output=12)


def test_what_was_reported_stands() -> None:
    truncated = make_attempt(outcome="truncated", chunks=3, tokens=Tokens(input=1, output=2))
    refused = make_attempt(outcome="rate_limited", chunks=0, tokens=Tokens())
    silent = make_attempt(chunks=3, tokens=Tokens())
    attempts = [WHOLE, truncated, refused, silent]
    assert estimated(*attempts) == attempts


def test_nothing_is_made_up_where_no_whole_response_says_what_a_chunk_holds() -> None:
    silent = make_attempt(chunks=10, tokens=Tokens())
    assert estimated(silent, CUT) == [silent, CUT]
