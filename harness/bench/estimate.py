"""What a run will do before it does it: how many calls, how many tokens, how long, what it costs.

Everything is reckoned from the scenario alone. Prompts are taken as a token for every four
characters, and every answer as long as `max_tokens` lets it be, so tokens and costs are upper
bounds; how long a call takes is an assumption that is stated with the estimate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

from harness.bench.cells import expand
from harness.bench.scenario import Scenario, cell_scenario
from harness.config.prices import worst_usd
from harness.endpoints.section import SecondsRange
from harness.records.schema import CellInfo
from harness.workflows.layout import calls_of, regular_calls, rounds


class Estimate(NamedTuple):
    """What a run will do.

    `calls`: if no answer needs a repair. `most_attempts`: if every answer that can need one does,
    and every call makes all the attempts that its policy allows; attempts that a breaker adds are
    not counted. `input_tokens`, `output_tokens`, `usd`: at most, with one attempt a call and no
    repair; `most_usd`: with the most attempts. None where a phase has no `max_tokens`, and for
    money where the price is not known; `no_usd` then says why.
    `seconds`: real ones, if a call takes `call_seconds` scenario seconds.
    """

    cells: int
    trials: int
    workflows: int
    calls: int
    most_attempts: int
    input_tokens: int | None
    output_tokens: int | None
    usd: float | None
    most_usd: float | None
    no_usd: str | None
    call_seconds: SecondsRange
    seconds: SecondsRange


class _Tokens(NamedTuple):
    read: int
    written: int


class _Workflow(NamedTuple):
    """The most tokens of one workflow, an attempt a call, and those of its repairs."""

    whole: _Tokens
    repair: _Tokens


def estimate(
    scenario: Scenario,
    call_seconds: SecondsRange,
    by_cell: Mapping[str, SecondsRange] | None = None,
) -> Estimate:
    """Return what a run of `scenario` will do if a call takes `call_seconds`.

    `by_cell`: how long one takes in cells, by their id, where that is known.
    """
    groups: dict[str, list[CellInfo]] = {}
    for cell in expand(scenario):
        groups.setdefault(repr(cell.settings), []).append(cell)
    return _added(
        [
            _estimate(
                cell_scenario(scenario, alike[0]),
                tuple(alike),
                (by_cell or {}).get(alike[0].id, call_seconds),
            )
            for alike in groups.values()
        ]
    )


def _added(parts: Sequence[Estimate]) -> Estimate:
    """Add up the estimates of parts of a run; what is unknown of one is unknown of all."""
    if len(parts) == 1:
        return parts[0]
    calls = [part.call_seconds for part in parts]
    every = [part.seconds for part in parts]
    return Estimate(
        cells=sum(part.cells for part in parts),
        trials=sum(part.trials for part in parts),
        workflows=sum(part.workflows for part in parts),
        calls=sum(part.calls for part in parts),
        most_attempts=sum(part.most_attempts for part in parts),
        input_tokens=_sum_known([part.input_tokens for part in parts]),
        output_tokens=_sum_known([part.output_tokens for part in parts]),
        usd=_sum_known([part.usd for part in parts]),
        most_usd=_sum_known([part.most_usd for part in parts]),
        no_usd=next((part.no_usd for part in parts if part.no_usd), None),
        call_seconds=SecondsRange(min(one.low for one in calls), max(one.high for one in calls)),
        seconds=SecondsRange(sum(one.low for one in every), sum(one.high for one in every)),
    )


_N = TypeVar("_N", int, float)


def _sum_known(values: Sequence[_N | None]) -> _N | None:
    known = [value for value in values if value is not None]
    return sum(known[1:], known[0]) if len(known) == len(values) else None


def _estimate(
    scenario: Scenario, cells: tuple[CellInfo, ...], call_seconds: SecondsRange
) -> Estimate:
    """Return what the cells of a run that share one scenario will do."""
    repeats = scenario.sweep.repeats
    workflows = scenario.load.workflows * repeats
    layout = scenario.layout
    calls, repairs = regular_calls(layout), sum(call.repair for call in calls_of(layout))
    attempts = sum(scenario.policy(cell.retry).most_attempts for cell in cells) * workflows
    most = _most_tokens(scenario)
    trips = workflows * len(cells)
    price, no_usd = scenario.price, _no_usd(scenario)
    usd = most_usd = None
    if price is not None and most is not None:
        usd = trips * worst_usd(price, *most.whole)
        most_usd = attempts * (worst_usd(price, *most.whole) + worst_usd(price, *most.repair))
    return Estimate(
        cells=len(cells),
        trials=len(cells) * repeats,
        workflows=trips,
        calls=trips * calls,
        most_attempts=attempts * (calls + repairs),
        input_tokens=None if most is None else trips * most.whole.read,
        output_tokens=None if most is None else trips * most.whole.written,
        usd=usd,
        most_usd=most_usd,
        no_usd=no_usd,
        call_seconds=call_seconds,
        seconds=_seconds(scenario, cells, call_seconds),
    )


def _no_usd(scenario: Scenario) -> str | None:
    """Say why there is no cost; None when there is one."""
    if scenario.price is None:
        return scenario.endpoint.facts.no_price
    limits = scenario.workflow.max_tokens
    missing = ", ".join(phase for phase, most in limits.items() if most is None)
    if missing:
        return f"answers may be of any length; give workflow.max_tokens for: {missing}"
    return None


def _most_tokens(scenario: Scenario) -> _Workflow | None:
    """Return the most tokens of one workflow; None when an answer may be of any length."""
    if None in scenario.workflow.max_tokens.values():
        return None
    written = {info.name: info.max_tokens or 0 for info in scenario.plan.phases}
    calls = list(calls_of(scenario.layout))
    whole, repair = (
        _Tokens(sum(call.read for call in some), sum(written[call.phase] for call in some))
        for some in (
            [call for call in calls if not call.repair],
            [call for call in calls if call.repair],
        )
    )
    return _Workflow(whole, repair)


def _seconds(scenario: Scenario, cells: tuple[CellInfo, ...], call: SecondsRange) -> SecondsRange:
    """Return how long all trials take together, if all calls were alike and none failed.

    A trial takes as many rounds of calls as its permits need for all of them, or as its workflows
    need one after another, whichever is more.
    """
    layout, load, repeats = scenario.layout, scenario.load, scenario.sweep.repeats
    all_rounds = 0.0
    for cell in cells:
        trips = -(-load.workflows // min(load.at_once, load.workflows))
        longest = trips * rounds(layout, cell.permits)
        shared = load.workflows * regular_calls(layout) / cell.permits
        all_rounds += max(longest, shared) * repeats
    trials = len(cells) * repeats
    settle = scenario.endpoint.facts.settle * (trials - 1)
    arrivals = load.arrivals
    due = 0.0 if arrivals is None else trials * load.workflows / arrivals.per_second
    ends = (max(min(length, scenario.timeouts.call) * all_rounds, due) + settle for length in call)
    return SecondsRange(*(end * scenario.time_scale for end in ends))
