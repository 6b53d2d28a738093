"""Reads the progress of a run that was killed, interrupted or out of disk, and resumes it.

A workflow that ended stays as it is. A workflow that did not end runs again from its beginning, as
its next execution. The records of the earlier execution are kept and charged to the budget, but
they are excluded from statistics.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec
from pydantic import ValidationError

import harness
from harness.bench.cell_code import code_of_cells
from harness.bench.cells import scenarios_by_cell
from harness.bench.scenario import Scenario
from harness.bench.scenario_file import apply_override, validated
from harness.bench.spending import is_counted
from harness.bench.user_code import code_versions
from harness.config.prices import Price, price_in
from harness.config.validation_messages import message_of, one_line
from harness.engine.ledger import Amount
from harness.records.clock import take_anchor
from harness.records.errors import InputError, StorageError
from harness.records.keys import TrialKey
from harness.records.schema import SCHEMA, Attempt, Call, Run, Session, Trial, Workflow
from harness.store import run_directory
from harness.store.record_checks import each_once, of_known_trials

if TYPE_CHECKING:
    from harness.store.columns import AttemptTable, CallTable
    from harness.workflows.gateway import OpenGateway

_R = TypeVar("_R", Attempt, Call, Workflow, Trial)


class RunProgress(NamedTuple):
    """The progress of a run at the start of a session; a new run has none.

    `ended`: the workflows that ended, by trial. `whole`: the trials with nothing left to do.
    `spent`: the amounts that the budget allowed. `elapsed`: nanoseconds that the clocks of trials
    have run, in virtual time. `answered`: whether the endpoint has ever had a good answer.
    `output`: the file for what a user's program prints. `gateway`: how that of the run is reached.
    """

    scenario: Scenario
    run: Run
    ended: Mapping[TrialKey, frozenset[int]] = {}
    whole: frozenset[TrialKey] = frozenset()
    spent: Amount = Amount()
    elapsed: int = 0
    answered: bool = False
    output: Path | None = None
    gateway: OpenGateway | None = None


def require_profiles(run: Run, profiles: Mapping[str, dict[str, Any]]) -> None:
    """Raise InputError if the simulated provider is not that of the earlier sessions."""
    now = msgspec.json.decode(msgspec.json.encode(profiles))
    if any(now.get(cell.id) != run.cell_profile(cell.id) for cell in run.cells):
        raise InputError(
            "--resume: the simulated provider's profile has changed since the run began; restore "
            "it, or begin a new run"
        )


def changes(run: Run, scenario: Scenario) -> Iterable[str]:
    """Yield the changes since the run began that can affect its measurements."""
    was, now = run.versions.get("harness"), harness.__version__
    if was != now:
        yield f"the run was started with harness {was} and continues with {now}"
    codes = code_versions(scenario)
    for name, code in codes.items():
        if run.versions.get(name) != code:
            yield f"the run was started with {run.versions.get(name)} and continues with {code}"
    if _has_other_prices(run, scenario):
        yield (
            "prices have changed since the run began; its costs stay at the prices of its start, "
            "and budget.usd counts the new ones"
        )


def _has_other_prices(run: Run, scenario: Scenario) -> bool:
    """Return whether tokens cost something else than when the run began."""
    pairs = (
        (price_in(run, cell), mine.price) for cell, mine in scenarios_by_cell(scenario).items()
    )
    return any(_amounts(was) != _amounts(now) for was, now in pairs)


def _amounts(price: Price | None) -> Price | None:
    return None if price is None else msgspec.structs.replace(price, source="", date=None)


def with_budget(progress: RunProgress, overrides: Sequence[str]) -> RunProgress:
    """Return the same progress with another budget, from `--set budget.usd=2`.

    Raises InputError for any other setting, because all sessions of a run have one scenario, and
    for a limit of an amount that the earlier sessions did not record.
    """
    if not overrides:
        return progress
    values = dict(progress.run.scenario)
    values["budget"] = dict(values["budget"])
    for override in overrides:
        if not override.startswith("budget."):
            raise InputError(one_line(f"--set {override}: {_why_kept(override)}"))
        apply_override(values, override)
    scenario = validated(values, run_directory.RUN_FILE, overrides)
    if is_counted(scenario) and not is_counted(progress.scenario):
        raise InputError(
            f"--set {overrides[-1]}: the run began without such a budget, so it is not known what "
            "it has used; leave it out, or begin a new run"
        )
    run = msgspec.structs.replace(progress.run, scenario=values)
    return progress._replace(run=run, scenario=scenario)


_REPEATS_KEPT = (
    "a resumed run keeps its repeats, because each look has used a part of the probability of "
    "error that depends on them; begin a new run for more"
)


def _why_kept(override: str) -> str:
    """Return why a setting cannot change when a run is resumed."""
    key = override.partition("=")[0].strip()
    if key in ("sweep.repeats", "sweep.max_repeats"):
        return _REPEATS_KEPT
    return (
        "a resumed run keeps its settings, so that all its trials measure the same; only budget.* "
        "can change"
    )


def progress_of(directory: Path) -> RunProgress:
    """Read the progress of the run in `directory` and begin its next session.

    Records are read one by one and not kept, or as columns. Raises InputError if this version
    cannot read the run.
    """
    try:
        run = run_directory.read_run(directory)
        spent = run_directory.read_spent(directory)
        seen = _seen_in(directory, run)
    except StorageError as error:
        raise InputError(f"--resume {directory}: {error}") from None
    every = run.scenario["load"]["workflows"]
    # Nothing was recorded if no budget limits an amount, or if nothing was sent.
    amount = Amount(spent.attempts, spent.tokens, spent.nano_usd) if spent else None
    return RunProgress(
        scenario=_scenario_of(run),
        run=msgspec.structs.replace(
            run,
            schema=SCHEMA,  # of the lines that this session appends
            status="running",
            stopped=None,
            resumed=(*run.resumed, _next_session(run, seen)),
            code=code_of_cells(run) or run.code,
        ),
        ended={trial: frozenset(numbers) for trial, numbers in seen.ended.items()},
        whole=frozenset(trial for trial in seen.closed if len(seen.ended.get(trial, ())) == every),
        spent=amount or Amount(attempts=seen.attempts),
        elapsed=seen.elapsed if run.virtual else 0,
        answered=seen.answered,
    )


@dataclass
class _Seen:
    """What the records of the earlier sessions say.

    `ended`: the workflows that ended, by trial. `closed`: the trials that were not interrupted.
    `execution`: the highest. `last`: the last end of an attempt or workflow. `elapsed`,
    `answered`: as in `RunProgress`.
    """

    ended: dict[TrialKey, set[int]] = field(default_factory=dict)
    closed: set[TrialKey] = field(default_factory=set)
    attempts: int = 0
    execution: int = 0
    last: int = 0
    elapsed: int = 0
    answered: bool = False

    def note_columns(self, attempts: AttemptTable, calls: CallTable) -> None:
        """Take all attempts and calls of the earlier sessions."""
        status = attempts.column("status")
        self.attempts = len(attempts)
        self.execution = max(
            int(table.column("execution").max(initial=0)) for table in (attempts, calls)
        )
        self.last = int(attempts.column("done").max(initial=0))
        self.answered = bool(((status >= 0) & (status < 300)).any())


def _seen_in(directory: Path, run: Run) -> _Seen:
    """Read each file of records once."""
    seen = _Seen()

    def recorded(kind: type[_R]) -> Iterator[_R]:
        path = directory / run_directory.FILES[kind]
        return of_known_trials(run_directory.each(directory, kind), run, path)

    if (directory / run_directory.TRIALS_FOLDER).exists():
        from harness.store.column_values import Words
        from harness.store.trial_files import read_tables, trial_files  # imports NumPy

        seen.note_columns(*read_tables(trial_files(directory, run), Words()))
    else:
        for attempt in recorded(Attempt):
            seen.attempts += 1
            seen.execution = max(seen.execution, attempt.execution)
            seen.last = max(seen.last, attempt.done)
            seen.answered = seen.answered or (attempt.status is not None and attempt.status < 300)
        for call in recorded(Call):
            seen.execution = max(seen.execution, call.execution)
    for workflow in recorded(Workflow):
        seen.execution = max(seen.execution, workflow.execution)
        seen.last = max(seen.last, workflow.done)
        if workflow.outcome != "cancelled":
            trial = (workflow.cell, workflow.repeat)
            seen.ended.setdefault(trial, set()).add(workflow.workflow)
    for record in each_once(recorded(Trial)):
        seen.execution = max(seen.execution, record.execution)
        seen.elapsed += record.end
        if not record.interrupted:
            seen.closed.add((record.cell, record.repeat))
    return seen


def _scenario_of(run: Run) -> Scenario:
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


def _next_session(run: Run, seen: _Seen) -> Session:
    """Return the session that begins now. Its times continue after those of the records.

    The difference is the real time since then, or 0 if the system clock was set back.
    """
    now = take_anchor()
    execution = 1 + max(seen.execution, *(session.execution for session in run.resumed), 0)
    since = max(now.unix_ns - run.anchor.unix_ns, seen.last)
    anchor = msgspec.structs.replace(run.anchor, monotonic_ns=now.monotonic_ns - since)
    return Session(execution=execution, anchor=anchor, away=since - seen.last)
