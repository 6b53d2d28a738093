"""One workflow on a terminal: its calls, its critical path and its failures."""

from __future__ import annotations

from itertools import chain

from rich.console import Console
from rich.text import Text

from harness.analysis.workflow_failures import REJECTED, is_rejected
from harness.records.failures import OK
from harness.records.schema import Run
from harness.report.chart_text import panel_lines
from harness.report.charts.timeline import (
    most_telling,
    waterfall_legend,
    waterfall_notes,
    waterfall_panel,
)
from harness.report.console import printable, say
from harness.report.line_wrap import wrapped
from harness.report.path_text import (
    ToSeconds,
    anomaly_line,
    failure_line,
    in_scenario_seconds,
    path_sentences,
)
from harness.report.waterfall import Waterfall
from harness.report.wording import counted, number, simulated_line

LISTED_FAILURES = 12
"""The most failed attempts that are listed by default."""
LISTED_STDERR = 5
"""The last lines of the stderr of a command that are shown by default."""


def render_waterfall(
    drawn: Waterfall, run: Run, console: Console, link: str | None, whole: bool = False
) -> None:
    """Write one workflow. `link`: its URL in Jaeger. `whole`: all rows and all failures."""
    seconds = in_scenario_seconds(run.time_scale)
    workflow = drawn.path.workflow
    say(console, _title(drawn, run, seconds))
    say(console, *wrapped(f"Topic: {printable(workflow.topic)[:200]}"))
    say(console, f"Trace {drawn.trace_id}", *([link] if link else []))
    if workflow.error:
        say(console, *wrapped(f"Error: {printable(workflow.error)}"))
    if workflow.error and workflow.stderr:
        lines = workflow.stderr.splitlines()
        last = lines if whole else lines[-LISTED_STDERR:]
        say(console, *chain.from_iterable(wrapped(f"stderr: {printable(one)}") for one in last))
    if is_rejected(workflow):
        say(console, *wrapped(f"Not kept: {REJECTED}"))
    if not drawn.rows:
        say(console, "It made no calls.")
        return
    rows = drawn.rows if whole else most_telling(drawn.rows)
    panel = waterfall_panel(rows, seconds, drawn.path.latency, "")
    say(console, "", *panel_lines(panel, waterfall_legend([panel])), *waterfall_notes([panel]))
    more = len(drawn.rows) - len(rows)
    if more:
        say(console, f"  … {counted(more, 'more call')}: harness trace RUN {drawn.key}")
    shown = drawn.failures if whole else drawn.failures[:LISTED_FAILURES]
    texts = path_sentences(drawn.path, seconds)
    texts += [failure_line(label, attempt, seconds) for label, attempt in shown]
    if drawn.anomalies:
        texts.append(anomaly_line(drawn.anomalies))
    say(console, "", *(line for text in texts for line in wrapped(text)))
    if len(drawn.failures) > len(shown):
        say(console, f"… {counted(len(drawn.failures) - len(shown), 'more failed attempt')}")


def _title(drawn: Waterfall, run: Run, seconds: ToSeconds) -> Text:
    workflow = drawn.path.workflow
    good, total = workflow.branches.ok, workflow.branches.total
    title = Text(drawn.key, style="bold", overflow="fold")
    title.append("\n").append(workflow.outcome, "" if workflow.outcome == OK else "bold red")
    title.append(f" after {number(seconds(drawn.path.latency))} s")
    if total:
        title.append(f", {good} of {total} branches ok")
    if run.simulated:
        title.append(f"\n{simulated_line(run)}", style="bold")
    return title
