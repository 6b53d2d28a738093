"""Why a workflow took as long as it did: the one chain of waits and work that held its end.

The path is made from the workflow's tree. Of branches that run at the same time only the one that
ended last holds the end (the straggler), and of a call's attempts at the same time only the one
that it ended with. The segments of the path neither overlap nor leave a gap, so their lengths add
up to the workflow's latency exactly. Shortening anything that is not on the path would have changed
nothing.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from harness.analysis import replay
from harness.analysis.call_segments import PARTS, add_lengths, tiles
from harness.analysis.model import Figure
from harness.analysis.phase_tree import Lane, PhaseNode, Stage, tree_of
from harness.analysis.selection import CellRecords
from harness.analysis.statistics import over_repeats
from harness.records.clock import SECOND
from harness.records.failures import CANCELLED
from harness.records.groups import WorkflowGroups, WorkflowRecords
from harness.records.schema import Attempt, Call, Workflow

Attempts = Mapping[tuple[str, int | None, int], Sequence[Attempt]]
"""The attempts of one workflow, by phase, branch and call."""


class PathSegment(NamedTuple):
    """One stretch of the path: its part, its times in nanoseconds since the run's anchor, whose.

    Outside every call `call` and what follows is None; before the first phase `phase` is, too.
    """

    part: str
    start: int
    end: int
    phase: str | None = None
    branch: int | None = None
    call: int | None = None
    attempt: int | None = None

    @property
    def length(self) -> int:
        """Nanoseconds from start to end."""
        return self.end - self.start


class Straggler(NamedTuple):
    """The branch that held the end of a fan-out on the critical path.

    `phase`: the phase that fanned out, None for the workflow outside every phase. `behind`:
    nanoseconds after the last of the other branches, 0 without one. `because`: the part of which it
    had most more than the others (`excess` nanoseconds over their median), None when of none.
    """

    phase: str | None
    branch: int
    behind: int
    because: str | None
    excess: int


class CriticalPath(NamedTuple):
    """The path of one workflow; its segments tile the time from ready to done."""

    workflow: Workflow
    segments: tuple[PathSegment, ...]
    stragglers: tuple[Straggler, ...]

    @property
    def latency(self) -> int:
        """Nanoseconds from the workflow's ready to its done: the sum of the segments."""
        return self.workflow.done - self.workflow.ready

    def parts(self) -> dict[str, int]:
        """Return the nanoseconds that each part of `call_segments.PARTS` holds the end."""
        return _sums((segment.part, segment.length) for segment in self.segments)

    def phases(self) -> dict[str, int]:
        """Return the nanoseconds of each phase without those of phases nested in it.

        The time between phases is in none.
        """
        return _sums((s.phase, s.length) for s in self.segments if s.phase is not None)


class CellPath(NamedTuple):
    """The paths of a cell added up: nanoseconds by part and by phase, over `workflows` workflows.

    `held_by`: how many fan-outs were held up by which part, as `Straggler.because`.
    """

    workflows: int
    parts: dict[str, int]
    phases: dict[str, int]
    held_by: dict[str, int]

    def share(self, part: str) -> float:
        """Return the share (0 to 1) of the workflows' summed latency that a part holds."""
        return self.parts.get(part, 0) / (sum(self.parts.values()) or 1)


class OneMore(NamedTuple):
    """What one permit more would buy: the makespan with it, and its ratio to the measured one.

    The measured service times are played again under one permit more, and the measured makespan is
    changed by as much as the replay is. That takes for granted that the provider answers as fast
    with one more call at once, so it is what the permit buys at best.
    """

    permits: int
    makespan_s: Figure
    ratio: Figure


def critical_path(workflow: Workflow, its: WorkflowRecords) -> CriticalPath:
    """Return what held the end of `workflow`; `its`: its calls and attempts."""
    walk = _PathWalk(
        {(call.phase, call.branch, call.call): attempts for call, attempts in its.tried()}
    )
    segments = walk.along(tree_of(workflow, its.calls))
    return CriticalPath(workflow, tuple(segments), tuple(walk.stragglers))


def paths_of(workflows: Iterable[Workflow], groups: WorkflowGroups) -> Iterator[CriticalPath]:
    """Yield the path of each of `workflows`."""
    for workflow in workflows:
        yield critical_path(workflow, groups.of(workflow))


def add_up(paths: Iterable[CriticalPath]) -> CellPath:
    """Add the paths of a cell's workflows up."""
    count = 0
    parts, phases, held = Counter[str](), Counter[str](), Counter[str]()
    for count, path in enumerate(paths, 1):  # one by one: those of a long run are large  # noqa: B007
        parts.update(path.parts())
        phases.update(path.phases())
        held.update(one.because or "other" for one in path.stragglers)
    in_order = {part: parts[part] for part in PARTS if part in parts}
    return CellPath(count, in_order, dict(phases), dict(held))


def one_permit_more(cell: CellRecords, in_flight: int) -> OneMore | None:
    """Return what one permit more would buy; None for sync and where no trial ran in one go."""
    info, ratios, makespans = cell.info, [], []
    if info.mode == replay.SYNC:
        return None
    for trial, work, arrivals in replay.trials_to_replay(cell):
        now, more = (
            replay.replay(work, permits, in_flight, info.mode, arrivals)
            for permits in (info.permits, info.permits + 1)
        )
        if now:
            ratios.append(more / now)
            makespans.append(more / now * (trial.end - trial.start) / SECOND)
    ratio, makespan = over_repeats(ratios), over_repeats(makespans)
    if ratio is None or makespan is None:
        return None
    return OneMore(info.permits + 1, makespan, ratio)


class _PathWalk:
    """Walks through a workflow's tree, from what ended last back to what it waited for."""

    def __init__(self, attempts: Attempts) -> None:
        self._attempts = attempts
        self.stragglers: list[Straggler] = []

    def along(self, node: PhaseNode) -> list[PathSegment]:
        """Return the segments of a phase, or of the workflow, from its start to its end."""
        found = [segment for stage in node.stages for segment in self._of_stage(node, stage)]
        return _tiled(found, node.start, node.end, PathSegment("other", 0, 0, node.name))

    def _of_stage(self, node: PhaseNode, stage: Stage) -> list[PathSegment]:
        """Return the segments of the lane that ended last, and of those that it waited for.

        A lane that started only when the stage had gone on for a while followed another one.
        """
        last = _last(stage)
        if last.branch is not None:
            self.stragglers.append(self._straggler(node.name, last, stage))
        segments = self._of_lane(last)
        if len(stage) == 1:
            return segments
        start = min(lane.start for lane in stage)
        left = [lane for lane in stage if lane is not last]
        while last.start > start:
            before = [lane for lane in left if lane.end <= last.start]
            if not before:
                break
            last = max(before, key=lambda lane: lane.end)
            left.remove(last)
            segments = [*self._of_lane(last), *segments]
        return segments

    def _of_lane(self, lane: Lane) -> list[PathSegment]:
        found: list[PathSegment] = []
        for item in lane.items:
            found += self._of_call(item) if isinstance(item, Call) else self.along(item)
        return found

    def _of_call(self, call: Call) -> list[PathSegment]:
        return [
            PathSegment(it.part, it.start, it.end, call.phase, call.branch, call.call, it.attempt)
            for it in tiles(call, self._tried(call))
        ]

    def _straggler(self, phase: str | None, last: Lane, stage: Stage) -> Straggler:
        assert last.branch is not None, "only a branch is a straggler"
        others = [lane for lane in stage if lane is not last]
        if not others:
            return Straggler(phase, last.branch, 0, None, 0)
        behind = last.end - max(
            (one.end for one in others if one.end <= last.end), default=last.end
        )
        mine = self._lengths(last)
        theirs = [self._lengths(lane) for lane in others]
        excess = {
            part: mine[part] - int(statistics.median(other[part] for other in theirs))
            for part in PARTS
            if mine[part]  # a part that it does not have cannot be longer than in the others
        }
        because = max(excess, key=lambda part: excess[part], default=None)
        if because is None or excess[because] <= 0:
            return Straggler(phase, last.branch, behind, None, 0)
        return Straggler(phase, last.branch, behind, because, excess[because])

    def _lengths(self, lane: Lane) -> dict[str, int]:
        """Return the nanoseconds of each part; of a nested phase, along its critical path."""
        lengths = dict.fromkeys(PARTS, 0)
        for item in lane.items:
            if isinstance(item, Call):
                add_lengths(lengths, item, self._tried(item))
            else:
                for segment in _PathWalk(self._attempts).along(item):
                    lengths[segment.part] += segment.length
        return lengths

    def _tried(self, call: Call) -> Sequence[Attempt]:
        return self._attempts.get((call.phase, call.branch, call.call), ())


def _last(stage: Stage) -> Lane:
    """Return the lane that ended last; nothing waited for one that was cancelled."""
    if len(stage) == 1:
        return stage[0]
    held = [lane for lane in stage if lane.outcome != CANCELLED] or stage
    return max(held, key=lambda lane: (lane.end, -(lane.branch or 0)))


def _tiled(
    segments: Iterable[PathSegment], start: int, end: int, between: PathSegment
) -> list[PathSegment]:
    """Cut segments, given in order of time, to `start` and `end`; fill gaps with `between`."""
    whole: list[PathSegment] = []
    at = start
    for segment in segments:
        first, last = max(segment.start, at), min(segment.end, end)
        if last <= first:
            continue
        if first > at:
            whole.append(between._replace(start=at, end=first))
        if (first, last) != (segment.start, segment.end):
            segment = segment._replace(start=first, end=last)
        whole.append(segment)
        at = last
    if end > at:
        whole.append(between._replace(start=at, end=end))
    return whole


def _sums(pairs: Iterable[tuple[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for name, value in pairs:
        total[name] = total.get(name, 0) + value
    return total
