"""Who waited for whom: the programs of recorded traces, from times, spans and texts.

docs/import.md states the rules. Several runs of one program are used together: what holds in one
of them alone is chance.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, pairwise

from harness.imports.alignment import TimedItem, Traits, gap_cost
from harness.imports.recorded import RecordedCall, RecordedTrace
from harness.imports.series_parallel import (
    CallTree,
    ProgramCall,
    dependencies,
    in_steps,
    numbers_in,
    with_parts,
)
from harness.imports.step_search import MOST_RUNS, StepRuns, improved_tree, step_tree
from harness.imports.tree_search import EARLY_BY

_MOST_EXCESS = 1.5
"""The mean cost of a call by which a common structure may be worse than that of the run alone."""
_PERMIT = 1.0
"""The cost of a call that waited for a permit."""
_LEAST_TEXT = 24
"""The fewest characters of an answer that show that a prompt contains it."""


@dataclass(frozen=True)
class InferredTrace:
    """A trace with its dependencies: for each call, the numbers of those that it waited for.

    `certain`: whether the dependencies of a call were seen; see docs/import.md. `gaps`: program
    time before each call, in nanoseconds.
    """

    trace: RecordedTrace
    after: tuple[tuple[int, ...], ...]
    certain: tuple[bool, ...]
    gaps: tuple[int, ...]


@dataclass
class _Item:
    """A call, or the calls within one span, of one run."""

    calls: list[int]
    start: int
    end: int
    label: str
    group: str | None


@dataclass
class _Found:
    """The tree of one run; `seen`: pairs in which the first ended last before the second."""

    tree: CallTree
    seen: set[tuple[int, int]]


def inferred(traces: Sequence[RecordedTrace]) -> list[InferredTrace]:
    """Return the traces with their dependencies, in order."""
    by_shape: dict[object, list[int]] = defaultdict(list)
    for number, trace in enumerate(traces):
        by_shape[_shape(trace)].append(number)
    results: dict[int, InferredTrace] = {}
    for numbers in by_shape.values():
        runs = [traces[number] for number in numbers]
        scale = _usual_gap(runs)
        for number, found in zip(numbers, _programs(runs, scale), strict=True):
            results[number] = _finished(traces[number], found)
    return [results[number] for number in range(len(traces))]


def _shape(trace: RecordedTrace) -> object:
    named = Counter((call.label, call.group_names) for call in trace.calls)
    return len(trace.calls), frozenset(named.items())


def _usual_gap(runs: Sequence[RecordedTrace]) -> float:
    """Return the median time, in nanoseconds, from the end of a call to the next start."""
    gaps = []
    for run in runs[:MOST_RUNS]:
        ends = sorted(call.end for call in run.calls)
        for call in run.calls:
            before = [end for end in ends if end <= call.start + EARLY_BY]
            if before:
                gaps.append(max(call.start - before[-1], 0))
    return max(statistics.median(gaps), 1_000.0) if gaps else 1e6


def _programs(runs: Sequence[RecordedTrace], scale: float) -> list[_Found]:
    """Return the program of each run; those that do not fit the common one have their own."""
    labels = _labels(runs)
    if len(runs[0].calls) == 1:
        return [_Found(ProgramCall(0), set()) for _ in runs]
    every = [
        _items(run, names, list(range(len(run.calls))), 0)
        for run, names in zip(runs, labels, strict=True)
    ]
    together = _inferred_level(runs, labels, every, 0, scale)
    if len(runs) == 1:
        return together
    found = []
    for run, names, items, common in zip(runs, labels, every, together, strict=True):
        cost, most = _cost(run, common, scale), _MOST_EXCESS * len(run.calls)
        is_possible = _is_possible(run, common)
        if is_possible and cost <= most:
            found.append(common)
            continue
        (alone,) = _inferred_level([run], [names], [items], 0, scale)
        fits = is_possible and cost - _cost(run, alone, scale) <= most
        found.append(common if fits else alone)
    return found


def _labels(runs: Sequence[RecordedTrace]) -> list[list[str]]:
    """Return a label of each call: with its tokens, if these are the same in all runs."""
    plain = [[call.label for call in run.calls] for run in runs]
    if len(runs) == 1:
        return plain

    def both(call: RecordedCall) -> str:
        return f"{call.label}\x1f{call.input}\x1f{call.output}"

    def read(call: RecordedCall) -> str:
        return f"{call.label}\x1f{call.input}"

    def written(call: RecordedCall) -> str:
        return f"{call.label}\x1f\x1f{call.output}"

    for name in (both, read, written):
        labels = [[name(call) for call in run.calls] for run in runs]
        if all(Counter(one) == Counter(labels[0]) for one in labels):
            return labels
    return plain


def _items(
    run: RecordedTrace, labels: Sequence[str], calls: Sequence[int], depth: int
) -> list[_Item]:
    """Return the calls of a span, and its inner spans with calls, in the order of their starts.

    A span around all of them is left out.
    """
    while True:
        inner: dict[str, list[int]] = {}
        for number in calls:
            groups = run.calls[number].groups
            inner.setdefault(groups[depth] if depth < len(groups) else f"\x1f{number}", []).append(
                number
            )
        if len(inner) == 1 and len(calls) > 1:
            depth += 1
            continue
        break
    items = []
    for group, members in inner.items():
        first = run.calls[members[0]]
        is_call = len(members) == 1
        name = "" if is_call else f"{first.group_names[depth]}\x1e"
        label = name + "\x1e".join(sorted(labels[one] for one in members))
        start = min(run.calls[one].start for one in members)
        end = max(run.calls[one].end for one in members)
        items.append(_Item(members, start, end, label, None if is_call else group))
    return sorted(items, key=lambda item: (item.start, item.end))


def _inferred_level(
    runs: Sequence[RecordedTrace], labels: Sequence[Sequence[str]],
    every: Sequence[Sequence[_Item]], depth: int, scale: float,
) -> list[_Found]:  # fmt: skip
    """Return the program of the items of each run, and of what is within them."""
    if any(len(items) != len(every[0]) for items in every):
        return [
            _inferred_level([run], [names], [items], depth, scale)[0]
            for run, names, items in zip(runs, labels, every, strict=True)
        ]
    found: list[_Found] = [_Found(ProgramCall(0), set()) for _ in runs]
    trees: list[dict[int, CallTree]] = [{} for _ in runs]
    tree, places = _segments(runs, every, scale)
    for place in range(len(every[0])):
        those = [items[places[at][place]] for at, items in enumerate(every)]
        if all(item.group is None for item in those):
            for at, item in enumerate(those):
                trees[at][place] = ProgramCall(item.calls[0])
            continue
        inner = [
            _items(run, names, item.calls, depth)
            for run, names, item in zip(runs, labels, those, strict=True)
        ]
        for at, one in enumerate(_inferred_level(runs, labels, inner, depth, scale)):
            trees[at][place] = one.tree
    for at in range(len(runs)):
        mine = trees[at]
        found[at] = _Found(with_parts(tree, mine.__getitem__), set())
    for at, run in enumerate(runs):
        needs = dependencies(found[at].tree)
        found[at].seen = {
            (max(before, key=lambda one: run.calls[one].end), number)
            for number, before in needs.items()
            if before
        }
    return _shared_sight(found, runs)


def _shared_sight(found: list[_Found], runs: Sequence[RecordedTrace]) -> list[_Found]:
    """Let each run know which dependencies were seen in the others, if the trees are the same."""
    forms = [numbers_in(one.tree) for one in found]
    if any(len(form) != len(forms[0]) for form in forms):
        return found
    ranks = [{number: rank for rank, number in enumerate(form)} for form in forms]
    seen = {(ranks[at][a], ranks[at][b]) for at, one in enumerate(found) for a, b in one.seen}
    for at, one in enumerate(found):
        one.seen = {(forms[at][a], forms[at][b]) for a, b in seen}
    return found


def _segments(
    runs: Sequence[RecordedTrace], every: Sequence[Sequence[_Item]], scale: float
) -> tuple[CallTree, list[dict[int, int]]]:
    """Return a tree of places, and the item at each place in each run.

    Where nothing was in progress in any run, one step ends and the next begins.
    """
    count = len(every[0])
    cuts = set(range(1, count))
    for items in every:
        latest = list(accumulate((item.end for item in items), max))
        cuts &= {at for at in range(1, count) if latest[at - 1] <= items[at].start + EARLY_BY}
    for at in list(cuts):
        firsts = [Counter(item.label for item in items[:at]) for items in every]
        if any(one != firsts[0] for one in firsts):
            cuts.discard(at)
    bounds = [0, *sorted(cuts), count]
    steps: list[CallTree] = []
    places: list[dict[int, int]] = [{} for _ in every]
    for low, high in pairwise(bounds):
        parts = [items[low:high] for items in every]
        begins = [
            items[0].start if low == 0 else max(item.end for item in items[:low]) for items in every
        ]
        given = [
            _given(run, items, places[at], low)
            for at, (run, items) in enumerate(zip(runs, every, strict=True))
        ]
        timed = [
            [_timed(run, item) for item in items] for run, items in zip(runs, parts, strict=True)
        ]
        traits = [
            [_traits(run, item) for item in items] for run, items in zip(runs, parts, strict=True)
        ]
        step = StepRuns(timed, traits, begins, given, scale)
        tree, orders = step_tree(step)
        steps.append(with_parts(tree, partial(_shifted, low)))
        for at, order in enumerate(orders):
            for position, place in enumerate(order):
                places[at][place + low] = position + low
    return _improved(in_steps(steps), runs, every, places, scale), places


def _given(
    run: RecordedTrace, items: Sequence[_Item], places: Mapping[int, int], low: int
) -> list[float]:
    """Return the tokens that calls after the first `low` places can have read.

    These are the first prompt, which holds the input of the run, and the answers.
    """
    timed = [_timed(run, items[places[place]]) for place in range(low)]
    return [timed[0].read, *(item.written for item in timed)] if timed else []


def _timed(run: RecordedTrace, item: _Item) -> TimedItem:
    first = min(item.calls, key=lambda one: run.calls[one].start)
    last = max(item.calls, key=lambda one: run.calls[one].end)
    read, written = run.calls[first].input, run.calls[last].output
    if written is not None:
        written -= run.calls[last].reasoning or 0
    return TimedItem(
        item.start,
        item.end,
        item.label,
        math.nan if read is None else read,
        math.nan if written is None else written,
    )


def _improved(
    tree: CallTree, runs: Sequence[RecordedTrace], every: Sequence[Sequence[_Item]],
    places: Sequence[dict[int, int]], scale: float,
) -> CallTree:  # fmt: skip
    if len(runs) == 1:
        return tree
    sample = range(min(len(runs), MOST_RUNS))
    placed = [
        [_timed(runs[at], every[at][places[at][place]]) for place in range(len(every[0]))]
        for at in sample
    ]
    begins = [every[at][0].start for at in sample]
    return improved_tree(tree, placed, begins, scale)


def _shifted(low: int, number: int) -> CallTree:
    return ProgramCall(number + low)


def _traits(run: RecordedTrace, item: _Item) -> Traits:
    """Return the logarithms of the time of an item, and of what it read and wrote."""
    calls = [run.calls[number] for number in item.calls]
    counts = (sum(call.input or 0 for call in calls), sum(call.output or 0 for call in calls))
    return (math.log1p((item.end - item.start) / 1e6), *map(math.log1p, counts))


def _cost(run: RecordedTrace, found: _Found, scale: float) -> float:
    """Return the cost of all gaps of a run.

    Where as many calls as ever are in progress, a call can also have waited for a permit.
    """
    calls, cost = run.calls, 0.0
    busy = [sum(one.start <= call.start < one.end for one in calls) for call in calls]
    for number, before in dependencies(found.tree).items():
        start = calls[number].start
        due = max((calls[one].end for one in before), default=run.begin)
        own = gap_cost(start - due, scale)
        if busy[number] == max(busy):
            ended = [one.end for one in calls if due < one.end <= start]
            own = min(own, _PERMIT + gap_cost(start - max(ended, default=due), scale))
        cost += own
    return cost


def _is_possible(run: RecordedTrace, found: _Found) -> bool:
    return all(
        run.calls[one].end <= run.calls[number].start + EARLY_BY
        for number, before in dependencies(found.tree).items()
        for one in before
    )


def _finished(trace: RecordedTrace, found: _Found) -> InferredTrace:
    """Return the trace with its dependencies, those that texts show included."""
    calls = trace.calls
    needs = {number: set(before) for number, before in dependencies(found.tree).items()}
    shown = set()
    for b, later in enumerate(calls):
        for a, earlier in enumerate(calls[:b]):
            text = earlier.answer.strip()
            is_before = earlier.end <= later.start + EARLY_BY
            is_read = is_before and len(text) >= _LEAST_TEXT and text in later.prompt
            if is_read and not _reaches(needs, b, a):
                needs[b].add(a)
                shown.add((a, b))
    certain, gaps = [], []
    for number, call in enumerate(calls):
        before = needs[number]
        certain.append(all((one, number) in found.seen or (one, number) in shown for one in before))
        due = max((calls[one].end for one in before), default=trace.begin)
        gaps.append(max(call.start - due, 0))
    return InferredTrace(
        trace,
        tuple(tuple(sorted(needs[number])) for number in range(len(calls))),
        tuple(certain),
        tuple(gaps),
    )


def _reaches(needs: dict[int, set[int]], late: int, early: int) -> bool:
    stack, seen = [late], set[int]()
    while stack:
        for one in needs[stack.pop()] - seen:
            if one == early:
                return True
            seen.add(one)
            stack.append(one)
    return False
