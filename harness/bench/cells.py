"""Expands a scenario into cells, and makes the programs of their trials.

Scenario seconds are converted to nanoseconds of the records' clock here: durations of calls and
arrivals are multiplied by `time_scale`.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Collection, Sequence
from random import Random
from typing import TYPE_CHECKING

from harness.bench.scenario import Scenario, cell_scenario
from harness.bench.trial_share import WHOLE_TRIAL, TrialShare, most_shares, shares
from harness.engine.attempt import CallTerms, CallTimeouts
from harness.engine.call import complete
from harness.engine.effects import Message, Program, Request
from harness.engine.load import (
    Agree,
    Start,
    after_calls,
    arrival_times,
    closed_loop,
    open_loop,
    recorded_times,
)
from harness.policies.resolve import names_in
from harness.records.clock import SECOND
from harness.records.keys import WARM_UP, CallKey, WorkflowKey
from harness.records.schema import CellInfo
from harness.records.settings import cell_id, one_at_a_time, split_key, value_slugs
from harness.workflows.execution import run_workflow

if TYPE_CHECKING:
    from harness.bench.resume import RunProgress
    from harness.bench.together import TogetherInTrial
    from harness.engine.adaptive_limit import AdaptiveLimit


WARM_UP_MESSAGES = (Message("user", "Reply with the word: ready."),)
"""The prompt of the calls before a trial."""


def expand(scenario: Scenario) -> tuple[CellInfo, ...]:
    """Return all different combinations of the swept settings.

    `sync` and `serial` have one permit. Keys of a retry policy are settings only of cells that use
    the policy.
    """
    sweep = scenario.sweep
    slugs = {key: value_slugs(key, options) for key, options in sweep.settings.items()}
    cells: dict[str, CellInfo] = {}
    choices = list(itertools.product(*(range(len(one)) for one in sweep.settings.values())))
    for mode, permits, retry, scope, numbers in itertools.product(
        sweep.mode, sweep.permits, sweep.retry, sweep.permit_scope, choices
    ):
        adaptive = permits if isinstance(permits, str) and not one_at_a_time(mode) else ""
        one = 1 if one_at_a_time(mode) else scenario.most_permits(permits)
        used = set(names_in(scenario.retry, retry))
        chosen = {
            key: number
            for key, number in zip(sweep.settings, numbers, strict=True)
            if split_key(key)[0] != "retry" or split_key(key)[1] in used
        }
        parts = [slugs[key][number] for key, number in chosen.items()]
        name = cell_id([mode, adaptive or str(one), retry, scope, *parts])
        settings = {key: sweep.settings[key][number] for key, number in chosen.items()}
        cells[name] = CellInfo(
            id=name, mode=mode, permits=one, retry=retry, permit_scope=scope, settings=settings,
            limiter=adaptive,
        )  # fmt: skip
    return tuple(cells.values())


def scenarios_by_cell(scenario: Scenario) -> dict[str, Scenario]:
    """Return the scenario of each cell by the cell's id."""
    return {cell.id: cell_scenario(scenario, cell) for cell in expand(scenario)}


def secret_variables(scenario: Scenario) -> tuple[str, ...]:
    """Return the environment variables with the secrets of the endpoints that the cells use."""
    own = (mine.endpoint.facts.secret_variables for mine in scenarios_by_cell(scenario).values())
    return tuple(dict.fromkeys(itertools.chain.from_iterable(own)))


def endpoint_headings(scenario: Scenario) -> str:
    """Return the headings of the endpoints that the cells use."""
    own = scenarios_by_cell(scenario).values()
    return "; ".join(dict.fromkeys(mine.endpoint.facts.heading for mine in own))


_OF_REQUESTS = {
    "model", "stream", "price", "extra_body", "extra_body_by_phase", "json_mode", "cache",
    "reuse_connections", "auth", "headers", "query", "omit", "rename", "system", "ca_file",
    "verify", "follow_redirects", "wait_ready", "client",
}  # fmt: skip
"""Keys of a remote endpoint that only change its requests."""


def server_key(scenario: Scenario) -> str:
    """Return a text that is equal for cells whose trials share one server."""
    endpoint = scenario.endpoint
    other = {"price", "client"} if endpoint.facts.own_server else _OF_REQUESTS
    return endpoint.model_dump_json(exclude=other)


def order(cells: tuple[CellInfo, ...], repeats: int, seed: int) -> tuple[tuple[CellInfo, ...], ...]:
    """Return the cells of each repeat in their order (randomised complete blocks).

    The orders are the rows of Williams squares, with random cells and in random order: in a square,
    each cell has each place, and follows each other cell, equally often. So a drift of the endpoint
    affects all cells alike (E. J. Williams, Experimental Designs Balanced for the Estimation of
    Residual Effects of Treatments, Australian Journal of Scientific Research 2, 1949).
    """
    blocks: list[tuple[CellInfo, ...]] = []
    while len(blocks) < repeats:
        random = source(seed, "order", len(blocks))
        named, rows = random.sample(cells, len(cells)), _williams_square(len(cells))
        random.shuffle(rows)
        blocks += [tuple(named[at] for at in row) for row in rows]
    return tuple(blocks[:repeats])


def _williams_square(count: int) -> list[list[int]]:
    """Return orders of so many cells: as many, or twice as many for an odd number."""
    zigzag = [at // 2 if at % 2 == 0 else count - (at + 1) // 2 for at in range(count)]
    rows = [[(at + shift) % count for at in zigzag] for shift in range(count)]
    return rows if count % 2 == 0 else rows + [row[::-1] for row in rows]


def source(seed: int, *key: object) -> Random:
    """Return a random source that depends only on `seed` and `key`."""
    digest = hashlib.sha256(repr((seed, *key)).encode()).digest()
    return Random(int.from_bytes(digest[:16]))  # noqa: S311 - must be repeatable


def terms(scenario: Scenario, cell: CellInfo, together: TogetherInTrial | None = None) -> CallTerms:
    """Return the policy, timeouts and permit scope of the calls of `cell`."""
    scale, endpoint = scenario.time_scale, scenario.endpoint
    policy = scenario.policy(cell.retry).build(scale, endpoint.stream)
    return CallTerms(
        policy=policy if together is None else together.policy(policy),
        limits=CallTimeouts.of(scenario.timeouts, scale, endpoint.facts.connect_floor),
        hold_permit=cell.permit_scope == "call",
        random_for=lambda key: source(scenario.seed, "jitter", *key),
        keep_transcripts=scenario.transcripts,
        carry_reasoning=scenario.workflow.keeps_reasoning,
    )


def adaptive_limit(
    scenario: Scenario, cell: CellInfo, now: int = 0, together: TogetherInTrial | None = None
) -> AdaptiveLimit | None:
    """Return the limit that adapts of a trial that begins at `now`; None for fixed permits."""
    if not cell.limiter:
        return None
    from harness.engine.adaptive_limit import AdaptiveLimit  # imports asyncio

    limiter = scenario.limit(cell.limiter).limiter(scenario.time_scale)
    if together is None:
        return AdaptiveLimit(limiter, now)
    rank, of = together.share
    return AdaptiveLimit(limiter, now, rank=rank, of=of, cell=together.limit)


def trial_program(
    begun: RunProgress,
    cell: CellInfo,
    repeat: int,
    share: TrialShare = WHOLE_TRIAL,
    together: TogetherInTrial | None = None,
    agree: Agree | None = None,
) -> Program[None]:
    """Return the program of a share of one trial, without the workflows that have finished.

    `together`: what the process has in common with the others of the trial; None alone.
    `agree`: when all shares begin, if `together` does not say it.
    """
    run, mine = begun.run, cell_scenario(begun.scenario, cell)
    if mine.workflow.is_gateway:
        from harness.workflows.gateway import serve_requests  # imports asyncio

        assert begun.gateway is not None, "only harness gateway runs it"
        first = WorkflowKey(cell.id, repeat, 0, run.execution)
        return serve_requests(begun.gateway, terms(mine, cell), mine.plan, first)
    withheld = secret_variables(begun.scenario) if mine.workflow.is_process else ()
    every = starts(mine, cell, repeat, run.run_id, run.execution, together, withheld)
    finished = begun.ended.get((cell.id, repeat), frozenset())
    agree = agree if together is None else together.agree
    program = load(mine, every, repeat, finished, share, agree)
    if not mine.load.warmup_calls or len(finished) == len(every):
        return program
    return after_calls(share.pick(warm_up(mine, cell, repeat, run.execution)), program)


def shares_of_trial(
    begun: RunProgress, cell: CellInfo, repeat: int, processes: int
) -> tuple[TrialShare, ...]:
    """Return the shares of as many of the `processes` as can have one of a trial."""
    loaded = cell_scenario(begun.scenario, cell).load
    left = loaded.planned - len(begun.ended.get((cell.id, repeat), frozenset()))
    return shares(most_shares(processes, cell.permits, left, loaded.at_once))


def warm_up(scenario: Scenario, cell: CellInfo, repeat: int, execution: int = 0) -> list[Start]:
    """Return the calls before a trial: short questions without a retry.

    They have a policy of their own, so that they do not change the state of the cell's policy.
    """
    scale = scenario.time_scale
    once = scenario.policy("none").build(scale, scenario.endpoint.stream)
    shared = terms(scenario, cell)._replace(policy=once, hold_permit=False)
    request = Request(WARM_UP_MESSAGES, scenario.plan.most_of_warm_up)

    def start(number: int) -> Start:
        key = CallKey(cell.id, repeat, scenario.load.planned, execution, WARM_UP, None, number + 1)
        return lambda ready: complete(shared, key, request, ready)

    return [start(number) for number in range(scenario.load.warmup_calls or 0)]


def starts(
    scenario: Scenario,
    cell: CellInfo,
    repeat: int,
    run_id: str,
    execution: int = 0,
    together: TogetherInTrial | None = None,
    withheld: tuple[str, ...] = (),
) -> list[Start]:
    """Return the workflows of one trial, ready to start. `withheld`: as in `WorkflowPlan`."""
    plan = scenario.plan._replace(withheld=withheld)
    shared = terms(scenario, cell, together)
    topics, has_nonce = scenario.workflow.topics, scenario.endpoint.facts.nonce

    def start(number: int) -> Start:
        key = WorkflowKey(cell.id, repeat, number, execution)
        topic = topics[number % len(topics)]
        digest = hashlib.sha256(repr((run_id, *key)).encode()).hexdigest()
        nonce = digest[:16] if has_nonce else ""  # makes the endpoint's prompt cache miss
        return lambda ready: run_workflow(shared, plan, key, topic, ready, nonce)

    return [start(number) for number in range(scenario.load.planned)]


def load(
    scenario: Scenario,
    starts: Sequence[Start],
    repeat: int,
    finished: Collection[int] = (),
    share: TrialShare = WHOLE_TRIAL,
    agree: Agree | None = None,
) -> Program[None]:
    """Return a share of the load of one trial; all cells of a repeat have the same arrivals.

    Workflows whose numbers are in `finished` are left out; the first of the others starts at once.
    `agree`: when all shares begin.
    """
    arrivals = scenario.load.arrivals
    left = [number for number in range(len(starts)) if number not in finished]
    own = share.pick(left)
    if arrivals is None:
        return closed_loop(
            [starts[number] for number in own], share.part(scenario.load.in_flight), agree
        )
    recorded = scenario.workflow.recorded_arrivals
    if arrivals.process == "recorded" and recorded is not None:
        due = recorded_times(recorded, arrivals.per_second, len(starts))
    else:
        random = source(scenario.seed, "arrivals", repeat)
        due = arrival_times(arrivals.process, arrivals.per_second, len(starts), random)
    scale = scenario.time_scale * SECOND
    zero = due[left[0]] if finished and left else 0.0
    return open_loop(
        [starts[number] for number in own],
        [round((due[number] - zero) * scale) for number in own],
        agree,
    )
