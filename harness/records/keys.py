"""The keys of workflows, calls and attempts within a run. Every record contains its key."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple, TypeAlias

import msgspec

from harness.records.units import Index, Ordinal

WARM_UP = "warm-up"
"""The phase of the calls before a trial (`load.warmup_calls`).

They have the number after the last workflow of the trial, and no record of a workflow."""


MOST_PHASE_NAME = 100
"""The most characters of the name of a phase."""


@lru_cache(maxsize=256)
def _is_name(name: str) -> bool:
    is_short = len(name) <= MOST_PHASE_NAME
    return is_short and bool(name.strip()) and name.isprintable() and name != WARM_UP


def is_phase_name(name: object) -> bool:
    """Return whether a phase can have this name."""
    return isinstance(name, str) and _is_name(name)


TrialKey: TypeAlias = tuple[str, int]
"""A trial: (cell, repeat). A resumed run can have several executions of it."""


class WorkflowKey(NamedTuple):
    """The key of one execution of one workflow. `execution` grows when a run is resumed."""

    cell: str
    repeat: int
    workflow: int
    execution: int


class CallKey(NamedTuple):
    """The key of one call. `branch`: None outside a fan-out; `call`: from 1 in phase and branch."""

    cell: str
    repeat: int
    workflow: int
    execution: int
    phase: str
    branch: int | None
    call: int


class AttemptKey(NamedTuple):
    """The key of one attempt: the key of its call and its number, from 1."""

    cell: str
    repeat: int
    workflow: int
    execution: int
    phase: str
    branch: int | None
    call: int
    attempt: int


class WorkflowRecord(msgspec.Struct, frozen=True):
    """The base of all records: the key of a workflow execution."""

    cell: str
    repeat: Index[int]
    workflow: Index[int]
    execution: Index[int]


class _BranchRecord(WorkflowRecord, frozen=True, kw_only=True):
    branch: Index[int | None] = None


class CallRecord(_BranchRecord, frozen=True):
    """The base of the records of calls and attempts: the key of a call.

    The fields of a record can be given by position, `branch` by keyword alone, because it has a
    default and required fields follow it.
    """

    phase: str
    call: Ordinal[int]

    @property
    def call_key(self) -> CallKey:
        """The key of the call."""
        return CallKey(
            self.cell, self.repeat, self.workflow, self.execution,
            self.phase, self.branch, self.call,
        )  # fmt: skip


NamesWorkflow: TypeAlias = WorkflowKey | CallKey | AttemptKey | WorkflowRecord
"""Anything that contains the key of a workflow execution."""


def workflow_key(record: NamesWorkflow) -> WorkflowKey:
    """Return the key of the workflow execution that a record belongs to."""
    return WorkflowKey(record.cell, record.repeat, record.workflow, record.execution)


def display_key(record: NamesWorkflow) -> str:
    """Return the name of a workflow on the command line; people count from 1, records from 0."""
    return f"{record.cell}/{record.repeat + 1}/{record.workflow + 1}"
