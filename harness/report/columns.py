"""The columns that tables of the terminal and of the report share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, assert_never

from harness.analysis.metrics import (
    METRICS,
    Metric,
    ReportTable,
    TerminalTable,
    Unit,
    report_columns,
    terminal_columns,
)
from harness.analysis.model import Cell, Distribution, Figure, Summary
from harness.analysis.settings import CellSettings, permits_setting, swept_keys, varying
from harness.report.console import table_blocks
from harness.report.paired_columns import paired_columns
from harness.report.tables import Column, Subject, Table
from harness.report.wording import (
    baseline,
    in_seconds,
    is_equal_work,
    narrow_percent,
    number,
    percent,
    rate_unit,
    scaled,
    sentence,
    short_count,
    shortened,
    side_by_side,
    whole_number,
    with_interval,
)

_SHORTEST_VALUE, _LONGEST_VALUE = 12, 40
"""Between these lengths, tables on the terminal cut the values of settings to fit."""

PART_HEADS: Mapping[str, str] = {
    "permit_wait": "permit\nwait",
    "client_wait": "client\nwait",
    "backoff": "back-\noff",
    "failed_attempts": "failed\natt.",
    "to_first_token": "first\ntoken",
    "reasoning": "reason-\ning",
    "answer": "answer",
    "other": "other",
}
"""The head of the column of each part of a call's time, in the order of `call_segments.PARTS`."""

PATH_HEADS: Mapping[str, str] = {**PART_HEADS, "program": "pro-\ngram"}
"""The same for each part of a critical path: `call_segments.PATH_PARTS`."""


def fitting_settings(
    cells: Sequence[CellSettings],
    groups: Sequence[Sequence[Column]],
    width: int,
    before: Sequence[Column] = (),
) -> list[Column]:
    """Return the columns before `groups`: those in `before`, and the settings of the cells.

    Values are cut only as far as it takes to have the lines no longer than `width`, and the table
    in no more blocks than with the shortest values.
    """
    fewest = len(list(table_blocks(_named(cells, before, _SHORTEST_VALUE), groups, width)))
    for longest in range(_LONGEST_VALUE, _SHORTEST_VALUE, -1):
        names = _named(cells, before, longest)
        blocks = list(table_blocks(names, groups, width))
        if len(blocks) == fewest and max(len(line) for block in blocks for line in block) <= width:
            return names
    return _named(cells, before, _SHORTEST_VALUE)


def _named(cells: Sequence[CellSettings], before: Sequence[Column], longest: int) -> list[Column]:
    return [*before, *settings_columns(cells, longest)]


def settings_columns(cells: Sequence[CellSettings], longest: int = _LONGEST_VALUE) -> list[Column]:
    """Return the columns of mode, permits and retry, and of other settings where they vary.

    `longest`: the length to which values are cut.
    """
    different = varying(cells)
    columns = [
        Column("mode", "", [cell.mode for cell in cells], left=True),
        Column("per-\nmits", "", [permits_setting(cell) for cell in cells], whole_number),
        _short_column("retry", [cell.retry for cell in cells], longest),
    ]
    if "permit_scope" in different:
        columns.append(_short_column("scope", [cell.permit_scope for cell in cells], longest))
    for key in swept_keys(cells):
        if key.key in different:
            columns.append(_short_column(_head(key.name), list(map(key.label, cells)), longest))
    return columns


def _short_column(head: str, texts: Sequence[str], longest: int) -> Column:
    short = shortened(texts, longest)
    return Column(head, "", [short[text] for text in texts], left=True)


def _head(name: str) -> str:
    """Break a long name into two lines, at the last place where it can be broken."""
    at = max(name.rfind("_"), name.rfind("."), name.rfind("-")) + 1
    return f"{name[:at]}\n{name[at:]}" if len(name) > _SHORTEST_VALUE else name


def _value(metric: Metric, cell: Cell, summary: Summary, part: str | None) -> Figure | float | None:
    """Return a metric of a cell in scenario seconds, or per scenario minute or hour."""
    if metric.of_equal_work and not is_equal_work(cell, summary.cells):
        return None
    value: Figure | float | None = metric.of(cell, part)
    match metric.unit:
        case "s":
            factor = 1 / summary.time_scale
        case "workflows/s" | "calls/s":
            factor = rate_unit(summary)[1]
        case "tokens/s":
            factor = summary.time_scale
        case "CPU s":
            factor = 1000
        case "USD" | "share" | "tokens" | "count" | "ratio" | "nested":
            return value
        case _:
            assert_never(metric.unit)
    return scaled(value, factor) if isinstance(value, Figure) else value and value * factor


def terminal_table(table: TerminalTable, cells: Sequence[Cell], summary: Summary) -> list[Column]:
    """Return the columns of METRICS in a table on the terminal."""
    columns = []
    for metric, column in terminal_columns(table):
        values = [_value(metric, cell, summary, column.part) for cell in cells]
        if column.optional and all(value is None for value in values):
            continue
        texts = [
            with_interval(value) if column.interval and isinstance(value, Figure) else value
            for value in values
        ]
        head = "\n".join(column.head).format(
            baseline=baseline(summary.cells), per=rate_unit(summary)[0]
        )
        columns.append(Column(head, "", texts, _writer(metric.unit, narrow=True)))
    return columns


def metric_columns(
    about: Subject, table: ReportTable, cells: Sequence[Cell], only: Unit | None = None
) -> list[Column]:
    """Return the columns of METRICS in a table of the report; `only`: those of one unit."""
    columns = []
    for metric, column in report_columns(table):
        values = [_value(metric, cell, about.summary, column.part) for cell in cells]
        if only in (None, metric.unit) and (not metric.optional or any(values)):
            key = _csv_name(column.key, metric.unit, about)
            head = f"{column.head}{_unit_in_head(metric.unit, about)}"
            columns.append(Column(head, key, values, _writer(metric.unit)))
    return columns


def _unit_in_head(unit: Unit, about: Subject) -> str:
    """Return the unit at the end of the head of a column; empty if its values have one."""
    match unit:
        case "s":
            return " s"
        case "CPU s":
            return " ms"
        case "workflows/s" | "calls/s":
            return f"\n{about.rate_unit}"
        case "tokens/s" | "USD" | "share" | "tokens" | "count" | "ratio" | "nested":
            return ""
        case _:
            assert_never(unit)


def _csv_name(key: str, unit: Unit, about: Subject) -> str:
    if unit == "s":
        return about.seconds(key)
    if unit == "CPU s":
        return f"{key}_real_ms"
    if unit in ("workflows/s", "calls/s"):
        return f"{key}_{unit.split('/')[0]}_per_{about.rate_unit.split()[1]}"
    return key


def _writer(unit: Unit, narrow: bool = False) -> Callable[[float], str]:
    """Return what writes a number of that unit; `narrow`: in few characters."""
    match unit:
        case "share":
            return narrow_percent if narrow else percent
        case "tokens":
            return short_count if narrow else whole_number
        case "count":
            return whole_number
        case "USD":
            return number if narrow else lambda value: f"${number(value)}"
        case "s" | "CPU s" | "workflows/s" | "calls/s" | "tokens/s" | "ratio" | "nested":
            return number
        case _:
            assert_never(unit)


def seconds_a_call(cell: Cell, part: str, summary: Summary) -> float | None:
    """Return the mean scenario seconds of a call that `part` of its time takes."""
    mean = in_seconds(cell.call_latency_s.mean, summary)
    if cell.time_spent is None or mean is None:
        return None
    share: float = getattr(cell.time_spent, part)
    return share * mean.value


def policy_columns(cells: Sequence[Cell], summary: Summary) -> list[Column]:
    """Return the columns of the terminal that compare retry policies."""
    columns = [*paired_columns(summary, cells), *terminal_table("policies", cells, summary)]
    for part, head in (("permit_wait", "permit"), ("backoff", "backoff")):
        values = [seconds_a_call(cell, part, summary) for cell in cells]
        if any(value is not None for value in values):
            columns.append(Column(f"s/call\n{head}", "", values))
    return columns


def policy_table(about: Subject) -> Table | None:
    """Return the table that compares retry policies; None with fewer than two policies."""
    cells = side_by_side(about.cells)
    if len({cell.retry for cell in cells}) < 2:
        return None
    columns = [
        *paired_columns(about.summary, cells),
        *metric_columns(about, "policies", cells),
    ]
    for part in ("permit_wait", "backoff"):
        values = [seconds_a_call(cell, part, about.summary) for cell in cells]
        key = f"{part}_a_call"
        columns.append(Column(f"{key.replace('_', ' ')} s", about.seconds(key), values))
    return about.of_cells("policies", "Cost of each retry policy", columns, cells)


def distribution_columns(
    about: Subject, key: str, spread: Sequence[Distribution | None]
) -> list[Column]:
    """Return the columns of a distribution of durations in each cell, in scenario seconds."""
    columns = [Column("n", f"{key}_n", [one.n if one else 0 for one in spread], whole_number)]
    for name in ("mean", "p50", "p95", "p99"):
        values = [about.duration(getattr(one, name, None)) for one in spread]
        columns.append(Column(f"{name} s", about.seconds(f"{key}_{name}"), values))
    return columns


def comparison_tables(about: Subject) -> list[Table]:
    """Return every figure of every cell: speed, reliability, arrivals, tokens and cost."""
    arrivals = metric_columns(about, "arrivals", about.cells)
    is_open = any(value is not None for column in arrivals for value in column.values)
    return [
        about.of_cells("speed", "Speed", [
            *paired_columns(about.summary, about.cells),
            *metric_columns(about, "speed", about.cells),
        ]),
        about.of_cells("work", "Work done", metric_columns(about, "work", about.cells)),
        *([about.of_cells("arrivals", "Arrivals of the open loop", arrivals)] if is_open else []),
        about.of_cells("tokens", "Tokens and cost", metric_columns(about, "tokens", about.cells)),
    ]  # fmt: skip


def phase_tables(about: Subject) -> list[Table]:
    """Return a table for each phase that occurred: its latency and its failures."""
    tables = []
    for name in dict.fromkeys(name for cell in about.cells for name in cell.phases):
        found = [cell.phases.get(name) for cell in about.cells]
        if any(phase and phase.latency_s.n for phase in found):
            words = name.replace("_", "-")
            failed = [phase.failed if phase else None for phase in found]
            latencies = [phase.latency_s if phase else None for phase in found]
            columns = distribution_columns(about, name, latencies)
            columns.append(Column("failed", f"{name}_failed", failed, whole_number))
            caption = f"Phase {words}: latency"
            tables.append(about.of_cells(f"phase-{words}", caption, columns))
    return tables


def spread_tables(about: Subject, where: Literal["calls", "waits"]) -> list[Table]:
    """Return a table for each distribution of METRICS in that part of the report."""
    tables = []
    for metric in METRICS:
        if metric.spread_table == where:
            spread = [metric.of(cell) for cell in about.cells]
            key = metric.name.removesuffix("_s")
            if any(one.n for one in spread):
                columns = distribution_columns(about, key, spread)
                caption = sentence(metric.words)
                tables.append(about.of_cells(key.replace("_", "-"), caption, columns))
    return tables
