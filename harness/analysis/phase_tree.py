"""The tree of a workflow: which of its calls and phases ran in sequence, and which in parallel.

Built from the records alone, for any workflow: phases in any number and order, repeated names,
calls and fan-outs mixed within a phase, phases nested in branches, workflows that ended early. A
phase, and the workflow itself, is a sequence of stages; a stage is a set of lanes that ran at the
same time; a lane is a sequence of calls and nested phases.

Records have the branch and the time of each item. An item in no branch waits for the fan-out before
it. Two fan-outs in a row, without a call between them, are separated where branches start at the
same time after everything before has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import NamedTuple, TypeAlias

from harness.records.schema import Call, Phase, Run, Workflow

_NO_BRANCH = -1
"""Sorts what is in no branch before every branch."""


class PhaseNode(NamedTuple):
    """One occurrence of a phase, or the workflow itself: then `phase` is None.

    `number`: which occurrence of its name, from 1. Times: nanoseconds since the run's anchor.
    """

    phase: Phase | None
    number: int
    start: int
    end: int
    stages: tuple[Stage, ...]

    @property
    def name(self) -> str | None:
        """The phase's name, None for the workflow."""
        return None if self.phase is None else self.phase.name


class Lane(NamedTuple):
    """Calls and nested phases that ran one after another; `branch` is None outside a fan-out."""

    branch: int | None
    start: int
    end: int
    items: tuple[TreeItem, ...]

    @property
    def outcome(self) -> str:
        """How the last call or phase of the lane ended."""
        last = self.items[-1]
        if isinstance(last, Call):
            return last.outcome
        assert last.phase is not None, "only the root has no phase, and it is in no lane"
        return last.phase.outcome


TreeItem: TypeAlias = Call | PhaseNode
Stage: TypeAlias = tuple[Lane, ...]
_Placed: TypeAlias = tuple[int, int, int, int, TreeItem]
"""Start, end, branch, number and the item itself: the order of items within a phase."""


def tree_of(workflow: Workflow, calls: Iterable[Call]) -> PhaseNode:
    """Return the tree of one workflow; `calls` are its own, in any order.

    A call that belongs to no occurrence of its phase is placed by its time: in the shortest phase
    that was running from its start to its end, or else directly in the workflow.
    """
    phases = workflow.phases
    only = {phase.name: at for at, phase in enumerate(phases)}
    has_repeats = len(only) < len(phases)
    placed: list[list[_Placed]] = [[] for _ in phases]
    top: list[_Placed] = []
    doubtful: list[Call] = []
    for call in calls:
        at, ready = only.get(call.phase), call.ready
        if at is None or has_repeats or not phases[at].start <= ready <= phases[at].end:
            doubtful.append(call)
        else:  # as _place: a long run has millions of calls
            branch = _NO_BRANCH if call.branch is None else call.branch
            placed[at].append((ready, call.done, branch, call.call, call))
    if doubtful:
        finder = _PhaseFinder(phases)
        for call in sorted(doubtful, key=lambda call: (call.ready, call.done, call.call)):
            at = finder.find(call)
            (top if at is None else placed[at]).append(_place(call))
    order: Iterable[int] = range(len(phases))
    parents: Sequence[int | None] = ()
    if any(phase.parent is not None for phase in phases):
        parents = _parents(phases)
        # Inner phases first, so that a phase is complete when it is put into the one around it.
        order = sorted(order, key=lambda at: -_depth(at, parents))
    for at in order:
        phase, parent = phases[at], parents[at] if parents else None
        number = sum(one.name == phase.name for one in phases[: at + 1]) if has_repeats else 1
        node = PhaseNode(phase, number, phase.start, phase.end, _stages(placed[at]))
        branch = _NO_BRANCH if phase.branch is None else phase.branch
        around = top if parent is None else placed[parent]
        around.append((phase.start, phase.end, branch, at, node))
    return PhaseNode(None, 1, workflow.ready, workflow.done, _stages(top))


def calls_in(node: PhaseNode) -> Iterator[Call]:
    """Yield the calls of a tree in order: stage by stage, lane by lane."""
    for stage in node.stages:
        for lane in stage:
            for item in lane.items:
                if isinstance(item, Call):
                    yield item
                else:
                    yield from calls_in(item)


def row_namer(calls: Iterable[Call]) -> Callable[[Call], str]:
    """Return a function that names the row of a call: its phase, or `branch 3`.

    `calls` are those of the workflow. If several phases have branches, the phase is named too.
    """
    with_branches = {call.phase for call in calls if call.branch is not None}

    def name(call: Call) -> str:
        if call.branch is None:
            return call.phase
        phase = "branch " if len(with_branches) == 1 else f"{call.phase}/"
        return f"{phase}{call.branch + 1}"

    return name


def phase_names(run: Run, workflows: Iterable[Workflow]) -> tuple[str, ...]:
    """Return the names of a run's phases: first those declared, then others that occur.

    Others are in the order in which they start in the workflow that has most of them.
    """
    orders = {tuple(dict.fromkeys(one.name for one in each.phases)) for each in workflows}
    names = dict.fromkeys(info.name for info in run.phases)
    for order in sorted(orders, key=lambda order: (-len(order), order)):
        names |= dict.fromkeys(order)
    return tuple(names)


def _place(call: Call) -> _Placed:
    branch = _NO_BRANCH if call.branch is None else call.branch
    return call.ready, call.done, branch, call.call, call


def _is_during(call: Call, phase: Phase) -> bool:
    return phase.start <= call.ready <= phase.end


class _PhaseFinder:
    """Finds the occurrence of a phase that a call belongs to; give calls in order of time."""

    def __init__(self, phases: Sequence[Phase]) -> None:
        self._phases = phases
        parents = _parents(phases)
        self._depths = [_depth(at, parents) for at in range(len(phases))]
        self._free: dict[tuple[int, int | None], int] = {}

    def find(self, call: Call) -> int | None:
        """Return the index of the phase, None where the call belongs to none.

        Of several that were running, in branches side by side or one right after another, it is
        the innermost one that the call continues: its branch was free, and what was there before
        had ended right before the call started.
        """
        phases = self._phases
        during = [at for at, phase in enumerate(phases) if _is_during(call, phase)]
        running = [at for at in during if phases[at].name == call.phase]
        if not running:
            around = [at for at in during if call.done <= phases[at].end]
            return min(around, key=lambda at: phases[at].end - phases[at].start, default=None)
        best = max(running, key=lambda at: self._fit(call, at))
        self._free[best, call.branch] = call.done
        return best

    def _fit(self, call: Call, at: int) -> tuple[bool, bool, int, bool, int, int]:
        phase = self._phases[at]
        free = self._free.get((at, call.branch), phase.start)
        return (
            call.done <= phase.end,
            free <= call.ready,
            self._depths[at],
            phase.branch == call.branch,
            free,
            -phase.end,
        )


def _parents(phases: Sequence[Phase]) -> list[int | None]:
    """Return the index of the phase around each phase; one that cannot be is left out."""
    parents = [phase.parent for phase in phases]
    for at, parent in enumerate(parents):
        seen = {at}
        while parent is not None:
            if not 0 <= parent < len(phases) or parent in seen:
                parents[at] = None
                break
            seen.add(parent)
            parent = parents[parent]
    return parents


def _depth(at: int, parents: Sequence[int | None]) -> int:
    depth, parent = 0, parents[at]
    while parent is not None:
        depth, parent = depth + 1, parents[parent]
    return depth


def _stages(placed: list[_Placed]) -> tuple[Stage, ...]:
    if len(placed) == 1:
        start, end, branch, _, item = placed[0]
        return ((Lane(None if branch == _NO_BRANCH else branch, start, end, (item,)),),)
    placed.sort(key=itemgetter(0, 1, 2, 3))
    stages: list[Stage] = []
    lanes: dict[int, list[_OpenLane]] = {}
    end = 0
    for at, (start, done, branch, _, item) in enumerate(placed):
        if start >= end and lanes and _waited(lanes, placed, at):
            stages.append(_closed(lanes))
            lanes, end = {}, done
        elif done > end or not lanes:
            end = done
        of_branch = lanes.get(branch)
        if of_branch is None:
            lanes[branch] = [_OpenLane(start, done, [item])]
            continue
        for lane in reversed(of_branch):
            if lane.end <= start:
                lane.end = done
                lane.items.append(item)
                break
        else:
            of_branch.append(_OpenLane(start, done, [item]))
    if lanes:
        stages.append(_closed(lanes))
    return tuple(stages)


@dataclass(slots=True)
class _OpenLane:
    """A lane that may still get items."""

    start: int
    end: int
    items: list[TreeItem]


def _waited(lanes: Mapping[int, Sequence[_OpenLane]], placed: Sequence[_Placed], at: int) -> bool:
    """Return whether the item at `at`, which starts after all `lanes` have ended, waited for them.

    What is in no branch did: after a single lane it continues the lane, unless the next item runs
    beside it. A branch waited for what is in none. It waited for other branches if it is in a
    second fan-out: several branches start together, one of which had ended earlier.
    """
    start, done, branch, _, _ = placed[at]
    if branch == _NO_BRANCH:
        is_beside = at + 1 < len(placed) and placed[at + 1][0] < done
        return is_beside or len(lanes) > 1 or len(lanes.get(_NO_BRANCH, ())) != 1
    if _NO_BRANCH in lanes:
        return True
    beside = {branch}
    for next_start, _, next_branch, _, _ in placed[at + 1 :]:
        if next_branch == _NO_BRANCH or (next_start >= done and next_start > start):
            break
        beside.add(next_branch)
    has_waited = any(lanes[one][-1].end < start for one in beside if one in lanes)
    return len(beside) > 1 and has_waited


def _closed(lanes: dict[int, list[_OpenLane]]) -> Stage:
    return tuple(
        Lane(None if branch == _NO_BRANCH else branch, lane.start, lane.end, tuple(lane.items))
        for branch in sorted(lanes)
        for lane in lanes[branch]
    )
