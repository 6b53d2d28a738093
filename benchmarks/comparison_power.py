"""How often a comparison finds a change, and what the correction for several tests costs.

python -m benchmarks.comparison_power [PAIRS]

Synthetic makespans: 6 cells, 5 repeats, a standard deviation of 5 % (of a pair's ratio, where runs
are paired). The other metrics did not change. The table is in docs/statistics.md.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from harness.analysis.power import power_of
from harness.analysis.significance import (
    LEVEL,
    Difference,
    SignificanceTest,
    TTest,
    WelchTest,
    by_repeats,
    holm,
    is_called,
)

REPEATS = 5
CELLS = 6
METRICS = 10
DEVIATION = 0.05
SHIFTS = (0.05, 0.1, 0.2, 0.3)


class Family(NamedTuple):
    """Which tests are corrected for together: `changed` of them have the shift, `tests` in all."""

    name: str
    changed: int
    tests: int


FAMILIES = (
    Family("the metric of one cell", 1, 1),
    Family("the metric of 6 cells, one changed", 1, CELLS),
    Family("the metric of 6 cells, all changed", CELLS, CELLS),
    Family("10 metrics of 6 cells, one changed", 1, CELLS * METRICS),
    Family("10 metrics of 6 cells, one metric changed in all", CELLS, CELLS * METRICS),
)


def compared(random: np.random.Generator, shift: float, *, paired: bool) -> Difference:
    """Return the comparison of two cells whose makespans differ by `shift`."""
    deviation = DEVIATION
    base = random.lognormal(5, deviation, REPEATS)
    new = (base if paired else random.lognormal(5, deviation, REPEATS)) * (1 + shift)
    if paired:
        new = new * random.lognormal(0, deviation, REPEATS)
    sides = (dict(enumerate(side.tolist())) for side in (base, new))
    found = by_repeats(*sides, paired=paired)
    assert found is not None
    return found


def found_share(family: Family, shift: float, pairs: int, *, paired: bool) -> float:
    """Return how often the first changed test is called, with Holm's method over the family."""
    random = np.random.default_rng(1)
    called = 0
    for _ in range(pairs):
        changes = [compared(random, shift, paired=paired) for _ in range(family.changed)]
        others = random.uniform(size=family.tests - family.changed).tolist()
        adjusted = holm([*(one.p or 0.0 for one in changes), *others])
        called += is_called(adjusted[0], changes[0].ranks)
    return called / pairs


def computed(family: Family, shift: float, *, paired: bool) -> float:
    """Return the power that `harness compare` says: the change is alone among the tests."""
    test: SignificanceTest = WelchTest((DEVIATION, DEVIATION), (REPEATS, REPEATS), of_logs=True)
    if paired:
        test = TTest(DEVIATION / REPEATS**0.5, REPEATS - 1, of_logs=True)
    return power_of(test, shift, LEVEL / family.tests)


def rows(pairs: int) -> Iterator[str]:
    """Yield the lines of the table."""
    yield "| runs | corrected together | " + " | ".join(f"{s:+.0%}" for s in SHIFTS) + " |"
    yield "|---|---|" + "---|" * len(SHIFTS)
    for paired in (False, True):
        for family in FAMILIES:
            cells = []
            for shift in SHIFTS:
                seen = found_share(family, shift, pairs, paired=paired)
                said = f" ({computed(family, shift, paired=paired):.0%})"
                cells.append(f"{seen:.0%}{said if family.changed == 1 else ''}")
            yield (
                f"| {'paired' if paired else 'not paired'} | {family.name} | "
                + " | ".join(cells)
                + " |"
            )


if __name__ == "__main__":
    for line in rows(int(sys.argv[1]) if len(sys.argv) > 1 else 1000):
        print(line)
