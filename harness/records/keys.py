"""The keys of workflows, calls and attempts within a run. Every record contains its key."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class NamesWorkflow(Protocol):
    """Anything with the key of a workflow execution: every record and every key."""

    @property
    def cell(self) -> str:
        """The cell's id."""
        ...

    @property
    def repeat(self) -> int:
        """Which repeat of the cell."""
        ...

    @property
    def workflow(self) -> int:
        """Which workflow of the trial."""
        ...

    @property
    def execution(self) -> int:
        """Which execution of the workflow."""
        ...


class NamesAttempt(NamesWorkflow, Protocol):
    """Anything with the key of an attempt."""

    @property
    def phase(self) -> str:
        """The phase's name."""
        ...

    @property
    def branch(self) -> int | None:
        """Which branch of its phase; None outside a fan-out."""
        ...

    @property
    def call(self) -> int:
        """Which call of the branch or phase, from 1."""
        ...

    @property
    def attempt(self) -> int:
        """Which attempt of the call, from 1."""
        ...


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


def workflow_key(record: NamesWorkflow) -> WorkflowKey:
    """Return the key of the workflow execution that a record belongs to."""
    return WorkflowKey(record.cell, record.repeat, record.workflow, record.execution)
