"""Columns that several tables share, and the tables with a row for each cell."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from harness.analysis.model import Cell, Distribution, Figure
from harness.report.policy_table import seconds_a_call, side_by_side
from harness.report.tables import Column, Subject, Table, whole_number
from harness.report.wording import in_seconds, number, percent, rate_unit, scaled

CALLS = {
    "call_latency": "Call latency, ready to done",
    "ttft": "Time to first token",
    "time_to_first_answer": "Time to first answer",
}
WAITS = {
    "inter_token": "Inter-token latency",
    "permit_wait": "Permit wait",
    "client_wait": "Client wait",
    "backoff": "Backoff",
}
"""The distributions of a cell that are told by call or attempt, in words."""


def distribution_columns(
    about: Subject, key: str, spread: Sequence[Distribution]
) -> tuple[Column, ...]:
    """Return how a duration is spread in each cell, in scenario seconds."""
    return (
        Column("n", f"{key}_n", [one.n for one in spread], whole_number),
        *(
            Column(
                name,
                about.seconds(f"{key}_{name}"),
                [in_seconds(getattr(one, name), about.summary) for one in spread],
            )
            for name in ("mean", "p50", "p95", "p99")
        ),
    )


def rate_columns(about: Subject) -> tuple[Column, ...]:
    """Return throughput and goodput of each cell, in workflows a scenario minute or hour."""
    unit, factor = rate_unit(about.summary)
    per = unit.split()[1]
    rates = [scaled(cell.throughput.workflows_per_s, factor) for cell in about.cells]
    good = [scaled(cell.goodput_workflows_per_s, factor) for cell in about.cells]
    return (
        Column("throughput", f"throughput_workflows_per_{per}", rates),
        Column("goodput", f"goodput_workflows_per_{per}", good),
    )


def comparison_tables(about: Subject) -> list[Table]:
    """Return every figure of every cell: speed, reliability, tokens and cost."""
    return [_speed(about), _work(about), _cost(about)]


def _speed(about: Subject) -> Table:
    summary, cells = about.summary, about.cells
    unit, _ = rate_unit(summary)

    def seconds(figures: Iterable[Figure | None]) -> list[Figure | None]:
        return [in_seconds(figure, summary) for figure in figures]

    latency = [cell.workflow_latency_s for cell in cells]
    bounds = [
        None
        if cell.critical_path_bound_s is None
        else cell.critical_path_bound_s / summary.time_scale
        for cell in cells
    ]
    return about.of_cells(
        "speed", f"Speed; durations in seconds, rates in workflows {unit}",
        (
            Column("makespan", about.seconds("makespan"), seconds(c.makespan_s for c in cells)),
            Column("speed-up", "speedup_over_sync", [c.speedup_over_sync for c in cells]),
            *rate_columns(about),
            Column("latency p50", about.seconds("latency_p50"), seconds(d.p50 for d in latency)),
            Column("latency p95", about.seconds("latency_p95"), seconds(d.p95 for d in latency)),
            Column("latency p99", about.seconds("latency_p99"), seconds(d.p99 for d in latency)),
            Column("bound", about.seconds("critical_path_bound"), bounds),
            Column(
                "efficiency", "scheduling_efficiency", [c.scheduling_efficiency for c in cells],
                percent,
            ),
        ),
    )  # fmt: skip


def _counts(about: Subject, head: str, key: str, of: Callable[[Cell], int]) -> Column:
    return Column(head, key, [of(cell) for cell in about.cells], whole_number)


def _work(about: Subject) -> Table:
    cells = about.cells
    return about.of_cells(
        "work", "Work done",
        (
            _counts(about, "repeats", "repeats", lambda c: c.repeats),
            _counts(about, "workflows", "workflows_started", lambda c: c.workflows.started),
            _counts(about, "ok", "workflows_ok", lambda c: c.workflows.ok),
            _counts(about, "degraded", "workflows_degraded", lambda c: c.workflows.degraded),
            _counts(about, "failed", "workflows_failed", lambda c: c.workflows.failed),
            *_warm_up(cells),
            Column("success rate", "success_rate", [c.success_rate for c in cells], percent),
            _counts(about, "calls", "calls_started", lambda c: c.calls.started),
            _counts(about, "calls failed", "calls_failed", lambda c: c.calls.failed),
            _counts(about, "attempts", "attempts", lambda c: c.attempts.total),
            Column("attempts a call", "amplification", [c.attempts.amplification for c in cells]),
        ),
    )  # fmt: skip


def _warm_up(cells: Sequence[Cell]) -> Iterable[Column]:
    """Yield how many workflows of an open loop were left out of the distributions, if any were."""
    if any(cell.warm_up for cell in cells):
        yield Column("warm-up cut", "warm_up", [cell.warm_up for cell in cells], whole_number)


def _cost(about: Subject) -> Table:
    cells = about.cells
    each = [cell.cost_per_successful_workflow_usd for cell in cells]
    return about.of_cells(
        "tokens", "Tokens and cost",
        (
            _counts(about, "input", "tokens_input", lambda c: c.tokens.input),
            _counts(about, "of it cached", "tokens_cached", lambda c: c.tokens.cached),
            _counts(about, "output", "tokens_output", lambda c: c.tokens.output),
            _counts(about, "of it reasoning", "tokens_reasoning", lambda c: c.tokens.reasoning),
            _counts(about, "wasted", "tokens_wasted", lambda c: c.tokens.wasted),
            Column("cost", "cost_usd", [cell.cost_usd for cell in cells], dollars),
            Column("cost a success", "cost_per_successful_workflow_usd", each, dollars),
        ),
    )  # fmt: skip


def dollars(value: float) -> str:
    """Write an amount of money in US dollars."""
    return f"${number(value)}"


def phase_tables(about: Subject) -> list[Table]:
    """Return a table for each phase that any workflow came to: its latency, its failures."""
    return [
        _phase_table(about, name, name.replace("_", "-"))
        for name in dict.fromkeys(name for cell in about.cells for name in cell.phases)
        if any(name in cell.phases and cell.phases[name].latency_s.n for cell in about.cells)
    ]


def _phase_table(about: Subject, name: str, words: str) -> Table:
    ran = [cell.phases.get(name) for cell in about.cells]
    nothing = Distribution(n=0, mean=None, p50=None, p95=None, p99=None)
    spread = [nothing if phase is None else phase.latency_s for phase in ran]
    failed = [None if phase is None else phase.failed for phase in ran]
    return about.of_cells(
        f"phase-{words}",
        f"Phase {words}: latency in seconds",
        (
            *distribution_columns(about, name, spread),
            Column("failed", f"{name}_failed", failed, whole_number),
        ),
    )


def call_tables(about: Subject, names: Mapping[str, str]) -> list[Table]:
    """Return a table for each of these durations, in words by name, that anything is known of."""
    spreads = {name: [getattr(cell, f"{name}_s") for cell in about.cells] for name in names}
    return [
        about.of_cells(
            name.replace("_", "-"),
            f"{names[name]}, in seconds",
            distribution_columns(about, name, spread),
        )
        for name, spread in spreads.items()
        if any(one.n for one in spread)
    ]


def policy_table(about: Subject) -> Table | None:
    """Return what each policy cost, in every cell; None where only one policy ran."""
    cells = side_by_side(about.cells)
    if len({cell.retry for cell in cells}) < 2:
        return None
    summary, best = about.summary, about.summary.recommendation.cell
    return Table(
        "policies",
        "What each retry policy cost and saved",
        (
            *about.cell_columns(cells),
            Column("attempts", "attempts", [c.attempts.total for c in cells], whole_number),
            Column("a call", "amplification", [c.attempts.amplification for c in cells]),
            Column("calls lost", "calls_lost", [c.calls_lost for c in cells], percent),
            Column(
                "wasted tokens", "tokens_wasted", [c.tokens.wasted for c in cells], whole_number
            ),
            Column("wasted money", "wasted_usd", [c.wasted_usd for c in cells], dollars),
            Column(
                "makespan",
                about.seconds("makespan"),
                [in_seconds(c.makespan_s, summary) for c in cells],
            ),
            *(
                Column(
                    f"{part.replace('_', ' ')} a call",
                    about.seconds(f"{part}_a_call"),
                    [seconds_a_call(cell, part, summary) for cell in cells],
                )
                for part in ("permit_wait", "backoff")
            ),
        ),
        frozenset(at for at, cell in enumerate(cells) if cell.id == best),
    )
