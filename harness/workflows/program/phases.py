"""The phase of the calls of a program, as the program names it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import msgspec

from harness.records.clock import ReadClock
from harness.records.keys import WARM_UP, is_phase_name
from harness.records.schema import Phase
from harness.workflows.program.running import current_strand

current_phase: ContextVar[str | None] = ContextVar("current_phase", default=None)
"""The phase of the calls that the current task makes; None if the program has not named one."""


class NamedPhases:
    """The phases that code in an event loop has named, with their times.

    Tasks that are in a phase of the same name at the same time are in one occurrence of it: from
    the begin of the first to the end of the last.
    """

    def __init__(self, now: ReadClock) -> None:
        self._now = now
        self._phases: list[Phase] = []
        self._open: dict[int, int] = {}

    def begin(self, name: str, parent: int | None) -> int:
        """Begin a phase within another one; return its index."""
        for index in self._open:
            if (self._phases[index].name, self._phases[index].parent) == (name, parent):
                self._open[index] += 1
                return index
        now = self._now()
        self._phases.append(Phase(name=name, start=now, end=now, outcome="ok", parent=parent))
        self._open[len(self._phases) - 1] = 1
        return len(self._phases) - 1

    def end(self, index: int, *, ok: bool) -> None:
        """End a phase in one of the tasks that are in it."""
        phase = self._phases[index]
        outcome = phase.outcome if ok else "failed"
        self._phases[index] = msgspec.structs.replace(phase, end=self._now(), outcome=outcome)
        self._open[index] -= 1
        if not self._open[index]:
            del self._open[index]

    def ended(self) -> list[Phase]:
        """Return all phases; those that have not ended end now, as failed."""
        for index in list(self._open):
            self._open[index] = 1
            self.end(index, ok=False)
        return self._phases


named_phases: ContextVar[NamedPhases | None] = ContextVar("named_phases", default=None)
"""The phases of the workflow of the current task; None outside of workflows in an event loop."""
_inside: ContextVar[int | None] = ContextVar("_inside", default=None)
"""The index of the phase of the current task among those of its workflow."""


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
    before, noted, around = current_phase.set(name), named_phases.get(), _inside.get()
    index = None if noted is None else noted.begin(name, around)
    inside, ok = _inside.set(index), False
    try:
        yield
        ok = True
    finally:
        if noted is not None and index is not None:
            noted.end(index, ok=ok)
        _inside.reset(inside)
        current_phase.reset(before)
