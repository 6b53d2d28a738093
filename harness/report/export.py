"""The records and the metrics of a run as flat tables for other tools: CSV or Parquet.

Times and durations of records are in nanoseconds, those of cells in real seconds. In a simulated
run, divide them by `time_scale` to get scenario time. Every row says whether its run was simulated.
A row of a record also says whether the record counts: records that a resumed run replaced do not.
"""

from __future__ import annotations

import csv
import importlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec

from harness.analysis.model import Summary
from harness.analysis.phase_tree import phase_names
from harness.analysis.selection import Dataset
from harness.analysis.server_load import with_in_flight
from harness.analysis.summary import summarise
from harness.records.errors import InputError, StorageError
from harness.records.histogram import quantile
from harness.records.keys import AttemptKey, CallKey, WorkflowKey, workflow_key
from harness.records.schema import (
    Attempt,
    Branches,
    Call,
    LimitChange,
    Phase,
    Record,
    Run,
    Tokens,
    Trial,
    Workflow,
)
from harness.records.server_sample import ServerSample
from harness.records.timer_lag import corrected
from harness.report.tables import csv_safe
from harness.store.column_reader import read_columns
from harness.store.run_directory import SUMMARY_FILE, Records, each
from harness.store.trial_reader import TrialReader

_R = TypeVar("_R", Attempt, Call, Workflow, Trial)
ExportRow = dict[str, Any]
MakeRows = Callable[[], Iterator[ExportRow]]
"""Makes the rows of a table, which are not kept, from the start."""
Saver = Callable[[Path, Sequence[str], MakeRows], None]

_CALL_COLUMNS = CallKey._fields
_ATTEMPT_COLUMNS = (
    *AttemptKey._fields, "ready", "permit_requested", "permit_granted", "sent", "headers",
    "first_reasoning", "first_answer", "last_token",
)  # fmt: skip
"""The first columns, in their order. The others follow in the order of the fields."""

_AT_ONCE = 10_000
"""The most rows in memory as Python values."""


class Flat(NamedTuple):
    """A table: its name, its columns in order, and its rows."""

    name: str
    columns: tuple[str, ...]
    rows: MakeRows


def export(run: Path, directory: Path, kind: str) -> list[Path]:
    """Write the tables of `run` into `directory` as `csv` or `parquet`; return their paths.

    Raises InputError when pyarrow is not installed; StorageError when reading or writing fails.
    """
    save = _saver(kind)
    written = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for table in tables(run):
            path = directory / f"{table.name}.{kind}"
            part = path.with_name(path.name + ".part")
            save(part, table.columns, table.rows)
            part.replace(path)
            written.append(path)
    except OSError as error:
        raise StorageError(
            f"{directory}: cannot be written ({error.strerror}); name another directory "
            "with --out DIR"
        ) from error
    return written


def tables(run: Path) -> list[Flat]:
    """Return all tables, with columns for nested values."""
    stored = TrialReader(run)
    counting = frozenset(chain.from_iterable(map(_counting, stored.workflows_by_trial())))
    last = {(one.cell, one.repeat): one.execution for one in sorted(stored.trials, key=_execution)}
    about = {"simulated": stored.run.simulated, "time_scale": stored.run.time_scale}
    keys = list(dict.fromkeys(key for cell in stored.run.cells for key in cell.settings))
    settings = {cell.id: {key: cell.settings.get(key) for key in keys} for cell in stored.run.cells}
    cells = [row | about | settings[row["id"]] for row in _cells(_summary(run, stored.run))]
    once = _phases_that_occur_once(stored.run, run)

    def counts(one: Attempt | Call | Workflow | Trial) -> bool:
        if isinstance(one, Trial):
            return last[one.cell, one.repeat] == one.execution
        return workflow_key(one) in counting

    def table(name: str, kind: type[_R], flatten: Callable[[_R], list[ExportRow]]) -> Flat:
        columns = (*flatten(_blank(kind))[0], "counts", *about, *keys)

        def rows() -> Iterator[ExportRow]:
            for one in each(run, kind):
                for row in flatten(one):
                    yield row | {"counts": counts(one)} | about | settings[one.cell]

        return Flat(name, columns, rows)

    server = [row | about | settings[row["cell"]] for row in _server(run)]
    return [
        table("attempts", Attempt, lambda one: [_attempt(one)]),
        table("calls", Call, lambda one: [_call(one)]),
        table("workflows", Workflow, lambda one: [_workflow(once, one)]),
        table("phases", Workflow, _phases),
        table("trials", Trial, lambda one: [_trial(one)]),
        *([table("limits", Trial, _limits)] if any(one.limits for one in stored.trials) else []),
        Flat("cells", tuple(cells[0]) if cells else (), lambda: iter(cells)),
        *([Flat("server", tuple(server[0]), lambda: iter(server))] if server else []),
    ]


def _server(run: Path) -> list[ExportRow]:
    """Return each reading of the server's metrics, with the attempts in flight at that time."""
    if next(each(run, ServerSample), None) is None:
        return []
    return [
        msgspec.structs.asdict(sample) | {"in_flight": in_flight}
        for sample, in_flight in with_in_flight(Dataset.read(run))
    ]


def _counting(records: Records) -> list[WorkflowKey]:
    cells = Dataset.of(records).cells.values()
    return [workflow_key(one) for cell in cells for one in cell.workflows]


def _execution(trial: Trial) -> int:
    return trial.execution


def _summary(directory: Path, run: Run) -> Summary:
    """Read summary.json, or make the summary if it is missing, unreadable or of an earlier session.

    A run whose last session was killed has another status than its summary.
    """
    with suppress(OSError, msgspec.DecodeError):
        summary = msgspec.json.decode((directory / SUMMARY_FILE).read_bytes(), type=Summary)
        if (summary.run_id, summary.status) == (run.run_id, run.status):
            return summary
    return summarise(read_columns(directory))


def _cells(summary: Summary) -> list[ExportRow]:
    """Return every metric of every cell, one row for each cell; durations are in seconds."""
    rows = [
        _flattened({k: v for k, v in msgspec.to_builtins(cell).items() if k != "settings"})
        for cell in summary.cells
    ]
    names = dict.fromkeys(name for row in rows for name in row)
    return [{name: row.get(name) for name in names} for row in rows]


def _flattened(values: Mapping[str, Any], path: str = "") -> ExportRow:
    """Return nested values by their joined names; `value` of a figure has the figure's name."""
    row: ExportRow = {}
    for name, value in values.items():
        below = path if name == "value" else f"{path}_{name}".lstrip("_")
        row |= _flattened(value, below) if isinstance(value, Mapping) else {below: value}
    return row


def _blank(kind: type[_R]) -> _R:
    """Return an empty record, to get the columns of a table without rows."""
    nothing: ExportRow = {
        "tokens": Tokens(), "gaps": {}, "loop_lag": {}, "backoffs": (),
        "phases": (Phase(name="", start=0, end=0, outcome="ok"),),
        "branches": Branches(total=0, ok=0), "limits": (LimitChange(0, 0),),
    }  # fmt: skip
    fields: dict[str, Any] = {name: nothing.get(name) for name in kind.__struct_fields__}
    return kind(**fields)


def _plain(record: Record | Trial | Phase, *left_out: str, first: Sequence[str] = ()) -> ExportRow:
    names = dict.fromkeys((*first, *record.__struct_fields__))
    return {name: getattr(record, name) for name in names if name not in left_out}


def _tokens(tokens: Tokens | None, prefix: str) -> ExportRow:
    return {
        f"{prefix}_{name}": None if tokens is None else getattr(tokens, name)
        for name in Tokens.__struct_fields__
    }


def _attempt(attempt: Attempt) -> ExportRow:
    decision = attempt.decision
    return {
        **_plain(attempt, "tokens", "gaps", "decision", first=_ATTEMPT_COLUMNS),
        **_tokens(attempt.tokens, "tokens"),
        "chunk_gap_p50": quantile(attempt.gaps, 0.5),
        "chunk_gap_p99": quantile(attempt.gaps, 0.99),
        "retry_in": decision.retry_in if decision else None,
        "retry_source": decision.source if decision else None,
        "give_up": decision.give_up if decision else None,
    }


def _call(call: Call) -> ExportRow:
    return {
        **_plain(call, "backoffs", "tokens", "wasted_tokens", first=_CALL_COLUMNS),
        "backoffs": len(call.backoffs),
        "backoff": sum(pause.end - pause.start for pause in call.backoffs),
        **_tokens(call.tokens, "tokens"),
        **_tokens(call.wasted_tokens, "wasted"),
    }


def _phases_that_occur_once(run: Run, directory: Path) -> list[str]:
    """Return the phases with columns in the table of workflows: those that none has twice."""
    several: set[str] = set()

    def noting() -> Iterator[Workflow]:
        for workflow in each(directory, Workflow):
            seen = Counter(phase.name for phase in workflow.phases)
            several.update(name for name, times in seen.items() if times > 1)
            yield workflow

    names = phase_names(run, noting())
    return [name for name in names if name not in several]


def _workflow(once: Sequence[str], workflow: Workflow) -> ExportRow:
    phases = {phase.name: phase for phase in workflow.phases}
    return {
        **_plain(workflow, "phases", "branches"),
        "branches_total": workflow.branches.total,
        "branches_ok": workflow.branches.ok,
        **{
            f"{name}_{field}": getattr(phases.get(name), field, None)
            for name in once
            for field in ("start", "end", "outcome")
        },
    }


def _phases(workflow: Workflow) -> list[ExportRow]:
    """Return a row for each occurrence of a phase; `parent` is the `number` of another row."""
    key = {name: getattr(workflow, name) for name in ("cell", "repeat", "workflow", "execution")}
    return [{**key, "number": at, **_plain(phase)} for at, phase in enumerate(workflow.phases)]


def _trial(trial: Trial) -> ExportRow:
    lag = corrected(trial.loop_lag)
    return {
        **_plain(trial, "loop_lag", "late_timers", "limits"),
        "loop_lag_p50": quantile(lag, 0.5),
        "loop_lag_p99": quantile(lag, 0.99),
    }


def _limits(trial: Trial) -> list[ExportRow]:
    """Return the limit at the start and after each change, if the permits of a trial adapt."""
    key = {"cell": trial.cell, "repeat": trial.repeat, "execution": trial.execution}
    return [{**key, "at": change.at, "limit": change.limit} for change in trial.limits]


def _saver(kind: str) -> Saver:
    if kind == "csv":
        return _save_csv
    try:
        arrow: Any = importlib.import_module("pyarrow")
        parquet: Any = importlib.import_module("pyarrow.parquet")
    except ModuleNotFoundError:
        raise InputError(
            "--format parquet: pyarrow is not installed; install it "
            "(.venv/bin/uv pip install pyarrow), or use --format csv"
        ) from None

    def save(path: Path, columns: Sequence[str], rows: MakeRows) -> None:
        def parts() -> Iterator[Any]:
            left = rows()
            while True:
                part = list(islice(left, _AT_ONCE))
                yield arrow.table({name: [_flat(row[name]) for row in part] for name in columns})
                if len(part) < _AT_ONCE:
                    return

        # The rows are made twice: a column may be all nulls in one part and have a type in another.
        schema = arrow.schema([])
        for part in parts():
            schema = arrow.unify_schemas([schema, part.schema], promote_options="default")
        with parquet.ParquetWriter(path, schema) as writer:
            for part in parts():
                writer.write_table(part.cast(schema))

    return save


def _flat(value: Any) -> Any:
    """Return a value of any other type as JSON."""
    plain = value is None or isinstance(value, str | int | float)
    return value if plain else msgspec.json.encode(value).decode()


def _save_csv(path: Path, columns: Sequence[str], rows: MakeRows) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for row in rows():
            values = (_flat(row[name]) for name in columns)
            writer.writerow(
                [str(v).lower() if isinstance(v, bool) else csv_safe(v) for v in values]
            )
