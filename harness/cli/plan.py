"""What is shown before a run, and the confirmation of a run that can cost money."""

from __future__ import annotations

import json
import math
import sys
import textwrap
from collections.abc import Iterator, Mapping

from harness.analysis.looks import failure_free, first_proof, growing_looks
from harness.analysis.settings import permits_setting, swept_keys
from harness.bench.cells import endpoint_headings, expand, scenarios_by_cell
from harness.bench.estimate import Estimate, estimate, short_budgets
from harness.bench.scenario import DEFAULT_MAX_REPEATS, Scenario, cell_scenario, swept_options
from harness.config.prices import price_text
from harness.endpoints.section import SecondsRange
from harness.records.errors import InputError, PreflightError
from harness.records.schema import PhaseInfo
from harness.report.line_wrap import legend
from harness.simulator.profiles import Profile, load_profile
from harness.workflows.layout import main_phase, widest

_WIDTH = 80
_SPREAD = 1.5
"""A rough ratio: mean to median of long-tailed calls, and longest call of a fan-out to mean."""


def estimate_run(scenario: Scenario, profiles: Mapping[str, Profile]) -> Estimate:
    """Estimate a run. `profiles`: of the simulated provider, by cell id."""
    own = scenarios_by_cell(scenario)
    calls = {cell: _simulated_call(own[cell], profile) for cell, profile in profiles.items()}
    return estimate(scenario, scenario.endpoint.facts.call_seconds, calls)


def profiles_of(scenario: Scenario, where: str) -> dict[str, Profile]:
    """Return the profile of the simulated provider by cell id; `where`: the file, for errors."""
    profiles = {}
    for cell in expand(scenario):
        simulation = cell_scenario(scenario, cell).endpoint.facts.simulation
        if simulation is None:
            continue
        try:
            profiles[cell.id] = load_profile(
                simulation.profile, simulation.overrides, "endpoint.override."
            )
        except InputError as error:
            options = " and ".join(swept_options(scenario, cell, "endpoint"))
            raise InputError(f"{where}: {f'with {options}: ' * bool(options)}{error}") from None
    return profiles


def show_plan(scenario: Scenario, expected: Estimate, as_json: bool) -> None:
    """Print the cells and the estimate on standard output, for `--dry-run`."""
    cells = expand(scenario)
    if as_json:
        plan = {
            "scenario": scenario.name,
            "simulated": scenario.endpoint.facts.simulation is not None,
            "cells": [cell.id for cell in cells],
            "repeats": {
                "fewest": _fewest_repeats(scenario),
                "most": scenario.sweep.most_repeats,
                "first_proof": _first_proof(scenario),
            },
            "proof": proof_line(scenario),
            "estimate": expected._asdict(),
            "short_budgets": short_budgets(scenario, expected),
        }
        print(json.dumps(plan, indent=2))
        return
    print("\n".join([*estimate_lines(scenario, expected), ""]))
    columns = [["mode", *(cell.mode for cell in cells)],
               ["permits", *(str(permits_setting(cell)) for cell in cells)],
               ["retry", *(cell.retry for cell in cells)],
               ["permit per", *(cell.permit_scope for cell in cells)],
               *([key.name, *map(key.label, cells)] for key in swept_keys(cells))]  # fmt: skip
    for column in columns:
        width = max(map(len, column))
        pad = str.rjust if column[0] == "permits" else str.ljust
        column[:] = [pad(text, width) for text in column]
    for row in zip(*columns, strict=True):
        print(("  " + "  ".join(row)).rstrip())
    for line in legend(cells):
        print(f"  {line}")


def confirm(scenario: Scenario, expected: Estimate, yes: bool, quiet: bool) -> None:
    """Show the estimate and ask for confirmation if the run can cost money.

    `yes`: it was confirmed by an option. Raises PreflightError if it is not confirmed, or if there
    is no terminal to ask at.
    """
    paid = _paid(scenario)
    if not paid:
        return
    if not yes and not sys.stdin.isatty():
        raise PreflightError(
            f"{'; '.join(paid)}: this run can cost money, and there is no terminal for the "
            "confirmation; add --yes to run it, or --dry-run to see what it would do"
        )
    if not (yes and quiet):
        print("\n".join(estimate_lines(scenario, expected)), file=sys.stderr)
    if not yes:
        print("Continue? [y/N] ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().casefold() not in ("y", "yes"):
            raise PreflightError("the run was not confirmed; nothing was sent")


def estimate_lines(scenario: Scenario, expected: Estimate) -> Iterator[str]:
    """Yield the lines of the estimate, each at most 80 characters."""
    yield from _wrap(
        f"{scenario.name}: {_count(expected.cells, 'setting')} {_repeats(scenario, expected)}, "
        f"{_count(scenario.load.planned, 'workflow')} each",
        "  ",
    )
    for name, text in _facts(scenario, expected):
        yield from _wrap(f"  {name:<7}  {text}", " " * 11)
    for key, enough in short_budgets(scenario, expected).items():
        limit = getattr(scenario.budget, key.removeprefix("budget."))
        yield from _wrap(
            f"Warning: {key} = {limit:g} can end this run early; "
            f"--set {key}={_enough(enough)} suffices",
            "  ",
        )


def _enough(value: float) -> str:
    """Write a budget, rounded up: whole, or of less than 100 with two decimals."""
    return f"{math.ceil(value)}" if value >= 100 else f"{math.ceil(100 * value) / 100:g}"


def _facts(scenario: Scenario, expected: Estimate) -> Iterator[tuple[str, str]]:
    call, least = expected.call_seconds, _least_share(scenario)
    yield "model", endpoint_headings(scenario)
    if code := scenario.workflow.code:
        yield "program", f"executes {code}"
    if not scenario.workflow.knows_calls:
        yield "calls", "not known, as the program decides; workflow.calls gives an estimate"
        yield "cost", "not known" if _paid(scenario) else "none"
        yield from _limits(scenario)
        return
    calls = f"{expected.calls:,}"
    if least < 1:
        calls = f"{math.floor(expected.calls * least):,} to {calls}"
    if_none_fails = " if no call fails" if least < 1 else ""
    warm_up = f" and {expected.warmup_calls:,} to warm up" if expected.warmup_calls else ""
    yield (
        "calls",
        f"{calls}{warm_up}{if_none_fails}; at most {expected.most_attempts:,} attempts with all "
        "repairs and retries",
    )
    if expected.input_tokens is not None and expected.output_tokens is not None:
        yield (
            "tokens",
            f"at most {expected.input_tokens:,} read (4 characters per token) and "
            f"{expected.output_tokens:,} written (max_tokens), with one attempt per call",
        )
    unit = "scenario seconds" if scenario.time_scale != 1 else "seconds"
    virtual = " of virtual time, which passes at once" if scenario.is_virtual else ""
    yield (
        "time",
        f"about {_time(expected.seconds.low * least)} to {_time(expected.seconds.high)}{virtual}, "
        f"if a call takes {call.low:.3g} to {call.high:.3g} {unit}",
    )
    if expected.usd is None or expected.most_usd is None:
        yield "cost", f"not known: {expected.no_usd}" if _paid(scenario) else "none"
    else:
        yield (
            "cost",
            f"at most {_usd(expected.usd)} with one attempt per call; {_usd(expected.most_usd)} "
            "with all repairs and retries",
        )
    yield from _limits(scenario)


def _limits(scenario: Scenario) -> Iterator[tuple[str, str]]:
    own = (mine.price for mine in scenarios_by_cell(scenario).values())
    prices = dict.fromkeys(price_text(price) for price in own if price is not None)
    if prices:
        yield "price", "; ".join(prices)
    yield "budget", _budget(scenario)
    yield "proof", proof_line(scenario)


def _repeats(scenario: Scenario, expected: Estimate) -> str:
    sweep = scenario.sweep
    if expected.a_block is not None:
        blocks, trials = _count(sweep.most_repeats, "block"), _count(expected.a_block, "trial")
        return f"to choose from, at most {blocks} of at most {trials}"
    if sweep.repeats != "auto":
        return f"x {_count(sweep.most_repeats, 'repeat')}"
    fewest = _fewest_repeats(scenario)
    least = f"{fewest} to" if fewest < sweep.most_repeats else "at most"
    return f"x {least} {_count(sweep.most_repeats, 'repeat')}, until the recommendation is settled"


def _fewest_repeats(scenario: Scenario) -> int:
    """Return after how many repeats a run can end at first, as it can if it drops all cells."""
    return scenario.sweep.looks.repeats[0]


def _least_share(scenario: Scenario) -> float:
    """Return the share of the trials that every run makes, whatever the looks find."""
    return _fewest_repeats(scenario) / scenario.sweep.most_repeats


def _asked(scenario: Scenario) -> float:
    """Return the success rate that a cell has to prove if no workflow of any cell fails."""
    asked = scenario.slo.success_rate
    return 1 - scenario.objective.success_margin if asked is None else asked


def _first_proof(scenario: Scenario) -> int | None:
    return first_proof(scenario.sweep.looks, _asked(scenario), scenario.load.planned)


def proof_line(scenario: Scenario) -> str:
    """Return how many workflows the proof of a success rate needs, and whether the run has them."""
    if scenario.sweep.has_several_clients:
        return "none; no setting is recommended among several clients"
    asked, looks, workflows = _asked(scenario), scenario.sweep.looks, scenario.load.planned
    rate = (
        f"an SLO of {100 * asked:.4g} %"
        if scenario.slo.success_rate is not None
        else f"a success rate within {100 * (1 - asked):.3g} points of the best setting's"
    )
    once, most, is_auto = failure_free(asked), looks.repeats[-1], len(looks.repeats) > 1
    if once is None:
        return f"{rate} cannot be proven by any number of workflows; ask for less"
    several = looks if is_auto else growing_looks(DEFAULT_MAX_REPEATS)
    last = failure_free(asked, several.level(several.repeats[-1]))
    text = (
        f"{rate} needs {_count(once, 'workflow')} without a failure in a setting at one look, "
        f"{last:,} at the last of several looks (auto); this run has "
        f"{'at most ' * is_auto}{workflows * most:,}"
    )
    first = _first_proof(scenario)
    if first is None:
        return f"{text}, so it cannot prove it; raise load.workflows or {_more_repeats(scenario)}"
    return text if first == most else f"{text}, and can prove it after {first} repeats"


def _more_repeats(scenario: Scenario) -> str:
    return "sweep.max_repeats" if scenario.sweep.repeats == "auto" else "sweep.repeats"


def _paid(scenario: Scenario) -> list[str]:
    """Return the headings of the endpoints whose requests can cost money."""
    every = (mine.endpoint.facts for mine in scenarios_by_cell(scenario).values())
    return list(dict.fromkeys(facts.heading for facts in every if facts.may_cost))


def _budget(scenario: Scenario) -> str:
    limits = [
        _count(limit, "attempt")
        if name == "attempts"
        else f"{limit:g} {name.replace('usd', 'USD')}"
        for name, limit in scenario.budget.model_dump(exclude_none=True).items()
    ]
    if not limits:
        return "none"
    return f"{', '.join(limits)}; the run stops before it exceeds this"


def _simulated_call(scenario: Scenario, profile: Profile) -> SecondsRange:
    """Return how long a call of the phase with the most calls takes.

    Low: a single call, at the median. High: at full load, with a tail.
    """
    layout = scenario.layout
    phases = {info.name: info for info in scenario.plan.phases}
    busiest = phases.get(main_phase(layout), PhaseInfo(name="", setting=""))
    lengths = profile.lengths(busiest.setting, busiest.json)
    tokens = sum(length.median for length in lengths if length is not None)
    busy = min(max(scenario.permit_counts), scenario.load.at_once * widest(layout))
    served = min(busy, profile.slots or busy)
    pace = profile.pace(1.0)
    low, high = (profile.ttft.median + tokens * pace.itl(active) for active in (1, served))
    return SecondsRange(low, high * busy / served * _SPREAD)  # calls without a slot wait


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
