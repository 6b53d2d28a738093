"""The traces of a run, written into its directory and sent to a collector if there is one.

Call this outside what is measured. The files are always written; a collector that fails costs its
own delivery and nothing else.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from harness.bench.store import Records
from harness.errors import StorageError
from harness.records import Attempt, Call, Run, Trial, Workflow
from harness.views.traces import otlp_file
from harness.views.traces.attributes import Attributes
from harness.views.traces.otlp_http import OtlpTarget, check, send
from harness.views.traces.spans import Span, TraceMaker, workflow_key

TRACES = "traces"
RUN_FILE = "run.otlp.jsonl"


class TrialLike(Protocol):
    """One trial with everything that was recorded in it."""

    @property
    def trial(self) -> Trial:
        """The trial itself."""
        ...

    @property
    def workflows(self) -> Sequence[Workflow]:
        """Its workflows that ended."""
        ...

    @property
    def calls(self) -> Sequence[Call]:
        """Its calls that ended."""
        ...

    @property
    def attempts(self) -> Sequence[Attempt]:
        """Its attempts that ended."""
        ...


class Account(NamedTuple):
    """What became of the spans.

    `made`: written to files. `delivered`: acknowledged by the collector; `undelivered`: not, 0
    when there is no collector. `left_out`: attempts that have no span because their workflow never
    ended. `problem`: why spans were not delivered, one line.
    """

    made: int = 0
    delivered: int = 0
    undelivered: int = 0
    left_out: int = 0
    problem: str | None = None


def total(accounts: Iterable[Account]) -> Account:
    """Add accounts up; the problem is the first one's that had any."""
    every = list(accounts)
    return Account(
        made=sum(account.made for account in every),
        delivered=sum(account.delivered for account in every),
        undelivered=sum(account.undelivered for account in every),
        left_out=sum(account.left_out for account in every),
        problem=next((account.problem for account in every if account.problem), None),
    )


def export_trial(
    directory: Path, run: Run, records: TrialLike, resource: Attributes, target: OtlpTarget | None
) -> Account:
    """Append the traces of one trial's workflows to its cell's file, and send them to `target`.

    Raises StorageError when the file cannot be written.
    """
    spans = TraceMaker(run).of_workflows(records.workflows, records.calls, records.attempts)
    path = _directory(directory) / _file_of(records.trial.cell)
    otlp_file.append_spans(path, spans, resource)
    left_out = _left_out(records.workflows, records.attempts)
    return _deliver(spans, resource, target)._replace(left_out=left_out)


def export_run(
    directory: Path,
    run: Run,
    trials: Sequence[Trial],
    resource: Attributes,
    target: OtlpTarget | None,
) -> Account:
    """Write the run trace anew and send it to `target`. Raises StorageError."""
    spans = TraceMaker(run).of_run(trials)
    otlp_file.replace_spans(_directory(directory) / RUN_FILE, spans, resource)
    return _deliver(spans, resource, target)


def export_records(
    directory: Path, records: Records, resource: Attributes, target: OtlpTarget | None
) -> Account:
    """Make all traces of a finished run again from its records: the same files, the same ids.

    Raises StorageError.
    """
    maker = TraceMaker(records.run)
    by_cell: dict[str, list[Workflow]] = defaultdict(list)
    for workflow in records.workflows:
        by_cell[workflow.cell].append(workflow)
    accounts = [export_run(directory, records.run, records.trials, resource, target)]
    for cell in maker.cells:
        calls = [call for call in records.calls if call.cell == cell]
        attempts = [attempt for attempt in records.attempts if attempt.cell == cell]
        spans = maker.of_workflows(by_cell[cell], calls, attempts)
        otlp_file.replace_spans(_directory(directory) / _file_of(cell), spans, resource)
        account = _deliver(spans, resource, target)
        accounts.append(account._replace(left_out=_left_out(by_cell[cell], attempts)))
    return total(accounts)


def _file_of(cell: str) -> str:
    return f"{cell}.otlp.jsonl"


def _directory(run_directory: Path) -> Path:
    path = run_directory / TRACES
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise StorageError(f"{path}: cannot be made ({error.strerror})") from error
    return path


def _left_out(workflows: Sequence[Workflow], attempts: Sequence[Attempt]) -> int:
    ended = {workflow_key(workflow) for workflow in workflows}
    return sum(workflow_key(attempt) not in ended for attempt in attempts)


def _deliver(spans: Sequence[Span], resource: Attributes, target: OtlpTarget | None) -> Account:
    if target is None:
        return Account(made=len(spans))
    problem = check(target)
    if problem:
        return Account(made=len(spans), undelivered=len(spans), problem=problem)
    sent = send(target, spans, resource)
    return Account(
        made=len(spans),
        delivered=sent.delivered,
        undelivered=sent.undelivered,
        problem=sent.problem,
    )
