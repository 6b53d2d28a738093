"""Why workflows were slow: the critical paths by cell, and some workflows call by call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from harness.records.keys import WorkflowKey, display_key, workflow_key
from harness.records.schema import Transcript, Workflow
from harness.report.charts.model import Key, RowPanel
from harness.report.charts.timeline import (
    median_workflow,
    most_telling,
    waterfall_legend,
    waterfall_notes,
    waterfall_panel,
)
from harness.report.console import printable_lines
from harness.report.path_text import (
    failure_line,
    held_by,
    in_scenario_seconds,
    path_sentences,
    path_summaries,
    shown_parts,
)
from harness.report.reasoning_text import place_name
from harness.report.tables import Column, Subject, Table
from harness.report.waterfall import Waterfall, Waterfalls
from harness.report.wording import PART_WORDS, change_in_percent, counted, number, percent
from harness.telemetry.jaeger import Jaeger, JaegerLink, links

SLOWEST, FAILED, MEDIANS = 8, 8, 8
"""The most workflows of each kind that are drawn."""

MOST_PAGE_TEXT = 4000
"""The most characters of a reasoning or answer in the page."""

ReadTexts = Callable[[Sequence[Workflow]], Mapping[WorkflowKey, Sequence[Transcript]]]
"""Returns the transcripts of workflows, each in the order of its calls."""

MOST_PAGE_FAILURES = 20
"""The most failed attempts of a workflow that are listed."""


class CallTexts(NamedTuple):
    """The texts of a call; `cut`: what was left out, empty if nothing was."""

    title: str
    reasoning: str
    answer: str
    cut: str


class Picture(NamedTuple):
    """One workflow of the selection. `kind`: the reason why it is included."""

    name: str
    kind: str
    panel: RowPanel
    said: tuple[str, ...]
    notes: tuple[str, ...]
    failures: tuple[str, ...]
    texts: tuple[CallTexts, ...]
    link: str | None


class Slowness(NamedTuple):
    """The content of the section; `note`: which workflows are included."""

    table: Table | None
    pictures: tuple[Picture, ...]
    note: str
    legend: tuple[Key, ...]
    links: tuple[JaegerLink, ...]


def no_texts(workflows: Sequence[Workflow]) -> Mapping[WorkflowKey, Sequence[Transcript]]:
    """Return no transcripts, for a run that keeps none."""
    return {}


def slowness(about: Subject, jaeger: Jaeger | None, read_texts: ReadTexts = no_texts) -> Slowness:
    """Return the critical paths of the cells, and a selection of workflows with their texts."""
    waterfalls = Waterfalls(about.data)
    chosen = _chosen(about, waterfalls)
    texts = read_texts([one for _, one in chosen])
    pictures = tuple(
        _picture(about, kind, waterfalls.of(one), jaeger, texts.get(workflow_key(one), ()))
        for kind, one in chosen
    )
    count = len(waterfalls.counted())
    note = (
        f"{len(pictures)} of {counted(count, 'workflow')}: the slowest, the failed and degraded "
        f"ones, and the median of each setting, at most {SLOWEST} of each. “harness trace” draws "
        "any other workflow."
        if count > len(pictures)
        else "All workflows of the run."
    )
    return Slowness(
        _table(about),
        pictures,
        note,
        waterfall_legend(picture.panel for picture in pictures),
        tuple(links(about.data, jaeger)) if jaeger else (),
    )


def _chosen(about: Subject, waterfalls: Waterfalls) -> list[tuple[str, Workflow]]:
    """Return workflows with the reason for each, no workflow twice."""
    known = [one for one in waterfalls.counted() if one.cell in about.labels]
    failed = [one for one in waterfalls.failed() if one.cell in about.labels]
    by_cell = ([one for one in known if one.cell == cell.id] for cell in about.cells)
    medians = [median_workflow(mine) for mine in by_cell if mine]
    chosen: dict[str, tuple[str, Workflow]] = {}
    for kind, workflows in (
        ("Slowest", known[:SLOWEST]),
        ("Failed or degraded", failed[:FAILED]),
        ("Median of its setting", medians[:MEDIANS]),
    ):
        for one in workflows:
            chosen.setdefault(display_key(one), (kind, one))
    return list(chosen.values())


def _picture(
    about: Subject,
    kind: str,
    drawn: Waterfall,
    jaeger: Jaeger | None,
    texts: Sequence[Transcript],
) -> Picture:
    run, workflow = about.data.run, drawn.path.workflow
    seconds = in_scenario_seconds(run.time_scale)
    failures = [failure_line(label, attempt, seconds) for label, attempt in drawn.failures]
    if len(failures) > MOST_PAGE_FAILURES:
        failures[MOST_PAGE_FAILURES:] = [f"… {len(failures) - MOST_PAGE_FAILURES} more"]
    title = (
        f"{about.labels[workflow.cell]}, repeat {workflow.repeat + 1}, workflow "
        f"{workflow.workflow + 1}: {workflow.outcome} after {number(seconds(drawn.path.latency))} s"
    )
    panel = waterfall_panel(most_telling(drawn.rows), seconds, drawn.path.latency, title)
    more = len(drawn.rows) - len(panel.rows)
    left_out = [f"{counted(more, 'more call')}: harness trace RUN {drawn.key}"] if more else []
    return Picture(
        name=drawn.key.replace("/", "-"),
        kind=kind,
        panel=panel,
        said=tuple(path_sentences(drawn.path, seconds)),
        notes=(*left_out, *waterfall_notes([panel])),
        failures=tuple(failures),
        texts=tuple(_call_texts(one, drawn.key) for one in texts),
        link=jaeger.trace(run.run_id, workflow) if jaeger and jaeger.has(workflow) else None,
    )


def _table(about: Subject) -> Table | None:
    by_id = {cell.info.id: cell for cell in path_summaries([about.data])}
    if not by_id:
        return None
    found = [by_id.get(cell.id) for cell in about.cells]
    ratios = [one.more.ratio if one and one.more else None for one in found]
    key = "makespan_ratio_with_a_permit_more"
    columns = [Column("one more permit", key, ratios, change_in_percent)]
    for part in shown_parts([one.path for one in by_id.values()]):
        shares = [one.path.share(part) if one else None for one in found]
        columns.append(Column(PART_WORDS[part], f"{part}_share", shares, percent))
    held = [held_by(one.path) if one and one.path.held_by else None for one in found]
    columns.append(Column("last branches", "last_branches_had_more_of", held))
    caption = "Critical paths of the workflows: shares of their latency"
    return about.of_cells("critical-path", caption, columns)


def _call_texts(one: Transcript, key: str) -> CallTexts:
    reasoning, answer = (printable_lines(text.strip()) for text in (one.reasoning, one.answer))
    longer = max(len(reasoning), len(answer)) > MOST_PAGE_TEXT
    return CallTexts(
        f"{place_name((one.phase, one.branch, one.call))}: {one.outcome}",
        reasoning[:MOST_PAGE_TEXT],
        answer[:MOST_PAGE_TEXT],
        f"Cut at {MOST_PAGE_TEXT:,} characters: harness reasoning RUN {key}" if longer else "",
    )
