"""The keys of `[workflow]` with `kind = "program"`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from harness.config.config_base import Text
from harness.config.tables import Duration, SettingError
from harness.workflows.program.loading import (
    checked_place,
    describe_place,
    is_marked,
    load_program,
)
from harness.workflows.section import WorkflowSection

_NOT_CARRIED = (
    "has no effect on a program, which decides itself what its prompts contain; remove it"
)
CountOfCalls = Annotated[int, Field(ge=1, le=1_000_000)]


class ProgramSection(WorkflowSection):
    """A workflow that is a Python function of yours. A run executes this code.

    Example::

        [workflow]
        program = "mine.py:mine"
        topics = ["ocean tides", "river deltas"]
        calls = { plan = 1, work = 4, write = 1 }
    """

    kind: Literal["program"] = "program"
    """The kind of workflow."""
    program: Annotated[Text, BeforeValidator(checked_place)]
    """The async function: `package.module:function`, or `file.py:function`, relative to the folder
    of the scenario. See docs/your-program.md.
    """
    arguments: dict[Text, Any] = Field(default_factory=dict)
    """Keyword arguments of the function."""
    calls: dict[Text, CountOfCalls] | None = None
    """About how many calls a workflow makes in each phase, for the estimates before a run. If it is
    absent, the number of calls is not known before a run.
    """
    most_calls: CountOfCalls = 1000
    """A workflow that makes more calls fails."""
    own_time_limit: Duration = 60.0
    """A workflow fails if its own code runs, or waits for anything but calls and `harness.sleep`,
    for longer than this without a pause, in real time."""
    instrument: bool = True
    """For a function without the decorator `harness.workflow`: take over the requests of all
    AsyncOpenAI clients that the program makes. With false, only those of the parameter `client`.
    Other requests of the openai package, such as those of a thread, pass no budget: they are
    refused. With false, they are sent.
    """
    keep_model: bool = False
    """For such a function: leave the model in its requests as the program names it, instead of
    `endpoint.model`.
    """

    @model_validator(mode="after")
    def _carries_nothing(self) -> ProgramSection:
        for key in ("carry_reasoning", "carry_tokens"):
            if value := getattr(self, key):
                raise SettingError(_NOT_CARRIED, key, value=value)
        return self

    @property
    def keeps_reasoning(self) -> bool:
        """Whether the program can read the reasoning of answers."""
        return True

    @property
    def code(self) -> str:
        """The place of the program, with a hash of its file."""
        return describe_place(self.program)

    @property
    def needs_event_loop(self) -> bool:
        """Whether the function makes its requests itself. Imports the program."""
        return not is_marked(load_program(self.program))

    @property
    def has_open_phases(self) -> bool:
        """Whether a workflow can have phases that are not declared: the program names them."""
        return True

    @property
    def knows_calls(self) -> bool:
        """Whether the calls of a workflow are known before it runs."""
        return self.calls is not None
