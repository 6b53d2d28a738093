"""The names of a workflow, a call and an attempt within a run, which every record holds."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class NamesWorkflow(Protocol):
    """Anything that says which execution of which workflow it belongs to: every record and key."""

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
    """Anything that says which attempt of which call it is."""

    @property
    def phase(self) -> str:
        """The phase's name."""
        ...

    @property
    def branch(self) -> int | None:
        """Which branch of the fan-out; None outside it."""
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
    """Names one execution of one workflow. `execution` grows when a run is resumed."""

    cell: str
    repeat: int
    workflow: int
    execution: int


class CallKey(NamedTuple):
    """Names one call. `branch` is None outside the fan-out; `call` counts from 1 within it."""

    cell: str
    repeat: int
    workflow: int
    execution: int
    phase: str
    branch: int | None
    call: int


class AttemptKey(NamedTuple):
    """Names one attempt: its call's key, and its number from 1."""

    cell: str
    repeat: int
    workflow: int
    execution: int
    phase: str
    branch: int | None
    call: int
    attempt: int


def workflow_key(record: NamesWorkflow) -> WorkflowKey:
    """Return which execution of which workflow a record belongs to."""
    return WorkflowKey(record.cell, record.repeat, record.workflow, record.execution)
