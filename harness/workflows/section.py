"""The keys that `[workflow]` has for every kind."""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import Field

from harness.config.config_base import Section, Several, Text

TokenLimit = Annotated[int, Field(gt=0, le=1_000_000_000)]


class WorkflowSection(Section):
    """The keys of every kind of workflow."""

    kind: str
    """The kind of workflow."""
    topics: Several[Text]
    """The inputs of workflows, used in turn; `topics_file` can stand for them."""
    topics_file: Text | None = None
    """A file with one topic in each line, instead of `topics`; lines that begin with `#` are
    skipped; at most 4 MiB.
    """
    carry_reasoning: bool = False
    """Later prompts contain the reasoning of earlier answers."""
    max_tokens: dict[str, TokenLimit | None] = Field(default_factory=dict)
    """The most tokens that a call of a phase may write, reasoning included, by the setting of its
    phase; no limit if absent.
    """


S = TypeVar("S", bound=WorkflowSection)
