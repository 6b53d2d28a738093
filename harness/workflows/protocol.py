"""What a kind of workflow declares of itself.

A kind is one object, in one file for a simple kind: its keys in `[workflow]`, its phases, its
prompts, how its calls follow one another (for estimates), and its program. Kinds of other packages
are found by the entry-point group `harness.workflows`, which names such an object.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from harness.engine.effects import Program
from harness.records.schema import PhaseInfo
from harness.workflows.context import WorkflowContext
from harness.workflows.layout import Layout
from harness.workflows.prompts import Prompts, PromptTemplate
from harness.workflows.section import S


class WorkflowKind(Protocol[S]):
    """One kind of workflow."""

    @property
    def section(self) -> type[S]:
        """The keys of `[workflow]`."""

    @property
    def templates(self) -> Mapping[str, PromptTemplate]:
        """The prompts that a scenario can replace, by their keys in `[prompts]`."""

    def phases(self, section: S) -> tuple[PhaseInfo, ...]:
        """Return the phases in the order of the tables that show them.

        `max_tokens` of a phase is taken from the section afterwards, by the phase's `setting`.
        """

    def layout(self, section: S, prompts: Prompts, topic: str, most: Mapping[str, int]) -> Layout:
        """Return all calls of a workflow about `topic`, as a tree.

        `most`: the most tokens that a call of each phase can write.
        """

    def program(self, context: WorkflowContext[S]) -> Program[str]:
        """Run one workflow and return its final text.

        A failure that ends the workflow is raised as `WorkflowFailedError`; `context` raises it
        where a phase fails.
        """
