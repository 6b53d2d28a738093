"""Why workflows were slow: their critical paths by cell, and some of them call by call."""

from __future__ import annotations

from typing import NamedTuple

from harness.analysis.call_segments import PARTS
from harness.records.schema import Workflow
from harness.report.charts.model import Key, RowPanel
from harness.report.charts.timeline import (
    median_workflow,
    most_telling,
    waterfall_legend,
    waterfall_notes,
    waterfall_panel,
)
from harness.report.path_text import (
    WORDS,
    ToSeconds,
    failure_line,
    held_by,
    in_scenario_seconds,
    path_sentences,
)
from harness.report.paths_text import CellSaid, cells_said
from harness.report.tables import Column, Subject, Table
from harness.report.waterfall import Waterfall, Waterfalls
from harness.report.wording import counted, number, percent
from harness.store.run_directory import Records
from harness.telemetry.jaeger import Jaeger, JaegerLink, links

SLOWEST, FAILED, MEDIANS = 8, 8, 8
"""How many workflows of each kind are drawn."""
LISTED_FAILURES = 20
"""Failed attempts of a workflow that are listed."""


class Picture(NamedTuple):
    """One workflow to choose. `kind`: why it is here."""

    name: str
    kind: str
    panel: RowPanel
    said: tuple[str, ...]
    left_out: str
    notes: list[str]
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
        waterfall_legend(picture.panel for picture in pictures),
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
            median_workflow(mine)
            for cell in about.cells
            if (mine := [one for one in counted_ones if one.cell == cell.id])
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


def _picture(
    about: Subject,
    kind: str,
    drawn: Waterfall,
    seconds: ToSeconds,
    run_id: str,
    jaeger: Jaeger | None,
) -> Picture:
    workflow = drawn.workflow
    rows = most_telling(drawn.rows)
    more = len(drawn.rows) - len(rows)
    has = jaeger is not None and jaeger.has(workflow)
    failures = [failure_line(failure, seconds) for failure in drawn.failures]
    if len(failures) > LISTED_FAILURES:
        failures[LISTED_FAILURES:] = [f"… {len(failures) - LISTED_FAILURES} more"]
    title = (
        f"{about.labels[workflow.cell]}, repeat {workflow.repeat}, workflow "
        f"{workflow.workflow}: {workflow.outcome} after {number(seconds(drawn.latency))} s"
    )
    panel = waterfall_panel(drawn, rows, seconds, drawn.latency, title)
    return Picture(
        name=drawn.key.replace("/", "-"),
        kind=kind,
        panel=panel,
        said=tuple(path_sentences(drawn.path, seconds)),
        left_out=f"{counted(more, 'call')} more: harness trace RUN {drawn.key}" if more else "",
        notes=waterfall_notes([panel]),
        failures=tuple(failures),
        link=jaeger.trace(run_id, workflow) if jaeger and has else None,
    )


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
