"""What a run shows when it ends: the answer, one line a setting, advice, and what to do next.

At most `LINES` lines, so that all of it is on one screen. `terminal` has the rest.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.text import Text

from harness.analysis.model import Cell, Summary
from harness.analysis.question import MEASURING
from harness.report.advisories import warnings_of
from harness.report.answer_text import run_answer
from harness.report.arrivals_text import arrivals_text
from harness.report.line_wrap import legend, wrapped
from harness.report.next_steps import Rerun, Step, next_steps
from harness.report.paired_columns import paired_columns, paired_key
from harness.report.screen_table import CLIENT_COLUMNS, SPEED_UP, ranked, table_lines
from harness.report.tune_proof import ruled_out_text
from harness.report.tune_text import tune_cost, untried_settings
from harness.report.wording import (
    cell_labels,
    counted,
    ended,
    kept,
    never_ended,
    repeats_of,
    simulated_line,
    speedup,
    tried_settings,
)

LINES = 24
"""The most lines: what the smallest terminal shows."""

NARROWEST, WIDEST = 80, 120
"""The widths between which the screen adapts to the terminal."""

REPORT_FILE = "report.html"

MOST_NOTES = 2
MOST_LEGENDS = 2
FEWEST_ROWS = (1, 2, 4)
"""The fewest rows of the table beside no note, one note and two; a note without room is left out.

The first note says why work was lost, so it takes more of the room.
"""

Line = str | Text


def interrupted_screen(summary: Summary, directory: Path, width: int) -> list[Line]:
    """Return a few lines: what is saved, what is known so far, and how to go on."""
    run = shlex.quote(str(directory))
    done = sum(map(ended, summary.cells))
    planned = "" if summary.planned_workflows is None else f" of {summary.planned_workflows}"
    saved = f"{done}{planned} workflows ended and are saved, {never_ended(summary)} never ended"
    known = run_answer(summary).sentence
    if summary.lacking:
        known = f"Damaged:     {' '.join(summary.lacking)} Nothing is proven."
    resume = [] if summary.serves_requests else [f"Go on:       harness run --resume {run}"]
    return [
        Text(f"Interrupted: {saved}.", style="bold"),
        *wrapped(known, width=width),
        *resume,
        f"Results:     harness report {run}",
        f"Why so slow: harness trace {run}",
    ]


def screen_width(width: int) -> int:
    """Return the width to use on a terminal of this width."""
    return min(max(width, NARROWEST), WIDEST)


def first_screen(
    summary: Summary,
    directory: Path,
    width: int,
    *,
    has_report: bool = True,
    rerun: Rerun | None = None,
) -> list[Line]:
    """Return the lines of the screen.

    `has_report`: whether report.html was made. `rerun`: how to run the scenario again, if known.
    """
    found = run_answer(summary)
    head: list[Line] = [
        Text(line, style="bold") for line in wrapped(found.sentence, width=width, indent="")
    ]
    head += wrapped(found.reason, width=width, indent="")
    if summary.tune is not None:
        head += wrapped(tune_cost(summary.tune, summary.stopped), width=width, indent="")
    any_kept = any(map(kept, summary.cells))
    notes = (
        [wrapped(f"Note: {one}", width=width) for one in warnings_of(summary)] if any_kept else []
    )
    if summary.tune is not None and any_kept and not ruled_out_text(summary):
        notes.append(wrapped(untried_settings(summary.tune), width=width))
    where = directory / REPORT_FILE if has_report else directory
    end = [f"{'Report' if has_report else 'Records'}: {where}"]
    end += _next(next_steps(summary, directory, rerun), width)
    middle: list[Line] = []
    for most_notes in (MOST_NOTES, 1, 0):
        shown = notes[:most_notes]
        count = len(head) + len(end) + 1 + sum(map(len, shown))
        room = LINES - count
        said = " ".join(str(line) for line in [*head, *(line for note in shown for line in note)])
        middle = _middle(summary, width, room, said) if any(map(ended, summary.cells)) else []
        if room >= len(middle) and (room >= _fewest(summary, width, len(shown)) or not shown):
            break
    noted = [_note(line) for note in shown for line in note]
    return [*head, *middle, *([""] if noted or middle else []), *noted, *end]


def _fewest(summary: Summary, width: int, notes: int) -> int:
    """Return how many lines a caption, a key and the fewest rows beside `notes` notes need."""
    fixed = _around(summary, width, summary.cells)
    return len(fixed.above) + len(fixed.below) + 2 + min(len(summary.cells), FEWEST_ROWS[notes])


def _note(line: str) -> Line:
    if not line.startswith("Note:"):
        return line
    return Text.assemble(("Note:", "bold red"), line.removeprefix("Note:"))


class _Around(NamedTuple):
    above: list[Line]
    below: list[Line]


def _around(summary: Summary, width: int, shown: Sequence[Cell]) -> _Around:
    """Return the caption above the table of the cells `shown` and the key below it."""
    workflows = sum(cell.workflows.started for cell in summary.cells)
    said = (
        f"{summary.scenario}: {tried_settings(summary)}, {repeats_of(summary.cells)}, "
        f"{counted(workflows, 'workflow')}"
    )
    if summary.has_simulator:
        how = "virtual time" if summary.virtual else f"time scale {summary.time_scale:g}"
        said += f". SIMULATED ({how})"
    elif summary.simulated:
        said += f". {simulated_line(summary).partition(':')[0]}"
    lines = wrapped(said, width=width, indent="")
    lines += wrapped(arrivals_text(summary), width=width, indent="")
    above: list[Line] = ["", *(Text(line, style="bold") for line in lines)]
    return _Around(
        above,
        [
            *wrapped(_table_key(summary, shown, width), width=width, indent=""),
            *_legend(summary, width),
        ],
    )


def _legend(summary: Summary, width: int) -> list[Line]:
    return list(legend(summary.cells, width)[:MOST_LEGENDS])


def _table_key(summary: Summary, shown: Sequence[Cell], width: int) -> str:
    said = []
    if summary.question == "client":
        said.append(CLIENT_COLUMNS)
    if summary.recommendation.candidate and summary.question not in MEASURING:
        is_proven = summary.recommendation.cell is not None
        said.append("* recommended" if is_proven else "* ahead so far")
        said += [paired_key(summary)] if paired_columns(summary, shown) else []
    if any(cell.slo == "broken" for cell in shown):
        asked = summary.slo.success_rate
        below = "too few" if asked is None else f"less than {100 * asked:.4g}\u00a0%"
        said.append(f"x keeps {below}")
    if any(cell.dropped_after is not None and cell.slo != "broken" for cell in shown):
        said.append("- ended early")
    if any(map(kept, shown)):
        is_wide = SPEED_UP in table_lines(summary, shown, width)[0]
        is_left_out = any(one.speedup_over_sync != speedup(one, summary.cells) for one in shown)
        of_kept = "goodput, median, speed-up: of kept work"
        if summary.question != "client":
            said.append(
                of_kept if is_wide and is_left_out else "goodput, median: of workflows kept"
            )
    if summary.time_scale != 1 and not summary.virtual:
        said.append("s: scenario seconds")
    return "; ".join(one.replace(" ", "\u00a0") for one in said)


def _middle(summary: Summary, width: int, room: int, said: str) -> list[Line]:
    """Return the caption, the table of settings and its key in at most `room` lines.

    `said`: the text around the table. What it names comes before other rows.
    """
    above, below = _around(summary, width, summary.cells)
    cells = ranked(summary)
    most = room - len(above) - len(below) - 2
    shown = cells if len(cells) <= most else _first(cells, max(1, most - 1), summary, said)
    below = _around(summary, width, shown).below  # never longer than that of all cells
    more = []
    if len(shown) < len(cells):
        more = [f"  and {len(cells) - len(shown)} more, see --verbose"]
    best = summary.recommendation.candidate
    is_bold = [False, False, *(cell.id == best for cell in shown)]
    rows = [
        Text(line, style="bold" if bold else "")
        for line, bold in zip(table_lines(summary, shown, width), is_bold, strict=True)
    ]
    return [*above, *rows, *more, *below]


def _first(cells: Sequence[Cell], most: int, summary: Summary, said: str) -> list[Cell]:
    """Return the best cell and those that the text names, then the next best ones, in order."""
    labels = cell_labels(summary.cells)
    rivals = {rival.cell for rival in summary.recommendation.rivals}

    def place(cell: Cell) -> tuple[bool, bool, bool]:
        return cell is not cells[0], labels[cell.id] not in said, cell.id not in rivals

    chosen = sorted(cells, key=place)[:most]
    return [cell for cell in cells if cell in chosen]


def _next(steps: Sequence[Step], width: int) -> list[str]:
    """Return the lines of the first three commands, each with its purpose if that fits."""
    lines: list[str] = []
    for at, (command, purpose) in enumerate(steps[:3]):
        line = f"{'      ' if at else 'Next: '}{command}"
        full = f"{line}  # {purpose}"
        lines += [full] if len(full) <= width else _continued(line, width)
    return lines


def _continued(line: str, width: int) -> list[str]:
    r"""Break a command that is too long before options, with `\` as shells want it.

    A command that does not fit even so, because of a long path, stays on one line.
    """
    lines = [""]
    for part in re.split(r" (?=--)", line):
        room = width - len(" \\")
        if lines[-1] and len(line) > width and len(f"{lines[-1]} {part}") > room:
            lines[-1] += " \\"
            lines.append(f"        {part}")
        else:
            lines[-1] += f" {part}" if lines[-1] else part
    return lines if max(map(len, lines)) <= width else [line]
