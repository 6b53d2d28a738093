"""The lines of a recommendation do what was measured; a small `benchmarks.pasted`."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.pasted import MIXES, MUTANTS, Mutant, rejected, try_mix, try_mutant

EXACT = {"success", "attempts"}
"""The clock does not decide them."""


@pytest.mark.parametrize(
    ("mix", "kinds", "clients"),
    [
        ("blank and HTML", ("full", "budget"), {"harness"}),
        ("503 without stream", ("equal", "openai-sdk"), {"openai", "harness"}),
    ],
)
def test_the_lines_do_what_was_measured(
    mix: str, kinds: tuple[str, ...], clients: set[str], tmp_path: Path
) -> None:
    tests, made = try_mix(MIXES[mix], 40, kinds, tmp_path)
    assert set(made.values()) == clients
    assert rejected([one for one in tests if one.figure in EXACT]) == []


RULES = ("retries of hidden failures", "retries of broken streams")


@pytest.mark.parametrize(
    "mutant", [one for one in MUTANTS if one.rule in RULES], ids=lambda mutant: mutant.rule
)
def test_lines_without_one_rule_are_noticed(mutant: Mutant, tmp_path: Path) -> None:
    tests = try_mutant(mutant, 120, tmp_path)
    assert rejected([one for one in tests if one.figure in EXACT])
