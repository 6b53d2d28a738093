"""Retry policies and limits over nine known providers: the tables of docs/league.md. Simulated.

    python -m benchmarks.league [--seeds 10] [--workflows 100] [--jobs 2] [--write]

The providers, workflows and policies are those of `benchmarks.advice`, in trials of 100 workflows.
Each policy has the fixed permits 8, 16, 32 and 64, and every limit that adapts with its defaults;
all of them have the same draws. A figure is the goodput, the successful workflows a minute, as a
ratio to the best combination on that provider: a geometric mean over seeds with its 95 % interval.
A combination that kept less than 90 % of the workflows has its share of kept workflows instead.

With `--write`, the tables replace those of docs/league.md.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from benchmarks.limits import ALL_LIMITS, KNOWN, Outcome, Ratio, one_seed, ratio_of

POLICIES = ("none", "short", "patient")
LEAGUE_PERMITS = (8, 16, 32, 64)
FEWEST_KEPT = 0.9
PAGE = Path(__file__).parents[1] / "docs" / "league.md"
MARK = "<!-- tables -->\n"


class Entry(NamedTuple):
    """A policy and a number of permits or a limit, on one provider, by seed."""

    policy: str
    permits: int | str
    outcomes: tuple[Outcome, ...]

    def mean(self, field: str) -> float:
        """Return the mean of a field of the outcomes."""
        return statistics.fmean(getattr(one, field) for one in self.outcomes)


def entries(provider: str, seeds: Sequence[int], workflows: int, pool: object) -> list[Entry]:
    """Play every combination on a provider with the draws of each seed."""
    permits: tuple[int | str, ...] = (*LEAGUE_PERMITS, *ALL_LIMITS)
    found = []
    for policy in POLICIES:
        work = [(KNOWN[provider], seed, permits, workflows, policy) for seed in seeds]
        played = pool.starmap(one_seed, work)  # type: ignore[attr-defined]
        found += [Entry(policy, one, tuple(seed[one] for seed in played)) for one in permits]
    return found


def table(provider: str, found: Sequence[Entry]) -> Iterator[str]:
    """Yield the lines of the table of a provider."""
    able = [one for one in found if one.mean("kept") >= FEWEST_KEPT]
    best = max(able or found, key=lambda one: one.mean("good"))
    columns = list(dict.fromkeys(one.permits for one in found))
    yield f"### {provider}"
    yield ""
    yield f"Best: {best.policy} with {best.permits}, {best.mean('good'):.1f} workflows a minute."
    yield ""
    yield "| policy | " + " | ".join(str(one) for one in columns) + " |"
    yield "|---|" + "---|" * len(columns)
    for policy in POLICIES:
        mine = {one.permits: one for one in found if one.policy == policy}
        yield f"| {policy} | " + " | ".join(_figure(mine[one], best) for one in columns) + " |"
    yield ""


def _figure(one: Entry, best: Entry) -> str:
    refused = f"[{one.mean('refused'):.2f}]"
    if one.mean("kept") < FEWEST_KEPT:
        return f"kept {100 * one.mean('kept'):.0f} % {refused}"
    return f"{_ratio(one, best).text()} {refused}"


def _ratio(one: Entry, best: Entry) -> Ratio:
    pairs = zip(one.outcomes, best.outcomes, strict=True)
    mine, theirs = zip(*((a.good, b.good) for a, b in pairs), strict=True)
    return ratio_of(mine, theirs)


def standing(every: dict[str, list[Entry]]) -> Iterator[str]:
    """Yield the table of all combinations over the providers, the best worst case first."""
    rows = []
    for policy in POLICIES:
        for permits in dict.fromkeys(one.permits for one in next(iter(every.values()))):
            ratios, kept, refused = [], 0, []
            for found in every.values():
                able = [one for one in found if one.mean("kept") >= FEWEST_KEPT]
                best = max(able or found, key=lambda one: one.mean("good"))
                mine = next(o for o in found if (o.policy, o.permits) == (policy, permits))
                fine = mine.mean("kept") >= FEWEST_KEPT
                kept += fine
                ratios.append(_ratio(mine, best).mean if fine else 0.0)
                refused.append(mine.mean("refused"))
            rows.append(
                (kept, min(ratios), statistics.fmean(ratios), policy, permits, max(refused))
            )
    rows.sort(key=lambda row: (row[0], row[1], row[2]), reverse=True)
    yield "| policy | permits | providers kept | worst ratio | mean ratio | most 429s a call |"
    yield "|---|---|---|---|---|---|"
    for kept, worst, mean, policy, permits, most in rows:
        kept_of = f"{kept} of {len(every)}"
        yield f"| {policy} | {permits} | {kept_of} | {worst:.2f} | {mean:.2f} | {most:.2f} |"


def main(arguments: Sequence[str]) -> int:
    """Print the tables, and write them with --write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.league", description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--workflows", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args(arguments)
    began, every, parts = time.monotonic(), dict[str, list[Entry]](), list[str]()
    with get_context("spawn").Pool(asked.jobs) as pool:
        for name in KNOWN:
            every[name] = entries(name, range(asked.seeds), asked.workflows, pool)
            lines = list(table(name, every[name]))
            parts += lines
            print("\n".join(lines), flush=True)
    head = ["## Over all providers", "", *standing(every), "", "## By provider", ""]
    print("\n".join(head))
    if asked.write:
        before, _, _ = PAGE.read_text(encoding="utf-8").partition(MARK)
        made = f"Made by `python -m benchmarks.league --seeds {asked.seeds} --write`.\n\n"
        PAGE.write_text(
            before + MARK + made + "\n".join([*head, *parts]).strip() + "\n", encoding="utf-8"
        )
    print(f"\n{time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
