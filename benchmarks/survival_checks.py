"""What must hold for a run after each session, and at its end; see `benchmarks.survival`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from harness.analysis.selection import Dataset
from harness.analysis.summary import summarise
from harness.bench.cells import expand
from harness.bench.scenario import Scenario
from harness.records.schema import Attempt, Call, Trial, Workflow
from harness.store import run_directory
from harness.store.run_directory import FILES, each, read_records, read_spent


def lines_of(run: Path) -> dict[str, list[bytes]]:
    """Return the whole lines of each file of records."""
    found = {}
    for name in FILES.values():
        if (run / name).exists():
            lines = (run / name).read_bytes().splitlines(keepends=True)
            found[name] = [line for line in lines if line.endswith(b"\n")]
    return found


def check(run: Path, scenario: Scenario, before: dict[str, list[bytes]]) -> None:
    """Check that nothing is lost or doubled, and that no budget is exceeded."""
    after = lines_of(run)
    for name, lines in before.items():
        assert after[name][: len(lines)] == lines, f"{name}: what had been written stays"
    records = read_records(run)
    Dataset.read(run).cells  # noqa: B018 - must be possible
    attempts = Counter((*one.call_key, one.attempt) for one in records.attempts)
    calls = Counter(one.call_key for one in records.calls)
    for counted in (attempts, calls):
        assert counted == dict.fromkeys(counted, 1), "each record has a key of its own"
    tried = Counter(one.call_key for one in records.attempts)
    of_workflow = Counter(one.call_key[:4] for one in records.calls)
    ended = Counter[tuple[str, int, int]]()
    for one in records.workflows:
        if one.outcome != "cancelled":
            ended[one.cell, one.repeat, one.workflow] += 1
            key = (one.cell, one.repeat, one.workflow, one.execution)
            assert of_workflow[key] > 0, "a workflow has its calls"
    for call in records.calls:
        assert tried[call.call_key] == call.attempts, "a call has its attempts"
    assert ended == dict.fromkeys(ended, 1), "no workflow ends twice"
    check_budget(run, records.attempts)
    if records.run.status == "complete":
        planned = len(expand(scenario)) * scenario.sweep.most_repeats * scenario.load.workflows
        assert len(ended) == planned, "no workflow is lost"


def check_budget(run: Path, attempts: Iterable[Attempt]) -> None:
    """Check that what was booked covers what is recorded, and is within the limits."""
    budget, spent = run_directory.read_run(run).scenario["budget"], read_spent(run)
    if spent is None:
        return
    sent = [one for one in attempts if one.sent is not None]
    assert len(sent) <= spent.attempts, "each recorded attempt is booked"
    assert spent.attempts <= (budget.get("attempts") or spent.attempts)
    assert spent.tokens <= (budget.get("tokens") or spent.tokens)
    assert spent.nano_usd <= (budget.get("usd") or 10**9) * 1e9


def check_end(run: Path, whole: Path, *, is_plain: bool) -> bool:
    """Compare a complete run with one that was not interrupted; return whether by its summary.

    `is_plain`: the policy draws no jitter.
    """
    one, other = read_records(run), read_records(whole)
    assert topics(one.workflows) == topics(other.workflows), "the same workflows ended"
    if not is_plain or any_trial_was_cut(run):
        return False
    found, expected = comparable(run), comparable(whole)
    differing = [key for key in expected if found[key] != expected[key]]
    assert found == expected, f"the summary is the same; differs in {differing}"
    return True


def topics(workflows: Iterable[Workflow]) -> set[tuple[str, int, int, str]]:
    """Return which workflows have ended."""
    return {
        (one.cell, one.repeat, one.workflow, one.topic)
        for one in workflows
        if one.outcome != "cancelled"
    }


def any_trial_was_cut(run: Path) -> bool:
    """Return whether a trial has records of two sessions, or was ended early."""
    executions: dict[tuple[str, int], set[int]] = {}
    kinds: tuple[type[Attempt | Call | Workflow | Trial], ...] = (Attempt, Call, Workflow, Trial)
    for kind in kinds:
        for record in each(run, kind):
            executions.setdefault((record.cell, record.repeat), set()).add(record.execution)
    return any(len(found) > 1 for found in executions.values()) or any(
        trial.interrupted for trial in each(run, Trial)
    )


def comparable(run: Path) -> dict[str, Any]:
    """Return the summary of a run without what names the run."""
    found: dict[str, Any] = msgspec.to_builtins(summarise(Dataset.read(run)))
    return {key: value for key, value in found.items() if key != "run_id"}
