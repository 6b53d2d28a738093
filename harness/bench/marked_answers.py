"""Whether the answers of an endpoint have the mark of the simulated provider."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from harness.bench.resume import RunProgress
from harness.records.schema import Attempt, MarkedAnswers, Run


class SeenAnswers(NamedTuple):
    """Whether some answers have the mark, and some have not."""

    marked: bool = False
    unmarked: bool = False


def seen_answers(attempts: Iterable[Attempt]) -> SeenAnswers:
    """Return what the attempts of a trial show."""
    marked = unmarked = False
    for attempt in attempts:
        if attempt.marked_simulated:
            marked = True
        elif attempt.status is not None and attempt.status < 300:  # no error of a proxy
            unmarked = True
    return SeenAnswers(marked, unmarked)


class AnswerMarks:
    """The marks in the answers of a run so far; `begun`: the earlier sessions."""

    def __init__(self, begun: RunProgress) -> None:
        self._is_watched = not begun.run.has_simulator
        before = begun.run.marked_answers
        self._marked = before != "none"
        self._unmarked = before == "some" or (before == "none" and begun.answered)

    def note(self, seen: SeenAnswers) -> bool:
        """Take the answers of a trial; return whether the run has to be marked anew."""
        before = self._found()
        self._marked |= seen.marked
        self._unmarked |= seen.unmarked
        return self._is_watched and self._found() != before

    def _found(self) -> MarkedAnswers:
        if not self._marked:
            return "none"
        return "some" if self._unmarked else "all"

    def marking(self, run: Run) -> Run:
        """Return `run`, marked as simulated if any answer was."""
        found = self._found()
        if not self._is_watched or found == "none":
            return run
        return msgspec.structs.replace(run, simulated=True, marked_answers=found)
