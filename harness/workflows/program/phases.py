"""The phase of the calls of a program, as the program names it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from harness.workflows.program.running import current_strand

current_phase: ContextVar[str | None] = ContextVar("current_phase", default=None)
"""The phase of the calls that the current task makes; None if the program has not named one."""


@contextmanager
def phase(name: str) -> Iterator[None]:
    """Name a phase: calls that begin within it belong to it.

    In a function with the decorator `harness.workflow`, it surrounds the phases of its calls. In
    other programs it is the phase of all calls of this task, and of tasks that begin in it. Outside
    a run it has no effect, so that a program runs with it as it does without it.
    """
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise ValueError(f"harness.phase({name!r}): give a name, such as 'plan'")
    strand = current_strand()
    if strand is not None:
        with strand.within(name):
            yield
        return
    before = current_phase.set(name)
    try:
        yield
    finally:
        current_phase.reset(before)
