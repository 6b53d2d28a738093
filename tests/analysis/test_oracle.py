"""Client and provider are held against each other, attempt by attempt."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from harness.analysis.oracle import Joined, agree, compare_logs, disagreements, join
from harness.records.failures import FAILURES
from harness.records.provider_log import Served
from harness.records.schema import Tokens
from harness.store.run_directory import Records
from tests.analysis.builders import MS, make_run
from tests.analysis.played import PROVIDER_IS_LATER, Shape, make_records


def played(**shape: float) -> Records:
    return make_records(["async_4_full-jitter_attempt"], 1, shape=Shape(**shape))  # type: ignore[arg-type]


def log_of(records: Records) -> list[Served]:
    assert records.provider is not None
    return records.provider[1]


def joined(records: Records) -> Joined:
    both = join(records)
    assert both is not None
    return both


def test_every_attempt_finds_its_line_and_agrees_with_it() -> None:
    records = played(failure_rate=0.3)
    oracle = compare_logs(joined(records))
    assert oracle.attempts == len(records.attempts)
    assert (oracle.unmatched, oracle.outcome_mismatches, oracle.token_mismatches) == (0, 0, 0)
    assert oracle.inter_token_p50_s == 0


def test_clocks_are_laid_over_each_other_by_their_anchors() -> None:
    both = joined(played(wire_ms=0.25))
    assert both.shift == PROVIDER_IS_LATER
    first_text = compare_logs(both).first_text_s
    assert first_text is not None
    assert (first_text.p50, first_text.p99) == pytest.approx((0.00025, 0.00025))


def test_a_run_without_a_provider_log_has_no_oracle() -> None:
    assert join(Records(make_run(simulated=False), [], [], [], [], None)) is None


def test_what_stands_on_one_side_only_is_counted() -> None:
    records = played()
    log = log_of(records)
    log[0] = replace(log[0], span_id=None)  # nobody's request, and an attempt without a line
    log.append(replace(log[1], span_id="feedfeedfeedfeed"))
    both = joined(records)
    assert both.unmatched == 3
    assert len(both.pairs) == len(records.attempts) - 1


def test_an_attempt_that_was_never_sent_needs_no_line() -> None:
    records = played()
    log_of(records).pop(0)
    assert isinstance(records.attempts, list)
    records.attempts[0] = replace(records.attempts[0], sent=None, outcome="connect_failed")
    assert joined(records).unmatched == 0


def test_differences_in_outcome_and_tokens_are_counted() -> None:
    records = played()
    log = log_of(records)
    log[0] = replace(log[0], outcome="unavailable")
    log[1] = replace(log[1], tokens=Tokens(input=20, cached=4, output=41, reasoning=20))
    assert isinstance(records.attempts, list)
    records.attempts[2] = replace(records.attempts[2], tokens=Tokens())  # it read none
    oracle = compare_logs(joined(records))
    assert (oracle.outcome_mismatches, oracle.token_mismatches) == (1, 1)


def test_a_client_that_sees_wider_gaps_shows_in_the_medians() -> None:
    records = played()
    wide = [replace(attempt, gaps={20 * MS: 5}) for attempt in records.attempts]
    log = [replace(served, gaps={10 * MS: 5}) for served in log_of(records)]
    assert records.provider is not None
    apart = compare_logs(
        joined(records._replace(attempts=wide, provider=(records.provider[0], log)))
    )
    assert apart.inter_token_p50_s == pytest.approx(0.010, rel=0.02)


def test_disagreements_are_kept_by_cell_and_leave_silent_attempts_out() -> None:
    records = make_records(
        ["async_2_none_attempt", "sync_1_none_attempt"], 1, shape=Shape(failure_rate=0.3)
    )
    spoke = [each.cell for each in records.attempts if each.first_text is not None]
    found = disagreements(joined(records))
    assert {cell: len(apart) for cell, apart in found.items()} == {
        cell: spoke.count(cell) for cell in set(spoke)
    }
    assert len(spoke) < len(records.attempts)


@pytest.mark.parametrize(
    ("client", "provider", "same"),
    [
        ("ok", "ok", True),
        ("ok", "unavailable", False),
        ("unavailable", "ok", False),
        ("rate_limited", "rate_limited", True),
        ("rate_limited", "unavailable", False),
        ("idle_timeout", "client_closed", True),
        ("first_token_timeout", "client_closed", True),
        ("workflow_timeout", "client_closed", True),
        ("cancelled", "client_closed", True),
        ("cancelled", "ok", True),
        ("cancelled", "rate_limited", True),
        ("ok", "client_closed", False),
        ("connection_lost", "client_closed", False),
        ("idle_timeout", "ok", False),
        ("truncated", "ok", True),
        ("empty_answer", "ok", True),
        ("connection_lost", "ok", False),
    ],
)
def test_outcomes_agree_when_one_is_what_the_other_looks_like(
    client: str, provider: str, same: bool
) -> None:
    assert {client, provider} <= {"ok", "client_closed", *FAILURES}
    assert agree(client, provider) is same
