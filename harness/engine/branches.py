"""Concurrent branches: cancellation, results, and whether enough of them have succeeded.

Shared by the interpreters and the transports. Nothing in this module waits. It is safe to use from
several tasks and threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from harness.engine import effects
from harness.engine.effects import Acquire, Cancelled, Effect, FanOut, Finished, Park, Program, step

_T = TypeVar("_T")


def do_nothing() -> None:
    """Do nothing: the default of a hook."""


def no_survival() -> bool:
    """Return False: the default of a question."""
    return False


class Branch:
    """A running program: whether it was cancelled, and how to wake it.

    `first_text`: the transport calls this when an attempt receives its first text. `survives`:
    whether an attempt whose task is cancelled has a reply, because its program continues.

    It needs no lock. `cancel` marks the branch and then looks for a function; `wake_with` stores
    the function and then looks for the mark. So at least one of them calls it. Both may call it,
    or `cancel` may call it after the wait, so the functions allow that. Locks took 0.5 us a call.
    """

    __slots__ = ("_wake", "cancelled", "first_text", "survives")

    def __init__(self, first_text: Callable[[], None] = do_nothing) -> None:
        self.first_text = first_text
        self.cancelled = False
        self.survives: Callable[[], bool] = no_survival
        self._wake: Callable[[], None] | None = None

    def cancel(self) -> None:
        """Cancel the branch: end its current wait and every later one."""
        self.cancelled = True
        wake = self._wake
        if wake is not None:
            wake()

    def waking(self, wake: Callable[[], None]) -> Waking:
        """Return a context in which cancelling the branch calls `wake`."""
        return Waking(self, wake)

    def wake_with(self, wake: Callable[[], None] | None) -> None:
        """Set the function that cancelling the branch calls; None for none."""
        self._wake = wake
        if wake is not None and self.cancelled:
            wake()


class Waking:
    """A context manager for a wait that the cancellation of a branch ends."""

    __slots__ = ("_branch", "_wake")

    def __init__(self, branch: Branch, wake: Callable[[], None]) -> None:
        self._branch = branch
        self._wake = wake

    def __enter__(self) -> None:
        self._branch.wake_with(self._wake)

    def __exit__(self, *error: object) -> None:
        self._branch.wake_with(None)


class Fork:
    """The running branches of one fan-out. `parts`: each program with its Branch."""

    def __init__(self, effect: FanOut) -> None:
        self.parts = [(program, Branch()) for program in effect.branches]
        if effect.claims:
            for index, (_, branch) in enumerate(self.parts):
                branch.first_text = partial(self._claim, index)
        self._hand_over = effect.hand_over
        self._enough = effect.enough
        self._lock = threading.Lock()
        self._claimed = False
        self._results: list[Any] = [None] * len(effect.branches)

    @property
    def results(self) -> list[Any]:
        """The result of each branch; None for one that is running or has no result."""
        return list(self._results)

    def held(self, index: int) -> int:
        """Return the number of permits that a branch holds at its start."""
        return int(self._hand_over and index == 0)

    def ended(self, index: int, result: Any) -> None:
        """Store the result of a branch; cancel the others if the results are enough."""
        # No more text can come. Dropping the reference frees the fork without a collection.
        self.parts[index][1].first_text = do_nothing
        self._results[index] = result
        if self._enough is None:
            return  # without a copy, which would make a fan-out's cost grow with its square
        with self._lock:
            enough = self._enough(tuple(self._results))
        if enough:
            self.cancel()

    def cancel(self) -> None:
        """Cancel every branch. This has no effect on a branch that has ended."""
        self._cancel([branch for _, branch in self.parts])

    def _claim(self, index: int) -> None:
        others = [branch for _, branch in self.parts[:index] + self.parts[index + 1 :]]
        with self._lock:
            first, self._claimed = not self._claimed, True
            if first:  # a branch whose claim comes later sees that it is cancelled
                self._mark(others)
        if first:
            self._cancel(others)

    @staticmethod
    def _mark(branches: list[Branch]) -> None:
        for branch in branches:
            branch.cancelled = True

    def _cancel(self, branches: list[Branch]) -> None:
        self._mark(branches)  # all of them before the first one releases its permit
        for branch in branches:
            branch.cancel()


_RAISING = frozenset({Acquire, effects.Sleep, Park})
"""Effects that wait: `Cancelled` is raised there in a cancelled program."""
_TAKING = frozenset({effects.Release, Park, FanOut})
"""Effects that can take a permit from the program."""


@dataclass(eq=False, slots=True)
class Course(Generic[_T]):
    """A running program, the permits that it holds, and the handling of its cancellation.

    `check` is called before Cancelled is raised in the program; it may raise something else.
    """

    program: Program[_T]
    branch: Branch
    release: Callable[[], None]
    held: int
    check: Callable[[], None] = do_nothing

    def advance(self, result: Any) -> Effect | Finished[_T]:
        """Send the last effect's result to the program; return its next effect or its result."""
        effect: Effect | Finished[_T]
        if type(result) is Cancelled:
            effect = step(self.program, result)
        else:  # the same as in `step`, without its call
            try:
                effect = self.program.send(result)
            except StopIteration as end:
                return Finished(end.value)
        if self.branch.cancelled:
            while type(effect) in _RAISING:
                self.check()
                if type(effect) is Park and _takes(effect):
                    self._give_back()
                effect = step(self.program, Cancelled())
        if type(effect) in _TAKING:
            self.held -= _takes(effect)
        return effect

    def done(self, effect: Effect, result: Any) -> Any:
        """Account for the result of an effect; return the value to send to the program."""
        if type(effect) not in _RAISING:
            return result
        kept = type(effect) is effects.Sleep or (type(effect) is Park and effect.keep)
        granted = not kept and result.granted is not None
        self.held += granted
        if not self.branch.cancelled:
            return result
        if granted:
            self._give_back()
        return Cancelled()

    def end(self) -> None:
        """Close the program and release the permits that it still holds."""
        self.program.close()
        while self.held > 0:
            self._give_back()

    def _give_back(self) -> None:
        self.held -= 1
        self.release()


def _takes(effect: Effect | Finished[Any]) -> bool:
    """Return whether the effect takes a permit from the program."""
    if type(effect) is effects.Release:  # the most frequent first
        return True
    if type(effect) is Park:
        return not effect.keep
    return type(effect) is FanOut and effect.hand_over
