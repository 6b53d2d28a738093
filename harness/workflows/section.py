"""The keys that `[workflow]` has for every kind."""

from __future__ import annotations

from typing import Annotated, Self, TypeVar

from pydantic import Field, model_validator

from harness.config.config_base import Section, Several, Text
from harness.config.tables import SettingError

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
    carry_tokens: int | None = Field(default=None, ge=0, le=1_000_000)
    """With `carry_reasoning`: about the most tokens that are carried of one answer, from its end;
    0 carries nothing. All of them if absent.
    """
    max_tokens: dict[str, TokenLimit | None] = Field(default_factory=dict)
    """The most tokens that a call of a phase may write, reasoning included, by the setting of its
    phase; no limit if absent.
    """

    @model_validator(mode="after")
    def _carried_tokens_are_carried(self) -> Self:
        if self.carry_tokens is not None and not self.carry_reasoning:
            raise SettingError(
                "has no effect without workflow.carry_reasoning = true; add that, or remove it",
                "carry_tokens",
                value=self.carry_tokens,
            )
        return self

    @property
    def keeps_reasoning(self) -> bool:
        """Whether the program reads the reasoning of answers."""
        return self.carry_reasoning

    @property
    def code(self) -> str | None:
        """The code of a user that a run executes; None for none."""
        return None

    @property
    def needs_event_loop(self) -> bool:
        """Whether a workflow is asynchronous code, which runs only in an event loop."""
        return False

    @property
    def is_process(self) -> bool:
        """Whether a workflow is a process of its own, which needs real time and an event loop."""
        return False

    @property
    def is_gateway(self) -> bool:
        """Whether workflows are the requests that a gateway gets; how many there are is not known.

        They need real time and an event loop.
        """
        return False

    @property
    def has_open_phases(self) -> bool:
        """Whether a workflow can have phases that its kind does not declare."""
        return False

    @property
    def knows_calls(self) -> bool:
        """Whether the calls of a workflow are known before it runs."""
        return True

    @property
    def has_own_layouts(self) -> bool:
        """Whether the workflows about different topics have different calls."""
        return False

    @property
    def recorded_arrivals(self) -> tuple[float, ...] | None:
        """Seconds from the first recorded arrival to that of each topic; None without a record."""
        return None

    def carried(self, tokens: int) -> int:
        """Return how many tokens of a reasoning of so many are carried."""
        if not self.carry_reasoning:
            return 0
        return tokens if self.carry_tokens is None else min(tokens, self.carry_tokens)


S = TypeVar("S", bound=WorkflowSection)
