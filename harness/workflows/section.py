"""The keys that `[workflow]` has for every kind."""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import Field

from harness.config.config_base import Section, Several, Text

TokenLimit = Annotated[int, Field(gt=0, le=1_000_000_000)]


class WorkflowSection(Section):
    """What every kind of workflow has.

    `topics` are used in turn if there are fewer topics than workflows. `topics_file`: the file
    that the topics were read from, one a line. `carry_reasoning`: programs are given the reasoning
    of an answer, to put it into later prompts; without it they are given an empty text.
    `max_tokens`: the most tokens of one call, reasoning included, by the `setting` of its phase.
    """

    kind: str
    topics: Several[Text]
    topics_file: Text | None = None
    carry_reasoning: bool = False
    max_tokens: dict[str, TokenLimit | None] = Field(default_factory=dict)


S = TypeVar("S", bound=WorkflowSection)
