"""The live view of a run: three lines on a terminal, elsewhere a plain line each tenth of the run.

Counting takes a few additions per record. A separate thread draws the counters twice a second,
which takes well under 1 % of a core.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from rich.console import Console
from rich.live import Live
from rich.text import Text

from harness.analysis.settings import with_permits
from harness.bench.runner import TrialsLeft
from harness.bench.trial import Tally
from harness.cli.views import RUN_CONTINUES, Views
from harness.records.schema import Attempt, CellInfo, Record, Workflow
from harness.records.settings import value_text
from harness.report.wording import counted

LIVE_VIEW = "the live view"

_REFRESH_SECONDS = 0.5
_BAR = 24


class Race(NamedTuple):
    """The number of cells of a run, and of its repeats at most."""

    cells: int
    repeats: int


@dataclass
class Counters:
    """What has been counted so far, in the run and in the current trial.

    `cost`: of an attempt, in dollars; None if no price is known. For a resumed run, `ended` and
    `spent` are of the earlier sessions: workflows by (cell, repeat), and dollars. `race`: where
    repeats are added until the recommendation is settled; `trials` are the most there can be then.
    `is_told`: something else says in plain lines how the run goes on. `workflows`: of each trial;
    None for a gateway, whose requests are not planned.
    """

    trials: int
    workflows: int | None
    cost: Callable[[Attempt], float] | None
    virtual: bool = False
    ended: Mapping[tuple[str, int], int] = field(default_factory=dict)
    spent: float = 0.0
    race: Race | None = None
    is_told: bool = False
    trials_done: int = 0
    place: str = ""
    trial: str = ""
    trial_workflows: int = 0
    in_flight: int = 0
    repeat: int = 0

    def __post_init__(self) -> None:
        self.workflows_before = sum(self.ended.values())
        self.total = Tally(workflows=self.workflows_before, cost=self.spent)
        self.place = f"trial 1/{self.trials}"

    def begin(self, cell: CellInfo, repeat: int, left: TrialsLeft) -> None:
        """Begin a trial; `left`: with it."""
        self.repeat = repeat
        if self.race is None:
            self.trials_done = self.trials - left.trials
            self.place = f"trial {self.trials_done + 1}/{self.trials}"
        else:
            self.trials = self.trials_done + left.trials  # fewer than before if cells were dropped
            self.trials_done += 1
            self.place = (
                f"block {repeat + 1} of at most {self.race.repeats}, {left.cells} of "
                f"{self.race.cells} settings left"
            )
        others = (value_text(value) for value in cell.settings.values())
        named = [cell.mode, with_permits(cell), cell.retry, *others]
        self.trial = f"{', '.join(named)}, repeat {repeat + 1}"
        self.trial_workflows = self.ended.get((cell.id, repeat), 0)

    @property
    def tenth(self) -> int:
        """The tenth of the run in which the current trial is: of its blocks, or of its trials."""
        if self.race is not None:
            return 10 * self.repeat // self.race.repeats
        return 10 * self.trials_done // self.trials

    def sending(self, change: int) -> None:
        """Add to the number of attempts in flight."""
        self.in_flight += change

    def note(self, record: Record) -> None:
        """Count a record that has ended."""
        self.total.note(record, self.cost)
        self.trial_workflows += isinstance(record, Workflow)

    def add(self, tally: Tally) -> None:
        """Add what another process has counted."""
        self.total.add(tally)
        self.trial_workflows += tally.workflows


def lines(counters: Counters, seconds: float, width: int) -> list[str]:
    """Return the lines of the view after `seconds` real seconds, each within `width` columns."""
    total = counters.total
    if counters.workflows is None:
        return [_gateway_line(counters, seconds)[:width]]
    every = max(counters.trials * counters.workflows, 1)
    width_of_bar = _BAR if counters.race is None else _BAR // 2
    filled = min(width_of_bar, round(width_of_bar * total.workflows / every))
    bar = "━" * filled + "─" * (width_of_bar - filled)
    done, left = total.workflows - counters.workflows_before, ""
    if done > 0:
        rest = clock(seconds * max(0, every - total.workflows) / done)
        left = f"  {rest} left" if counters.race is None else f"  at most {rest}"
    shown = [f"{bar} {counters.place}  {clock(seconds)}{left}"]
    if counters.trial:
        # In virtual time several trials can run at once; this is the last one that has ended.
        state = (
            "ended"
            if counters.virtual
            else f"{counters.trial_workflows}/{counters.workflows} workflows, "
            f"{counters.in_flight} in flight"
        )
        shown.append(f"{counters.trial}: {state}")
    spent = "" if counters.cost is None else f"  ${total.cost:.4f} spent"
    rate = total.attempts / seconds if seconds > 0 else 0.0
    shown.append(
        f"{total.attempts} attempts ({rate:.1f}/s)  {total.failed} failed, "
        f"{total.rate_limited} of them 429{spent}"
    )
    return [line[:width] for line in shown]


def _gateway_line(counters: Counters, seconds: float) -> str:
    total = counters.total
    spent = "" if counters.cost is None else f"  ${total.cost:.4f} spent"
    return (
        f"{clock(seconds)}  {counted(total.workflows, 'request')} ended  {counters.in_flight} in "
        f"flight  {total.failed} failed attempts, {total.rate_limited} of them 429{spent}"
    )


def plain_line(counters: Counters, seconds: float) -> str:
    """Return the line of a trial that begins after `seconds` real seconds."""
    total = counters.total
    done = total.workflows - counters.workflows_before
    said = [f"{counters.place}: {counters.trial}"]
    if done:
        failed = f", {total.failed} failed" if total.failed else ""
        said.append(f"{counted(total.workflows, 'workflow')}, {total.attempts} attempts{failed}")
        said.append(clock(seconds))
    return "; ".join(said)


class LiveView:
    """Shows `counters` until the context ends. Use it as a context manager.

    On a terminal, three lines are redrawn in place; elsewhere there is a plain line for the first
    trial, and then for each tenth of the run.
    """

    def __init__(self, counters: Counters, console: Console, views: Views) -> None:
        self._counters = counters
        self._console = console
        self._views = views
        self._began = time.monotonic()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._tenth = -1

    def __enter__(self) -> LiveView:
        with self._views.making(LIVE_VIEW, RUN_CONTINUES):
            if self._console.is_terminal:
                self._live.start()
                draw = self._views.safe(LIVE_VIEW, self._draw, RUN_CONTINUES)
                self._thread = threading.Thread(target=draw, name="live view", daemon=True)
                self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        with self._views.making(LIVE_VIEW, RUN_CONTINUES):
            self._live.stop()

    def before_trial(self, cell: CellInfo, repeat: int, left: TrialsLeft) -> None:
        """Show that a trial begins."""
        counters = self._counters
        counters.begin(cell, repeat, left)
        tenth = counters.tenth
        is_new = tenth > self._tenth and not counters.is_told
        if not self._console.is_terminal and is_new:
            self._tenth = tenth
            seconds = time.monotonic() - self._began
            line = plain_line(counters, seconds)
            self._console.print(line, highlight=False, soft_wrap=True)

    def line(self, text: str) -> None:
        """Print a line above the view."""
        self._console.print(text, highlight=False, soft_wrap=True)

    def _draw(self) -> None:
        while not self._ended.wait(_REFRESH_SECONDS):
            seconds = time.monotonic() - self._began
            shown = lines(self._counters, seconds, self._console.width)
            self._live.update(Text("\n".join(shown), no_wrap=True), refresh=True)


def clock(seconds: float) -> str:
    """Write a duration: `1:05`, or `2:01:05` from an hour on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
