"""A workflow's waterfall on a terminal, within 80 columns.

Each part has a character of its own, so that nothing is lost without colours.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from harness.analysis.call_segments import PARTS
from harness.records.failures import OK, is_failure
from harness.records.schema import Run
from harness.report.path_text import (
    WORDS,
    ToSeconds,
    failure_line,
    in_scenario_seconds,
    path_sentences,
    simulated_line,
)
from harness.report.terminal_tables import WIDTH, wrapped
from harness.report.waterfall import Waterfall, WaterfallRow
from harness.report.wording import number, shortened

MARKS: dict[str, tuple[str, str]] = {
    "permit_wait": ("·", "bright_black"),
    "client_wait": ("-", "default"),
    "backoff": ("~", "yellow"),
    "failed_attempts": ("x", "red"),
    "to_first_token": ("░", "cyan"),
    "reasoning": ("▒", "blue"),
    "answer": ("█", "green"),
    "other": ("-", "default"),
}
"""How each part is drawn: its character, and its colour where there are colours."""

MOST_ROWS = 40
"""Rows of a waterfall, unless all are asked for."""
MOST_FAILURES = 12

_LABEL = 15
_BAR = WIDTH - 2 - _LABEL - 1 - 8


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
    rows = drawn.rows if whole else _most_telling(drawn.rows)
    say(console, _axis(seconds(drawn.latency)))
    for row in rows:
        say(console, bar_line(row, drawn.latency, seconds))
    if len(rows) < len(drawn.rows):
        say(console, f"  … {len(drawn.rows) - len(rows)} calls more: harness trace RUN {drawn.key}")
    say(console, _legend(rows, drawn.latency))
    say(console)
    for sentence in path_sentences(drawn.path, seconds):
        for line in wrapped(sentence):
            say(console, line)
    most = len(drawn.failures) if whole else MOST_FAILURES
    for failure in drawn.failures[:most]:
        for line in wrapped(failure_line(failure, seconds)):
            say(console, line)
    if len(drawn.failures) > most:
        say(console, f"… {len(drawn.failures) - most} failed attempts more")


def _printable(text: str) -> str:
    """Return one line with a mark for each character that would steer the terminal."""
    line = " ".join(text.split())
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in line)


def bar_line(row: WaterfallRow, latency: int, seconds: ToSeconds) -> Text:
    """Return one row: a star on the critical path, the label, the bar, the call's seconds."""
    line = Text("* " if row.held else "  ", style="bold" if row.held else "")
    failed = is_failure(row.outcome)
    line.append(shortened([row.label], _LABEL)[row.label].ljust(_LABEL), "red" if failed else "")
    line.append(" ")
    for part in columns(row, latency):
        mark, style = MARKS[part] if part else (" ", "")
        line.append(mark, style)
    line.append(number(seconds(row.end - row.start)).rjust(8))
    return line


def columns(row: WaterfallRow, latency: int, width: int = _BAR) -> list[str | None]:
    """Return what each column of a bar stands for: the part that takes most of its time.

    A failed attempt has a column in any case, and so has a call that was over in no time.
    """
    most = [0] * width
    shown: list[str | None] = [None] * width
    for piece in row.pieces:
        first, last = piece.start * width // latency, (piece.end - 1) * width // latency
        for at in range(max(first, 0), min(last, width - 1) + 1):
            start, end = at * latency // width, (at + 1) * latency // width
            overlap = min(piece.end, end) - max(piece.start, start)
            if overlap > most[at] and 2 * overlap >= (end - start if shown[at] is None else 0):
                most[at], shown[at] = overlap, piece.part
    for piece in row.pieces:
        if piece.part == "failed_attempts":
            shown[min(piece.start * width // latency, width - 1)] = piece.part
    if row.pieces and not any(shown):
        longest = max(row.pieces, key=lambda piece: piece.length)
        shown[min(longest.start * width // latency, width - 1)] = longest.part
    return shown


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


def _axis(latency: float) -> Text:
    """Return the axis: 0, the quarters and the end, in scenario seconds."""
    line = [" "] * WIDTH
    begin = 2 + _LABEL + 1
    for quarter in range(5):
        text = number(latency * quarter / 4) + (" s" if quarter == 4 else "")
        at = begin + quarter * _BAR // 4
        at = min(at - (len(text) // 2 if 0 < quarter < 4 else 0), WIDTH - len(text))
        line[at : at + len(text)] = text
    return Text("".join(line).rstrip(), style="bright_black")


def _legend(rows: Sequence[WaterfallRow], latency: int) -> Text:
    """Return what the characters mean that are drawn."""
    drawn = {part for row in rows for part in columns(row, latency) if part}
    margin = "\n" + " " * (2 + _LABEL + 1)
    line, room = Text(margin[1:]), _BAR
    marked = [
        (MARKS[part], "client wait, other" if part == "other" else WORDS[part])
        for part in PARTS
        if (part in drawn or (part == "other" and "client_wait" in drawn)) and part != "client_wait"
    ]
    for (mark, style), words in [*marked, (("*", "bold"), "on the critical path")]:
        if room < len(words) + 2:
            line.rstrip()
            line.append(margin)
            room = _BAR
        line.append(mark, style).append(f" {words}  ")
        room -= len(words) + 4
    line.rstrip()
    return line


def _most_telling(rows: Sequence[WaterfallRow]) -> list[WaterfallRow]:
    """Return at most `MOST_ROWS` rows: the path's, failed ones, then those that ended last."""
    ranked = sorted(rows, key=lambda row: (not row.held, not is_failure(row.outcome), -row.end))
    kept = set(map(id, ranked[:MOST_ROWS]))
    return [row for row in rows if id(row) in kept]


def say(console: Console, line: str | Text = "") -> None:
    """Write one line as it is."""
    console.print(line, soft_wrap=True, markup=False, highlight=False)
