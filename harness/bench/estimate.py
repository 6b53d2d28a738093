"""Estimates a run from its scenario: calls, tokens, time and cost.

A token is assumed for every four characters of a prompt, and every answer is assumed to be as long
as `max_tokens` allows. So tokens and costs are upper bounds. The length of a call is an assumption,
which the estimate states.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeVar

from harness.bench.cells import WARM_UP_MESSAGES, expand, scenarios_by_cell, server_key
from harness.bench.scenario import Scenario
from harness.config.prices import worst_usd
from harness.endpoints.section import SecondsRange
from harness.records.schema import CellInfo
from harness.workflows.layout import calls_of, regular_calls, rounds, tokens_of

_N = TypeVar("_N", int, float)


class Estimate(NamedTuple):
    """What a run will do, at most if repeats are added until the recommendation is settled.

    `calls`: if no answer needs a repair, without `warmup_calls`. `most_attempts`: with these, with
    every repair, and with all attempts that the policy of each call allows; attempts that a breaker
    adds are not counted.
    `input_tokens`, `output_tokens`, `usd`: upper bounds with one attempt per call and no repair;
    `most_usd`: with the most attempts. None if a phase has no `max_tokens`, and for money if the
    price is not known; `no_usd`: the reason. `seconds`: real seconds, if a call takes
    `call_seconds` scenario seconds. `a_block`: the most trials of a block, of a run that chooses
    its trials; None if each setting has its repeats.
    """

    cells: int
    trials: int
    workflows: int
    calls: int
    warmup_calls: int
    most_attempts: int
    input_tokens: int | None
    output_tokens: int | None
    usd: float | None
    most_usd: float | None
    no_usd: str | None
    call_seconds: SecondsRange
    seconds: SecondsRange
    a_block: int | None = None


def of_chosen_trials(every: Estimate, a_block: int) -> Estimate:
    """Return the estimate of a run that chooses at most `a_block` trials in each repeat.

    `every`: of a run with all trials.
    """
    share = min(1.0, a_block / every.cells)

    def part(number: int) -> int:
        return math.ceil(number * share)

    def known(number: int | None) -> int | None:
        return None if number is None else part(number)

    return every._replace(
        trials=part(every.trials),
        workflows=part(every.workflows),
        calls=part(every.calls),
        warmup_calls=part(every.warmup_calls),
        most_attempts=part(every.most_attempts),
        input_tokens=known(every.input_tokens),
        output_tokens=known(every.output_tokens),
        usd=None if every.usd is None else every.usd * share,
        most_usd=None if every.most_usd is None else every.most_usd * share,
        seconds=SecondsRange(*(each * share for each in every.seconds)),
        a_block=a_block,
    )


def estimate(
    scenario: Scenario,
    call_seconds: SecondsRange,
    by_cell: Mapping[str, SecondsRange] | None = None,
) -> Estimate:
    """Return what a run of `scenario` will do if a call takes `call_seconds`.

    `by_cell`: the length of a call in some cells, by the cell's id.
    """
    own, known = scenarios_by_cell(scenario), by_cell or {}
    parts = [
        _of_cell(own[cell.id], cell, known.get(cell.id, call_seconds)) for cell in expand(scenario)
    ]
    calls = [part.call_seconds for part in parts]
    settling = _settling(own.values())
    return Estimate(
        cells=len(parts),
        trials=sum(part.trials for part in parts),
        workflows=sum(part.workflows for part in parts),
        calls=sum(part.calls for part in parts),
        warmup_calls=sum(part.warmup_calls for part in parts),
        most_attempts=sum(part.most_attempts for part in parts),
        input_tokens=_sum_known(part.input_tokens for part in parts),
        output_tokens=_sum_known(part.output_tokens for part in parts),
        usd=_sum_known(part.usd for part in parts),
        most_usd=_sum_known(part.most_usd for part in parts),
        no_usd=next((part.no_usd for part in parts if part.no_usd), None),
        call_seconds=SecondsRange(min(one.low for one in calls), max(one.high for one in calls)),
        seconds=SecondsRange(
            sum(part.seconds.low for part in parts) + settling,
            sum(part.seconds.high for part in parts) + settling,
        ),
    )


def short_budgets(scenario: Scenario, expected: Estimate) -> dict[str, float]:
    """Return the budgets that a run can exceed without any retry, and what suffices, by key.

    What suffices for attempts has room for all repairs and retries.
    """
    tokens = _sum_known([expected.input_tokens, expected.output_tokens])
    seconds = expected.seconds.high / scenario.time_scale
    needs: dict[str, tuple[float | None, float | None]] = {
        "attempts": (expected.calls + expected.warmup_calls, expected.most_attempts),
        "usd": (expected.usd, expected.most_usd),
        "tokens": (tokens, tokens),
        "seconds": (seconds, seconds),
    }
    limits = scenario.budget.model_dump(exclude_none=True)
    found = {name: (*needs[name], limit) for name, limit in limits.items()}
    return {
        f"budget.{name}": enough
        for name, (least, enough, limit) in found.items()
        if least is not None and enough is not None and least > limit
    }


def _sum_known(values: Iterable[_N | None]) -> _N | None:
    """Return the sum; None if a value is not known."""
    every = list(values)
    known = [value for value in every if value is not None]
    return sum(known[1:], known[0]) if len(known) == len(every) else None


def _settling(cells: Iterable[Scenario]) -> float:
    """Return the real seconds between trials: on each server, all trials but the first wait."""
    every = list(cells)
    servers = Counter(map(server_key, every))
    waits = {server_key(mine): mine.endpoint.facts.settle * mine.time_scale for mine in every}
    repeats = every[0].sweep.most_repeats
    return sum(waits[server] * (count * repeats - 1) for server, count in servers.items())


def _of_cell(scenario: Scenario, cell: CellInfo, call_seconds: SecondsRange) -> Estimate:
    """Return what one cell will do, apart from the time between trials."""
    repeats, layouts = scenario.sweep.most_repeats, scenario.layouts
    workflows = scenario.load.planned * repeats
    attempts = scenario.policy(cell.retry).most_attempts * workflows
    warm_ups = (scenario.load.warmup_calls or 0) * repeats
    warm_up = _most_of_warm_up(scenario)
    whole, repair = _most_tokens(scenario, repair=False), _most_tokens(scenario, repair=True)
    price, usd, most_usd = scenario.price, None, None
    if price is not None and whole is not None and repair is not None:
        warming = warm_ups * worst_usd(price, *warm_up)
        usd = workflows * worst_usd(price, *whole) + warming
        most_usd = attempts * (worst_usd(price, *whole) + worst_usd(price, *repair)) + warming
    return Estimate(
        cells=1,
        trials=repeats,
        workflows=workflows,
        calls=repeats * sum(count * regular_calls(layout) for layout, count in layouts),
        warmup_calls=warm_ups,
        most_attempts=scenario.policy(cell.retry).most_attempts
        * repeats
        * sum(count * len(list(calls_of(layout))) for layout, count in layouts)
        + warm_ups,
        input_tokens=None if whole is None else workflows * whole[0] + warm_ups * warm_up[0],
        output_tokens=None if whole is None else workflows * whole[1] + warm_ups * warm_up[1],
        usd=usd,
        most_usd=most_usd,
        no_usd=_no_usd(scenario),
        call_seconds=call_seconds,
        seconds=SecondsRange(*(_seconds(scenario, cell, length) for length in call_seconds)),
    )


def _most_of_warm_up(scenario: Scenario) -> tuple[int, int]:
    """Return the most tokens that a warm-up call reads and writes."""
    return tokens_of(WARM_UP_MESSAGES), scenario.plan.most_of_warm_up or 0


def _no_usd(scenario: Scenario) -> str | None:
    """Return why there is no cost; None if there is one."""
    if scenario.price is None:
        return scenario.endpoint.facts.no_price
    if scenario.workflow.has_open_phases:
        return "the program decides what its prompts contain"
    limits = scenario.workflow.max_tokens
    missing = ", ".join(phase for phase, most in limits.items() if most is None)
    if missing:
        return f"answers may be of any length; give workflow.max_tokens for: {missing}"
    return None


def _most_tokens(scenario: Scenario, *, repair: bool) -> tuple[int, int] | None:
    """Return the most tokens that the repairs of one workflow, or its other calls, read and write.

    None if an answer or a prompt can have any length.
    """
    if scenario.workflow.has_open_phases or None in scenario.workflow.max_tokens.values():
        return None
    written = {info.name: info.max_tokens or 0 for info in scenario.plan.phases}
    calls = [call for call in calls_of(scenario.layout) if call.repair == repair]
    return sum(call.read for call in calls), sum(written[call.phase] for call in calls)


def _seconds(scenario: Scenario, cell: CellInfo, call: float) -> float:
    """Return the real seconds of all trials of a cell, if all calls are alike and none fails.

    A trial takes as many rounds of calls as its permits need for all of them, or as its workflows
    need one after another, whichever is more.
    """
    layouts, load, call = scenario.layouts, scenario.load, min(call, scenario.timeouts.call)
    trips = -(-load.planned // min(load.at_once, load.planned))
    longest = trips * max(rounds(layout, cell.permits) for layout, _ in layouts)
    shared = sum(count * regular_calls(layout) for layout, count in layouts) / cell.permits
    warm_up = -(-(load.warmup_calls or 0) // cell.permits) * call
    arriving = load.planned / load.arrivals.per_second if load.arrivals else 0.0
    trial = max(call * max(longest, shared), arriving) + warm_up
    return trial * scenario.sweep.most_repeats * scenario.time_scale
