"""What a reader wants to know first: what async and threads bought, at which permits, how sure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from harness.analysis.model import Cell, Figure, Summary
from harness.analysis.settings import policy_of
from harness.report.advisories import warnings_of
from harness.report.tables import Subject
from harness.report.wording import (
    MODE_NAMES,
    headline,
    in_seconds,
    losses,
    number,
    rate_unit,
    scaled,
    sentence,
    spoken,
    value_of,
    with_interval,
)


class SpeedUpStep(NamedTuple):
    """One permit count of a mode: its speed-up with its interval, or its throughput."""

    permits: int
    text: str
    best: bool


class Bought(NamedTuple):
    """What one mode bought at its best cell: a speed-up, or a rate where there was no sync."""

    mode: str
    setting: str
    figure: str
    unit: str
    interval: str
    sure: str
    steps: tuple[SpeedUpStep, ...]
    facts: tuple[tuple[str, str], ...]


class Advice(NamedTuple):
    """The recommendation in words."""

    objective: str
    setting: str
    enough: bool
    wanted: str
    because: tuple[str, ...]
    code: str


class AnswerSection(NamedTuple):
    """The first thing in the report."""

    lead: tuple[str, ...]
    modes: tuple[Bought, ...]
    advice: Advice
    warnings: tuple[str, ...]


def answer(about: Subject) -> AnswerSection:
    """Return what the run says, in sentences and in one card a mode."""
    summary = about.summary
    ran = [cell for cell in about.cells if cell.throughput.workflows_per_s is not None]
    by_mode = {
        mode: [cell for cell in ran if cell.mode == mode]
        for mode in reversed(MODE_NAMES)
        if any(cell.mode == mode for cell in ran)
    }
    shown = {mode: cells for mode, cells in by_mode.items() if mode != "sync"} or by_mode
    best = {mode: headline(cells, summary) for mode, cells in shown.items()}
    return AnswerSection(
        tuple(_lead(best, summary)),
        tuple(_bought(about, best[mode], cells) for mode, cells in shown.items()),
        _advice(about),
        tuple(sentence(about.named(warning)) for warning in warnings_of(summary)),
    )


def _lead(best: dict[str, Cell], summary: Summary) -> list[str]:
    if not any(_ended(cell) for cell in summary.cells):
        return ["No trial has ended, so there is nothing to say yet."]
    if not any(_has_success(cell) for cell in summary.cells):
        return ["No workflow ended ok, so no setting can be recommended."]
    if not best:
        return ["No trial ran in one go, so there is no makespan and no rate to compare."]
    return [_sentence(cell, summary) for cell in best.values()]


def _ended(cell: Cell) -> int:
    return cell.workflows.ok + cell.workflows.degraded + cell.workflows.failed


def _has_success(cell: Cell) -> bool:
    """Return whether any workflow succeeded; a degraded one can, by `success.min_branches`."""
    return cell.workflows.ok > 0 or (value_of(cell.success_rate) or 0.0) > 0


def _sentence(cell: Cell, summary: Summary) -> str:
    name = sentence(spoken(cell, summary.cells))
    if not _has_success(cell):
        return f"{name}: no workflow ended ok."
    speedup = cell.speedup_over_sync
    if cell.mode == "sync" or speedup is None:
        unit, factor = rate_unit(summary)
        rate = with_interval(scaled(cell.throughput.workflows_per_s, factor))
        return f"{name} ended {rate} workflows {unit}{losses(cell)}."
    return (
        f"{name} ran the workflows {number(speedup.value)} times as fast as sync"
        f"{_in_words(speedup)}{losses(cell)}."
    )


def _in_words(figure: Figure) -> str:
    if figure.low is None or figure.high is None:
        return ""
    return f", 95\u00a0% interval {number(figure.low)} to {number(figure.high)}"


def _bought(about: Subject, cell: Cell, cells: Sequence[Cell]) -> Bought:
    summary = about.summary
    if not _has_success(cell):
        setting = spoken(cell, summary.cells)
        return Bought(cell.mode, setting, "Nothing", "no workflow ended ok", "", "", (), ())
    unit, factor = rate_unit(summary)
    rate = scaled(cell.throughput.workflows_per_s, factor)
    speedup = cell.speedup_over_sync if cell.mode != "sync" else None
    shown = rate if speedup is None else speedup
    counts = cell.workflows
    facts = (
        ("throughput", f"{with_interval(rate)} workflows {unit}"),
        ("workflow latency, median",
         f"{with_interval(in_seconds(cell.workflow_latency_s.p50, summary))} s"),
        ("workflows ok", f"{counts.ok} of {counts.started}"),
    )  # fmt: skip
    return Bought(
        cell.mode,
        spoken(cell, summary.cells),
        number(value_of(shown)) + ("" if speedup is None else "×"),
        f"workflows {unit}" if speedup is None else "the speed of sync",
        "" if shown is None or shown.low is None else _in_words(shown).removeprefix(", "),
        _sure(speedup, cell.repeats) if cell.mode != "sync" else "",
        tuple(_steps(cell, cells, factor)),
        facts,
    )


def _sure(speedup: Figure | None, repeats: int) -> str:
    if speedup is None:
        return "There is no sync cell with the same settings to compare it with."
    if speedup.low is None or speedup.high is None:
        return "Fewer than two repeats show no spread: it cannot be told from chance."
    where = f"paired over {repeats} repeats"
    if speedup.low > 1:
        return f"The interval lies above 1 ({where}): faster than sync."
    if speedup.high < 1:
        return f"The interval lies below 1 ({where}): slower than sync."
    return f"The interval holds 1 ({where}): it cannot be told from sync."


def _steps(best: Cell, cells: Sequence[Cell], factor: float) -> list[SpeedUpStep]:
    """Return the cells that differ from `best` in permits alone, when there are several."""
    alike = sorted(
        (cell for cell in cells if policy_of(cell) == policy_of(best)),
        key=lambda cell: cell.permits,
    )
    if len(alike) < 2:
        return []
    return [SpeedUpStep(cell.permits, _step(cell, factor), cell.id == best.id) for cell in alike]


def _step(cell: Cell, factor: float) -> str:
    speedup = cell.speedup_over_sync
    if speedup is not None:
        return f"{number(speedup.value)}×{losses(cell)}"
    return number(value_of(scaled(cell.throughput.workflows_per_s, factor))) + losses(cell)


def _advice(about: Subject) -> Advice:
    summary = about.summary
    advice = summary.recommendation
    cell = next((cell for cell in summary.cells if cell.id == advice.cell), None)
    more = advice.more_workflows_needed
    return Advice(
        advice.objective.replace("_", " "),
        "" if cell is None else spoken(cell, summary.cells),
        advice.evidence == "enough",
        "" if more is None else str(more),
        tuple(about.named(because) for because in advice.because),
        "\n".join(advice.code),
    )
