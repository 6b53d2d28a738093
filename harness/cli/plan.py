"""What is said before a run, and the question that stands before one that costs money."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator, Mapping

from harness.analysis.settings import swept_keys
from harness.bench.cells import endpoint_headings, expand
from harness.bench.estimate import Estimate, estimate
from harness.bench.scenario import Scenario, cell_scenario
from harness.config.prices import Price
from harness.endpoints.section import SecondsRange
from harness.records.errors import PreflightError
from harness.report.columns import legend
from harness.simulator.profiles import Profile
from harness.workflows.layout import main_phase, widest

_WIDTH = 80
_SPREAD = 1.5
"""Mean over median of a long-tailed call, and the longest of a fan-out over its mean: roughly."""


def estimate_run(scenario: Scenario, profiles: Mapping[str, Profile]) -> Estimate:
    """Return what a run will do. `profiles`: what the simulated provider simulates, by cell id."""
    own = {cell.id: cell_scenario(scenario, cell) for cell in expand(scenario)}
    calls = {cell: _simulated_call(own[cell], profile) for cell, profile in profiles.items()}
    return estimate(scenario, scenario.endpoint.facts.call_seconds, calls)


def show_plan(scenario: Scenario, expected: Estimate, as_json: bool) -> None:
    """Print the cells and the estimate on standard output: what `--dry-run` shows."""
    cells = expand(scenario)
    if as_json:
        plan = {
            "scenario": scenario.name,
            "simulated": scenario.endpoint.facts.simulation is not None,
            "cells": [cell.id for cell in cells],
            "estimate": expected._asdict(),
        }
        print(json.dumps(plan, indent=2))
        return
    for line in estimate_lines(scenario, expected):
        print(line)
    print()
    columns = [["mode", *(cell.mode for cell in cells)],
               ["permits", *(str(cell.permits) for cell in cells)],
               ["retry", *(cell.retry for cell in cells)],
               ["a permit per", *(cell.permit_scope for cell in cells)],
               *([key.name, *map(key.label, cells)] for key in swept_keys(cells))]  # fmt: skip
    widths = [max(map(len, column)) for column in columns]
    for row in zip(*columns, strict=True):
        texts = [
            text.rjust(width) if column[0] == "permits" else text.ljust(width)
            for text, width, column in zip(row, widths, columns, strict=True)
        ]
        print(("  " + "  ".join(texts)).rstrip())
    for line in legend(cells):
        print(f"  {line}")


def confirm(scenario: Scenario, expected: Estimate, yes: bool, quiet: bool) -> None:
    """Show the estimate and ask, if the run may cost money.

    `yes`: it was said before. Raises PreflightError when nobody can be asked or the answer is no.
    """
    paid = _paid(scenario)
    if not paid:
        return
    if not yes and not sys.stdin.isatty():
        raise PreflightError(
            f"{'; '.join(paid)}: this run may cost money and there is no terminal to ask at; "
            "add --yes to go on, or --dry-run to see what it would do"
        )
    if not (yes and quiet):
        for line in estimate_lines(scenario, expected):
            print(line, file=sys.stderr)
    if yes:
        return
    print("Go on? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().casefold() not in ("y", "yes"):
        raise PreflightError("the run was not confirmed; nothing was sent")


def estimate_lines(scenario: Scenario, expected: Estimate) -> Iterator[str]:
    """Yield the lines of the estimate, each at most 80 characters."""
    yield from _wrap(
        f"{scenario.name}: {_count(expected.cells, 'cell')} x "
        f"{_count(scenario.sweep.repeats, 'repeat')}, "
        f"{_count(scenario.load.workflows, 'workflow')} each",
        "  ",
    )
    for name, text in _facts(scenario, expected):
        yield from _wrap(f"  {name:<7}  {text}", " " * 11)


def _facts(scenario: Scenario, expected: Estimate) -> Iterator[tuple[str, str]]:
    call = expected.call_seconds
    yield "model", endpoint_headings(scenario)
    yield (
        "calls",
        f"{expected.calls:,}; at most {expected.most_attempts:,} attempts with every repair and "
        "retry",
    )
    if expected.input_tokens is not None and expected.output_tokens is not None:
        yield (
            "tokens",
            f"at most {expected.input_tokens:,} read (4 characters a token) and "
            f"{expected.output_tokens:,} written (max_tokens), an attempt a call",
        )
    unit = "scenario seconds" if scenario.time_scale != 1 else "seconds"
    jumped = " of virtual time, which nobody waits for" if scenario.is_virtual else ""
    yield (
        "time",
        f"about {_time(expected.seconds.low)} to {_time(expected.seconds.high)}{jumped}, "
        f"if a call takes {call.low:.3g} to {call.high:.3g} {unit}",
    )
    if expected.usd is None or expected.most_usd is None:
        yield "cost", f"not known: {expected.no_usd}" if _paid(scenario) else "none"
    else:
        yield (
            "cost",
            f"at most {_usd(expected.usd)}, an attempt a call; {_usd(expected.most_usd)} with "
            "every repair and retry",
        )
    own = (cell_scenario(scenario, cell).price for cell in expand(scenario))
    prices = dict.fromkeys(_price(price) for price in own if price is not None)
    if prices:
        yield "price", "; ".join(prices)
    yield "budget", _budget(scenario, expected)


def _paid(scenario: Scenario) -> list[str]:
    """Return the headings of the endpoints whose requests may cost money."""
    every = (cell_scenario(scenario, cell).endpoint.facts for cell in expand(scenario))
    return list(dict.fromkeys(facts.heading for facts in every if facts.may_cost))


def _price(price: Price) -> str:
    when = f", {price.date}" if price.date else ""
    peak = f", times {price.peak.factor:g} at peak hours, as above" if price.peak else ""
    return (
        f"USD per million tokens: {price.input:g} input, {price.cached:g} cached, "
        f"{price.output:g} output{peak} ({price.source}{when})"
    )


def _budget(scenario: Scenario, expected: Estimate) -> str:
    budget = scenario.budget
    limits = [
        f"{limit:g} {unit}" if unit != "attempts" else _count(int(limit), "attempt")
        for limit, unit in (
            (budget.usd, "USD"),
            (budget.attempts, "attempts"),
            (budget.tokens, "tokens"),
            (budget.seconds, "seconds"),
        )
        if limit is not None
    ]
    if not limits:
        return "none"
    early = budget.usd is not None and expected.usd is not None and expected.usd > budget.usd
    return f"{', '.join(limits)}; the run stops before it exceeds that" + (
        ", perhaps early: it may cost more" if early else ""
    )


def _simulated_call(scenario: Scenario, profile: Profile) -> SecondsRange:
    """Return how long a call of the phase with the most calls takes.

    Low: alone, at the median. High: at full load, with a tail.
    """
    layout = scenario.layout
    phases = {info.name: info for info in scenario.plan.phases}
    busiest = phases[main_phase(layout)]
    reasoning, answer = profile.lengths(busiest.setting, busiest.json)
    tokens = sum(length.median for length in (reasoning, answer) if length is not None)
    busy = min(max(scenario.sweep.permits), scenario.load.at_once * widest(layout))
    served = min(busy, profile.slots or busy)
    low, high = (
        profile.ttft.median + tokens * _token_seconds(profile, active) for active in (1, served)
    )
    return SecondsRange(low, high * busy / served * _SPREAD)  # those without a slot wait their turn


def _token_seconds(profile: Profile, active: int) -> float:
    return profile.pace(1.0).itl(active)


def _wrap(line: str, indent: str) -> list[str]:
    return textwrap.wrap(line, _WIDTH, subsequent_indent=indent, break_on_hyphens=False)


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _time(seconds: float) -> str:
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.2g} {unit}"
    return f"{seconds:.2g} s"


def _usd(amount: float) -> str:
    if amount >= 1:
        return f"{amount:,.2f} USD"
    return f"{amount:.4f} USD" if amount >= 0.0001 or amount == 0 else "under 0.0001 USD"
