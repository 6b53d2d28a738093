"""Budgets in virtual time: they are used up, never exceeded, and a run is the same each time."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.records.clock import SECOND
from harness.records.failures import OK
from harness.store.run_directory import (
    ATTEMPTS_FILE,
    CALLS_FILE,
    SPENDING_FILE,
    WORKFLOWS_FILE,
    read_records,
    read_spent,
)
from tests.virtual.test_sweeps import play

SCENARIO = """
name = "spending"
seed = 5
[workflow]
topics = ["tides", "seed banks"]
sub_questions = 6
max_tokens = { decompose = 2000, research = 2000, synthesize = 2000 }
[endpoint]
profile = "deepseek-reasoner"
time = "virtual"
price = { input = 0.3, output = 1.2 }
FAULTS
[load]
workflows = 400
in_flight = 400
[sweep]
mode = ["MODE"]
permits = [256]
retry = ["KIND"]
[retry.hedged]
kind = "stack"
layers = ["late", "none"]
[retry.late]
kind = "hedge"
after = "5s"
ratio = 1.0
[budget]
LIMIT
"""
STALLED = """
[[endpoint.faults]]
kind = "connect_timeout"
outage = { start = "20s", duration = "80s" }
"""


def scenario(
    folder: Path, limit: str, mode: str = "async", kind: str = "none", faults: str = ""
) -> Path:
    path = folder / "spending.toml"
    text = SCENARIO.replace("LIMIT", limit).replace("MODE", mode).replace("FAULTS", faults)
    path.write_text(text.replace("KIND", kind))
    return path


@pytest.mark.parametrize(
    ("mode", "kind"), [("async", "none"), ("async", "hedged"), ("sync", "none")]
)
@pytest.mark.parametrize(
    ("limit", "most"), [("tokens = 200_000", 200_000), ("usd = 0.1", 100_000_000)]
)
def test_256_permits_use_up_a_budget_of_tokens_or_money(
    tmp_path: Path, limit: str, most: int, mode: str, kind: str
) -> None:
    run = play(scenario(tmp_path, limit, mode, kind), "run")
    records, spent = read_records(run), read_spent(run)
    assert records.run.stopped is not None
    assert records.run.stopped.by == "budget"
    assert spent is not None
    used = spent.tokens if "tokens" in limit else spent.nano_usd
    assert 0.9 * most <= used <= most
    sent = [one for one in records.attempts if one.sent is not None]
    assert spent.attempts == len(sent)
    known = [one.tokens for one in sent if one.tokens.output is not None]
    if len(known) == len(sent):
        assert spent.tokens == sum((one.input or 0) + (one.output or 0) for one in known)
    if mode == "async":
        waits = [one.permit_granted - one.permit_requested for one in sent]
        assert max(waits) > 5 * SECOND, "some wait for the budget, while permits are free"
        assert all(one.client_wait == 0 for one in sent)


def test_two_runs_with_a_budget_are_the_same_bytes(tmp_path: Path) -> None:
    runs = [play(scenario(tmp_path, "tokens = 80_000"), name) for name in ("one", "other")]
    for name in (ATTEMPTS_FILE, CALLS_FILE, WORKFLOWS_FILE, SPENDING_FILE):
        one, other = ((run / name).read_bytes() for run in runs)
        assert one == other


def test_no_call_fails_because_it_waits_for_the_budget(tmp_path: Path) -> None:
    run = play(scenario(tmp_path, "tokens = 80_000\n[timeouts]\ncall = '40s'"), "run")
    records = read_records(run)
    assert {attempt.outcome for attempt in records.attempts} == {OK}
    assert max(call.done - call.ready for call in records.calls) > 40 * SECOND


@pytest.mark.parametrize("mode", ["async", "sync"])
def test_what_connects_only_after_the_seconds_of_the_budget_is_not_sent(
    tmp_path: Path, mode: str
) -> None:
    limits = "seconds = 50\n[timeouts]\nconnect = '1h'\ncall = '1h'"
    records = read_records(play(scenario(tmp_path, limits, mode, faults=STALLED), "run"))
    assert records.run.stopped is not None
    assert "budget.seconds" in records.run.stopped.because
    assert records.attempts
    assert all(one.sent is not None for one in records.attempts)
    assert max(one.sent or 0 for one in records.attempts) < 50 * SECOND
