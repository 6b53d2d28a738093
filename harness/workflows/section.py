"""The keys that `[workflow]` has for every kind."""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import Field

from harness.config.config_base import Section, Several, Text

TokenLimit = Annotated[int, Field(gt=0, le=1_000_000_000)]


class WorkflowSection(Section):
    """The keys of every kind of workflow.

    `topics` are used in turn if there are fewer topics than workflows. `topics_file`: the file that
    contained the topics, one in each line. `carry_reasoning`: programs get the reasoning of each
    answer, for later prompts, instead of an empty text. `max_tokens`: the maximum of tokens of one
    call, reasoning included, by the `setting` of its phase.
    """

    kind: str
    topics: Several[Text]
    topics_file: Text | None = None
    carry_reasoning: bool = False
    max_tokens: dict[str, TokenLimit | None] = Field(default_factory=dict)


S = TypeVar("S", bound=WorkflowSection)
