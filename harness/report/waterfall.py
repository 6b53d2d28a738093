"""One workflow as a waterfall of its calls, in nanoseconds since the workflow was ready."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import nsmallest
from itertools import chain
from typing import NamedTuple

from harness.analysis.call_segments import CallSegment, of_attempt, segments_of_call
from harness.analysis.critical_path import CriticalPath, critical_path
from harness.analysis.phase_tree import calls_in, row_namer, tree_of
from harness.analysis.selection import Dataset
from harness.records import ids
from harness.records.errors import InputError
from harness.records.failures import CANCELLED, OK, is_failure
from harness.records.keys import display_key
from harness.records.schema import Attempt, Call, Workflow
from harness.store.run_directory import Records

LEAST_ID = 8
"""The fewest characters of a trace id that identify a workflow."""


class WaterfallRow(NamedTuple):
    """A call or a hedge. `attempts`: of the whole call. `path`: times on the critical path."""

    label: str
    start: int
    end: int
    pieces: tuple[CallSegment, ...]
    outcome: str
    attempts: int
    path: tuple[tuple[int, int], ...] = ()


class Waterfall(NamedTuple):
    """A workflow to draw.

    `failures`: its failed attempts, with the labels of their calls. `anomalies`: the number of
    attempts with each anomaly, the most frequent first.
    """

    key: str
    trace_id: str
    path: CriticalPath
    rows: tuple[WaterfallRow, ...]
    failures: tuple[tuple[str, Attempt], ...]
    anomalies: tuple[tuple[str, int], ...] = ()


class Waterfalls:
    """Makes waterfalls of the workflows of a run."""

    def __init__(self, records: Records) -> None:
        self._run_id = records.run.run_id
        self._records = Dataset.of(records)

    def counted(self) -> list[Workflow]:
        """Return all workflows that count, slowest first."""
        return slowest([self._records])

    def failed(self) -> list[Workflow]:
        """Return the failed workflows that count, then the degraded ones, each slowest first."""
        return slowest([self._records], failed=True)

    def of(self, workflow: Workflow) -> Waterfall:
        """Return the waterfall of one workflow."""
        its = self._records.groups.of(workflow)
        path = critical_path(workflow, its)
        rows: list[WaterfallRow] = []
        failures: list[tuple[str, Attempt]] = []
        attempts_of = {call.call_key: tried for call, tried in its.tried()}
        name = row_namer(its.calls)
        for call in calls_in(tree_of(workflow, its.calls)):
            label, tried = _label(call, name(call)), attempts_of[call.call_key]
            rows += _rows(call, label, tried, path)
            failures += [(label, attempt) for attempt in tried if is_failure(attempt.outcome)]
        trace = ids.workflow_trace(self._run_id, workflow)
        counts = Counter(name for one in its.attempts for name in one.anomalies)
        return Waterfall(
            display_key(workflow), trace, path, tuple(rows), tuple(failures),
            tuple(counts.most_common()),
        )  # fmt: skip


def slowest(
    portions: Iterable[Records], most: int | None = None, *, failed: bool = False
) -> list[Workflow]:
    """Return the workflows that count, slowest first, at most `most`; others are not kept.

    `portions`: the records of the run, at once or trial by trial; calls and attempts are not
    needed. `failed`: only the failed workflows, then the degraded ones and those whose program
    judged the result as not ok.
    """

    def order(one: Workflow) -> tuple[bool, int]:
        return failed and one.outcome != "failed", one.ready - one.done

    counted = chain.from_iterable(map(_counted, portions))
    wanted = (one for one in counted if one.outcome != OK or one.ok is False) if failed else counted
    return sorted(wanted, key=order) if most is None else nsmallest(most, wanted, key=order)


def _counted(records: Records) -> list[Workflow]:
    return [one for cell in Dataset.of(records).cells.values() for one in cell.workflows]


def find_workflow(portions: Callable[[], Iterable[Records]], run_id: str, key: str) -> Workflow:
    """Return a workflow by cell/repeat/workflow (the last execution) or the start of its trace id.

    `portions`: as in `slowest`. Raises InputError, with an example, if there is none.
    """
    is_id = len(key) >= LEAST_ID and set(key) <= set("0123456789abcdef")
    found = (
        one
        for records in portions()
        for one in records.workflows
        if key in (display_key(one), f"{display_key(one)}/{one.execution + 1}")
        or (is_id and ids.workflow_trace(run_id, one).startswith(key))
    )
    if chosen := max(found, key=lambda one: one.execution, default=None):
        return chosen
    known = slowest(portions(), 1)
    example = f", for example {display_key(known[0])}" if known else ""
    raise InputError(
        f"{key}: no workflow of this run; write setting/repeat/workflow, numbered from 1, or a "
        f"trace id{example}"
    )


def _label(call: Call, name: str) -> str:
    """Return the label of a call: `plan 2` for the second of a phase, `branch 3.2` of a branch."""
    if call.call == 1:
        return name
    return f"{name} {call.call}" if call.branch is None else f"{name}.{call.call}"


def _rows(
    call: Call, name: str, tried: Sequence[Attempt], path: CriticalPath
) -> Iterator[WaterfallRow]:
    """Yield the row of a call, and one more for each attempt that ran beside it."""
    ready = path.workflow.ready
    cancelled = {one.attempt for one in tried if one.outcome == CANCELLED}
    mine = [s for s in path.segments if (s.phase, s.branch, s.call) == call.call_key[4:]]
    for at, lane in enumerate(_lanes(tried)):
        is_hedge = at > 0
        if is_hedge:
            cut = [piece for one in lane for piece in parts_of(one) if piece.length > 0]
            label, start, end = "  hedge", lane[0].ready, lane[-1].done
        else:
            cut, label, start, end = segments_of_call(call, lane), name, call.ready, call.done
        numbers = {attempt.attempt for attempt in lane}
        on_path = [
            (segment.start - ready, segment.end - ready)
            for segment in mine
            if segment.attempt in numbers or (segment.attempt is None and not is_hedge)
        ]
        yield WaterfallRow(
            label,
            start - ready,
            end - ready,
            tuple(
                p._replace(part=part, start=p.start - ready, end=p.end - ready)
                for p in cut
                for part in [CANCELLED if _is_of(p, cancelled) else p.part]
            ),
            lane[-1].outcome if is_hedge else call.outcome,
            call.attempts,
            _joined(on_path),
        )


def _is_of(piece: CallSegment, cancelled: set[int]) -> bool:
    return piece.part == "failed_attempts" and piece.attempt in cancelled


def parts_of(attempt: Attempt) -> list[CallSegment]:
    """Return the parts of an attempt; the time of a cancelled one is not that of a failure."""
    cut = list(of_attempt(attempt))
    if attempt.outcome != CANCELLED:
        return cut
    return [p._replace(part=CANCELLED) if p.part == "failed_attempts" else p for p in cut]


def _joined(stretches: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Join stretches that touch."""
    joined: list[tuple[int, int]] = []
    for start, end in stretches:
        touches = joined and joined[-1][1] == start
        joined.append((joined.pop()[0] if touches else start, end))
    return tuple(joined)


def _lanes(tried: Sequence[Attempt]) -> list[list[Attempt]]:
    """Group attempts into lanes of attempts that follow one another; at least one lane."""
    lanes: list[list[Attempt]] = [[]]
    for attempt in tried:
        for lane in lanes:
            if not lane or lane[-1].done <= attempt.permit_requested:
                lane.append(attempt)
                break
        else:
            lanes.append([attempt])
    return lanes
