"""The phase of the calls of a program, as the program names it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache

from harness.records.keys import WARM_UP
from harness.workflows.program.running import current_strand

current_phase: ContextVar[str | None] = ContextVar("current_phase", default=None)
"""The phase of the calls that the current task makes; None if the program has not named one."""


@lru_cache(maxsize=256)
def _is_name(name: str) -> bool:
    return bool(name.strip()) and name.isprintable() and name != WARM_UP


def is_phase_name(name: object) -> bool:
    """Return whether a phase can have this name."""
    return isinstance(name, str) and _is_name(name)


def check_phase(name: object, where: str) -> None:
    """Raise ValueError if a phase cannot have this name."""
    if name == WARM_UP:
        raise ValueError(f"{where}: this is the phase of warm-up calls; give another name")
    if not is_phase_name(name):
        raise ValueError(f"{where}: give a name of a phase, such as 'plan'")


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
