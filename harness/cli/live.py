"""The live view of a run: three lines on a terminal, plain lines elsewhere.

Counting costs a few additions for each record. A separate thread draws the counters twice a
second, which takes well under 1 % of a core.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from rich.console import Console
from rich.live import Live
from rich.text import Text

from harness.bench.trial import Tally
from harness.cli.views import RUN_CONTINUES, Views
from harness.records.failures import is_failure
from harness.records.schema import Attempt, CellInfo, Record, Workflow
from harness.records.settings import value_text
from harness.report.wording import counted

LIVE_VIEW = "the live view"

_REFRESH_SECONDS = 0.5
_BAR = 24


class Counters:
    """What has happened so far, over the run and in the trial that is under way.

    `ended` and `spent` are of earlier sessions, when a run goes on: workflows by (cell, repeat),
    and dollars.
    """

    def __init__(
        self,
        trials: int,
        workflows: int,
        cost: Callable[[Attempt], float] | None,
        virtual: bool = False,
        ended: Mapping[tuple[str, int], int] = MappingProxyType({}),
        spent: float = 0.0,
    ) -> None:
        self.virtual = virtual
        self.trials = trials
        self.workflows = workflows
        self.trials_done = 0
        self.cell: CellInfo | None = None
        self.repeat = 0
        self.in_flight = 0
        self.attempts = 0
        self.rate_limited = 0
        self.failed = 0
        self._ended = ended
        self.workflows_before = self.workflows_done = sum(ended.values())
        self.trial_workflows = 0
        self.cost: float | None = spent if cost else None
        self._cost = cost

    def begin(self, cell: CellInfo, repeat: int, left: int) -> None:
        """A trial begins; `left` are still to come, this one included."""
        self.trials_done = self.trials - left
        self.cell, self.repeat = cell, repeat
        self.trial_workflows = self._ended.get((cell.id, repeat), 0)

    def sending(self, change: int) -> None:
        """One more attempt is in flight (1), or one less (-1)."""
        self.in_flight += change

    def note(self, record: Record) -> None:
        """Count what has ended."""
        if isinstance(record, Attempt):
            self.attempts += 1
            self.failed += is_failure(record.outcome)
            self.rate_limited += record.status == 429
            if self._cost is not None and self.cost is not None:
                self.cost += self._cost(record)
        elif isinstance(record, Workflow):
            self.workflows_done += 1
            self.trial_workflows += 1

    def add(self, tally: Tally) -> None:
        """Count what has ended elsewhere."""
        self.attempts += tally.attempts
        self.failed += tally.failed
        self.rate_limited += tally.rate_limited
        self.workflows_done += tally.workflows
        self.trial_workflows += tally.workflows
        if self.cost is not None:
            self.cost += tally.cost


class Elapsed(NamedTuple):
    """Real seconds since the session began, and how many of the run's workflows have ended.

    `share_before`: how many of them when it began.
    """

    seconds: float
    share_done: float
    share_before: float

    @property
    def left(self) -> float | None:
        """Real seconds still to come if the rest takes as long; None before anything ended."""
        if self.share_done <= self.share_before:
            return None
        return self.seconds * (1 - self.share_done) / (self.share_done - self.share_before)


def lines(counters: Counters, seconds: float, width: int) -> list[str]:
    """Return what to show, each line within `width` columns."""
    total = max(counters.trials * counters.workflows, 1)
    elapsed = Elapsed(seconds, counters.workflows_done / total, counters.workflows_before / total)
    filled = round(_BAR * elapsed.share_done)
    bar = "━" * filled + "─" * (_BAR - filled)
    left = "" if elapsed.left is None else f"  {_clock(elapsed.left)} left"
    shown = [f"{bar} trial {counters.trials_done + 1}/{counters.trials}  {_clock(seconds)}{left}"]
    cell = counters.cell
    if cell is not None:
        named = _named(cell, counters.repeat)
        # In virtual time several trials may be played at once; this is the last one that was.
        shown.append(
            f"{named}: played"
            if counters.virtual
            else f"{named}: {counters.trial_workflows}/{counters.workflows} workflows, "
            f"{counters.in_flight} in flight"
        )
    spend = "" if counters.cost is None else f"  ${counters.cost:.4f} spent"
    rate = counters.attempts / seconds if seconds > 0 else 0.0
    shown.append(
        f"{counters.attempts} attempts ({rate:.1f}/s)  {counters.failed} failed, "
        f"{counters.rate_limited} of them 429{spend}"
    )
    return [line[:width] for line in shown]


def _named(cell: CellInfo, repeat: int) -> str:
    others = (value_text(value) for value in cell.settings.values())
    named = [cell.mode, counted(cell.permits, "permit"), cell.retry, *others]
    return f"{', '.join(named)}, repeat {repeat + 1}"


class LiveView:
    """Shows `counters` until the context ends. Use it as a context manager.

    On a terminal, three lines are redrawn in place; elsewhere, each trial has one plain line.
    """

    def __init__(self, counters: Counters, console: Console, views: Views) -> None:
        self._counters = counters
        self._console = console
        self._views = views
        self._began = time.monotonic()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._live: Live | None = None

    def __enter__(self) -> LiveView:
        with self._views.making(LIVE_VIEW, RUN_CONTINUES):
            self._start()
        return self

    def _start(self) -> None:
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
            draw = self._views.safe(LIVE_VIEW, self._draw, RUN_CONTINUES)
            self._thread = threading.Thread(target=draw, name="live view", daemon=True)
            self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        if self._live is not None:
            with self._views.making(LIVE_VIEW, RUN_CONTINUES):
                self._live.stop()

    def before_trial(self, cell: CellInfo, repeat: int, left: int) -> None:
        """Show a trial that begins."""
        self._counters.begin(cell, repeat, left)
        if self._live is None:
            self._console.print(
                f"trial {self._counters.trials_done + 1}/{self._counters.trials}: "
                f"{_named(cell, repeat)}",
                highlight=False,
                soft_wrap=True,
            )

    def _draw(self) -> None:
        assert self._live is not None, "started on a terminal only"
        while not self._ended.wait(_REFRESH_SECONDS):
            seconds = time.monotonic() - self._began
            shown = lines(self._counters, seconds, self._console.width)
            self._live.update(Text("\n".join(shown), no_wrap=True), refresh=True)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
