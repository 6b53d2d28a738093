"""The first section of the report: the answer of the run, and every setting in one table."""

from __future__ import annotations

from typing import NamedTuple

from harness.analysis.model import Cell
from harness.analysis.question import MEASURING
from harness.report.advisories import warnings_of
from harness.report.answer_claims import shortfall
from harness.report.answer_text import run_answer
from harness.report.paired_columns import paired_columns, paired_key
from harness.report.screen_table import CLIENT_COLUMNS, ranked, screen_columns
from harness.report.tables import Column, Subject, Table
from harness.report.tune_proof import proven_text
from harness.report.wording import (
    code_heading,
    could_be_chosen,
    dropped_text,
    ended,
    number,
    recommendation_heading,
    sentence,
    spoken,
)

MOST_WARNINGS = 2
"""The most warnings that are shown without unfolding."""


class AnswerSection(NamedTuple):
    """The first section of the report.

    `sentence` and `reason`: as on the terminal. `units`: what the columns of `settings` mean.
    `heading`, `proof` and `because`: the recommendation in full. `more_warnings`: folded ones.
    """

    sentence: str
    reason: str
    settings: Table | None
    units: tuple[str, ...]
    heading: str
    proof: str
    because: tuple[str, ...]
    code_heading: str
    warnings: tuple[str, ...]
    more_warnings: tuple[str, ...]


def answer(about: Subject) -> AnswerSection:
    """Return the answer of the run, the table of its settings, and what to be careful about."""
    summary = about.summary
    found = run_answer(summary)
    recommended = next(filter(about.is_recommended, about.cells), None)
    heading = recommendation_heading(summary)
    if recommended:
        heading += f": {spoken(recommended, could_be_chosen(summary))}"
    warnings = [sentence(about.named(warning)) for warning in warnings_of(summary)]
    return AnswerSection(
        found.sentence,
        found.reason,
        _settings(about) if any(map(ended, summary.cells)) else None,
        tuple(_units(about)),
        heading,
        proven_text(summary),
        tuple(about.named(because) for because in summary.recommendation.because),
        code_heading(summary),
        tuple(warnings[:MOST_WARNINGS]),
        tuple(warnings[MOST_WARNINGS:]),
    )


def _settings(about: Subject) -> Table:
    cells = ranked(about.summary)
    needed, more = screen_columns(about.summary, cells)
    states = [_state(about, cell) for cell in cells]
    remarks = [Column("remark", "", states)] if any(states) else []
    columns = [*needed, *more, *remarks]
    order = "" if about.summary.question in MEASURING else ", the best first"
    return about.of_cells("settings", f"All settings{order}", columns, cells)


def _state(about: Subject, cell: Cell) -> str:
    if about.is_recommended(cell):
        return "recommended" if about.summary.recommendation.cell else "ahead so far"
    said = [shortfall(about.summary)] if cell.slo == "broken" else []
    if dropped := dropped_text(cell, about.summary):
        said.append(f"dropped {dropped}")
    return ", ".join(said)


def _units(about: Subject) -> list[str]:
    """Return what the columns and units of the page mean."""
    summary = about.summary
    limit = about.data.run.scenario["slo"]["workflow_latency"]
    late = "" if limit is None else f" within {number(limit)} s"
    second = "a second" if summary.time_scale == 1 else "a scenario second"
    if summary.has_simulator:
        second = "a scenario second, the time of the simulated provider"
    medians = [cell.success_latency_p50_s for cell in about.cells]
    tails = [cell.workflow_latency_s.p95 for cell in about.cells]
    first = f"goodput: workflows that succeeded{late}, {about.rate_unit}"
    if summary.question == "client":
        first = CLIENT_COLUMNS
    said = [first, "kept: workflows that succeeded, of those that ended"]
    if any(medians):
        said.append("median latency: of workflows that succeeded, from ready to done")
    if any(tails):
        said.append("95\u00a0% within: of all workflows")
    if paired_columns(summary, about.cells):
        said.insert(0, paired_key(summary).replace("*", "\u2605"))
    if summary.question != "client":
        said.append("429s: attempts that the provider refused because of its rate limit")
    return [
        *said,
        f"s: {second}",
        "smaller figures: 95\u00a0% intervals over repeats",
    ]
