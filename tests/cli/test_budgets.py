"""Budgets from the command line: which can be kept, and what happens when one is used up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.cli.main import main
from harness.engine.budget_gate import Gate
from harness.engine.ledger import BudgetLimits
from harness.store.run_directory import read_records
from tests.cli.answering import FAST, one_line, scenario, working

pytestmark = pytest.mark.usefixtures("elsewhere")


# The budget.


@pytest.mark.parametrize(
    ("budget", "named", "mode"),
    [
        ({"usd": 0.1}, "budget.usd = 0.1", "sync"),
        ({"usd": 0.1}, "budget.usd = 0.1", "threads"),
        ({"usd": 0.1}, "budget.usd = 0.1", "async"),
        ({"attempts": 27}, "budget.attempts = 27", "async"),
        ({"tokens": 60_000}, "budget.tokens = 60000", "async"),
    ],
)
def test_a_budget_stops_the_run_with_what_there_is_saved_and_shown(
    elsewhere: Path,
    capsys: pytest.CaptureFixture[str],
    budget: dict[str, float],
    named: str,
    mode: str,
) -> None:
    with working(elsewhere) as base_url:
        file = scenario(
            elsewhere, base_url, budget=budget, sweep={"mode": [mode], "permits": [4], "repeats": 9}
        )
        assert main(["run", str(file), "--out", "out"]) == 3
    told = capsys.readouterr()
    last = told.err.splitlines()[-1]
    assert last.startswith(f"harness: stopped: {named}")
    assert "spent" in last
    records = read_records(elsewhere / "out")
    assert records.run.status == "partial"
    assert (elsewhere / "out" / "summary.json").exists()
    assert list((elsewhere / "out" / "plots").iterdir())
    done = [attempt for attempt in records.attempts if attempt.outcome == "ok"]
    assert len(done) == len(records.attempts) == len(records.calls) > 0
    read = sum(attempt.tokens.input or 0 for attempt in done)
    written = sum(attempt.tokens.output or 0 for attempt in done)
    assert len(done) <= budget.get("attempts", 10**9)
    assert read + written <= budget.get("tokens", 10**9)
    assert read * 1e-6 + written * 2e-6 <= budget.get("usd", 10**9)
    assert records.run.price is not None
    assert records.run.price["output"] == 2.0


def test_repeats_are_added_in_real_time_until_a_budget_ends_the_run(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = {"mode": ["async"], "permits": [2, 4], "repeats": "auto", "max_repeats": 9}
    with working(elsewhere) as base_url:
        file = scenario(elsewhere, base_url, sweep=sweep, budget={"attempts": 9 * 20})
        assert main(["run", str(file), "--out", "out"]) == 3
        told = capsys.readouterr()
        assert "block 1 of at most 9, 2 of 2 settings left: async" in told.err
        summary = json.loads((elsewhere / "out" / "summary.json").read_bytes())
        assert "ended early, in repeat 5 of 9." in " ".join(summary["recommendation"]["because"])
        assert main(["run", "--resume", "out", "--set", "budget.attempts=1000", "--quiet"]) == 0
    records = read_records(elsewhere / "out")
    assert records.run.status == "complete"
    whole = [trial for trial in records.trials if not trial.interrupted]
    assert len({(trial.cell, trial.repeat) for trial in whole}) == len(whole) >= 10


def test_a_budget_that_is_enough_stops_nothing(elsewhere: Path) -> None:
    with working(elsewhere) as base_url:
        file = scenario(elsewhere, base_url, budget={"attempts": 20})
        assert main(["run", str(file), "--out", "out", "--quiet"]) == 0
    assert read_records(elsewhere / "out").run.stopped is None


def test_no_budget_pays_for_the_start_of_the_provider(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a small scale its start would take more scenario seconds than the whole run."""
    limits: list[BudgetLimits] = []

    def gate(first: BudgetLimits, *others: Any, **more: Any) -> Gate:
        limits.append(first)
        return Gate(first, *others, **more)

    monkeypatch.setattr("harness.bench.runner.Gate", gate)
    endpoint = {"override": FAST, "time_scale": 0.001}
    file = scenario(elsewhere, "", endpoint=endpoint, budget={"seconds": 86400.0})
    assert main(["run", str(file), "--out", "out", "--quiet"]) == 0
    (limit,) = limits
    assert limit.seconds is not None
    assert limit.seconds > 86.4 + 0.01, "no process starts in a hundredth of a second"


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        (
            {"budget": {"usd": 1.0}, "workflow": {"topics": ["t"], "max_tokens": {"research": 5}}},
            "give workflow.max_tokens for: decompose, synthesize",
        ),
        (
            {"budget": {"tokens": 5}, "workflow": {"topics": ["t"]}},
            "give workflow.max_tokens for: decompose, research, synthesize",
        ),
        ({"budget": {"usd": 1.0}, "price": None}, "give [endpoint.price]"),
        ({"budget": {"usd": 1.0}, "extra_body": {"n": 2}}, "with n in extra_body"),
        (
            {"budget": {"usd": 1.0}, "extra_body": {"max_completion_tokens": 9}},
            "with max_completion_tokens in extra_body",
        ),
        ({"budget": {"usd": 0.0}}, "budget.usd = 0.0"),
        ({"budget": {"attempts": 0}}, "budget.attempts = 0"),
        ({"budget": {"euros": 1}}, "budget.euros: unknown key"),
        (
            {"objective": {"minimise": "cost_per_successful_workflow"}, "price": None},
            "requires a known price; give [endpoint.price]",
        ),
    ],
)  # fmt: skip
def test_a_budget_that_cannot_be_kept_is_refused_in_one_line(
    elsewhere: Path, capsys: pytest.CaptureFixture[str], sections: dict[str, object], said: str
) -> None:
    endpoint: dict[str, object] = {
        "kind": "openai",
        "base_url": "https://api.test/v1",
        "model": "m",
        "price": {"input": 1.0, "output": 2.0},
    }
    if "price" in sections:
        del endpoint["price"]
    if "extra_body" in sections:
        endpoint["extra_body"] = sections["extra_body"]
    rest = {key: value for key, value in sections.items() if key not in ("price", "extra_body")}
    file = scenario(elsewhere, "https://api.test/v1", endpoint=endpoint, **rest)
    assert main(["run", str(file), "--dry-run"]) == 2
    assert said in one_line(capsys.readouterr().err)
