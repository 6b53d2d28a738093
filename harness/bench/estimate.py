"""What a run will do before it does it: how many calls, how many tokens, how long, what it costs.

Everything is reckoned from the scenario alone. Prompts are taken as a token for every four
characters, and every answer as long as `max_tokens` lets it be, so tokens and costs are upper
bounds; how long a call takes is an assumption that is stated with the estimate.
"""

from __future__ import annotations

from typing import NamedTuple

from harness.bench.cells import expand
from harness.bench.scenario import Scenario
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


def estimate(scenario: Scenario, call_seconds: SecondsRange) -> Estimate:
    """Return what a run of `scenario` will do if a call takes `call_seconds`."""
    cells, repeats = expand(scenario), scenario.sweep.repeats
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
