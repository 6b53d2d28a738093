"""How far a run has come that was killed, interrupted or out of disk, so that it can go on.

A workflow that ended stays as it is. One that did not is run again from its beginning, as its next
execution: what it had done until then stays in the records and counts as spent, and no statistic
looks at it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from pydantic import ValidationError

import harness
from harness.bench.scenario import Scenario, apply_override, validated
from harness.bench.spending import is_counted
from harness.config.validation_messages import message_of, one_line
from harness.engine.ledger import Amount
from harness.policies.resolve import code_of
from harness.records.clock import take_anchor
from harness.records.errors import InputError, StorageError
from harness.records.schema import Attempt, Call, Run, Session, Spent, Trial, Workflow
from harness.store import run_directory

TrialKey = tuple[str, int]
"""A trial: (cell, repeat)."""


class RunProgress(NamedTuple):
    """What there is of a run already: of a new one, nothing.

    `ended`: the workflows that ended, by trial. `whole`: trials with nothing left to do. `spent`:
    what the budget let go out. `elapsed`: nanoseconds that the trials' own clocks have run, in
    virtual time, where each begins at 0. `answered`: whether the endpoint ever had a good answer.
    """

    run: Run
    ended: Mapping[TrialKey, frozenset[int]] = {}
    whole: frozenset[TrialKey] = frozenset()
    spent: Amount = Amount()
    elapsed: int = 0
    answered: bool = False

    def finished(self, cell: str, repeat: int) -> frozenset[int]:
        """Return the numbers of the workflows of a trial that are not to be run again."""
        return self.ended.get((cell, repeat), frozenset())


def require_profiles(run: Run, profiles: Mapping[str, dict[str, Any]]) -> None:
    """Raise InputError when the simulated provider is not what it was in the earlier sessions."""
    now = msgspec.json.decode(msgspec.json.encode(profiles))
    if any(now.get(cell.id) != run.cell_profile(cell.id) for cell in run.cells):
        raise InputError(
            "--resume: the simulated provider's profile has changed since the run began; put it "
            "back, or begin a new run"
        )


def changes(run: Run) -> Iterable[str]:
    """Yield what is not as it was when the run began, and may show in what is measured."""
    was, now = run.versions.get("harness"), harness.__version__
    if was != now:
        yield f"the run was begun with harness {was} and goes on with {now}"


def with_budget(progress: RunProgress, overrides: Sequence[str]) -> RunProgress:
    """Return the same progress under another budget, from `--set budget.usd=2`.

    Raises InputError for any other setting: all sessions of a run are of one scenario. Nor may what
    is used be limited where no session has written it down.
    """
    if not overrides:
        return progress
    scenario = dict(progress.run.scenario)
    scenario["budget"] = dict(scenario["budget"])
    for override in overrides:
        if not override.startswith("budget."):
            raise InputError(
                f"--set {override}: a run goes on with the settings it began with; only budget.* "
                "may change"
            )
        apply_override(scenario, override)
    now, before = validated(scenario, run_directory.RUN_FILE, overrides), scenario_of(progress.run)
    if is_counted(now) and not is_counted(before):
        raise InputError(
            f"--set {overrides[-1]}: the run began without such a budget, so nobody knows what it "
            "has used; leave it out, or begin a new run"
        )
    return progress._replace(run=msgspec.structs.replace(progress.run, scenario=scenario))


def progress_of(directory: Path) -> RunProgress:
    """Read how far the run in `directory` has come, and begin its next session.

    Raises InputError when it is none that this version can read.
    """
    try:
        records = run_directory.read_records(directory, small=True)
        spent = run_directory.read_spent(directory)
    except StorageError as error:
        raise InputError(f"--resume {directory}: {error}") from None
    run = records.run
    session = _session(1 + max(_executions(records), default=0), run, records)
    ended: dict[TrialKey, set[int]] = {}
    for workflow in records.workflows:
        if workflow.outcome != "cancelled":
            ended.setdefault((workflow.cell, workflow.repeat), set()).add(workflow.workflow)
    closed = {(trial.cell, trial.repeat) for trial in records.trials if not trial.interrupted}
    every = run.scenario["load"]["workflows"]
    return RunProgress(
        run=msgspec.structs.replace(
            run,
            status="running",
            stopped=None,
            resumed=(*run.resumed, session),
            code=run.code or code_of(run),
        ),
        ended={trial: frozenset(numbers) for trial, numbers in ended.items()},
        whole=frozenset(trial for trial in closed if len(ended.get(trial, ())) == every),
        spent=_spent(records, spent),
        elapsed=sum(trial.end for trial in records.trials) if run.virtual else 0,
        answered=any(
            attempt.status is not None and attempt.status < 300 for attempt in records.attempts
        ),
    )


def scenario_of(run: Run) -> Scenario:
    """Return the scenario that a run was made from. Raises InputError when it is no longer one."""
    try:
        return Scenario.model_validate(run.scenario)
    except ValidationError as error:
        message = message_of(error.errors()[0], run.scenario)
        raise InputError(
            one_line(
                f"run.json: scenario: {message.text}; resume with the version that made the run, "
                f"harness {run.versions.get('harness', '')}"
            )
        ) from None


def _executions(records: run_directory.Records) -> Iterable[int]:
    kinds: tuple[Iterable[Attempt | Call | Workflow | Trial], ...] = (
        records.attempts, records.calls, records.workflows, records.trials,
    )  # fmt: skip
    for kind in kinds:
        yield from (record.execution for record in kind)
    yield from (session.execution for session in records.run.resumed)


def _session(execution: int, run: Run, records: run_directory.Records) -> Session:
    """Return the session that begins now: its times go on after those there are.

    The calendar says how long nothing ran; a clock that was set back does not turn time back.
    """
    now = take_anchor()
    last = max((attempt.done for attempt in records.attempts), default=0)
    last = max(last, max((workflow.done for workflow in records.workflows), default=0))
    since = max(now.unix_ns - run.anchor.unix_ns, last)
    anchor = msgspec.structs.replace(run.anchor, monotonic_ns=now.monotonic_ns - since)
    return Session(execution=execution, anchor=anchor, away=since - last)


def _spent(records: run_directory.Records, spent: Spent | None) -> Amount:
    if spent is None:  # no budget has to be kept, or nothing has gone out
        return Amount(attempts=len(records.attempts))
    return Amount(spent.attempts, spent.tokens, spent.nano_usd)
