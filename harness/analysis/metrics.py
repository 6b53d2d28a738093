"""METRICS: every metric of a cell. Each row defines how it is computed and shown.

The summary, the tables of the terminal and the report, the comparison of runs, the objective of the
recommendation and the export follow this table. A new row needs no other change: a metric that
`model.Cell` does not declare is added to it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from operator import attrgetter
from typing import Any, Literal, NamedTuple, assert_never

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness.analysis.cells import (
    ByRepeat,
    MeasuredCell,
    PopulationName,
    by_repeat,
    count_anomalies,
    count_lost,
    count_rows,
    count_successes,
    gaps,
    has_begun,
    phase_figures,
    rows_by,
    time_spent_in,
    wanted,
)
from harness.analysis.costs import (
    cost_of_success,
    cost_of_workflow,
    costs_of_success,
    costs_of_workflow,
    waste_of_workflow,
    wastes_of_workflow,
)
from harness.analysis.model import Cell, Distribution, Figure, PhaseFigures
from harness.analysis.offered_load import (
    configured_rate,
    lateness_of,
    offered_rates,
    planned_rates,
)
from harness.analysis.output_rates import rate_while_full, seconds_a_token
from harness.analysis.significance import Successes
from harness.analysis.statistics import (
    Samples,
    describe,
    over_repeats,
    percentile_by_repeat,
    share,
    stretched,
)
from harness.records.clock import SECOND
from harness.records.failures import CANCELLED, OK, is_failure
from harness.records.histogram import HALF_BUCKET
from harness.records.schema import Workflow
from harness.store.compact_records import ABSENT

SPLIT = 0.4
"""How far a percentile of workflow latency has to be from the share of the faster workflows.

Failed and successful workflows take different times. If about p of the workflows are the faster
ones, the p-quantile of a repeat is among these or the others by chance, and repeats that agree do
not show it. Bursts move the share by much: within this distance, a few repeats cannot exclude it.
"""

Unit = Literal[
    "s", "CPU s", "workflows/s", "calls/s", "tokens/s", "USD", "share", "tokens", "count", "ratio",
    "nested",
]  # fmt: skip
"""What a metric is counted in: it decides how the metric is shown.

`s`: real seconds, shown in scenario seconds; rates likewise. `CPU s`: seconds of processor time,
shown in milliseconds, whatever the time scale. `share`: 0 to 1, shown in percent and compared by
its difference. `nested`: a structure, not one number.
"""


class OverRepeats(NamedTuple):
    """A figure: the geometric mean over repeats of one value a repeat.

    `resolution`: how exact each value is, as a share of it.
    """

    by_repeat: Callable[[MeasuredCell], ByRepeat]
    resolution: float = 0.0


class ShareOf(NamedTuple):
    """A figure: the share of successes, given as counts."""

    counts: Callable[[MeasuredCell], Successes]


class SpreadOf(NamedTuple):
    """A distribution of the lengths of records: the nanoseconds between two of their moments.

    Records that did not reach one of them are left out.
    """

    records: PopulationName
    start: str
    end: str


class Plain(NamedTuple):
    """A value that is computed from the whole cell; `by_repeat`: its value in each repeat."""

    value: Callable[[MeasuredCell], Any]
    by_repeat: Callable[[MeasuredCell], ByRepeat] | None = None


Computation = OverRepeats | ShareOf | SpreadOf | Plain


class Compared(NamedTuple):
    """That a metric is compared between runs, under this name.

    `percentile`: of a distribution. `shown`: its place on the terminal among those that are shown
    by default, None for one that is shown only on request.
    """

    name: str
    percentile: float | None = None
    shown: int | None = None


ReportTable = Literal["speed", "work", "arrivals", "tokens", "policies"]
"""The tables of the report that have columns of METRICS."""


class ReportColumn(NamedTuple):
    """A column in a table of the report: `key` is its name in CSV, `part` one of a distribution."""

    head: str
    key: str
    part: str | None


TerminalTable = Literal["speed", "trouble", "arrivals", "policies", "cost"]
"""The tables of the terminal that have columns of METRICS."""


class TerminalColumn(NamedTuple):
    """A column on the terminal; `head` has two lines.

    `{baseline}` in `head` becomes the mode of one call at a time, `{per}` the unit of rates.
    `optional`: left out when no cell has a value. `interval`: shown with the value.
    """

    table: TerminalTable
    head: tuple[str, str]
    part: str | None = None
    optional: bool = False
    interval: bool = False


class Metric(NamedTuple):
    """One row. `name`: the field in a cell of summary.json, dotted within a structure.

    `worse`: the direction of a regression. `report`: the heads of its columns in the report, by
    table; `key`: their name in CSV, by default made from `name`; `parts`: the parts of a
    distribution that have a column; `optional`: no column when no cell has a value, or all have 0.
    `spread_table`: the table with the whole distribution. `definition`: shown in the report.
    `of_equal_work`: views show it only of cells that keep enough workflows, as lost work is fast.
    """

    name: str
    words: str
    kind: Computation
    unit: Unit
    worse: Literal["higher", "lower"] | None = None
    compared: tuple[Compared, ...] = ()
    report: Mapping[ReportTable, str] = {}
    key: str = ""
    parts: tuple[str, ...] = ()
    optional: bool = False
    terminal: tuple[TerminalColumn, ...] = ()
    spread_table: Literal["calls", "waits"] | None = None
    definition: str = ""
    of_equal_work: bool = False

    def of(self, cell: Cell, part: str | None = None) -> Any:
        """Return its value in a cell of the summary; `part`: a field of it."""
        path = self.name if part is None else f"{self.name}.{part}"
        return attrgetter(path)(cell)


def lengths(cell: MeasuredCell, kind: SpreadOf) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the seconds of each record, and which records have any."""
    items = cell.population(kind.records).items
    start, end = items.column(kind.start), items.column(kind.end)
    return (end - start).astype(np.float64) / SECOND, (start != ABSENT) & (end != ABSENT)


def latencies(cell: MeasuredCell, kind: SpreadOf) -> list[tuple[Workflow, float]]:
    """Return the workflows that have a length, with its seconds."""
    values, known = lengths(cell, kind)
    pairs = zip(cell.steady.workflows, values.tolist(), known.tolist(), strict=True)
    return [(workflow, seconds) for workflow, seconds, is_known in pairs if is_known]


def observed(cell: MeasuredCell, kind: SpreadOf) -> Samples:
    """Return the lengths of each repeat, in seconds."""
    values, known = lengths(cell, kind)
    population = cell.population(kind.records)
    return by_repeat(values[known], population.clusters[known], population.repeats[known])


def measure(metric: Metric, cell: MeasuredCell) -> Any:
    """Return the value of a metric in a cell, as it is in the summary."""
    value = _measured(metric.kind, cell)
    if cell.has_few_bursts:
        return _changed(value, lambda figure: Figure(value=figure.value))
    if not cell.bursts:
        return value
    most = 1.0 if isinstance(metric.kind, ShareOf) else math.inf
    value = _changed(value, lambda figure: stretched(figure, most))
    if isinstance(metric.kind, SpreadOf) and metric.kind.records == "workflows":
        return _without_split_percentiles(value, cell)
    return value


def _without_split_percentiles(found: Distribution, cell: MeasuredCell) -> Distribution:
    """Return latencies of workflows without the bounds of percentiles near `faster_share`."""
    share = faster_share(cell)
    if share is None:
        return found
    near = {
        name: Figure(value=figure.value)
        for name, p in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
        if abs(p - share) < SPLIT and (figure := getattr(found, name)) is not None
    }
    return msgspec.structs.replace(found, **near)


def faster_share(cell: MeasuredCell) -> float | None:
    """Return the share of failed workflows, or of the others if these are the faster ones.

    None if all or none failed.
    """
    workflows = cell.steady.workflows
    took = np.array([one.done - one.ready for one in workflows])
    failed = np.array([not cell.rules.is_success(one) for one in workflows], bool)
    if failed.all() or not failed.any():
        return None
    is_first = np.median(took[failed]) < np.median(took[~failed])
    return float(np.mean(failed if is_first else ~failed))


def _changed(value: Any, change: Callable[[Figure], Figure]) -> Any:
    """Return a value of the summary with every figure in it changed."""
    match value:
        case Figure():
            return change(value)
        case Distribution() | PhaseFigures():
            parts = msgspec.structs.asdict(value).items()
            return type(value)(**{name: _changed(part, change) for name, part in parts})
        case dict():
            return {name: _changed(part, change) for name, part in value.items()}
        case _:
            return value


def _measured(kind: Computation, cell: MeasuredCell) -> Any:
    match kind:
        case OverRepeats():
            return over_repeats(kind.by_repeat(cell).values(), resolution=kind.resolution)
        case ShareOf():
            return share(*kind.counts(cell))
        case SpreadOf():
            return describe(observed(cell, kind), skewed=cell.records.open_loop)
        case Plain():
            return kind.value(cell)
        case _:
            assert_never(kind)


def summarise_cell(cell: MeasuredCell) -> Cell:
    """Return everything known of one cell."""
    groups: dict[str, dict[str, Any]] = {"": msgspec.structs.asdict(cell.records.info)}
    for metric in METRICS:
        group, _, name = metric.name.rpartition(".")
        groups.setdefault(group, {})[name] = measure(metric, cell)
    values = groups.pop("")
    types = {field.name: field.type for field in msgspec.structs.fields(Cell)}
    for name, group_values in groups.items():
        values[name] = _struct(types.get(name, msgspec.Struct), group_values)
    made: Cell = _struct(Cell, values)
    return made


def _struct(kind: Any, values: Mapping[str, Any]) -> Any:
    """Return a struct of `kind` with these values; fields that it does not declare are added."""
    declared = kind.__struct_fields__
    extra: list[tuple[str, Any]] = [(name, Any) for name in values if name not in declared]
    if extra:
        kind = msgspec.defstruct(kind.__name__, extra, bases=(kind,), frozen=True, kw_only=True)
    return kind(**values)


def _throughput(cell: MeasuredCell) -> ByRepeat:
    return cell.rate(Counter(workflow.repeat for workflow in cell.records.workflows))


def _call_throughput(cell: MeasuredCell) -> ByRepeat:
    return cell.rate(count_rows(wanted(cell.records.calls).column("repeat")))


def _goodput(cell: MeasuredCell) -> ByRepeat:
    workflows = cell.records.workflows
    return cell.rate(Counter(one.repeat for one in workflows if cell.rules.is_good(one)))


def _planned_rates(cell: MeasuredCell) -> ByRepeat:
    return planned_rates(cell.records, cell.arrivals)


def _offered_over_planned(cell: MeasuredCell) -> ByRepeat:
    offered, planned = offered_rates(cell.arrivals), _planned_rates(cell)
    return {at: rate / planned[at] for at, rate in offered.items() if at in planned}


def _speedup(cell: MeasuredCell) -> Figure | None:
    if cell.sync is None:
        return None
    if cell.sync is cell.records:
        return Figure(value=1.0)
    base, mine = MeasuredCell(cell.sync, cell.rules).makespans, cell.makespans
    return over_repeats(base[at] / mine[at] for at in sorted(base.keys() & mine.keys()))


def _bound(cell: MeasuredCell) -> float | None:
    figure = over_repeats(one.critical_path / SECOND for one in cell.bounds)
    return None if figure is None else figure.value


def _gaps(cell: MeasuredCell) -> Distribution:
    return describe(gaps(cell.steady), skewed=cell.records.open_loop, resolution=HALF_BUCKET)


def _token_latency(cell: MeasuredCell) -> Distribution:
    population = cell.population("attempts")
    values, known = seconds_a_token(cell.steady.attempts)
    return describe(
        by_repeat(values[known], population.clusters[known], population.repeats[known]),
        skewed=cell.records.open_loop,
    )


def _output_tokens(cell: MeasuredCell) -> ByRepeat:
    """Return the output tokens of responses that succeeded, by repeat."""
    attempts = cell.records.attempts
    is_ok = attempts.where("outcome", OK.__eq__)
    tokens = np.where(is_ok, np.maximum(attempts.column("output"), 0), 0)
    counts = np.bincount(attempts.column("repeat"), weights=tokens)
    return {repeat: count for repeat, count in enumerate(counts.tolist()) if count}


def _output_rate(cell: MeasuredCell) -> ByRepeat:
    tokens = _output_tokens(cell)
    return {at: tokens[at] / took for at, took in cell.makespans.items() if at in tokens}


def _full_rate(cell: MeasuredCell) -> ByRepeat:
    if cell.records.info.limiter:  # permits that adapt are never all in use
        return {}
    attempts = cell.records.attempts
    rows = rows_by(attempts.column("repeat"))
    rates = {
        at: rate_while_full(attempts.take(rows[at]), cell.records.info.permits)
        for at in cell.makespans
        if at in rows
    }
    return {at: rate for at, rate in rates.items() if rate}


def _seconds_a_token(cell: MeasuredCell) -> ByRepeat:
    return {at: 1 / rate for at, rate in _output_rate(cell).items()}


def _speedup_a_token(cell: MeasuredCell) -> Figure | None:
    if cell.sync is None:
        return None
    if cell.sync is cell.records:
        return Figure(value=1.0)
    base, mine = _seconds_a_token(MeasuredCell(cell.sync, cell.rules)), _seconds_a_token(cell)
    return over_repeats(base[at] / mine[at] for at in sorted(base.keys() & mine.keys()))


def _efficiencies(cell: MeasuredCell) -> ByRepeat:
    return {one.repeat: one.replay / one.measured for one in cell.bounds if one.replay}


def _cpu_an_attempt(cell: MeasuredCell) -> ByRepeat:
    """Return the seconds of processor time for each attempt of a trial, warm-up included."""
    records = cell.records
    if records.run.virtual:  # the process simulates the provider, too
        return {}
    repeats, executions = (records.spent.column(name) for name in ("repeat", "execution"))
    counts = Counter(zip(repeats.tolist(), executions.tolist(), strict=True))
    return {
        trial.repeat: trial.cpu / SECOND / count
        for trial in records.whole_trials()
        if trial.cpu and (count := counts[trial.repeat, trial.execution])
    }


def _amplification(cell: MeasuredCell) -> float | None:
    calls = cell.call_outcomes.total()
    return len(cell.records.attempts) / calls if calls else None


def _amplifications(cell: MeasuredCell) -> ByRepeat:
    calls, attempts = cell.records.calls, count_rows(cell.records.attempts.column("repeat"))
    begun = count_rows(calls.column("repeat")[has_begun(calls)])
    return {repeat: attempts.get(repeat, 0) / count for repeat, count in sorted(begun.items())}


def _success_median(cell: MeasuredCell) -> Figure | None:
    """Return the median latency of the workflows that succeeded.

    Where all succeeded, it is the median of `workflow_latency_s`, with its bounds. Otherwise it
    has no bounds, because the repeats without a success are not in it.
    """
    population = cell.population("workflows")
    is_success = np.array([cell.rules.is_success(one) for one in cell.steady.workflows], bool)
    if not is_success.any():
        return None
    values, known = lengths(cell, SpreadOf("workflows", "ready", "done"))
    kept = known & is_success
    samples = by_repeat(values[kept], population.clusters[kept], population.repeats[kept])
    if kept.all() and (found := describe(samples, skewed=cell.records.open_loop).p50):
        return found
    figure = over_repeats(float(np.median(one.values)) for one in samples.values())
    return None if figure is None else Figure(value=figure.value)


def _ended(outcome: str) -> Plain:
    return Plain(lambda cell: cell.workflow_outcomes[outcome])


def _tokens(name: str) -> Plain:
    return Plain(lambda cell: cell.tokens[name])


def _failed(outcomes: Mapping[str, int]) -> int:
    return sum(count for outcome, count in outcomes.items() if is_failure(outcome))


METRICS: tuple[Metric, ...] = (
    Metric("repeats", "repeats", Plain(lambda cell: len(cell.records.trials)), "count",
           report={"work": "repeats"}),
    Metric("workflows.started", "workflows", Plain(lambda cell: cell.records.started), "count",
           report={"work": "workflows"}),
    Metric("workflows.ok", "workflows ok", _ended("ok"), "count", report={"work": "ok"}),
    Metric("workflows.degraded", "workflows degraded", _ended("degraded"), "count",
           report={"work": "degraded"}),
    Metric("workflows.failed", "workflows failed", _ended("failed"), "count",
           report={"work": "failed"}),
    Metric("warm_up", "workflows of the warm-up",
           Plain(lambda cell: len(cell.records.workflows) - len(cell.steady.workflows)), "count",
           report={"work": "warm-up cut"}, optional=True),
    Metric("success_rate", "success rate",
           ShareOf(lambda cell: count_successes(cell.records.workflows, cell.rules.is_success)),
           "share", "lower", compared=(Compared("success_rate", shown=3),),
           report={"work": "success rate"}),
    Metric("calls.started", "calls", Plain(lambda cell: cell.call_outcomes.total()), "count",
           report={"work": "calls"}),
    Metric("calls.succeeded", "calls succeeded", Plain(lambda cell: cell.call_outcomes[OK]),
           "count"),
    Metric("calls.failed", "calls failed", Plain(lambda cell: _failed(cell.call_outcomes)),
           "count", report={"work": "calls failed"}),
    Metric("calls.cancelled", "calls cancelled",
           Plain(lambda cell: cell.call_outcomes[CANCELLED]), "count"),
    Metric("attempts.total", "attempts", Plain(lambda cell: len(cell.records.attempts)), "count",
           report={"work": "attempts", "policies": "attempts"}, key="attempts",
           terminal=(TerminalColumn("policies", ("", "att."), optional=True),)),
    Metric("attempts.failed", "attempts failed",
           Plain(lambda cell: _failed(cell.attempt_outcomes)), "count"),
    Metric("attempts.by_outcome", "attempts by outcome",
           Plain(lambda cell: dict(sorted(cell.attempt_outcomes.items()))), "nested"),
    Metric("attempts.anomalies", "attempts by anomaly",
           Plain(lambda cell: dict(sorted(count_anomalies(cell.records.attempts).items()))),
           "nested"),
    Metric("attempts.amplification", "attempts a call", Plain(_amplification, _amplifications),
           "ratio", "higher", compared=(Compared("amplification"),),
           report={"work": "attempts a call", "policies": "a call"}, key="amplification",
           terminal=(TerminalColumn("trouble", ("att./", "call")),
                     TerminalColumn("policies", ("att./", "call"), optional=True))),
    Metric("calls_lost", "share of calls lost",
           ShareOf(lambda cell: count_lost(cell.records.calls)), "share",
           "higher",
           compared=(Compared("calls_lost"),), report={"policies": "calls lost"},
           terminal=(TerminalColumn("policies", ("calls", "lost"), optional=True),)),
    Metric("bursts", "bursts of failures", Plain(lambda cell: cell.bursts), "count",
           report={"work": "bursts"}, optional=True,
           definition="Runs of failed attempts, sent one after another, that are longer than "
           "chance makes them. A setting that met fewer than 10 shows no intervals: so few do not "
           "show how often bursts come."),
    Metric("tokens.input", "input tokens", _tokens("input"), "tokens", report={"tokens": "input"}),
    Metric("tokens.cached", "cached input tokens", _tokens("cached"), "tokens",
           report={"tokens": "of it cached"}),
    Metric("tokens.output", "output tokens", _tokens("output"), "tokens",
           report={"tokens": "output"}),
    Metric("tokens.reasoning", "reasoning tokens", _tokens("reasoning"), "tokens",
           report={"tokens": "of it reasoning"}),
    Metric("tokens.wasted", "wasted tokens", _tokens("wasted"), "tokens",
           report={"tokens": "wasted", "policies": "wasted tokens"},
           terminal=(TerminalColumn("policies", ("wasted", "tokens"), optional=True),)),
    Metric("tokens.unreported", "responses without usage", _tokens("unreported"), "count"),
    Metric("cost_usd", "cost", Plain(lambda cell: cell.rules.cost(cell.records.spent)), "USD",
           report={"tokens": "cost", "policies": "cost"},
           terminal=(TerminalColumn("cost", ("", "USD"), optional=True),),
           definition="Of the tokens of every attempt, at the price when the run began. Cached "
           "input and reasoning have prices of their own where the provider has them."),
    Metric("wasted_usd", "wasted money", Plain(lambda cell: cell.rules.cost(cell.unused)), "USD",
           report={"tokens": "of it wasted", "policies": "wasted money"},
           terminal=(TerminalColumn("cost", ("of it", "wasted"), optional=True),
                     TerminalColumn("policies", ("wasted", "USD"), optional=True)),
           definition="The part of the cost of attempts whose response was not used: failed ones, "
           "those of abandoned executions, and the later of two hedged ones."),
    Metric("cost_per_workflow_usd", "cost of a workflow",
           Plain(cost_of_workflow, costs_of_workflow), "USD", "higher",
           compared=(Compared("cost_per_workflow", shown=5),),
           report={"tokens": "cost a workflow"},
           terminal=(TerminalColumn("cost", ("USD a", "workflow"), optional=True),)),
    Metric("wasted_per_workflow_usd", "wasted money of a workflow",
           Plain(waste_of_workflow, wastes_of_workflow), "USD", "higher",
           compared=(Compared("wasted_per_workflow", shown=6),),
           report={"tokens": "wasted a workflow"},
           terminal=(TerminalColumn("cost", ("wasted a", "workflow"), optional=True),)),
    Metric("cost_per_successful_workflow_usd", "cost of a successful workflow",
           Plain(cost_of_success, costs_of_success), "USD", "higher",
           compared=(Compared("cost_per_successful_workflow", shown=4),),
           report={"tokens": "cost a success", "policies": "cost a success"},
           terminal=(TerminalColumn("cost", ("USD a", "success"), optional=True),
                     TerminalColumn("policies", ("USD a", "success"), optional=True))),
    Metric("makespan_s", "makespan", OverRepeats(lambda cell: cell.makespans), "s", "higher",
           compared=(Compared("makespan", shown=1),),
           report={"speed": "makespan", "policies": "makespan"},
           terminal=(TerminalColumn("speed", ("make-", "span s")),
                     TerminalColumn("policies", ("make-", "span s"), optional=True)),
           definition="From the first workflow ready to the last one done, in one trial."),
    Metric("speedup_over_sync", "speed-up over sync", Plain(_speedup), "ratio", of_equal_work=True,
           report={"speed": "speed-up"},
           terminal=(
               TerminalColumn("speed", ("speed-up over", "{baseline} (95 %)"), interval=True),),
           definition="Sync's makespan over the setting's, same repeat and same other keys; "
           "geometric mean over repeats, interval by a paired t on the logs."),
    Metric("throughput.workflows_per_s", "throughput", OverRepeats(_throughput), "workflows/s",
           "lower", compared=(Compared("throughput"),), report={"speed": "throughput"},
           key="throughput"),
    Metric("throughput.calls_per_s", "call throughput", OverRepeats(_call_throughput), "calls/s"),
    Metric("goodput_workflows_per_s", "goodput", OverRepeats(_goodput), "workflows/s", "lower",
           compared=(Compared("goodput"),), report={"speed": "goodput"}, key="goodput",
           definition="Workflows that succeeded, within the latency limit if one is set, per time "
           "of makespan."),
    Metric("configured_workflows_per_s", "configured rate",
           Plain(lambda cell: configured_rate(cell.records)), "workflows/s",
           report={"arrivals": "configured"}, key="configured",
           terminal=(TerminalColumn("arrivals", ("configured", "{per}")),)),
    Metric("planned_workflows_per_s", "planned rate", OverRepeats(_planned_rates), "workflows/s",
           report={"arrivals": "planned"}, key="planned",
           terminal=(TerminalColumn("arrivals", ("planned", "{per}")),),
           definition="Arrivals after the first one, per time from the first to the last one, as "
           "the schedule of an open loop has them. A Poisson schedule is drawn, so its rate is not "
           "the configured one."),
    Metric("offered_workflows_per_s", "offered rate",
           OverRepeats(lambda cell: offered_rates(cell.arrivals)), "workflows/s",
           report={"arrivals": "offered"}, key="offered",
           terminal=(TerminalColumn("arrivals", ("offered", "{per}")),),
           definition="The same of the workflows as they arrived: when the client started them."),
    Metric("offered_over_planned", "offered over planned rate",
           OverRepeats(_offered_over_planned), "ratio", "lower",
           compared=(Compared("offered_over_planned"),),
           report={"arrivals": "offered / planned"},
           terminal=(TerminalColumn("arrivals", ("offered/", "planned")),)),
    Metric("arrival_lateness_s", "lateness of arrivals",
           Plain(lambda cell: lateness_of(cell.arrivals)), "s",
           report={"arrivals": "late"}, key="late", parts=("p50", "p99", "max"),
           terminal=(TerminalColumn("arrivals", ("late", "p50 s"), "p50"),
                     TerminalColumn("arrivals", ("late", "p99 s"), "p99"),
                     TerminalColumn("arrivals", ("late", "max s"), "max")),
           definition="From the planned arrival to the start of the workflow by the client. In "
           "modes that run one workflow at a time, without the wait for the one before."),
    Metric("success_latency_p50_s", "median latency of the workflows that succeeded",
           Plain(_success_median), "s", report={"speed": "median of kept"},
           key="success_latency_p50",
           terminal=(TerminalColumn("speed", ("median", "kept s")),),
           definition="The median in each repeat, averaged over the repeats that have one, as a "
           "geometric mean. Where all workflows succeeded, it is the median of all."),
    Metric("workflow_latency_s", "workflow latency",
           SpreadOf("workflows", "ready", "done"), "s", "higher",
           compared=(Compared("workflow_p50", 0.5), Compared("workflow_p95", 0.95, shown=2)),
           report={"speed": "latency of all"}, key="latency", parts=("p50", "p95", "p99"),
           terminal=(TerminalColumn("speed", ("p95 of", "all s"), "p95", optional=True),)),
    Metric("critical_path_bound_s", "critical-path bound", Plain(_bound), "s",
           report={"speed": "bound"},
           definition="The phases one after another, of a fan-out the longest branch, with the "
           "measured service times: no number of permits gets below it."),
    Metric("scheduling_efficiency", "scheduling efficiency",
           OverRepeats(_efficiencies, resolution=0.005),
           "share",
           report={"speed": "efficiency"},
           definition="Makespan of a replay without overhead, of the measured service times under "
           "the same permits, over the makespan."),
    Metric("call_latency_s", "call latency, ready to done",
           SpreadOf("calls", "ready", "done"), "s", spread_table="calls"),
    Metric("ttft_s", "time to first token", SpreadOf("attempts", "sent", "first_text"), "s",
           "higher", compared=(Compared("ttft_p50", 0.5),), spread_table="calls",
           definition="From the request's bytes going out to the first chunk with text, reasoning "
           "or answer. Keep-alive comments and empty chunks are not text."),
    Metric("time_to_first_answer_s", "time to first answer",
           SpreadOf("attempts", "sent", "first_answer"), "s", spread_table="calls",
           definition="The same, to the first chunk with answer text."),
    Metric("inter_token_s", "inter-token latency", Plain(_token_latency),
           "s", spread_table="waits",
           definition="The time from the first to the last chunk of a response, for each output "
           "token after the first chunk. Some servers send several tokens in a chunk."),
    Metric("chunk_gap_s", "gap between chunks", Plain(_gaps),
           "s", spread_table="waits", definition="The gap between two chunks with text."),
    Metric("output_tokens_per_s.all", "output tokens a second", OverRepeats(_output_rate),
           "tokens/s", report={"tokens": "output a second"}, key="output_rate",
           definition="Output tokens of responses that succeeded, per time of makespan."),
    Metric("output_tokens_per_s.while_full", "output tokens a second with all permits in use",
           OverRepeats(_full_rate), "tokens/s", report={"tokens": "with all permits in use"},
           key="output_rate_while_full",
           definition="The same while all permits were in use, without start and end of a trial. "
           "The tokens of a response count evenly between its first and its last chunk."),
    Metric("makespan_per_token_s", "makespan for each output token",
           OverRepeats(_seconds_a_token), "s", "higher",
           compared=(Compared("makespan_per_token"),), report={"tokens": "makespan a token"},
           definition="Makespan over the output tokens of responses that succeeded. Where the "
           "lengths of responses are not the same draws (live runs, other seeds), it compares "
           "runs that did different amounts of work."),
    Metric("speedup_per_token", "speed-up for each output token", Plain(_speedup_a_token), "ratio",
           of_equal_work=True, report={"tokens": "speed-up a token"},
           definition="The speed-up over sync in makespan for each output token."),
    Metric("permit_wait_s", "permit wait",
           SpreadOf("attempts", "permit_requested", "permit_granted"), "s", spread_table="waits",
           definition="From asking for a permit to having it. Permits cap the attempts in flight "
           "in the whole process, first come first served."),
    Metric("client_wait_s", "client wait",
           SpreadOf("attempts", "permit_granted", "sent"), "s", spread_table="waits",
           definition="From having the permit to the request's bytes going out: client overhead."),
    Metric("client_cpu_per_attempt_s", "client's processor time an attempt",
           OverRepeats(_cpu_an_attempt), "CPU s", "higher",
           compared=(Compared("client_cpu_per_attempt"),),
           report={"speed": "client CPU\nan attempt"}, key="client_cpu_per_attempt", optional=True,
           terminal=(TerminalColumn("speed", ("client", "CPU ms"), optional=True),),
           definition="Processor time of the client's process in a trial over all attempts of the "
           "trial, in real milliseconds. It includes the user's program and the recording. Virtual "
           "time has none."),
    Metric("backoff_s", "backoff", SpreadOf("backoffs", "start", "end"), "s",
           spread_table="waits"),
    Metric("phases", "phases", Plain(lambda cell: phase_figures(cell.steady)), "nested"),
    Metric("time_spent", "what the calls' time was spent on",
           Plain(lambda cell: time_spent_in(cell.steady)), "nested"),
)  # fmt: skip
"""Every metric. The order is that of columns and comparisons; that of summary.json is `Cell`'s."""


class ComparedMetric(NamedTuple):
    """What is compared between two runs, and what cells are ranked by: one value a repeat."""

    metric: Metric
    percentile: float | None
    shown: int | None

    @property
    def words(self) -> str:
        """Its name for people."""
        if self.percentile is None:
            return self.metric.words
        which = "median" if self.percentile == 0.5 else f"{100 * self.percentile:.0f}th percentile"
        return f"{which} of {self.metric.words}"

    @property
    def latency(self) -> SpreadOf | None:
        """For a percentile over workflows, which can be compared workflow by workflow."""
        kind = self.metric.kind
        return kind if isinstance(kind, SpreadOf) and kind.records == "workflows" else None

    def by_repeat(self, cell: MeasuredCell) -> ByRepeat:
        """Return its value in each repeat that has one."""
        kind = self.metric.kind
        match kind:
            case OverRepeats():
                return kind.by_repeat(cell)
            case SpreadOf() if self.percentile is not None:
                return percentile_by_repeat(observed(cell, kind), self.percentile)
            case Plain() if kind.by_repeat is not None:
                return kind.by_repeat(cell)
            case ShareOf() | SpreadOf() | Plain():
                raise TypeError(f"{self.metric.name} has no value for each repeat")
            case _:
                assert_never(kind)

    def scaled(self, cell: MeasuredCell) -> ByRepeat:
        """Return its value in each repeat, in scenario seconds or per scenario second."""
        unit = self._unit(cell)
        return {repeat: value / unit for repeat, value in self.by_repeat(cell).items()}

    def figure(self, cell: MeasuredCell) -> Figure | None:
        """Return its estimate with its interval as in the summary, in scenario seconds.

        None if the cell has too few values. Every view shows this figure, never one of its own.
        """
        found = measure(self.metric, cell)
        if self.percentile is not None:
            found = getattr(found, f"p{100 * self.percentile:.0f}")
        if found is None:
            return None
        unit = self._unit(cell)
        if not isinstance(found, Figure):
            return Figure(value=found / unit)
        low, high = (None if at is None else at / unit for at in (found.low, found.high))
        return Figure(value=found.value / unit, low=low, high=high)

    def is_carried_by(self, cell: MeasuredCell) -> bool:
        """Return whether a cell has enough workflows for a percentile over workflows."""
        return self.latency is None or bool(self.by_repeat(cell))

    def _unit(self, cell: MeasuredCell) -> float:
        scale = cell.records.run.time_scale
        rates = dict.fromkeys(("workflows/s", "calls/s", "tokens/s"), 1 / scale)
        units = {"s": scale, **rates}
        return units.get(self.metric.unit, 1.0)


def compared_metrics() -> dict[str, ComparedMetric]:
    """Return everything that is compared, by name."""
    return {
        one.name: ComparedMetric(metric, one.percentile, one.shown)
        for metric in METRICS
        for one in metric.compared
    }


def report_columns(table: ReportTable) -> Iterator[tuple[Metric, ReportColumn]]:
    """Yield the columns of a table of the report."""
    for one in METRICS:
        if table in one.report:
            head, key = one.report[table], one.key or one.name.replace(".", "_").removesuffix("_s")
            for part in one.parts:
                yield one, ReportColumn(f"{head}\n{part}", f"{key}_{part}", part)
            if not one.parts:
                yield one, ReportColumn(head, key, None)


def terminal_columns(table: TerminalTable) -> Iterator[tuple[Metric, TerminalColumn]]:
    """Yield the columns of a table on the terminal."""
    return ((one, column) for one in METRICS for column in one.terminal if column.table == table)
