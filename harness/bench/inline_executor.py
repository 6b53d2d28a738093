"""Plays the trials of a virtual run one after another in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.bench.resume import RunProgress
from harness.bench.virtual import Played, Report, Task, opening, play
from harness.simulator.memo import PromptMemory


class InlineExecutor:
    """Plays trials one after another: the only way in which a budget can limit them together."""

    def __init__(self, begun: RunProgress) -> None:
        self._begun = begun
        self._account = opening(begun)
        self._memory = PromptMemory()
        self._last: Played | None = None

    def __enter__(self) -> InlineExecutor:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def play(self, tasks: Sequence[Task], report: Report) -> Iterator[Played]:
        """Yield each trial when it has been played. Ctrl-C ends one, which is yielded as well."""
        for task in tasks:
            played = play(self._begun, task, self._account, report, self._memory)
            self._account, self._last = played.account, played
            yield played

    def stop(self, report: Report) -> Iterator[Played]:
        """Yield the trial that ended last: none is in progress between two trials."""
        if self._last is not None:
            yield self._last
