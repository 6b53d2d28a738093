"""The keys of `[workflow]` with `kind = "program"`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from harness.config.config_base import Text
from harness.config.tables import Duration
from harness.workflows.code_section import CodeSection
from harness.workflows.program.loading import (
    checked_place,
    describe_place,
    is_marked,
    load_program,
)


class ProgramSection(CodeSection):
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

    @property
    def code(self) -> str:
        """The place of the program, with a hash of its file."""
        return describe_place(self.program)

    @property
    def needs_event_loop(self) -> bool:
        """Whether the function makes its requests itself. Imports the program."""
        return not is_marked(load_program(self.program))
