"""Decides whether an answer calls a tool, and which one, so that agents come to an end."""

from __future__ import annotations

from harness.simulator.answer_form import AnswerForm, Tool
from harness.simulator.draws import Draws


def chosen_tool(form: AnswerForm, share: float, most_rounds: int, draws: Draws) -> Tool | None:
    """Return the tool that the answer calls; None for text.

    A free choice falls on a tool with the probability `share`. A tool that was not called since the
    last message of the user comes before one that was. After `most_rounds` rounds of tool calls, a
    free choice is text, and a forced one is the last tool: frameworks put the tool that returns the
    result behind all others.
    """
    if not form.tools:
        return None
    if form.rounds >= most_rounds:
        return form.tools[-1] if form.choice == "required" else None
    if form.choice == "auto" and draws.uniform("tool call") >= share:
        return None
    fresh = [tool for tool in form.tools if tool.name not in form.called] or form.tools
    return fresh[int(draws.uniform("tool") * len(fresh))]
