"""The interface of a kind of workflow.

A kind is one object: its keys in `[workflow]`, its phases, its prompts, the order of its calls (for
estimates), and its program. `workflows.registry` names it, or an entry point of the group
`harness.workflows` in another package.
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
        """The prompts, which a scenario can replace, by their keys in `[prompts]`."""

    def phases(self, section: S) -> tuple[PhaseInfo, ...]:
        """Return the phases in the order in which tables show them.

        `max_tokens` of each phase is set from the section afterwards, by the phase's `setting`.
        """

    def layout(self, section: S, prompts: Prompts, topic: str, most: Mapping[str, int]) -> Layout:
        """Return the tree of all calls of a workflow about `topic`.

        `most`: the maximum of tokens that a call of each phase writes.
        """

    def program(self, context: WorkflowContext[S]) -> Program[str]:
        """Run one workflow and return its final text.

        Raises WorkflowFailedError, as the methods of `context` do, if the workflow fails, and
        WorkflowCancelledError if nobody wants it any more.
        """
