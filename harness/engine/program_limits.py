"""The limits of a user's program: how many calls it makes, and how long its answers can be."""

from __future__ import annotations

from typing import NamedTuple


class ProgramLimits(NamedTuple):
    """The limits of one workflow.

    `most_calls`: a workflow that makes more fails. `needs_max_tokens`: each call must have a limit
    for its answer, because the budget limits tokens or money.
    """

    most_calls: int
    needs_max_tokens: bool

    def refusal(self, number: int, phase: str, max_tokens: int | None) -> str | None:
        """Return in one line why a call cannot be made; None if it can.

        `number`: of the call in its workflow, from 1. `max_tokens`: of its answer.
        """
        if number > self.most_calls:
            return f"the program makes more than {self.most_calls} calls; raise workflow.most_calls"
        if self.needs_max_tokens and max_tokens is None:
            return (
                f"{phase}: the budget requires a limit for the length of an answer; give "
                f"max_tokens in the program, or workflow.max_tokens.{phase}"
            )
        return None
