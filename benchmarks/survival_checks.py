"""What must hold for a run after each session, and at its end; see `benchmarks.survival`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import msgspec

from harness.analysis.selection import Dataset
from harness.analysis.summary import summarise
from harness.bench.cells import expand
from harness.bench.scenario import Scenario
from harness.records.schema import Attempt, Call, Trial, Workflow
from harness.store import run_directory
from harness.store.run_directory import (
    ATTEMPTS_FILE,
    CALLS_FILE,
    FILES,
    RUN_FILE,
    TRIALS_FILE,
    WORKFLOWS_FILE,
    Records,
    each,
    read_records,
    read_spent,
)


def lines_of(run: Path) -> dict[str, list[bytes]]:
    """Return the whole lines of each file of records."""
    found = {}
    for name in FILES.values():
        if (run / name).exists():
            lines = (run / name).read_bytes().splitlines(keepends=True)
            found[name] = [line for line in lines if line.endswith(b"\n")]
    return found


TrialRun = tuple[str, int, int]
"""A trial in one session: cell, repeat, execution."""


def check(
    run: Path,
    scenario: Scenario,
    before: dict[str, list[bytes]],
    lenient: Collection[TrialRun] = (),
    *,
    lost: bool = False,
) -> None:
    """Check that nothing is lost or doubled.

    `before`: the lines before the session. `lenient`: trials whose records can be incomplete.
    `lost`: the power has failed, so that lines can be missing.
    """
    after = lines_of(run)
    for name, lines in before.items():
        found = after.get(name, [])
        kept = min(len(lines), len(found)) if lost else len(lines)
        assert found[:kept] == lines[:kept], f"{name}: what had been written stays"
    records, columns = read_records(run), Dataset.read(run)
    for name, seen in (
        (ATTEMPTS_FILE, (records.attempts, columns.attempts)),
        (CALLS_FILE, (records.calls, columns.calls)),
        (WORKFLOWS_FILE, (records.workflows, columns.workflows)),
        (TRIALS_FILE, (records.trials, columns.trials)),
    ):
        if name in after:
            assert {len(one) for one in seen} == {len(after[name])}, f"{name}: all lines are read"
    columns.cells  # noqa: B018 - must be possible
    attempts = Counter((*one.call_key, one.attempt) for one in records.attempts)
    calls = Counter(one.call_key for one in records.calls)
    trials = Counter((one.cell, one.repeat, one.execution) for one in records.trials)
    for counted in (attempts, calls, trials):
        assert counted == dict.fromkeys(counted, 1), "each record has a key of its own"
    check_whole(records, lenient)
    ended = Counter((one.cell, one.repeat, one.workflow) for one in records.workflows)
    assert ended == dict.fromkeys(ended, 1), "no workflow ends twice"
    by_trial = Counter((cell, repeat) for cell, repeat, _ in ended)
    for trial in records.trials:
        if not trial.interrupted:
            done = by_trial[trial.cell, trial.repeat]
            assert done == scenario.load.planned, "a trial that is recorded has its workflows"
    if records.run.status == "complete":
        planned = len(expand(scenario)) * scenario.sweep.most_repeats * scenario.load.planned
        assert len(ended) == planned, "no workflow is lost"


def check_whole(records: Records, lenient: Collection[TrialRun]) -> None:
    """Check that what has ended has its parts."""
    tried = Counter(one.call_key for one in records.attempts)
    of_workflow = Counter(one.call_key[:4] for one in records.calls)
    for one in records.workflows:
        if (one.cell, one.repeat, one.execution) not in lenient:
            key = (one.cell, one.repeat, one.workflow, one.execution)
            assert of_workflow[key] > 0, "a workflow has its calls"
    for call in records.calls:
        if (call.cell, call.repeat, call.execution) not in lenient:
            assert tried[call.call_key] == call.attempts, "a call has its attempts"


def trials_begun(run: Path) -> set[TrialRun]:
    """Return the trials with records."""
    kinds: tuple[type[Attempt | Call | Workflow], ...] = (Attempt, Call, Workflow)
    if not (run / RUN_FILE).exists():
        return set()
    return {(one.cell, one.repeat, one.execution) for kind in kinds for one in each(run, kind)}


def trials_recorded(run: Path) -> set[TrialRun]:
    """Return the trials that are recorded themselves."""
    if not (run / RUN_FILE).exists():
        return set()
    return {(one.cell, one.repeat, one.execution) for one in each(run, Trial)}


def check_budget(run: Path, *, is_booked: bool = True) -> None:
    """Check that what was booked is within the limits, and covers what is recorded.

    `is_booked`: it must cover that.
    """
    budget, spent = run_directory.read_run(run).scenario["budget"], read_spent(run)
    if spent is None:
        return
    sent = sum(one.sent is not None for one in each(run, Attempt))
    assert sent <= spent.attempts or not is_booked, "each recorded attempt is booked"
    assert spent.attempts <= (budget.get("attempts") or spent.attempts)
    assert spent.tokens <= (budget.get("tokens") or spent.tokens)
    assert spent.nano_usd <= (budget.get("usd") or 10**9) * 1e9


def check_end(run: Path, whole: Path, *, is_plain: bool) -> bool:
    """Compare a complete run with one that was not interrupted; return whether by its summary.

    `is_plain`: the policy draws no jitter, and no attempt waits for a budget that was raised.
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
    return {(one.cell, one.repeat, one.workflow, one.topic) for one in workflows}


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
