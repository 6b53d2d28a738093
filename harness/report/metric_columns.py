"""The columns of METRICS in the tables of terminal and report, in the units that people read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, assert_never

from harness.analysis.metrics import Metric, ReportTable, Unit, report_columns, terminal_columns
from harness.analysis.model import Cell, Figure, Summary
from harness.report.tables import Column, Subject, whole_number
from harness.report.wording import (
    NONE,
    number,
    percent,
    rate_unit,
    scaled,
    short_count,
    value_of,
    with_interval,
)


def scenario_value(
    metric: Metric, cell: Cell, summary: Summary, part: str | None = None
) -> Figure | float | None:
    """Return a metric of a cell in scenario seconds, or per scenario minute or hour."""
    value: Figure | float | None = metric.of(cell, part)
    factor = _factor(metric.unit, summary)
    if factor is None:
        return value
    return scaled(value, factor) if isinstance(value, Figure) else value and value * factor


def _factor(unit: Unit, summary: Summary) -> float | None:
    match unit:
        case "s":
            return 1 / summary.time_scale
        case "workflows/s" | "calls/s":
            return rate_unit(summary)[1]
        case "USD" | "share" | "tokens" | "count" | "ratio" | "nested":
            return None
        case _:
            assert_never(unit)


def terminal_table(
    table: Literal["speed", "trouble", "policies"], cells: Sequence[Cell], summary: Summary
) -> list[Column]:
    """Return the columns of METRICS in a table on the terminal."""
    columns = []
    for metric, column in terminal_columns(table):
        values = [scenario_value(metric, cell, summary, column.part) for cell in cells]
        if column.interval:
            texts = [with_interval(value) for value in values if not isinstance(value, float)]
        else:
            texts = [_text(metric.unit, value) for value in values]
        if not column.optional or any(text != NONE for text in texts):
            columns.append(Column("\n".join(column.head), "", texts))
    return columns


def _text(unit: Unit, value: Figure | float | None) -> str:
    value = value_of(value) if isinstance(value, Figure) else value
    match unit:
        case _ if value is None:
            return NONE
        case "share":
            return percent(value).replace("\u00a0", "")
        case "count":
            return f"{value:.0f}"
        case "tokens":
            return short_count(int(value))
        case "s" | "workflows/s" | "calls/s" | "USD" | "ratio":
            return number(value)
        case "nested":
            raise TypeError("a structure has no column")
        case _:
            assert_never(unit)


def metric_columns(
    about: Subject,
    table: ReportTable,
    cells: Sequence[Cell],
    only: Unit | None = None,
) -> list[Column]:
    """Return the columns of METRICS in a table of the report; `only`: those of one unit."""
    columns = []
    for metric, column in report_columns(table):
        values = [scenario_value(metric, cell, about.summary, column.part) for cell in cells]
        if only in (None, metric.unit) and (not metric.optional or any(values)):
            key = _csv_name(column.key, metric.unit, about)
            columns.append(Column(column.head, key, values, _shown_as(metric.unit)))
    return columns


def _csv_name(key: str, unit: Unit, about: Subject) -> str:
    """Return the name of a column in CSV, which says whose time it is in."""
    if unit == "s":
        return about.seconds(key)
    if unit in ("workflows/s", "calls/s"):
        what, per = unit.split("/")[0], rate_unit(about.summary)[0].split()[1]
        return f"{key}_{what}_per_{per}"
    return key


def _shown_as(unit: Unit) -> Callable[[float], str]:
    match unit:
        case "share":
            return percent
        case "count" | "tokens":
            return whole_number
        case "USD":
            return dollars
        case "s" | "workflows/s" | "calls/s" | "ratio" | "nested":
            return number
        case _:
            assert_never(unit)


def dollars(value: float) -> str:
    """Write an amount of money in US dollars."""
    return f"${number(value)}"
