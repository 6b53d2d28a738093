"""Branches that run side by side: whether one was cancelled, which still run, are they enough.

Bookkeeping for the interpreters and the clients: nothing in here waits. Tasks and threads may use
it at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any, Generic, TypeVar

from harness.engine.effects import (
    Acquire,
    Cancelled,
    Effect,
    FanOut,
    Finished,
    Park,
    Program,
    Release,
    Sleep,
    step,
)

T = TypeVar("T")


def _nothing() -> None:
    """Do nothing."""


class Branch:
    """One program that runs: whether it has been cancelled, and how to wake it.

    `first_text` is called by whatever sends its attempts, when the first text of one has come.
    """

    def __init__(self, first_text: Callable[[], None] = _nothing) -> None:
        self.first_text = first_text
        self.cancelled = False
        self._lock = threading.Lock()
        self._wake: Callable[[], None] | None = None

    def cancel(self) -> None:
        """Wake it from whatever it waits for, now and whenever it would wait again."""
        self.cancelled = True
        with self._lock:
            if self._wake is not None:
                self._wake()

    def waking(self, wake: Callable[[], None]) -> Waking:
        """While this lasts, `wake` is called when the branch is cancelled: at once if it was."""
        return Waking(self, wake)

    def wake_with(self, wake: Callable[[], None] | None) -> None:
        """Have `wake` called when the branch is cancelled; None for nothing."""
        with self._lock:
            self._wake = wake
            if wake is not None and self.cancelled:
                wake()


class Waking:
    """A wait that a branch's cancellation ends: a context manager."""

    __slots__ = ("_branch", "_wake")

    def __init__(self, branch: Branch, wake: Callable[[], None]) -> None:
        self._branch = branch
        self._wake = wake

    def __enter__(self) -> None:
        self._branch.wake_with(self._wake)

    def __exit__(self, *error: object) -> None:
        self._branch.wake_with(None)


class Fork:
    """The branches of one fan-out while they run; `parts` are their programs, each with its own."""

    def __init__(self, effect: FanOut) -> None:
        branches = (
            Branch(partial(self._claim, index)) if effect.claims else Branch()
            for index in range(len(effect.branches))
        )
        self.parts = tuple(zip(effect.branches, branches, strict=True))
        self._hand_over = effect.hand_over
        self._enough = effect.enough
        self._lock = threading.Lock()
        self._claimed = False
        self._results: list[Any] = [None] * len(effect.branches)

    @property
    def results(self) -> list[Any]:
        """What each branch came to, None for those that still run or came to nothing."""
        return list(self._results)

    def held(self, index: int) -> int:
        """Return how many permits a branch holds from its start."""
        return int(self._hand_over and index == 0)

    def ended(self, index: int, result: Any) -> None:
        """Take a branch's result; cancel the others when that is enough."""
        # No text of it comes any more; and a fork that nobody needs is free at once.
        self.parts[index][1].first_text = _nothing
        with self._lock:
            self._results[index] = result
            enough = self._enough is not None and self._enough(tuple(self._results))
        if enough:
            self.cancel()

    def cancel(self) -> None:
        """Cancel every branch; it means nothing to one that has ended."""
        self._cancel([branch for _, branch in self.parts])

    def _claim(self, index: int) -> None:
        with self._lock:
            first, self._claimed = not self._claimed, True
        if first:
            self._cancel([branch for _, branch in self.parts[:index] + self.parts[index + 1 :]])

    @staticmethod
    def _cancel(branches: list[Branch]) -> None:
        for branch in branches:  # all are told before the first gives its permit to the next
            branch.cancelled = True
        for branch in branches:
            branch.cancel()


_RAISING = (Acquire, Sleep, Park)
"""Where a cancelled program would wait: `Cancelled` is raised there."""


class Course(Generic[T]):
    """A program on its way: the permits it holds, and what its cancellation does to it.

    `check` is called before a cancellation is raised in it, and may raise something else.
    """

    def __init__(
        self,
        program: Program[T],
        branch: Branch,
        release: Callable[[], None],
        held: int,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._program = program
        self._branch = branch
        self._release = release
        self._held = held
        self._check = check

    def advance(self, result: Any) -> Effect | Finished[T]:
        """Give the program the last effect's result; return what is to be done next."""
        asked = step(self._program, result)
        while self._branch.cancelled and isinstance(asked, _RAISING):
            self._check()
            if isinstance(asked, Park) and _takes(asked):
                self._give_back()
            asked = step(self._program, Cancelled())
        if isinstance(asked, _TAKING):
            self._held -= _takes(asked)
        return asked

    def done(self, asked: Effect, result: Any) -> Any:
        """Take note of what an effect gave; return what it is to the program."""
        if not isinstance(asked, _RAISING):
            return result
        granted = not isinstance(asked, Sleep) and result.granted is not None and _gives(asked)
        self._held += granted
        if not self._branch.cancelled:
            return result
        if granted:
            self._give_back()
        return Cancelled()

    def end(self) -> None:
        """Close the program; permits that it still holds go back."""
        self._program.close()
        while self._held > 0:
            self._give_back()

    def _give_back(self) -> None:
        self._held -= 1
        self._release()


def _gives(asked: Acquire | Park) -> bool:
    """Return whether a grant is of a permit that was not held before."""
    return isinstance(asked, Acquire) or not asked.keep


_TAKING = (Release, Park, FanOut)


def _takes(asked: Release | Park | FanOut) -> bool:
    """Return whether the program no longer holds its permit once this has been done."""
    match asked:
        case Release():
            return True
        case Park():
            return not asked.keep
        case FanOut():
            return asked.hand_over
