"""The lines of a recommendation do what was measured; a small `benchmarks.pasted`."""

from __future__ import annotations

import pytest

from benchmarks.pasted import Difference, rejected, try_case, try_mutant
from benchmarks.pasted_mixes import CASES, MUTANTS, Case, Mutant
from harness.bench.scenario_file import parse_scenario


def patient(case: Case) -> Case:
    """Return the case with timeouts that a slow machine does not reach."""
    return case._replace(first_token="10m", idle="10m", deadline="1h")


def exact(tests: list[Difference]) -> list[Difference]:
    """Return the tests of figures that the clock does not decide."""
    return [one for one in tests if one.figure in ("success", "attempts")]


@pytest.mark.parametrize(
    ("case", "clients"),
    [
        (Case("blank and HTML", ("full", "budget"), calls=40), {"harness"}),
        (Case("503 without stream", ("equal", "openai-sdk"), calls=40), {"openai", "harness"}),
        (Case("error in stream", ("fixed",), "threads", "call", calls=20), {"harness"}),
        (Case("503 without stream", ("fixed",), "sync", calls=10), {"openai"}),
    ],
    ids=["async", "without stream", "threads", "sync"],
)
def test_the_lines_do_what_was_measured(case: Case, clients: set[str]) -> None:
    tests, made = try_case("", patient(case))
    assert set(made.values()) == clients
    assert rejected(exact(tests)) == []
    different = {one.kind for one in exact(tests) if one.measured != one.pasted}
    assert different <= {"budget"}, "all others do not depend on the order in which calls end"


@pytest.mark.parametrize("case", [*CASES.values(), *(one.case for one in MUTANTS)])
def test_every_scenario_of_the_benchmark_is_valid(case: Case) -> None:
    assert parse_scenario(case.scenario(), "pasted").load.workflows == case.calls


RULES = ("retries of hidden failures", "retries of broken streams")


@pytest.mark.parametrize(
    "mutant", [one for one in MUTANTS if one.rule in RULES], ids=lambda mutant: mutant.rule
)
def test_lines_without_one_rule_are_noticed(mutant: Mutant) -> None:
    found = try_mutant(mutant._replace(case=patient(mutant.case)))
    assert rejected(exact(found.tests))
