"""Why workflows were slow: their critical paths by cell, and some of them call by call."""

from __future__ import annotations

import statistics
from typing import NamedTuple

from harness.analysis.call_segments import PARTS
from harness.records.failures import OK, is_failure
from harness.records.schema import Workflow
from harness.report.html.chart_model import Bar, Key, Scale, Tick, ticks
from harness.report.tables import Column, Subject, Table
from harness.report.path_text import (
    WORDS,
    ToSeconds,
    failure_line,
    held_by,
    in_scenario_seconds,
    path_sentences,
)
from harness.report.paths_text import CellSaid, cells_said
from harness.report.waterfall import Waterfall, WaterfallRow, Waterfalls
from harness.report.wording import counted, number, percent
from harness.store.run_directory import Records
from harness.telemetry.jaeger import Jaeger, JaegerLink, links

SLOWEST, FAILED, MEDIANS = 8, 8, 8
"""How many workflows of each kind are drawn."""
MOST_ROWS = 24
"""Calls of a workflow that are drawn."""
MOST_FAILURES = 20


class PictureRow(NamedTuple):
    """One call: bars over the axis, its stretches of the critical path, and all of it in words."""

    label: str
    beside: str
    bars: tuple[Bar, ...]
    path: tuple[Bar, ...]
    held: bool
    said: str


class Picture(NamedTuple):
    """One workflow to choose. `kind`: why it is here."""

    name: str
    kind: str
    title: str
    said: tuple[str, ...]
    rows: tuple[PictureRow, ...]
    left_out: str
    ticks: tuple[Tick, ...]
    failures: tuple[str, ...]
    link: str | None


class Slowness(NamedTuple):
    """What the section shows; `note` says which workflows are in it and which are not."""

    table: Table | None
    pictures: tuple[Picture, ...]
    note: str
    legend: tuple[Key, ...]
    links: tuple[JaegerLink, ...]


def slowness(about: Subject, records: Records, jaeger: Jaeger | None) -> Slowness:
    """Return the critical paths of a run's cells, and the workflows that are worth a look."""
    waterfalls = Waterfalls(records)
    chosen = _chosen(about, waterfalls)
    seconds = in_scenario_seconds(records.run.time_scale)
    drawn = [(kind, waterfalls.of(one)) for kind, one in chosen]
    pictures = tuple(
        _picture(about, kind, one, seconds, records.run.run_id, jaeger) for kind, one in drawn
    )
    shown = {bar.look for picture in pictures for row in picture.rows for bar in row.bars}
    count = len(waterfalls.counted())
    note = (
        f"{len(pictures)} of {counted(count, 'workflow')}: the slowest, the failed and degraded "
        "ones, and the median of each cell, at most "
        f"{SLOWEST} of each. Any other one is drawn by “harness trace”."
        if count > len(pictures)
        else "All workflows of the run."
    )
    return Slowness(
        _table(about, cells_said(records)),
        pictures,
        note,
        tuple(
            Key(look, "other, client wait" if part == "other" else WORDS[part])
            for part in PARTS
            if (look := f"part-{part}") in shown and part != "client_wait"
        ),
        tuple(links(records, jaeger)) if jaeger else (),
    )


def _chosen(about: Subject, waterfalls: Waterfalls) -> list[tuple[str, Workflow]]:
    """Return workflows with the reason for each, no workflow twice."""
    known = about.labels
    counted_ones = [one for one in waterfalls.counted() if one.cell in known]
    failed = [one for one in waterfalls.failed() if one.cell in known]
    groups = [
        ("Slowest", counted_ones[:SLOWEST]),
        ("Failed or degraded", failed[:FAILED]),
        ("Median of its cell", [
            median
            for cell in about.cells
            if (median := _median([one for one in counted_ones if one.cell == cell.id]))
        ][:MEDIANS]),
    ]  # fmt: skip
    seen: set[tuple[object, ...]] = set()
    chosen = []
    for kind, workflows in groups:
        for one in workflows:
            key = (one.cell, one.repeat, one.workflow)
            if key not in seen:
                seen.add(key)
                chosen.append((kind, one))
    return chosen


def _median(workflows: list[Workflow]) -> Workflow | None:
    if not workflows:
        return None
    middle = statistics.median_low(one.done - one.ready for one in workflows)
    return next(one for one in workflows if one.done - one.ready == middle)


def _picture(
    about: Subject,
    kind: str,
    drawn: Waterfall,
    seconds: ToSeconds,
    run_id: str,
    jaeger: Jaeger | None,
) -> Picture:
    workflow = drawn.workflow
    scale = Scale(max(seconds(drawn.latency), 1e-9) * 1.02)
    rows = _most_telling(drawn)
    more = len(drawn.rows) - len(rows)
    has = jaeger is not None and jaeger.has(workflow)
    failures = [failure_line(failure, seconds) for failure in drawn.failures]
    if len(failures) > MOST_FAILURES:
        failures[MOST_FAILURES:] = [f"… {len(failures) - MOST_FAILURES} more"]
    return Picture(
        name=drawn.key.replace("/", "-"),
        kind=kind,
        title=(
            f"{about.labels[workflow.cell]}, repeat {workflow.repeat}, workflow "
            f"{workflow.workflow}: {workflow.outcome} after {number(seconds(drawn.latency))} s"
        ),
        said=tuple(path_sentences(drawn.path, seconds)),
        rows=tuple(_row(row, drawn, scale, seconds) for row in rows),
        left_out=f"{counted(more, 'call')} more: harness trace RUN {drawn.key}" if more else "",
        ticks=ticks(scale),
        failures=tuple(failures),
        link=jaeger.trace(run_id, workflow) if jaeger and has else None,
    )


def _most_telling(drawn: Waterfall) -> list[WaterfallRow]:
    """Return the path's rows, failed ones, then those that ended last, in their own order."""
    ranked = sorted(
        drawn.rows, key=lambda row: (not row.held, not is_failure(row.outcome), -row.end)
    )
    kept = set(map(id, ranked[:MOST_ROWS]))
    return [row for row in drawn.rows if id(row) in kept]


def _row(row: WaterfallRow, drawn: Waterfall, scale: Scale, seconds: ToSeconds) -> PictureRow:
    def bar(start: int, end: int, look: str) -> Bar:
        at = scale.place(seconds(start))
        return Bar(at, round(scale.place(seconds(end)) - at, 3), look)

    bars = tuple(bar(piece.start, piece.end, f"part-{_look(piece.part)}") for piece in row.pieces)
    path = tuple(bar(start, end, "path") for start, end in row.path)
    took = number(seconds(row.end - row.start))
    lengths: dict[str, int] = {}
    for piece in row.pieces:
        lengths[piece.part] = lengths.get(piece.part, 0) + piece.length
    parts = ", ".join(
        f"{WORDS[part]} {number(seconds(lengths[part]))} s" for part in PARTS if part in lengths
    )
    outcome = "" if row.outcome == OK else f", {row.outcome.replace('_', ' ')}"
    on_path = "; on the critical path" if row.held else ""
    said = (
        f"{row.label.strip()}: {took} s, {counted(row.attempts, 'attempt')}{outcome}: "
        f"{parts}{on_path}."
    )
    return PictureRow(row.label.strip(), f"{took} s", bars, path, row.held, said)


def _look(part: str) -> str:
    return "other" if part == "client_wait" else part


def _table(about: Subject, cells: list[CellSaid]) -> Table | None:
    """Return what the workflows' ends waited for, by cell."""
    if not cells:
        return None
    by_id = {cell.info.id: cell for cell in cells}
    found = [by_id.get(cell.id) for cell in about.cells]
    more = [one.more if one else None for one in found]
    columns = [
        Column(
            "a permit more", "makespan_ratio_with_a_permit_more",
            [one.ratio if one else None for one in more], _change,
        ),
        *(
            Column(
                WORDS[part], f"{part}_share",
                [one.path.share(part) if one else None for one in found], percent,
            )
            for part in PARTS
        ),
        Column(
            "last branches", "last_branches_had_more_of",
            [held_by(one.path) if one and one.path.held_by else None for one in found],
        ),
    ]  # fmt: skip
    return about.of_cells(
        "critical-path", "What the workflows’ ends waited for: shares of their latency", columns
    )


def _change(ratio: float) -> str:
    """Write a ratio as what it adds or takes away."""
    change = round(100 * (ratio - 1))
    return f"{'+' if change > 0 else '−' if change < 0 else ''}{abs(change)}\u00a0%"
