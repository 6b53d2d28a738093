"""Critical paths in sentences, for the terminal and the report, and as a table on the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from rich.console import Console
from rich.text import Text

from harness.analysis.call_segments import PARTS, PATH_PARTS, PROGRAM_PART
from harness.analysis.cells import terms_of
from harness.analysis.critical_path import (
    CellPath,
    CriticalPath,
    OneMore,
    TrialWithOneMore,
    estimate_one_more,
    join_sums,
    walk_cell,
    with_one_more,
)
from harness.analysis.selection import Dataset
from harness.records.schema import Attempt, CellInfo, Decision, Run
from harness.report.columns import PATH_HEADS, fitting_settings
from harness.report.console import say, table_blocks
from harness.report.line_wrap import WIDTH, wrapped
from harness.report.tables import Column
from harness.report.wording import (
    PART_WORDS,
    change_in_percent,
    counted,
    number,
    percent,
    sentence,
    simulated_line,
    whole_percent,
)
from harness.store.run_directory import Records

ToSeconds = Callable[[int], float]
"""From nanoseconds of the records to scenario seconds."""


class PathSummary(NamedTuple):
    """The critical paths of a cell's workflows, and the estimated effect of one more permit."""

    info: CellInfo
    path: CellPath
    more: OneMore | None


class _Portion(NamedTuple):
    """What a portion of the records adds to the `PathSummary` of a cell."""

    info: CellInfo
    path: CellPath
    more: list[TrialWithOneMore]


def path_summaries(portions: Iterable[Records]) -> list[PathSummary]:
    """Return the sum of the critical paths of each cell that has workflows.

    `portions`: the records of the run, at once or trial by trial; none is kept.
    """
    by_cell: dict[str, list[_Portion]] = {}
    for found in map(_portions, portions):
        for one in found:
            by_cell.setdefault(one.info.id, []).append(one)
    return [
        PathSummary(
            mine[0].info,
            join_sums(one.path for one in mine),
            estimate_one_more(mine[0].info, chain.from_iterable(one.more for one in mine)),
        )
        for mine in by_cell.values()
    ]


def _portions(records: Records) -> Iterator[_Portion]:
    for cell in Dataset.of(records).cells.values():
        if cell.workflows:
            in_flight = terms_of(records.run, cell.info).in_flight
            path = walk_cell(cell, in_flight).path
            yield _Portion(cell.info, path, list(with_one_more(cell, in_flight)))


def shown_parts(paths: Sequence[CellPath]) -> tuple[str, ...]:
    """Return the parts of critical paths that a table shows: that of the program if it has 1 %."""
    has_program = any(path.share(PROGRAM_PART) >= _LEAST_SHARE for path in paths)
    return PATH_PARTS if has_program else PARTS


_LEAST_SHARE = 0.01


def render_paths(cells: Sequence[PathSummary], run: Run, console: Console) -> None:
    """Write the table of the cells' critical paths."""
    shares = [
        Column(PATH_HEADS[part], "", [cell.path.share(part) for cell in cells], whole_percent)
        for part in shown_parts([cell.path for cell in cells])
    ]
    ratios = [cell.more.ratio if cell.more else None for cell in cells]
    one_more = Column("one more\npermit", "", ratios, change_in_percent)
    groups = [shares, [one_more]]
    settings = fitting_settings([cell.info for cell in cells], groups, WIDTH)
    say(console, Text("Critical paths of the workflows, in % of their latency", style="bold"))
    if run.simulated:
        say(console, simulated_line(run))
    for block in table_blocks(settings, groups):
        say(console, "", *block)
    notes = [
        "one more permit: its effect on the makespan at best, from a replay of the measured "
        "service times; it assumes that the provider answers as fast"
    ]
    for at, cell in enumerate(cells):
        if cell.path.held_by:
            label = " ".join(column.text(column.values[at]) for column in settings)
            notes.append(f"{label}: the last branches had more {held_by(cell.path)}")
    say(console, "", *(line for note in notes for line in wrapped(note)))


def in_scenario_seconds(time_scale: float) -> ToSeconds:
    """Return a function from nanoseconds of a run to scenario seconds."""
    return lambda length: length / 1e9 / time_scale


_OUTSIDE = "program (outside of calls)"


def path_sentences(path: CriticalPath, seconds: ToSeconds) -> list[str]:
    """Return sentences about the parts of a path, its longest phase, and the last branches."""
    if not path.latency:
        return []
    shares = sorted(path.parts().items(), key=lambda item: -item[1])
    least = {PROGRAM_PART: _LEAST_SHARE * path.latency}
    parts = ", ".join(
        f"{_OUTSIDE if part == PROGRAM_PART else PART_WORDS[part]} {percent(time / path.latency)}"
        for part, time in shares
        if time >= least.get(part, 0)
    )
    said = [f"Critical path of {number(seconds(path.latency))} s: {parts}."]
    phases = path.phases()
    longest = max(phases, key=lambda name: phases[name], default="")
    if longest and phases[longest] > path.parts().get(PROGRAM_PART, 0):
        share = percent(phases[longest] / path.latency)
        said.append(f"{sentence(longest.replace('_', '-'))} took most of it ({share}).")
    for one in path.stragglers:
        phase = (one.phase or "workflow").replace("_", "-")
        behind = f", {number(seconds(one.behind))} s after the one before it" if one.behind else ""
        why = ""
        if one.because:
            excess = f"{number(seconds(one.excess))} s more {PART_WORDS[one.because]}"
            why = f": it had {excess} than the median of the others"
        said.append(f"Branch {one.branch + 1} ended the {phase}{behind}{why}.")
    return said


def failure_line(label: str, attempt: Attempt, seconds: ToSeconds) -> str:
    """Return a line about a failed attempt of the call `label` and the decision of the policy."""
    status = "" if attempt.status is None else f" ({attempt.status})"
    start = attempt.permit_granted if attempt.sent is None else attempt.sent
    return (
        f"{label}, attempt {attempt.attempt}: {attempt.outcome.replace('_', ' ')}{status} after "
        f"{number(seconds(attempt.done - start))} s{_decision_text(attempt.decision, seconds)}"
    )


def anomaly_line(counts: Sequence[tuple[str, int]]) -> str:
    """Return a line about the anomalies of a workflow's responses, and how many have each."""
    each = (f"{name} in {counted(count, 'response')}" for name, count in counts)
    return f"Deviates from the API: {', '.join(each)}"


_WAITS = {
    "retry_after": "server's Retry-After",
    "rate_limit_reset": "reset of the server's limit",
}


def _decision_text(decision: Decision | None, seconds: ToSeconds) -> str:
    if decision is None:
        return ""
    if decision.give_up is not None:
        return f"; no retry: {decision.give_up.replace('_', ' ')}"
    if decision.source == "breaker":
        return "; delayed by the circuit breaker"
    if decision.retry_in is None:
        return ""
    by = _WAITS.get(decision.source or "policy", "policy's backoff")
    return f"; retry after {number(seconds(decision.retry_in))} s, the {by}"


def held_by(path: CellPath) -> str:
    """Return what the last branches of a cell's fan-outs had more of than others, by frequency."""
    held = sorted(path.held_by.items(), key=lambda item: (-item[1], PATH_PARTS.index(item[0])))
    return ", ".join(
        f"{PART_WORDS[part]} {f'{times} times' if times > 1 else 'once'}" for part, times in held
    )
