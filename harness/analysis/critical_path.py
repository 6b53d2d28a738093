"""Why a workflow took as long as it did: the one chain of waits and work that held its end.

A workflow's phases follow one another; of a fan-out only the branch that ended last holds the end
(the straggler), and of a call's attempts at the same time only the one that it ended with. Walking
back from the end along what each moment waited for gives segments that neither overlap nor leave a
gap, so their lengths add up to the workflow's latency exactly. Shortening anything that is not on
the path would have changed nothing.
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from harness.analysis import replay
from harness.analysis.call_segments import PARTS, add_lengths, tiles
from harness.analysis.model import Figure
from harness.analysis.selection import CellRecords, by_repeat
from harness.analysis.statistics import over_repeats
from harness.records.clock import SECOND
from harness.records.failures import CANCELLED
from harness.records.keys import WorkflowKey, workflow_key
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
    """The branch that held the end of a fan-out.

    `behind`: nanoseconds after the last of the other branches, 0 without one. `because`: the part
    of which it had most more than the others (`excess` nanoseconds over their median), None when
    of none.
    """

    phase: str
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
        """Return the nanoseconds that each part of `pieces.PARTS` holds the end."""
        return _sums((segment.part, segment.length) for segment in self.segments)

    def phases(self) -> dict[str, int]:
        """Return the nanoseconds of each phase; what lies between phases is in none."""
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


def critical_path(
    workflow: Workflow, calls: Iterable[Call], attempts: Iterable[Attempt]
) -> CriticalPath:
    """Return what held the end of `workflow`; `calls` and `attempts` are its own."""
    attempts_of: dict[tuple[str, int | None, int], list[Attempt]] = defaultdict(list)
    for attempt in attempts:
        attempts_of[attempt.phase, attempt.branch, attempt.call].append(attempt)
    by_phase: dict[str, dict[int | None, list[Call]]] = defaultdict(lambda: defaultdict(list))
    for call in sorted(calls, key=lambda call: call.call):
        by_phase[call.phase][call.branch].append(call)
    found: list[PathSegment] = []
    stragglers: list[Straggler] = []
    for phase in workflow.phases:
        chains = by_phase[phase.name]
        last = _last(chains)
        chain = _back_from(last, chains, phase.start, attempts_of) if chains else []
        if last is not None:
            stragglers.append(_straggler(phase.name, last, chains, attempts_of))
        found += _tiled(chain, phase.start, phase.end, PathSegment("other", 0, 0, phase.name))
    segments = _tiled(found, workflow.ready, workflow.done, PathSegment("other", 0, 0))
    return CriticalPath(workflow, tuple(segments), tuple(stragglers))


def paths_of(
    workflows: Iterable[Workflow], calls: Iterable[Call], attempts: Iterable[Attempt]
) -> Iterator[CriticalPath]:
    """Yield the path of each of `workflows`; records of others are left out."""
    calls_of: dict[WorkflowKey, list[Call]] = defaultdict(list)
    for call in calls:
        calls_of[workflow_key(call)].append(call)
    attempts_of: dict[WorkflowKey, list[Attempt]] = defaultdict(list)
    for attempt in attempts:
        attempts_of[workflow_key(attempt)].append(attempt)
    for workflow in workflows:
        key = workflow_key(workflow)
        yield critical_path(workflow, calls_of[key], attempts_of[key])


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
    calls_of, attempts_of = by_repeat(cell.calls), by_repeat(cell.attempts)
    for trial in cell.whole_trials():
        calls = calls_of.get(trial.repeat, [])
        work = replay.jobs(
            calls,
            attempts_of.get(trial.repeat, []),
            info.permit_scope,
        )
        due = cell.arrivals(trial)
        arrivals = None if due is None else [due[at] for at in sorted({c.workflow for c in calls})]
        now, more = (
            replay.replay(work, permits, in_flight, info.mode, arrivals)
            for permits in (info.permits, info.permits + 1)
        )
        if now and trial.end > trial.start:
            ratios.append(more / now)
            makespans.append(more / now * (trial.end - trial.start) / SECOND)
    ratio, makespan = over_repeats(ratios), over_repeats(makespans)
    if ratio is None or makespan is None:
        return None
    return OneMore(info.permits + 1, makespan, ratio)


def _last(chains: Mapping[int | None, Sequence[Call]]) -> int | None:
    """Return the branch that ended last; one that was cancelled held nothing."""
    held = {
        branch: chain for branch, chain in chains.items() if chain[-1].outcome != CANCELLED
    } or chains
    return max(held, key=lambda branch: (_end(held[branch]), -(branch or 0)), default=None)


def _back_from(
    last: int | None,
    chains: Mapping[int | None, Sequence[Call]],
    start: int,
    attempts: Attempts,
) -> list[PathSegment]:
    """Return the segments of the branch that ended last, and of what it had to wait for.

    A branch that was ready only when the phase had gone on for a while followed another one.
    """
    segments: list[PathSegment] = []
    branch: int | None = last
    left = dict(chains)
    while True:
        chain = left.pop(branch)
        segments = [*_of_chain(chain, attempts), *segments]
        ready = min(call.ready for call in chain)
        before = [other for other in left if _end(left[other]) <= ready]
        if ready <= start or not before:
            return segments
        branch = max(before, key=lambda other: _end(left[other]))


def _end(chain: Sequence[Call]) -> int:
    return chain[0].done if len(chain) == 1 else max(call.done for call in chain)


def _straggler(
    phase: str, last: int, chains: Mapping[int | None, Sequence[Call]], attempts: Attempts
) -> Straggler:
    others = [chain for branch, chain in chains.items() if branch != last]
    if not others:
        return Straggler(phase, last, 0, None, 0)
    end = _end(chains[last])
    behind = end - max((_end(chain) for chain in others if _end(chain) <= end), default=end)
    mine = _lengths(chains[last], attempts)
    theirs = [_lengths(chain, attempts) for chain in others]
    excess = {
        part: mine[part] - int(statistics.median(other[part] for other in theirs))
        for part in PARTS
        if mine[part]  # of what it had none it had no more than others
    }
    because = max(excess, key=lambda part: excess[part], default=None)
    if because is None or excess[because] <= 0:
        return Straggler(phase, last, behind, None, 0)
    return Straggler(phase, last, behind, because, excess[because])


def _lengths(chain: Sequence[Call], attempts: Attempts) -> dict[str, int]:
    lengths = dict.fromkeys(PARTS, 0)
    for call in chain:
        add_lengths(lengths, call, _tried(call, attempts))
    return lengths


def _tried(call: Call, attempts: Attempts) -> Sequence[Attempt]:
    return attempts.get((call.phase, call.branch, call.call), ())


def _of_chain(chain: Sequence[Call], attempts: Attempts) -> list[PathSegment]:
    """Return the segments of calls that follow one another."""
    return [segment for call in chain for segment in _of_call(call, _tried(call, attempts))]


def _of_call(call: Call, attempts: Sequence[Attempt]) -> list[PathSegment]:
    return [
        PathSegment(it.part, it.start, it.end, call.phase, call.branch, call.call, it.attempt)
        for it in tiles(call, attempts)
    ]


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
