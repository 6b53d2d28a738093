"""The first section of the report: the speed-up of each mode, its best cell, its certainty."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from harness.analysis.model import Cell, Figure
from harness.analysis.settings import policy_of
from harness.report.advisories import warnings_of
from harness.report.tables import Subject
from harness.report.wording import (
    MODE_NAMES,
    NONE,
    code_heading,
    headline,
    losses,
    number,
    proof_text,
    recommendation_heading,
    sentence,
    spoken,
    value_of,
    with_interval,
)


class PermitStep(NamedTuple):
    """One permit count of a mode: its speed-up or its throughput as text."""

    permits: int
    text: str
    best: bool


class ModeCard(NamedTuple):
    """The best cell of a mode: its speed-up, or its rate where there is no sync cell."""

    mode: str
    setting: str
    figure: str
    unit: str
    interval: str = ""
    sure: str = ""
    steps: tuple[PermitStep, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()


class AnswerSection(NamedTuple):
    """The first section of the report; `setting`: the name of the recommended or leading cell."""

    lead: tuple[str, ...]
    modes: tuple[ModeCard, ...]
    heading: str
    setting: str
    proof: str
    code_heading: str
    warnings: tuple[str, ...]


def answer(about: Subject) -> AnswerSection:
    """Return the result of the run in sentences, and a card for each mode."""
    summary = about.summary
    ran = [cell for cell in about.cells if cell.throughput.workflows_per_s is not None]
    by_mode = {
        mode: [cell for cell in ran if cell.mode == mode]
        for mode in reversed(MODE_NAMES)
        if any(cell.mode == mode for cell in ran)
    }
    shown = {mode: cells for mode, cells in by_mode.items() if mode != "sync"} or by_mode
    best = {mode: headline(cells, summary) for mode, cells in shown.items()}
    recommended = next(filter(about.is_recommended, about.cells), None)
    return AnswerSection(
        tuple(_lead(about, list(best.values()))),
        tuple(_card(about, best[mode], cells) for mode, cells in shown.items()),
        recommendation_heading(summary),
        spoken(recommended, summary.cells) if recommended else "",
        proof_text(summary.recommendation),
        code_heading(summary.recommendation),
        tuple(sentence(about.named(warning)) for warning in warnings_of(summary)),
    )


def _lead(about: Subject, best: Sequence[Cell]) -> list[str]:
    if not any(c.workflows.ok + c.workflows.degraded + c.workflows.failed for c in about.cells):
        return ["No trial has ended, so there are no results yet."]
    if not any(map(_has_success, about.cells)):
        return ["No workflow ended ok, so no setting can be recommended."]
    if not best:
        return ["No trial ran without interruption, so there is no makespan and no rate."]
    return [_sentence(about, cell) for cell in best]


def _has_success(cell: Cell) -> bool:
    """Return whether any workflow succeeded; a degraded one can, by `success.min_branches`."""
    return cell.workflows.ok > 0 or (value_of(cell.success_rate) or 0.0) > 0


def _sentence(about: Subject, cell: Cell) -> str:
    name, speedup = about.name(cell), cell.speedup_over_sync
    if not _has_success(cell):
        return f"{name}: no workflow ended ok."
    if cell.mode == "sync" or speedup is None:
        rate = with_interval(about.rate(cell.throughput.workflows_per_s))
        return f"{name} ended {rate} workflows {about.rate_unit}{losses(cell)}."
    interval = _interval(speedup)
    return (
        f"{name} ran the workflows {number(speedup)} times as fast as sync"
        f"{', ' if interval else ''}{interval}{losses(cell)}."
    )


def _interval(figure: Figure | None) -> str:
    if figure is None or figure.low is None or figure.high is None:
        return ""
    return f"95\u00a0% interval {number(figure.low)} to {number(figure.high)}"


def _card(about: Subject, cell: Cell, cells: Sequence[Cell]) -> ModeCard:
    setting = spoken(cell, about.summary.cells)
    if not _has_success(cell):
        return ModeCard(cell.mode, setting, NONE, "no workflow ended ok")
    unit, rate = f"workflows {about.rate_unit}", about.rate(cell.throughput.workflows_per_s)
    speedup = None if cell.mode == "sync" else cell.speedup_over_sync
    median = with_interval(about.duration(cell.workflow_latency_s.p50))
    return ModeCard(
        cell.mode,
        setting,
        number(rate) if speedup is None else f"{number(speedup)}×",
        unit if speedup is None else "the speed of sync",
        _interval(speedup or rate),
        "" if cell.mode == "sync" else _certainty(speedup, cell.repeats),
        _steps(about, cell, cells),
        (
            ("throughput", f"{with_interval(rate)} {unit}"),
            ("workflow latency, median", f"{median} s"),
            ("workflows ok", f"{cell.workflows.ok} of {cell.workflows.started}"),
        ),
    )


def _certainty(speedup: Figure | None, repeats: int) -> str:
    if speedup is None:
        return "There is no sync cell with the same settings to compare with."
    if speedup.low is None or speedup.high is None:
        return "Fewer than two repeats give no interval: the difference can be due to chance."
    where = f"paired over {repeats} repeats"
    if speedup.low > 1:
        return f"The interval is above 1 ({where}): faster than sync."
    if speedup.high < 1:
        return f"The interval is below 1 ({where}): slower than sync."
    return f"The interval contains 1 ({where}): no significant difference from sync."


def _steps(about: Subject, best: Cell, cells: Sequence[Cell]) -> tuple[PermitStep, ...]:
    """Return the cells that differ from `best` only in permits, when there are several."""
    alike = [cell for cell in cells if policy_of(cell) == policy_of(best)]
    if len(alike) < 2:
        return ()
    steps = []
    for cell in sorted(alike, key=lambda cell: cell.permits):
        speedup, rate = cell.speedup_over_sync, about.rate(cell.throughput.workflows_per_s)
        shown = number(rate) if speedup is None else f"{number(speedup)}×"
        steps.append(PermitStep(cell.permits, shown + losses(cell), cell.id == best.id))
    return tuple(steps)
