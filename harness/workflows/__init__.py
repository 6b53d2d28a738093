"""The kinds of workflow: programs that ask a model.

The types that a kind of your own needs can be imported from here; see docs/workflows.md.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.workflows.agent import AgentSection as AgentSection
    from harness.workflows.context import WorkflowContext as WorkflowContext
    from harness.workflows.context import WorkflowFailedError as WorkflowFailedError
    from harness.workflows.prompts import PromptTemplate as PromptTemplate
    from harness.workflows.protocol import WorkflowKind as WorkflowKind
    from harness.workflows.research.kind import ResearchSection as ResearchSection
    from harness.workflows.section import WorkflowSection as WorkflowSection
else:  # type checkers would accept any name

    def __getattr__(name: str) -> Any:
        """Return a type; each is imported when it is first used."""
        if name in _MODULES:
            return getattr(importlib.import_module(_MODULES[name]), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *_MODULES})


_MODULES = {
    "AgentSection": "harness.workflows.agent",
    "PromptTemplate": "harness.workflows.prompts",
    "ResearchSection": "harness.workflows.research.kind",
    "WorkflowContext": "harness.workflows.context",
    "WorkflowFailedError": "harness.workflows.context",
    "WorkflowKind": "harness.workflows.protocol",
    "WorkflowSection": "harness.workflows.section",
}
