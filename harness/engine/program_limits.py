"""The limits of a user's program, and the reasons for which one is ended, each in one line."""

from __future__ import annotations

from typing import NamedTuple

CANCELLED_ITSELF = "the program cancelled itself"
OWN_TIME_EXCEEDED = (
    "the program's own code ran for longer than workflow.own_time_limit without a pause; raise it, "
    "or correct the program"
)


def exited(code: object) -> str:
    """Return what ended a program that raised SystemExit."""
    return f"the program called sys.exit({code!r})"


def raised_unusual(error: BaseException) -> str:
    """Return what ended a program that raised a class of its own that is no Exception."""
    text = " ".join(str(error).split())
    return f"the program raised {type(error).__name__}, which is no Exception: {text}"


def made_no_call(seconds: float) -> str:
    """Return what ended a program that has waited for something that is no call."""
    return (
        f"the program made no call for {seconds:g} s, the time that workflow.own_time_limit "
        "allows; raise it, or correct the program"
    )


class ProgramLimits(NamedTuple):
    """The limits of one workflow.

    `most_calls`: a workflow that makes more fails; None for any number. `needs_max_tokens`: each
    call must have a limit for its answer, because the budget limits tokens or money.
    """

    most_calls: int | None
    needs_max_tokens: bool

    def refusal(self, number: int, phase: str, max_tokens: int | None) -> str | None:
        """Return in one line why a call cannot be made; None if it can.

        `number`: of the call in its workflow, from 1. `max_tokens`: of its answer.
        """
        if self.most_calls is not None and number > self.most_calls:
            return f"the program makes more than {self.most_calls} calls; raise workflow.most_calls"
        if self.needs_max_tokens and max_tokens is None:
            return (
                f"{phase}: the budget requires a limit for the length of an answer; give "
                f"max_tokens in the program, or workflow.max_tokens.{phase}"
            )
        return None
