"""The phase of the calls of a program, as the program names it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

current_phase: ContextVar[str | None] = ContextVar("current_phase", default=None)
"""The phase of the calls that the current task makes; None if the program has not named one."""


@contextmanager
def phase(name: str) -> Iterator[None]:
    """Name the phase of all calls that begin in this context, also in tasks that begin in it.

    Outside a run it has no effect, so that a program runs with it as it does without it.
    """
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise ValueError(f"harness.phase({name!r}): give a name, such as 'plan'")
    before = current_phase.set(name)
    try:
        yield
    finally:
        current_phase.reset(before)
