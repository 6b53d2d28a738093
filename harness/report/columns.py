"""Columns that several tables share, and the tables with a row for each cell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from harness.analysis.metrics import METRICS
from harness.analysis.model import Distribution
from harness.report.metric_columns import metric_columns
from harness.report.policy_table import seconds_a_call, side_by_side
from harness.report.tables import Column, Subject, Table, whole_number
from harness.report.wording import in_seconds, rate_unit, sentence


def distribution_columns(
    about: Subject, key: str, spread: Sequence[Distribution]
) -> tuple[Column, ...]:
    """Return how a duration is spread in each cell, in scenario seconds."""
    return (
        Column("n", f"{key}_n", [one.n for one in spread], whole_number),
        *(
            Column(
                name,
                about.seconds(f"{key}_{name}"),
                [in_seconds(getattr(one, name), about.summary) for one in spread],
            )
            for name in ("mean", "p50", "p95", "p99")
        ),
    )


def rate_columns(about: Subject) -> list[Column]:
    """Return throughput and goodput of each cell, in workflows a scenario minute or hour."""
    return metric_columns(about, "speed", about.cells, only="workflows/s")


def comparison_tables(about: Subject) -> list[Table]:
    """Return every figure of every cell: speed, reliability, tokens and cost."""
    unit, _ = rate_unit(about.summary)
    speed = f"Speed; durations in seconds, rates in workflows {unit}"
    return [
        about.of_cells("speed", speed, metric_columns(about, "speed", about.cells)),
        about.of_cells("work", "Work done", metric_columns(about, "work", about.cells)),
        about.of_cells("tokens", "Tokens and cost", metric_columns(about, "tokens", about.cells)),
    ]


def phase_tables(about: Subject) -> list[Table]:
    """Return a table for each phase that any workflow came to: its latency, its failures."""
    return [
        _phase_table(about, name, name.replace("_", "-"))
        for name in dict.fromkeys(name for cell in about.cells for name in cell.phases)
        if any(name in cell.phases and cell.phases[name].latency_s.n for cell in about.cells)
    ]


def _phase_table(about: Subject, name: str, words: str) -> Table:
    ran = [cell.phases.get(name) for cell in about.cells]
    nothing = Distribution(n=0, mean=None, p50=None, p95=None, p99=None)
    spread = [nothing if phase is None else phase.latency_s for phase in ran]
    failed = [None if phase is None else phase.failed for phase in ran]
    return about.of_cells(
        f"phase-{words}",
        f"Phase {words}: latency in seconds",
        (
            *distribution_columns(about, name, spread),
            Column("failed", f"{name}_failed", failed, whole_number),
        ),
    )


def spread_tables(about: Subject, where: Literal["calls", "waits"]) -> list[Table]:
    """Return a table for each distribution of METRICS there, unless nothing is known of it."""
    tables = []
    for metric in METRICS:
        if metric.spread_table == where:
            spread = [metric.of(cell) for cell in about.cells]
            key = metric.name.removesuffix("_s")
            caption = f"{sentence(metric.words)}, in seconds"
            if any(one.n for one in spread):
                columns = distribution_columns(about, key, spread)
                tables.append(about.of_cells(key.replace("_", "-"), caption, columns))
    return tables


def policy_table(about: Subject) -> Table | None:
    """Return what each policy cost, in every cell; None where only one policy ran."""
    cells = side_by_side(about.cells)
    if len({cell.retry for cell in cells}) < 2:
        return None
    summary, best = about.summary, about.summary.recommendation.cell
    return Table(
        "policies",
        "What each retry policy cost and saved",
        (
            *about.cell_columns(cells),
            *metric_columns(about, "policies", cells),
            *(
                Column(
                    f"{part.replace('_', ' ')} a call",
                    about.seconds(f"{part}_a_call"),
                    [seconds_a_call(cell, part, summary) for cell in cells],
                )
                for part in ("permit_wait", "backoff")
            ),
        ),
        frozenset(at for at, cell in enumerate(cells) if cell.id == best),
    )
