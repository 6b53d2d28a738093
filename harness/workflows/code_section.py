"""The keys of workflows whose code makes its calls itself, and what is known before it runs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

from pydantic import Field, model_validator

from harness.config.config_base import Text
from harness.config.tables import Duration, SettingError
from harness.engine.program_limits import ProgramLimits
from harness.records.schema import PhaseInfo
from harness.workflows.context import WorkflowContext
from harness.workflows.layout import InParallel, InSequence, Layout, PlannedCall
from harness.workflows.section import WorkflowSection

if TYPE_CHECKING:
    from harness.client.hosted_calls import HostedTerms

CountOfCalls = Annotated[int, Field(ge=1, le=1_000_000)]

_NOT_CARRIED = (
    "has no effect on a program, which decides itself what its prompts contain; remove it"
)
_UNKNOWN = PlannedCall("call", 0)


class CodeSection(WorkflowSection):
    """The keys of all workflows that are code of a user."""

    calls: dict[Text, CountOfCalls] | None = None
    """About how many calls a workflow makes in each phase, for the estimates before a run. If it is
    absent, the number of calls is not known before a run.
    """
    most_calls: CountOfCalls = 1000
    """A workflow that makes more calls fails."""
    own_time_limit: Duration = 60.0
    """A workflow fails if it makes no call for longer than this, in real time."""
    keep_model: bool = False
    """Leave the model in the requests as the program names it, instead of `endpoint.model`."""

    @model_validator(mode="after")
    def _carries_nothing(self) -> CodeSection:
        for key in ("carry_reasoning", "carry_tokens"):
            if value := getattr(self, key):
                raise SettingError(_NOT_CARRIED, key, value=value)
        return self

    @property
    def keeps_reasoning(self) -> bool:
        """Whether the code can read the reasoning of answers."""
        return True

    @property
    def has_open_phases(self) -> bool:
        """Whether a workflow can have phases that are not declared: the code names them."""
        return True

    @property
    def knows_calls(self) -> bool:
        """Whether the calls of a workflow are known before it runs."""
        return self.calls is not None

    def expected_phases(self) -> tuple[PhaseInfo, ...]:
        """Return the phases that the section names; the code can have others."""
        names = dict.fromkeys((*(self.calls or ()), *self.max_tokens))
        return tuple(PhaseInfo(name=name, setting=name) for name in names)

    def expected_layout(self) -> Layout:
        """Return the calls that the section names, phase after phase; one call without any.

        How much they read is not known.
        """
        if self.calls is None:
            return _UNKNOWN
        parts: list[Layout] = []
        for phase, count in self.calls.items():
            calls = (PlannedCall(phase, 0),) * count
            parts.append(calls[0] if count == 1 else InParallel(calls))
        return InSequence(tuple(parts))


_C = TypeVar("_C", bound=CodeSection)


def hosted_terms(
    context: WorkflowContext[_C],
    named_phase: Callable[[], str | None],
    *,
    passes_unread: bool = False,
) -> HostedTerms:
    """Return the terms of the calls of one workflow. See `HostedTerms`."""
    from harness.client.hosted_calls import HostedTerms  # imports the openai package

    section = context.section
    return HostedTerms(
        terms=context.terms,
        end=context.end,
        next_key=context.next_key,
        named_phase=named_phase,
        limits=section.max_tokens,
        keeps_model=section.keep_model,
        allowed=ProgramLimits(section.most_calls, context.needs_limit),
        nonce=context.prompts.nonce,
        passes_unread=passes_unread,
    )


def short_digest(file: Path) -> str | None:
    """Return the first digits of the SHA-256 of a file; None if it cannot be read."""
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()[:12]
    except OSError:
        return None
