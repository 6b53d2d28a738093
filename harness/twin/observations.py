"""The attempts of some runs in columns, as the parts of a fit read them.

Times are scenario seconds on one axis, on which no two trials overlap; nan for a moment that was
not reached. Calls before the trials (warm-up) are left out, and refusals at the end of a trial that
was killed: the records do not have what was in flight then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from harness.records.clock import SECOND
from harness.records.connections import leaves_connection
from harness.records.failures import CANCELLED, OK
from harness.records.histogram import quantile
from harness.records.keys import WARM_UP
from harness.records.schema import PhaseInfo, Run, Workflow
from harness.records.timer_lag import corrected
from harness.store.column_values import Words
from harness.store.columns import AttemptTable
from harness.store.compact_records import ABSENT
from harness.store.run_directory import Records
from harness.twin.idle_connections import without_idle_connection
from harness.workflows.registry import WORKFLOWS, AnyWorkflow
from harness.workflows.section import WorkflowSection

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]

_WORKFLOW: TypeAdapter[WorkflowSection] = TypeAdapter(AnyWorkflow)
CLIENT_TIMEOUTS = (
    "first_token_timeout", "idle_timeout", "call_timeout", "workflow_timeout", "connect_timeout",
)  # fmt: skip
"""The outcomes of attempts that the client gave up."""
BROKEN_OFF = (
    CANCELLED, "first_token_timeout", "idle_timeout", "call_timeout", "workflow_timeout",
)  # fmt: skip
"""The outcomes of attempts that the client ended after they were sent."""
_BETWEEN_TRIALS = 1.0
_MOST_LAGS = 0.95
_TIMES = ("sent", "headers", "first_text", "first_answer", "last_token", "done")
_OF_CALL = ("repeat", "workflow", "branch", "call")
_OF_TRIAL = ("cell", "repeat", "execution")
_OF_CONNECTION = ("permit_granted", "sent", "done")
_ENDS = ("outcome", "status", "finish_reason")
_COUNTS = ("input", "cached", "output", "reasoning", "chunks", "status")


@dataclass(frozen=True)
class Observations:
    """One row for each attempt, in order of time.

    `trial`: the number of its trial. `sent`: for an attempt that was never sent, when its call had
    the permit; `was_sent` says which were. `client_wait`: from the permit until it was sent.
    `opens`: it had to open a connection, as none was idle. `client_lag`: the 95th percentile of how
    late the client ran its timers in the trial. `setting`: the number of the phase's setting in
    `settings`. `topic`: that of the workflow's topic in `topics`, below 0 if it is not
    known. `prompt`: the same for the same question about a topic in a repeat, in every cell.
    `limit`: max_tokens, 0 for none. `cell` and `phase`: their numbers in `cells` and `phases`; with
    `repeat`, `workflow`, `branch` (below 0 outside a fan-out) and `call` they name the call. Counts
    that were not reported are below 0.
    """

    trial: Integers
    sent: Floats
    was_sent: Flags
    client_wait: Floats
    opens: Flags
    client_lag: Floats
    headers: Floats
    first_text: Floats
    first_answer: Floats
    has_reasoning_text: Flags
    last_token: Floats
    done: Floats
    retry_after: Floats
    input: Integers
    cached: Integers
    output: Integers
    reasoning: Integers
    chunks: Integers
    status: Integers
    outcome: Integers
    outcomes: tuple[str, ...]
    setting: Integers
    settings: tuple[str, ...]
    topic: Integers
    topics: tuple[str, ...]
    prompt: Integers
    limit: Integers
    cell: Integers
    cells: tuple[str, ...]
    repeat: Integers
    workflow: Integers
    phase: Integers
    phases: tuple[str, ...]
    branch: Integers
    call: Integers

    def __len__(self) -> int:
        return len(self.sent)

    def has_outcome(self, *names: str) -> Flags:
        """Return which attempts ended so."""
        numbers = [number for number, name in enumerate(self.outcomes) if name in names]
        return np.isin(self.outcome, numbers)

    def take(self, rows: Flags) -> Observations:
        """Return some of the attempts."""
        values: dict[str, Any] = vars(self)
        columns = {name: at for name, at in values.items() if isinstance(at, np.ndarray)}
        taken: dict[str, Any] = {name: column[rows] for name, column in columns.items()}
        return replace(self, **taken)

    @property
    def ok(self) -> Flags:
        """Which attempts succeeded."""
        return self.has_outcome(OK)

    @property
    def read_input(self) -> Integers:
        """The input tokens that no prompt cache had; 0 if the input was not reported."""
        read: Integers = np.maximum(self.input - np.maximum(self.cached, 0), 0)
        return read

    @property
    def streamed(self) -> Flags:
        """Which attempts have text at two times at least, so that decoding can be seen."""
        return (self.chunks > 1) & (self.last_token > self.first_text)

    @property
    def decoding_until(self) -> Floats:
        """When each attempt with text stopped decoding: its last text, or when it was cancelled."""
        is_cut = self.has_outcome(CANCELLED)
        return np.where(is_cut, self.done, self.last_token)

    @property
    def served_until(self) -> Floats:
        """When each attempt left the service of the provider, as far as the client can see it."""
        return np.where(self.ok, self.last_token, self.done)


def observe(runs: Sequence[Records]) -> Observations:
    """Return the attempts of some runs."""
    parts = [_of_run(records) for records in runs]
    outcomes, settings, topics, cells, phases = (
        _numbered(part[name] for part in parts)
        for name in ("outcomes", "settings", "topics", "cells", "phases")
    )
    columns: dict[str, list[NDArray[Any]]] = {}
    trials, end = 0, 0.0
    for part in parts:
        own = part["columns"]
        own["outcome"] = _renumbered(own["outcome"], part["outcomes"], outcomes)
        own["setting"] = _renumbered(own["setting"], part["settings"], settings)
        own["topic"] = _renumbered(own["topic"], part["topics"], topics)
        own["cell"] = _renumbered(own["cell"], part["cells"], cells)
        own["phase"] = _renumbered(own["phase"], part["phases"], phases)
        own["trial"] = own["trial"] + trials
        trials = int(own["trial"].max(initial=trials - 1)) + 1
        for name in _TIMES:
            own[name] = own[name] + end
        end = float(np.nanmax(own["done"], initial=end)) + _BETWEEN_TRIALS
        for name, values in own.items():
            columns.setdefault(name, []).append(values)
    whole = {name: np.concatenate(values) for name, values in columns.items()}
    asked = (whole[name] for name in ("topic", "setting", "repeat", "branch", "call"))
    _, whole["prompt"] = _combinations(*asked)
    order = np.lexsort((whole["done"], whole["first_text"], whole["sent"]))
    whole = {name: values[order] for name, values in whole.items()}
    return Observations(
        **whole, outcomes=tuple(outcomes), settings=tuple(settings), topics=tuple(topics),
        cells=tuple(cells), phases=tuple(phases),
    )  # fmt: skip


def _of_run(records: Records) -> dict[str, Any]:
    run, table = records.run, records.attempts
    if not isinstance(table, AttemptTable):
        table = AttemptTable.of(table, Words())
    scale = SECOND * run.time_scale
    is_warm_up = table.where("phase", WARM_UP.__eq__)
    opens = _opens_connection(run, table, scale)[~is_warm_up]
    table = table.take(~is_warm_up)
    names = table.words.names
    columns: dict[str, NDArray[Any]] = {}
    for name in _TIMES:
        columns[name] = _seconds(table.column(name), scale)
    columns["retry_after"] = _seconds(table.column("retry_after"), scale)
    for name in _COUNTS:
        columns[name] = np.maximum(table.column(name).astype(np.int64), -1)
    for name in _OF_CALL:
        columns[name] = table.column(name).astype(np.int64)
    columns["cell"], cells = _words(table, "cell")
    columns["phase"], phases = _words(table, "phase")
    columns["has_reasoning_text"] = table.column("first_reasoning") != ABSENT
    granted = _seconds(table.column("permit_granted"), scale)
    columns["was_sent"] = ~np.isnan(columns["sent"])
    columns["client_wait"] = columns["sent"] - granted
    columns["opens"] = opens
    columns["sent"] = np.where(columns["was_sent"], columns["sent"], granted)
    trial = (table.column(name) for name in _OF_TRIAL)
    found, columns["trial"] = _combinations(*trial)
    columns["client_lag"] = _client_lags(found, names, records)[columns["trial"]] / scale
    _one_after_another(columns)
    columns["topic"], topics = _topics(table, records.workflows)
    settings, numbers = _settings(run, names)
    columns["setting"] = numbers[table.column("phase")]
    columns["limit"] = _limits(run, names, table)
    columns["outcome"], outcomes = _words(table, "outcome")
    kept = _is_complete_until_sent(columns, _were_ended(found, names, records))
    kept |= ~table.where("outcome", "rate_limited".__eq__)
    return {
        "columns": {name: values[kept] for name, values in columns.items()},
        "topics": topics,
        "settings": settings,
        "outcomes": outcomes,
        "cells": cells,
        "phases": phases,
    }


def _words(table: AttemptTable, name: str) -> tuple[Integers, list[str | None]]:
    """Return the number of each attempt's word, and the words that occur."""
    found, places = np.unique(table.column(name), return_inverse=True)
    return places.astype(np.int64), [table.words.names[number] for number in found.tolist()]


def _opens_connection(run: Run, table: AttemptTable, scale: float) -> Flags:
    """Return which attempts had to open a connection; those before the trials open some, too."""
    if not run.scenario.get("endpoint", {}).get("reuse_connections", True):
        return np.ones(len(table), np.bool_)
    names = table.words.names
    found, place = _combinations(*map(table.column, _ENDS))
    leaves = [
        leaves_connection(names[outcome] or "", None if status == ABSENT else status, names[finish])
        for outcome, status, finish in found.tolist()
    ]
    granted, sent, done = (_seconds(table.column(name), scale) for name in _OF_CONNECTION)
    _, trial = _combinations(*map(table.column, _OF_TRIAL))
    return without_idle_connection(trial, granted, sent, done, np.array(leaves, np.bool_)[place])


def _seconds(values: NDArray[Any], scale: float) -> Floats:
    return np.where(values == ABSENT, np.nan, values.astype(np.float64) / scale)


def _combinations(*columns: NDArray[Any]) -> tuple[Integers, Integers]:
    """Return the combinations of values that occur, one a row, and which one each attempt has."""
    numbers = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        _, place = np.unique(column, return_inverse=True)
        _, numbers = np.unique(
            numbers * (int(place.max(initial=0)) + 1) + place, return_inverse=True
        )
    _, first = np.unique(numbers, return_index=True)
    found = np.stack([column[first].astype(np.int64) for column in columns], axis=1)
    return found, numbers.astype(np.int64)


def _one_after_another(columns: dict[str, NDArray[Any]]) -> None:
    """Move each trial on the axis to where the one before it has ended."""
    trial, sent = columns["trial"], columns["sent"]
    count = int(trial.max(initial=-1)) + 1
    begin, end = np.full(count, np.inf), np.zeros(count)
    np.minimum.at(begin, trial, sent)
    np.maximum.at(end, trial, columns["done"])
    lengths = end - begin + _BETWEEN_TRIALS
    moved = np.cumsum(lengths) - lengths - begin
    for name in _TIMES:
        columns[name] = columns[name] + moved[trial]


def _were_ended(trials: Integers, names: Sequence[str | None], records: Records) -> Flags:
    """Return which trials have a record, so that every attempt of theirs has one.

    `trials`: cell, repeat and execution. Of a run that was killed, the records lack the attempts
    that were in flight.
    """
    ended = {(one.cell, one.repeat, one.execution) for one in records.trials}
    known = [(names[cell], repeat, execution) in ended for cell, repeat, execution in trials]
    return np.array(known, np.bool_)


def _client_lags(trials: Integers, names: Sequence[str | None], records: Records) -> Floats:
    """Return the lag of the client in each trial, nanoseconds, by its late timers.

    `trials`: cell, repeat and execution. A trial without a record has the lag of the worst one.
    """
    known = {
        (one.cell, one.repeat, one.execution): quantile(corrected(one.loop_lag), _MOST_LAGS) or 0.0
        for one in records.trials
    }
    worst = max(known.values(), default=0.0)
    return np.array([
        known.get((names[cell], repeat, execution), worst) for cell, repeat, execution in trials
    ])  # fmt: skip


def _is_complete_until_sent(columns: Mapping[str, NDArray[Any]], was_ended: Flags) -> Flags:
    """Return the attempts for which the records have all that was in flight when they were sent.

    `was_ended`: by trial. In the others, those are left out that were sent when another one could
    have been in flight that ended after the last one that has a record.
    """
    trial, sent, done = (columns[name] for name in ("trial", "sent", "done"))
    last, longest = np.zeros(len(was_ended)), np.zeros(len(was_ended))
    np.maximum.at(last, trial, done)
    np.maximum.at(longest, trial, done - sent)
    complete: Flags = was_ended[trial] | (sent < (last - longest)[trial])
    return complete


def _topics(table: AttemptTable, workflows: Sequence[Workflow]) -> tuple[Integers, list[str]]:
    """Return the number of the topic of each attempt, -1 where it is not known, and the topics."""
    topics: dict[str, int] = {}
    words = table.words
    known = {
        (words[one.cell], one.repeat, one.workflow, one.execution): topics.setdefault(
            one.topic, len(topics)
        )
        for one in workflows
    }
    key = (table.column(name) for name in ("cell", "repeat", "workflow", "execution"))
    found, place = _combinations(*key)
    numbers = np.array([known.get(tuple(row), -1) for row in found.tolist()], np.int64)
    return numbers[place], list(topics)


def _settings(run: Run, names: Sequence[str | None]) -> tuple[list[str], Integers]:
    """Return the settings of phases, and the number of the setting by the number of the word."""
    of_phase = {info.name: info.setting for info in _phases(run)}
    settings: dict[str, int] = {}
    numbers = [
        settings.setdefault(of_phase.get(name or "", name or ""), len(settings)) for name in names
    ]
    return list(settings), np.array(numbers, np.int64)


def _phases(run: Run) -> tuple[PhaseInfo, ...]:
    """Return the phases of a run; those of its workflow kind if an earlier version wrote none."""
    if run.phases:
        return run.phases
    try:
        section = _WORKFLOW.validate_python(run.scenario.get("workflow"))
    except ValidationError:
        return ()
    return WORKFLOWS.of(section).phases(section)


def _limits(run: Run, names: Sequence[str | None], table: AttemptTable) -> Integers:
    """Return the max_tokens of each attempt, 0 for none."""
    infos = {info.id: info for info in run.cells}
    settings = {info.name: (info.setting, info.max_tokens) for info in _phases(run)}
    limits = []
    found, place = _combinations(table.column("cell"), table.column("phase"))
    for cell, phase in found.tolist():
        setting, limit = settings.get(names[phase] or "", (names[phase], None))
        info = infos.get(names[cell] or "")
        if limit is None and info is not None:
            given = run.cell_scenario(info).get("workflow", {}).get("max_tokens")
            limit = given.get(setting) if isinstance(given, Mapping) else given
        limits.append(limit if isinstance(limit, int) else 0)
    return np.array(limits, np.int64)[place]


def _numbered(lists: Any) -> dict[str, int]:
    numbers: dict[str, int] = {}
    for names in lists:
        for name in names:
            numbers.setdefault(name, len(numbers))
    return numbers


def _renumbered(values: NDArray[Any], names: Sequence[str], numbers: Mapping[str, int]) -> Integers:
    """Return the values with the numbers that the names have in `numbers`; -1 stays."""
    to = np.array([*(numbers[name] for name in names), -1], np.int64)
    renumbered: Integers = to[values]
    return renumbered
