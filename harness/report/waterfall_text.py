"""One workflow on a terminal: what it was, call by call, what held its end, and what failed."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from harness.records.failures import OK
from harness.records.schema import Run
from harness.report.chart_text import panel_lines
from harness.report.charts.timeline import (
    most_telling,
    waterfall_legend,
    waterfall_notes,
    waterfall_panel,
)
from harness.report.path_text import (
    ToSeconds,
    failure_line,
    in_scenario_seconds,
    path_sentences,
    simulated_line,
)
from harness.report.terminal_tables import wrapped
from harness.report.waterfall import Waterfall
from harness.report.wording import number

LISTED_FAILURES = 12
"""Failed attempts that are listed, unless all are asked for."""


def render_waterfall(
    drawn: Waterfall, run: Run, console: Console, link: str | None, whole: bool = False
) -> None:
    """Write one workflow: what it was, a bar a call, what held its end, what failed.

    `link`: where it is in Jaeger. `whole`: every row and every failure, however many.
    """
    seconds = in_scenario_seconds(run.time_scale)
    workflow = drawn.workflow
    say(console, _title(drawn, run, seconds))
    for line in wrapped(f"Topic: {_printable(workflow.topic)[:200]}"):
        say(console, line)
    say(console, f"Trace {drawn.trace_id}")
    if link:
        say(console, link)
    if workflow.error:
        for line in wrapped(f"Error: {_printable(workflow.error)}"):
            say(console, line)
    say(console)
    rows = drawn.rows if whole else most_telling(drawn.rows)
    panel = waterfall_panel(drawn, rows, seconds, drawn.latency, "")
    for row in panel_lines(panel, waterfall_legend([panel])):
        say(console, row)
    for note in waterfall_notes([panel]):
        say(console, note)
    if len(rows) < len(drawn.rows):
        say(console, f"  … {len(drawn.rows) - len(rows)} calls more: harness trace RUN {drawn.key}")
    say(console)
    for sentence in path_sentences(drawn.path, seconds):
        for line in wrapped(sentence):
            say(console, line)
    most = len(drawn.failures) if whole else LISTED_FAILURES
    for failure in drawn.failures[:most]:
        for line in wrapped(failure_line(failure, seconds)):
            say(console, line)
    if len(drawn.failures) > most:
        say(console, f"… {len(drawn.failures) - most} failed attempts more")


def _printable(text: str) -> str:
    """Return one line with a mark for each character that would steer the terminal."""
    line = " ".join(text.split())
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in line)


def _title(drawn: Waterfall, run: Run, seconds: ToSeconds) -> Text:
    workflow = drawn.workflow
    good, total = workflow.branches.ok, workflow.branches.total
    title = Text(drawn.key, style="bold", overflow="fold")
    style = "" if workflow.outcome == OK else "bold red"
    title.append("\n").append(workflow.outcome, style)
    title.append(f" after {number(seconds(drawn.latency))} s")
    if total:
        title.append(f", {good} of {total} branches ok")
    if run.simulated:
        title.append(f"\n{simulated_line(run)}", style="bold")
    return title


def say(console: Console, line: str | Text = "") -> None:
    """Write one line as it is."""
    console.print(line, soft_wrap=True, markup=False, highlight=False)
