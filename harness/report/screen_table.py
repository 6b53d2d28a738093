"""The table of settings on the first screen: one line a cell, as wide as the terminal allows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from harness.analysis.model import Cell, Distribution, Figure, Summary
from harness.analysis.question import MEASURING
from harness.analysis.settings import varying
from harness.records.settings import one_at_a_time
from harness.report.paired_columns import paired_columns
from harness.report.tables import Column
from harness.report.wording import (
    baseline,
    cell_labels,
    ended,
    in_seconds,
    kept,
    other_differences,
    rate_unit,
    scaled,
    short_count,
    shortened,
    speedup,
    value_of,
)

SPEED_UP = "speed-up"

CLIENT_COLUMNS = "CPU: of the client's process; client wait: from permit to request"
"""What the columns of the question `client` mean."""

_SHORTEST_VALUE, _LONGEST_VALUE = 6, 60
"""Between these lengths, values of settings are cut to fit."""


def ranked(summary: Summary) -> list[Cell]:
    """Return the cells in the order of the objective; those that keep too few come last.

    The cells of a tune have different blocks, so its order is that for the work of all blocks.
    """
    tuned = summary.tune.settings if summary.tune is not None else ()
    same_work = {one.info.id: value_of(one.measured) for one in tuned}
    return sorted(summary.cells, key=lambda cell: _place(cell, summary, same_work))


def _place(
    cell: Cell, summary: Summary, same_work: Mapping[str, float | None]
) -> tuple[bool, bool, float, int]:
    """Return the place of a cell: the best one first, those that keep too few last."""
    is_best = cell.id == summary.recommendation.candidate
    is_ranked = summary.question not in MEASURING
    worth = same_work[cell.id] if cell.id in same_work else _worth(cell, summary)
    rank = float("inf") if worth is None else worth
    return not (is_best and is_ranked), cell.slo == "broken", rank, -kept(cell)


def _worth(cell: Cell, summary: Summary) -> float | None:
    """Return what cells are ranked by, less is better."""
    match summary.recommendation.objective:
        case "workflow_p95":
            return value_of(cell.workflow_latency_s.p95)
        case "cost_per_successful_workflow":
            return cell.cost_per_successful_workflow_usd
        case _:
            rate = value_of(cell.goodput_workflows_per_s)
            return None if rate is None else -rate


def table_lines(summary: Summary, cells: Sequence[Cell], width: int) -> list[str]:
    """Return two lines of heading and a line for each of `cells`, none wider than `width`.

    Columns that are not always shown follow as far as they fit.
    """
    needed, more = screen_columns(summary, cells)
    fixed = sum(column.width + 2 for column in needed) + 2
    names = _names(summary, cells, width - fixed)
    taken = fixed + max(map(len, names))
    for column in more:
        if taken + column.width + 2 <= width:
            needed.append(column)
            taken += column.width + 2
    marks = Column("", "", [_mark(cell, summary) for cell in cells])
    label = Column("", "", names, left=True)
    lines = zip(*(column.lines() for column in (label, *needed)), strict=True)
    return [
        f"{mark} {'  '.join(parts)}".rstrip()
        for mark, parts in zip(marks.lines(), lines, strict=True)
    ]


def _names(summary: Summary, cells: Sequence[Cell], room: int) -> list[str]:
    """Return the names of cells, as whole as there is room for.

    Where there is none, mode and permits are left out if all cells have the same, and then values
    are cut in the middle.
    """
    labels: dict[str, str] = {}
    for labels in _labels(summary.cells):
        if max(len(labels[cell.id]) for cell in cells) <= room:
            break
    else:
        short = shortened(labels.values(), room)
        labels = {name: short[label] for name, label in labels.items()}
    return [labels[cell.id] for cell in cells]


def _labels(cells: Sequence[Cell]) -> Iterator[dict[str, str]]:
    """Yield the names of cells by id, the longest first."""
    different = set(varying(cells))
    for limit in range(_LONGEST_VALUE, _SHORTEST_VALUE - 1, -1):
        yield cell_labels(cells, limit, brief=True)
        if different and not different & {"mode", "permits"}:
            others = other_differences(cells, limit, brief=True)
            yield {name: " · ".join(parts) for name, parts in others.items()}


def _mark(cell: Cell, summary: Summary) -> str:
    if cell.id == summary.recommendation.candidate and summary.question not in MEASURING:
        return "*"
    if cell.slo == "broken":
        return "x"
    return " " if cell.dropped_after is None else "-"


def screen_columns(summary: Summary, cells: Sequence[Cell]) -> tuple[list[Column], list[Column]]:
    """Return the columns that are always shown, and more for wide terminals."""
    unit, per = rate_unit(summary)
    rates = [scaled(cell.goodput_workflows_per_s, per) for cell in cells]
    medians = [in_seconds(cell.success_latency_p50_s, summary) for cell in cells]
    limited = [cell.attempts.by_outcome.get("rate_limited", 0) for cell in cells]
    kept_of = Column("workflows\nkept", "", [f"{kept(cell)}/{ended(cell)}" for cell in cells])
    median = Column("median\nlatency s", "", medians)
    refused = Column("429s", "", limited, short_count)
    needed = [
        *paired_columns(summary, cells),
        Column(f"goodput\n{unit}", "", rates),
        kept_of,
        median,
        Column("attempts\na call", "", [cell.attempts.amplification for cell in cells]),
        refused,
    ]
    tails = [in_seconds(cell.workflow_latency_s.p95, summary) for cell in cells]
    costs = [cell.cost_per_successful_workflow_usd for cell in cells]
    tail = Column("95 %\nwithin s", "", tails)
    cost = Column("USD a\nsuccess", "", costs)
    more = []
    match summary.recommendation.objective:
        case "workflow_p95":
            needed.insert(-2, tail)
        case "cost_per_successful_workflow":
            needed.insert(-2, cost)
        case _:
            more += [tail] if any(tails) else []
            more += [cost] if any(costs) else []
    streams = [
        Column("first\ntext ms", "", [_in_ms(cell.ttft_s, summary) for cell in cells]),
        Column("between\nchunks ms", "", [_in_ms(cell.chunk_gap_s, summary) for cell in cells]),
    ]
    if summary.question == "accuracy":
        needed[-2:-1] = streams
    elif summary.question == "client":
        taken = [scaled(cell.client_cpu_per_attempt_s, 1000) for cell in cells]
        waits = [_in_ms(cell.client_wait_s, summary) for cell in cells]
        needed = [
            Column("CPU ms\na request", "", taken), Column("client\nwait ms", "", waits),
            *streams, kept_of,
        ]  # fmt: skip
        more = [median, *([refused] if any(limited) else []), *more]
    if any(one_at_a_time(cell.mode) for cell in cells) and len(cells) > 1:
        fair = [speedup(cell, summary.cells) for cell in cells]
        more.append(Column(f"{SPEED_UP}\non {baseline(cells)}", "", fair))
    more.append(Column("makespan\nseconds", "", [in_seconds(c.makespan_s, summary) for c in cells]))
    wasted = [cell.tokens.wasted for cell in cells]
    more += [Column("wasted\ntokens", "", wasted, short_count)] if any(wasted) else []
    lost = [cell.wasted_usd for cell in cells]
    more += [Column("wasted\nUSD", "", lost)] if any(lost) else []
    return needed, more


def _in_ms(spread: Distribution, summary: Summary) -> Figure | None:
    return scaled(in_seconds(spread.p50, summary), 1000)
