"""The end of a run on the terminal: how many calls at once, which policy, is async worth it.

Everything fits into 80 columns and is told by words and position; the little bold and red there
is can be switched off (https://no-color.org) and nothing is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from harness.analysis.model import Cell, Summary
from harness.report.advisories import warnings_of
from harness.report.cell_columns import PART_HEADS, legend, settings_columns
from harness.report.metric_columns import terminal_table
from harness.report.policy_table import failure_lines, policy_columns, side_by_side
from harness.report.tables import Column
from harness.report.terminal_tables import WIDTH, pack, wrapped
from harness.report.wording import (
    cell_labels,
    counted,
    in_reading_order,
    number,
    percent,
    spoken,
)

_FILES = ("summary.json", "report.html", "plots", "traces")


def render_summary(summary: Summary, directory: Path, console: Console) -> None:
    """Write what was run, the table of cells, where the time went, and what follows from it."""

    def say(line: str | Text = "") -> None:
        console.print(line, soft_wrap=True, markup=False, highlight=False)

    say(_title(summary))
    cells = in_reading_order(summary.cells)
    settings = _settings(cells, summary)
    for block in pack([_speed(cells, summary), _trouble(cells, summary)], _room(settings)):
        say()
        _say_table([*settings, *block], cells, summary, console)
    for line in (*wrapped(_key(summary)), *legend(cells)):
        say(line)
    for line in wrapped(_warm_up(cells)):
        say(line)
    if any(cell.time_spent for cell in cells):
        say()
        say(Text("Where the calls' time went, in %", style="bold"))
        for block in pack([_time_spent(cells)], _room(settings)):
            _say_table([*settings, *block], cells, summary, console)
    _say_policies(cells, summary, console)
    for line in failure_lines(summary):
        say(line)
    say()
    for paragraph in (_oracle(summary), _verdict(summary), _recommendation(summary)):
        for line in wrapped(paragraph):
            say(line)
    for warning in warnings_of(summary):
        first, *rest = wrapped(f"Warning: {warning}")
        say(Text.assemble(("Warning:", "bold red"), first.removeprefix("Warning:")))
        for line in rest:
            say(line)
    if summary.recommendation.code:
        say()
        say(Text("To paste: the recommended cell", style="bold"))
        for line in summary.recommendation.code:
            say(f"    {line}".rstrip())
    say()
    say(f"Files: {directory}")
    there = [name for name in _FILES if (directory / name).exists()]
    if there:
        say(f"       {', '.join(there)}")


def _say_policies(cells: Sequence[Cell], summary: Summary, console: Console) -> None:
    """Write what each retry policy cost, policies under one another, where there are several."""
    if len({cell.retry for cell in cells}) < 2:
        return
    console.print()
    console.print(Text("What each retry policy cost", style="bold"))
    beside = side_by_side(cells)
    settings = _settings(beside, summary)
    for block in pack([policy_columns(beside, summary)], _room(settings)):
        _say_table([*settings, *block], beside, summary, console)


def _room(settings: Sequence[Column]) -> int:
    return WIDTH - sum(column.width for column in settings) - (len(settings) - 1)


def _say_table(
    columns: Sequence[Column], cells: Sequence[Cell], summary: Summary, console: Console
) -> None:
    best = summary.recommendation.cell
    styles = ["bold", "bold", *("bold" if cell.id == best else "" for cell in cells)]
    lines = zip(*(column.lines() for column in columns), strict=True)
    for style, line in zip(styles, lines, strict=True):
        console.print(Text(" ".join(line).rstrip(), style=style), soft_wrap=True)


def _title(summary: Summary) -> Text:
    workflows = sum(cell.workflows.started for cell in summary.cells)
    attempts = sum(cell.attempts.total for cell in summary.cells)
    repeats = max((cell.repeats for cell in summary.cells), default=0)
    said = (
        f": {counted(len(summary.cells), 'cell')}, {counted(repeats, 'repeat')}, "
        f"{counted(workflows, 'workflow')}, {counted(attempts, 'attempt')}"
    )
    title = Text.assemble((summary.scenario, "bold"), said)
    if summary.simulated:
        title.append("\nSIMULATED", style="bold")
        how = "in virtual time" if summary.virtual else f"at time scale {summary.time_scale:g}"
        title.append(f" {how}: durations are in scenario seconds")
    return title


def _settings(cells: Sequence[Cell], summary: Summary) -> list[Column]:
    """Return the columns that name a cell; `*` marks the recommended one."""
    best = summary.recommendation.cell
    marks = Column("", "", ["*" if cell.id == best else " " for cell in cells])
    return [marks, *settings_columns(cells)]


def _speed(cells: Sequence[Cell], summary: Summary) -> list[Column]:
    ended = [f"{cell.workflows.ok}/{cell.workflows.started}" for cell in cells]
    return [Column("ok of\nrun", "", ended), *terminal_table("speed", cells, summary)]


def _has_p95(summary: Summary) -> bool:
    return any(cell.workflow_latency_s.p95 for cell in summary.cells)


def _loses(summary: Summary) -> bool:
    return any(cell.workflows.degraded or cell.workflows.failed for cell in summary.cells)


def _trouble(cells: Sequence[Cell], summary: Summary) -> list[Column]:
    lost = [f"{cell.workflows.degraded}+{cell.workflows.failed}" for cell in cells]
    limited = [str(cell.attempts.by_outcome.get("rate_limited", 0)) for cell in cells]
    columns = [
        Column("deg.+\nfailed", "", lost),
        *terminal_table("trouble", cells, summary),
        Column("429s", "", limited),
    ]
    return columns if _loses(summary) else columns[1:]


def _time_spent(cells: Sequence[Cell]) -> list[Column]:
    return [
        Column(
            head,
            "",
            [
                percent(getattr(cell.time_spent, part)).removesuffix("\u00a0%")
                if cell.time_spent
                else number(None)
                for cell in cells
            ],
        )
        for part, head in PART_HEADS.items()
        if part != "client_wait"  # it is in `other` there
    ]


def _key(summary: Summary) -> str:
    said = ["lat. = workflow latency from ready to done", "att. = attempts"]
    if summary.recommendation.cell:
        said.insert(0, "* recommended")
    if _loses(summary):
        said.append("deg. = degraded")
    if not _has_p95(summary):
        said.append("no p95: too few workflows a cell")
    return "; ".join(part.replace(" ", "\u00a0") for part in said)


def _warm_up(cells: Sequence[Cell]) -> str:
    """Say what was cut off an open loop before its latencies were looked at."""
    cut = [(cell.warm_up, cell) for cell in cells if cell.warm_up]
    if not cut:
        return ""
    labels = cell_labels(cells)
    told = ", ".join(
        f"{labels[cell.id]} {count} of {cell.workflows.started}" for count, cell in cut
    )
    return f"Warm-up left out of latencies and shares (MSER-5): {told} workflows."


def _oracle(summary: Summary) -> str:
    oracle = summary.oracle
    if oracle is None:
        return ""
    lag = oracle.first_text_s
    seen = "" if lag is None else (
        f"; first text seen {_real_ms(lag.p50)} (p50), {_real_ms(lag.p99)} (p99) after it was "
        "written, in real time"
    )  # fmt: skip
    wrong = [
        f"{count} {what}"
        for count, what in (
            (oracle.unmatched, "unmatched"),
            (oracle.outcome_mismatches, "with another outcome"),
            (oracle.token_mismatches, "with other token counts"),
        )
        if count
    ]
    return (
        f"Client against provider: {counted(oracle.attempts, 'attempt')} joined{seen}; "
        f"{', '.join(wrong) or 'no mismatch'}."
    )


def _real_ms(seconds: float) -> str:
    return f"{number(seconds * 1000)} ms"


def _verdict(summary: Summary) -> str:
    limited = summary.verdict.bottleneck
    if summary.virtual:
        return " ".join(["Measurement:", *summary.verdict.because])
    if limited != "none":
        said = f"the {limited} was the bottleneck."
    elif summary.simulated:
        said = "neither the client nor the simulator was the bottleneck."
    else:
        said = "the client was not the bottleneck."
    return " ".join([f"Measurement: {said}", *summary.verdict.because])


def _recommendation(summary: Summary) -> str:
    advice = summary.recommendation
    cell = next((cell for cell in summary.cells if cell.id == advice.cell), None)
    what = "none" if cell is None else spoken(cell, summary.cells)
    objective = advice.objective.replace("_", " ")
    said = f"Recommended for the least {objective}: {what}. Evidence: {advice.evidence}."
    return " ".join([said, *advice.because])
