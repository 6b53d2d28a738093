"""The phase of the calls of a program, as the program names it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from harness.records.keys import WARM_UP
from harness.workflows.program.running import current_strand

current_phase: ContextVar[str | None] = ContextVar("current_phase", default=None)
"""The phase of the calls that the current task makes; None if the program has not named one."""


def check_phase(name: object, where: str) -> None:
    """Raise ValueError if a phase cannot have this name."""
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise ValueError(f"{where}: give a name of a phase, such as 'plan'")
    if name == WARM_UP:
        raise ValueError(f"{where}: this is the phase of warm-up calls; give another name")


@contextmanager
def phase(name: str) -> Iterator[None]:
    """Name a phase: calls that begin within it belong to it.

    In a function with the decorator `harness.workflow`, it surrounds the phases of its calls. In
    other programs it is the phase of all calls of this task, and of tasks that begin in it. Outside
    a run it has no effect, so that a program runs with it as it does without it.
    """
    check_phase(name, f"harness.phase({name!r})")
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
