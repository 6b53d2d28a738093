"""How well the import finds who waited for whom: random programs, ten recorded runs each.

A program is a tree of sequences and fan-outs. Only the times and the tokens of its calls are
recorded: no names, no spans around them, no texts. `python -m benchmarks.imports --help`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator, Mapping
from itertools import count
from random import Random
from typing import NamedTuple

from harness.imports.happens_before import inferred
from harness.imports.recorded import RecordedCall, RecordedTrace
from harness.imports.series_parallel import (
    CallFork,
    CallTree,
    ProgramCall,
    dependencies,
    in_steps,
    numbers_in,
)

_RUNS = 10
_MOST_CALLS = 30
_PROGRAM_TIME = 0.02


class _Case(NamedTuple):
    """How programs are recorded. `tokens`: of a call: the same in all runs, or drawn in each;
    "read": a prompt contains the input of the run and answers of earlier calls.

    `spread`: the standard deviation of the logarithm of a call's time from run to run; that from
    call to call is 0.5. `is_nested`: fan-outs have branches of several steps.
    """

    name: str
    tokens: str
    spread: float
    is_nested: bool


CASES = (
    _Case("branches of one call, same tokens", "same", 0.6, False),
    _Case("branches of one call, random tokens", "random", 0.6, False),
    _Case("nested, same tokens, times vary by 0.6", "same", 0.6, True),
    _Case("nested, same tokens, times vary by 0.3", "same", 0.3, True),
    _Case("nested, random tokens, times vary by 0.6", "random", 0.6, True),
    _Case("nested, prompts contain answers, times vary by 0.6", "read", 0.6, True),
    _Case("nested, prompts contain answers, times vary by 0.3", "read", 0.3, True),
)


class _Score(NamedTuple):
    right: int
    wrong: int
    missed: int
    deviations: list[float]


def program(random: Random, is_nested: bool) -> CallTree:
    """Return a program of 2 to 30 calls."""
    while True:
        tree = _steps(random, count(), 2, is_nested)
        if 2 <= len(numbers_in(tree)) <= _MOST_CALLS:
            return tree


def _steps(random: Random, numbers: Iterator[int], depth: int, nested: bool) -> CallTree:
    is_top = depth == 2
    steps = random.randint(2, 5) if is_top else random.randint(1, 3) if nested else 1
    parts: list[CallTree] = []
    for _ in range(steps):
        forks = depth > 0 and (is_top or nested) and random.random() < (0.5 if is_top else 0.3)
        if forks:
            branches = [
                _steps(random, numbers, depth - 1, nested) for _ in range(random.randint(2, 4))
            ]
            parts.append(CallFork(tuple(branches)))
        else:
            parts.append(ProgramCall(next(numbers)))
    return in_steps(parts)


def played(
    needs: Mapping[int, frozenset[int]], took: Mapping[int, float], gaps: Mapping[int, float]
) -> dict[int, tuple[float, float]]:
    """Return start and end of each call, in seconds."""
    times: dict[int, tuple[float, float]] = {}
    while len(times) < len(needs):
        for call, before in needs.items():
            if call not in times and all(one in times for one in before):
                start = max((times[one][1] for one in before), default=0.0) + gaps[call]
                times[call] = start, start + took[call]
    return times


def _drawn(random: Random, medians: Mapping[int, float], spread: float) -> dict[int, float]:
    return {call: one * random.lognormvariate(0, spread) for call, one in medians.items()}


def _reads(
    random: Random, needs: Mapping[int, frozenset[int]]
) -> dict[int, tuple[bool, frozenset[int]]]:
    """Return whether each call reads the input of its run, and the answers that it reads.

    These are nine of ten that it directly waited for, and one of ten further back.
    """
    before: dict[int, frozenset[int]] = {}
    found = {}
    for call, direct in needs.items():
        before[call] = direct.union(*(before[one] for one in direct))
        found[call] = (
            random.random() < 0.5 or not direct,
            frozenset(
                one
                for one in sorted(before[call])
                if random.random() < (0.9 if one in direct else 0.1)
            ),
        )
    return found


def _lengths(
    random: Random, tokens: str, usual: Mapping[int, tuple[int, int]],
    reads: Mapping[int, tuple[bool, frozenset[int]]],
) -> dict[int, tuple[int, int]]:  # fmt: skip
    """Return the tokens of each call of a run: read and written."""
    if tokens == "same":
        return dict(usual)
    if tokens == "random":
        return {call: (random.randint(50, 3000), random.randint(20, 800)) for call in usual}
    written = {call: round(out * random.lognormvariate(0, 0.3)) for call, (_, out) in usual.items()}
    document = random.randint(100, 3000)
    return {
        call: (
            usual[call][0] // 10 + (document if with_input else 0)
            + sum(written[one] for one in answers) + random.randint(-2, 2),
            written[call],
        )
        for call, (with_input, answers) in reads.items()
    }  # fmt: skip


def measured(case: _Case, seed: int) -> _Score:
    """Return what is found of one program."""
    random = Random(f"{case.name}\x1f{seed}")
    tree = program(random, case.is_nested)
    truth = dependencies(tree)
    medians = {call: 5 * random.lognormvariate(0, 0.5) for call in truth}
    usual = dict.fromkeys(truth, _PROGRAM_TIME)
    tokens = {call: (random.randint(50, 3000), random.randint(20, 800)) for call in truth}
    reads = _reads(Random(f"reads\x1f{seed}"), truth)
    traces, orders = [], []
    for run in range(_RUNS):
        gaps = _drawn(random, usual, 0.7)
        times = played(truth, _drawn(random, medians, case.spread), gaps)
        order = sorted(times, key=lambda call: times[call])
        lengths = _lengths(random, case.tokens, tokens, reads)
        calls: list[RecordedCall] = []
        for call in order:
            start, end = times[call]
            read, written = lengths[call]
            calls.append(
                RecordedCall(str(len(calls)), int(start * 1e9), int(end * 1e9), read, written)
            )
        traces.append(RecordedTrace(str(run), 0, 0, tuple(calls)))
        orders.append(order)
    right = wrong = missed = 0
    deviations = []
    for order, found in zip(orders, inferred(traces), strict=True):
        mine = {
            order[at]: frozenset(order[one] for one in after)
            for at, after in enumerate(found.after)
        }
        for call, before in truth.items():
            right += len(before & mine[call])
            wrong += len(mine[call] - before)
            missed += len(before - mine[call])
        took, gaps = _drawn(random, medians, case.spread), _drawn(random, usual, 0.7)
        ends = [
            max(end for _, end in played(needs, took, gaps).values()) for needs in (truth, mine)
        ]
        deviations.append(abs(ends[1] / ends[0] - 1))
    return _Score(right, wrong, missed, deviations)


def main() -> None:
    """Print precision and recall of the dependencies, and the deviation of the makespan."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.imports")
    parser.add_argument("--programs", type=int, default=200, help="programs of each kind")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--only", default="", help="kinds whose name contains this")
    options = parser.parse_args()
    print("precision recall makespan: median, 90 % within   s/program  programs")
    for case in (one for one in CASES if options.only in one.name):
        begin = time.perf_counter()
        every = [measured(case, options.seed + at) for at in range(options.programs)]
        seconds = (time.perf_counter() - begin) / options.programs
        right = sum(one.right for one in every)
        wrong = sum(one.wrong for one in every)
        missed = sum(one.missed for one in every)
        apart = sorted(value for one in every for value in one.deviations)
        within = apart[int(0.9 * len(apart))]
        print(
            f"    {right / (right + wrong):.3f}  {right / (right + missed):.3f}"
            f"          {statistics.median(apart):6.1%}         {within:6.1%}"
            f"     {seconds:7.2f}  {case.name}",
            flush=True,
        )


if __name__ == "__main__":
    main()
