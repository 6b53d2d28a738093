"""The critical path of a workflow: the chain of waits and work that determined its end.

Of branches that run at the same time only the one that ended last (the straggler) is on the path,
and of a call's attempts at the same time only the one that it ended with. The segments of the path
have no overlap and no gap, so their lengths add up to the latency of the workflow. To shorten
anything that is not on the path would have changed nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from harness.analysis import replay
from harness.analysis.call_segments import PARTS, PATH_PARTS, PROGRAM_PART, CallSegment, tiled
from harness.analysis.call_times import Groups, TimedCalls, of_records, timed_calls
from harness.analysis.model import Figure
from harness.analysis.phase_tree import Lane, PhaseNode, Stage, tree_of
from harness.analysis.plain_workflows import PlainWorkflows
from harness.analysis.selection import CellRecords
from harness.analysis.statistics import over_repeats
from harness.records.clock import SECOND
from harness.records.failures import CANCELLED
from harness.records.groups import WorkflowRecords
from harness.records.schema import Call, CellInfo, Workflow
from harness.records.settings import one_at_a_time
from harness.store.compact_records import ABSENT


class Straggler(NamedTuple):
    """The branch that ended last in a fan-out on the critical path.

    `phase`: the phase of the fan-out, None outside every phase. `behind`: nanoseconds after the
    last of the other branches, 0 without one. `because`: the part that exceeds the median of the
    other branches most, by `excess` nanoseconds; None if no part does.
    """

    phase: str | None
    branch: int
    behind: int
    because: str | None
    excess: int


class _PathSpan(NamedTuple):
    """A part of a critical path: time within a call, or time of the program in a phase.

    `at`: the index of the call among those of the workflow, None without one.
    """

    start: int
    end: int
    at: int | None
    phase: str | None


class CriticalPath(NamedTuple):
    """The path of one workflow; its segments cover the time from ready to done."""

    workflow: Workflow
    segments: tuple[CallSegment, ...]
    stragglers: tuple[Straggler, ...]

    @property
    def latency(self) -> int:
        """Nanoseconds from the workflow's ready to its done: the sum of the segments."""
        return self.workflow.done - self.workflow.ready

    def parts(self) -> dict[str, int]:
        """Return the nanoseconds on the path of each part of `call_segments.PATH_PARTS`."""
        return _sums((segment.part, segment.length) for segment in self.segments)

    def phases(self) -> dict[str, int]:
        """Return the nanoseconds of each phase, without the phases nested in it."""
        return _sums((s.phase, s.length) for s in self.segments if s.phase is not None)


class _WalkedPath(NamedTuple):
    """A path before its calls are cut into segments; to add it up needs only some of these."""

    workflow: Workflow
    spans: Sequence[_PathSpan]
    stragglers: tuple[Straggler, ...]
    its: TimedCalls

    def path(self) -> CriticalPath:
        """Return the path."""
        segments = (segment for span in self.spans for segment in _cut(span, self.its))
        return CriticalPath(self.workflow, tuple(segments), self.stragglers)

    def parts(self) -> dict[str, int]:
        """Return the same as `CriticalPath.parts`, in another order and with zeros."""
        total = dict.fromkeys(PATH_PARTS, 0)
        for span in self.spans:
            for part, length in _parts(span, self.its):
                total[part] += length
        return total

    def phases(self) -> dict[str, int]:
        """Return the same as `CriticalPath.phases`."""
        return _sums((s.phase, s.end - s.start) for s in self.spans if s.phase is not None)


def _cut(span: _PathSpan, its: TimedCalls) -> Iterator[CallSegment]:
    """Yield the segments of a span."""
    if span.at is None:
        yield CallSegment(PROGRAM_PART, span.start, span.end, phase=span.phase)
        return
    call = its.calls[span.at]
    for it in its.tiles_of(span.at):
        start, end = max(it.start, span.start), min(it.end, span.end)
        if start < end:
            yield CallSegment(it.part, start, end, it.attempt, call.phase, call.branch, call.call)


def _parts(span: _PathSpan, its: TimedCalls) -> Iterable[tuple[str, int]]:
    """Return how long each part of a span is."""
    if span.at is None:
        return ((PROGRAM_PART, span.end - span.start),)
    call, lengths = its.calls[span.at], its.lengths[span.at]
    if lengths[0] != ABSENT and (span.start, span.end) == (call.ready, call.done):
        return zip(PARTS, lengths, strict=True)
    return ((segment.part, segment.length) for segment in _cut(span, its))


def _sums(pairs: Iterable[tuple[str, int]]) -> dict[str, int]:
    total = defaultdict[str, int](int)
    for name, value in pairs:
        total[name] += value
    return dict(total)


class CellPath(NamedTuple):
    """The paths of a cell added up: nanoseconds by part and by phase, over `workflows` workflows.

    `held_by`: the number of fan-outs by `Straggler.because`, or `other` for None.
    """

    workflows: int
    parts: dict[str, int]
    phases: dict[str, int]
    held_by: dict[str, int]

    def share(self, part: str) -> float:
        """Return the share (0 to 1) of the workflows' summed latency that a part holds."""
        return self.parts.get(part, 0) / (sum(self.parts.values()) or 1)


class OneMore(NamedTuple):
    """The estimated makespan with one more permit, and its ratio to the measured one.

    The measured service times are replayed with one more permit, and the measured makespan changes
    in proportion. The estimate is a best case: it assumes that one more concurrent call does not
    make the provider slower.
    """

    permits: int
    makespan_s: Figure
    ratio: Figure


class TrialWithOneMore(NamedTuple):
    """The makespan of one trial with one more permit, and its ratio to the measured one."""

    ratio: float
    makespan_s: float


def critical_path(workflow: Workflow, its: WorkflowRecords) -> CriticalPath:
    """Return the critical path of `workflow`; `its`: its calls and attempts."""
    return _walk(workflow, of_records(its)).path()


def paths_of(workflows: Iterable[Workflow], groups: Groups) -> Iterator[CriticalPath]:
    """Yield the critical path of each workflow."""
    return (walked.path() for walked in walked_paths(workflows, groups))


def walked_paths(workflows: Iterable[Workflow], groups: Groups) -> Iterator[_WalkedPath]:
    """Yield what `add_up` needs of the critical path of each workflow."""
    every = list(workflows)
    return map(_walk, every, timed_calls(every, groups))


def _walk(workflow: Workflow, its: TimedCalls, tree: PhaseNode | None = None) -> _WalkedPath:
    walk = _PathWalk(its)
    spans = walk.along(tree or tree_of(workflow, its.calls))
    return _WalkedPath(workflow, spans, tuple(walk.stragglers), its)


class _PathSums:
    """The sums of paths that are added one by one: those of a long run are large."""

    def __init__(self) -> None:
        self._count = 0
        self._parts, self._phases, self._held = Counter[str](), Counter[str](), Counter[str]()

    def add(self, path: CriticalPath | _WalkedPath) -> None:
        """Add a path."""
        held = Counter(one.because or "other" for one in path.stragglers)
        self.add_sums(CellPath(1, path.parts(), path.phases(), held))

    def add_tree(self, workflow: Workflow, its: TimedCalls, tree: PhaseNode) -> None:
        """Add the path of a workflow."""
        self.add(_walk(workflow, its, tree))

    def add_plain(self, plain: PlainWorkflows) -> None:
        """Add the paths of all plain workflows."""
        count = int(plain.is_plain.sum())
        self.add_sums(CellPath(count, plain.parts(), plain.phases(), plain.held_by()))

    def add_sums(self, sums: CellPath) -> None:
        """Add the sums of other workflows."""
        self._count += sums.workflows
        self._parts.update(sums.parts)
        self._phases.update(sums.phases)
        self._held.update(sums.held_by)

    def total(self) -> CellPath:
        """Return the sums."""
        parts, held = _in_order(self._parts), _in_order(self._held)
        return CellPath(self._count, parts, dict(self._phases), held)


def add_up(paths: Iterable[CriticalPath | _WalkedPath]) -> CellPath:
    """Add up the paths of a cell's workflows."""
    sums = _PathSums()
    for path in paths:
        sums.add(path)
    return sums.total()


class CellWalk(NamedTuple):
    """What the trees of a cell's workflows show: the bounds of its trials, and its paths."""

    bounds: tuple[replay.TrialBounds, ...]
    path: CellPath


def walk_cell(cell: CellRecords, in_flight: int) -> CellWalk:
    """Return the bounds of the uninterrupted trials, and the sum of the paths of all workflows.

    Both are computed at once, as the work of a long run takes long to arrange; and only once.
    """
    if in_flight not in cell.walks:
        sums = _PathSums()
        bounds = tuple(replay.trial_bounds(cell, in_flight, sums))
        cell.walks[in_flight] = CellWalk(bounds, sums.total())
    return cell.walks[in_flight]


def join_sums(sums: Iterable[CellPath]) -> CellPath:
    """Return the sum of sums that have different workflows of a cell."""
    whole = _PathSums()
    for one in sums:
        whole.add_sums(one)
    return whole.total()


def _in_order(parts: Mapping[str, int]) -> dict[str, int]:
    return {part: length for part in PATH_PARTS if (length := parts.get(part, 0))}


def one_permit_more(cell: CellRecords, in_flight: int) -> OneMore | None:
    """Estimate the effect of one more permit; None for sync and without an uninterrupted trial."""
    return estimate_one_more(cell.info, with_one_more(cell, in_flight))


def with_one_more(cell: CellRecords, in_flight: int) -> Iterator[TrialWithOneMore]:
    """Yield the replay of each uninterrupted trial with one more permit; none for sync."""
    if one_at_a_time(cell.info.mode):
        return
    for one in walk_cell(cell, in_flight).bounds:
        if one.replay:
            ratio = one.with_one_more / one.replay
            yield TrialWithOneMore(ratio, ratio * one.measured / SECOND)


def estimate_one_more(info: CellInfo, trials: Iterable[TrialWithOneMore]) -> OneMore | None:
    """Return the estimate from the replays of a cell's trials; None without any."""
    replayed = list(trials)
    ratio = over_repeats([one.ratio for one in replayed])
    makespan = over_repeats([one.makespan_s for one in replayed])
    if ratio is None or makespan is None:
        return None
    return OneMore(info.permits + 1, makespan, ratio)


class _PathWalk:
    """Walks through a workflow's tree, from the end back to the start."""

    def __init__(self, its: TimedCalls) -> None:
        self._its = its
        self._places = {id(call): at for at, call in enumerate(its.calls)}
        self.stragglers: list[Straggler] = []

    def along(self, node: PhaseNode) -> list[_PathSpan]:
        """Return the spans of a phase, or of the workflow, from its start to its end."""
        found = [span for stage in node.stages for span in self._of_stage(node, stage)]
        return tiled(found, node.start, node.end, _PathSpan(0, 0, None, node.name))

    def _of_stage(self, node: PhaseNode, stage: Stage) -> list[_PathSpan]:
        """Return the spans of the lane that ended last, and of those that it waited for.

        A lane that started later than its stage waited for what had ended in another lane of it.
        """
        last = _last(stage)
        if last.branch is not None:
            self.stragglers.append(self._straggler(node.name, last, stage))
        spans = self._of_lane(last)
        if len(stage) == 1:
            return spans
        start = min(lane.start for lane in stage)
        left = [lane for lane in stage if lane is not last]
        while last.start > start:
            before = [(cut, lane) for lane in left if (cut := _until(lane, last.start)) is not None]
            if not before:
                break
            last, whole = max(before, key=lambda pair: pair[0].end)
            left.remove(whole)
            spans = [*self._of_lane(last), *spans]
        return spans

    def _of_lane(self, lane: Lane) -> list[_PathSpan]:
        found: list[_PathSpan] = []
        for item in lane.items:
            if isinstance(item, Call):
                found.append(_PathSpan(item.ready, item.done, self._at(item), item.phase))
            else:
                found += self.along(item)
        return found

    def _straggler(self, phase: str | None, last: Lane, stage: Stage) -> Straggler:
        assert last.branch is not None, "only a branch is a straggler"
        others = [lane for lane in stage if lane is not last]
        ends = [one.end for one in others if one.end <= last.end]
        behind = last.end - max(ends, default=last.end)
        mine = self._lengths(last)
        theirs = [self._lengths(lane) for lane in others]
        excess = {
            part: length - _median([other[at] for other in theirs])
            for at, (part, length) in enumerate(zip(PATH_PARTS, mine, strict=True))
            if theirs and length
        }
        because = max(excess, key=lambda part: excess[part], default=None)
        if because is None or excess[because] <= 0:
            return Straggler(phase, last.branch, behind, None, 0)
        return Straggler(phase, last.branch, behind, because, excess[because])

    def _lengths(self, lane: Lane) -> Sequence[int]:
        """Return the nanoseconds of each part; of a nested phase, along its critical path."""
        if len(lane.items) == 1 and isinstance(lane.items[0], Call):
            return [*self._its.lengths_of(self._at(lane.items[0])), 0]
        total = dict.fromkeys(PATH_PARTS, 0)
        for item in lane.items:
            if isinstance(item, Call):
                parts: Iterable[tuple[str, int]] = zip(
                    PARTS, self._its.lengths_of(self._at(item)), strict=True
                )
            else:
                spans = _PathWalk(self._its).along(item)
                parts = (found for span in spans for found in _parts(span, self._its))
            for part, length in parts:
                total[part] += length
        return [*total.values()]

    def _at(self, call: Call) -> int:
        return self._places[id(call)]


def _median(values: list[int]) -> int:
    """Return `int(statistics.median(values))`, in a third of the time."""
    values.sort()
    half = len(values) // 2
    return values[half] if len(values) % 2 else int((values[half - 1] + values[half]) / 2)


def _until(lane: Lane, end: int) -> Lane | None:
    """Return the part of a lane that had ended at a moment; None if nothing had."""
    if lane.end <= end:
        return lane
    ends = [item.done if isinstance(item, Call) else item.end for item in lane.items]
    items = tuple(item for item, its in zip(lane.items, ends, strict=True) if its <= end)
    return lane._replace(end=ends[len(items) - 1], items=items) if items else None


def _last(stage: Stage) -> Lane:
    """Return the lane that ended last, except cancelled ones: nothing waited for them."""
    if len(stage) == 1:
        return stage[0]
    held = [lane for lane in stage if lane.outcome != CANCELLED] or stage
    return max(held, key=lambda lane: (lane.end, -(lane.branch or 0)))
