"""The method of a run, its environment, and whether client and recording disturbed it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

import msgspec

from harness.analysis.metrics import METRICS
from harness.analysis.model import Spread, Summary
from harness.analysis.server_load import server_loads
from harness.analysis.settings import swept_keys
from harness.config.prices import PRICE_WAY_OUT, Price, price_text
from harness.records.clock import SECOND
from harness.records.schema import Run
from harness.records.settings import split_key, value_text
from harness.report.tables import Column, Subject, Table
from harness.report.wording import bottleneck_text, counted, number, percent, whole_number
from harness.store.run_directory import Records
from harness.telemetry.delivery_log import DeliveryAccount

_T = TypeVar("_T")

Definitions = tuple[tuple[str, str], ...]
"""Terms with their explanations."""

DEFINITIONS: Definitions = (
    ("attempt, call, workflow",
     "An attempt is one HTTP request. A call is one question to the model, with all its attempts. "
     "A workflow is all calls for one topic, from the first call to the result."),
    ("ready",
     "The time at which something could start if no resource were scarce. Latency is done minus "
     "ready, so it includes all queues."),
    *((metric.words, metric.definition) for metric in METRICS if metric.definition),
    ("intervals",
     "95\u00a0%, two-sided, from the values of the repeats: Student's t on their logarithms. "
     "Figures are geometric means of these values, except shares and means of a distribution. A "
     "percentile is left out when the sample is too small: a p95 needs 72 observations in all and "
     "13 in a repeat, a p99 368 and 67."),
)  # fmt: skip


def endpoint_text(run: Run) -> str:
    """Return the name of the endpoint."""
    if run.endpoint:
        return run.endpoint
    settings: dict[str, Any] = run.scenario["endpoint"]
    if run.has_simulator:
        time = "virtual time" if run.virtual else f"time scale {run.time_scale:g}"
        return f"simulated provider, profile {settings.get('profile')}, {time}"
    where = f" at {settings['base_url']}" if "base_url" in settings else " on this machine"
    return f"{settings.get('model')}{where}"


def started(run: Run) -> str:
    """Return the start of the run, to the minute, in UTC."""
    at = datetime.fromtimestamp(run.anchor.unix_ns / SECOND, UTC)
    return f"{at:%Y-%m-%d %H:%M} UTC"


def _load(load: dict[str, Any]) -> str:
    arrivals = load.get("arrivals")
    if load["workflows"] is None:
        return "Requests of other programs, each a workflow of one call, ready when it arrived."
    workflows = counted(load["workflows"], "workflow")
    if arrivals is None:
        return (
            f"A closed loop: {workflows} a trial, at most {load['in_flight']} in flight; the next "
            "one is ready when one ends."
        )
    return (
        f"An open loop: {workflows} a trial, {arrivals['per_second']:g} a scenario second "
        f"({arrivals['process']}), whether or not others have ended; each is ready at its time of "
        "arrival. The warm-up (MSER-5) is excluded from every distribution."
    )


def _until_settled(run: Run) -> str:
    if run.scenario["sweep"]["repeats"] != "auto":
        return ""
    return (
        f" Repeats are added until the recommendation is settled, at most {run.repeats}. It is "
        "judged at several looks, which share the probability of error; a setting that cannot be "
        "recommended any more runs no further."
    )


def _tuned(run: Run) -> str:
    given = ""
    if run.twin is not None:
        given = f" The first block is that of the twin {run.twin['name']}, which was given."
    return (
        f"A tune: at most {run.repeats} blocks, each with one trial of some settings, on the same "
        "topics, in random order (from the seed). A twin of the provider proposes the settings of "
        "a block, and rules out others. Settings are compared in the blocks that they share, at "
        f"several looks, which share the probability of error.{given}"
    )


def design(run: Run, repeats: str, warm_up: str) -> Definitions:
    """Return the load, the design, and what counts as success.

    `repeats`: how many were run. `warm_up`: what the warm-up calls cost.
    """
    load: dict[str, Any] = run.scenario["load"]
    needed = run.scenario["success"]["min_branches"]
    degraded = "failed" if needed is None else f"success with {needed} or more successful branches"
    told = [
        ("load", _load(load)),
        ("design", _tuned(run) if run.tuned else (
            f"Randomised complete blocks: {repeats} of {counted(len(run.cells), 'setting')}. In "
            "each repeat every setting runs once, on the same topics. The order is random (from "
            "the seed) and balanced: each setting is at each place equally often, as far as "
            f"possible.{_until_settled(run)}"
        )),
        ("success", f"A workflow that is ok. A degraded one counts as {degraded}."),
        ("counting", "Distributions include failed workflows and calls: otherwise a setting that "
                     "drops work would look fast."),
    ]  # fmt: skip
    if warm_up:
        told.append(("warm-up calls", warm_up))
    if run.virtual:
        told.append(("seconds", (
            "Everything is simulated, in virtual time: workflow, retry policies and permits ran "
            "against a model of the provider, with a clock that jumps to the next event. No "
            "network, client library or speed of a machine affects the figures. Durations are "
            "scenario seconds."
        )))  # fmt: skip
    elif run.has_simulator:
        told.append(("seconds", (
            f"Everything is simulated. One scenario second took {run.time_scale:g} real seconds. "
            "Durations are scenario seconds, unless the text says that they are real."
        )))  # fmt: skip
    elif run.scenario["endpoint"].get("cache") == "avoid":
        told.append(("caching", "The prompts of each workflow begin with a nonce, so that the "
                                "prompt cache of the provider favours no setting."))  # fmt: skip
    return tuple(told)


def environment(run: Run) -> Definitions:
    """Return what is needed to repeat the run."""
    told = [
        ("run", run.run_id),
        ("started", started(run)),
        ("status", run.status if run.stopped is None else f"{run.status}: {run.stopped.because}"),
        ("seed", str(run.seed)),
        ("endpoint", endpoint_text(run)),
        ("versions", ", ".join(f"{name} {value}" for name, value in run.versions.items())),
        ("host", ", ".join(f"{name} {value}" for name, value in run.host.items())),
        *_processes(run),
    ]
    for key in swept_keys(run.cells):
        told.append((key.key, "; ".join(key.legend() or map(value_text, key.values))))
    for name, price in by_endpoint(run, run.cell_price).items():
        if price is not None:
            text = price_text(msgspec.convert(price, Price))
        elif run.simulated:
            continue
        else:
            text = f"none, so no cost is known; {PRICE_WAY_OUT}"
        told.append((f"price, {name}" if name else "price", text))
    return tuple(told)


def by_endpoint(run: Run, value_of: Callable[[str], _T]) -> dict[str, _T]:
    """Return each value by its swept endpoint settings; a value of all cells by an empty name."""
    keys = [key for key in swept_keys(run.cells) if split_key(key.key)[0] == "endpoint"]
    values = {", ".join(key.phrase(cell) for key in keys): value_of(cell.id) for cell in run.cells}
    first = next(iter(values.values()))
    return values if any(value != first for value in values.values()) else {"": first}


def profile_text(run: Run) -> str | None:
    """Return the profile of the simulated provider, or those of all endpoint settings, as JSON."""
    if run.profile is None:
        return None
    profiles = by_endpoint(run, run.cell_profile)
    return as_json(profiles.get("", profiles))


def as_json(value: Any) -> str:
    """Return settings as indented JSON."""
    return json.dumps(value, indent=2, ensure_ascii=False)


class Fitness(NamedTuple):
    """Whether client or simulator (unless `without_log` of it) limited the measurement."""

    verdict: str
    sound: bool
    because: tuple[str, ...]
    facts: Definitions
    without_log: bool
    tables: list[Table]


def fitness(about: Subject) -> Fitness:
    """Return the check of client and provider. Its times are real milliseconds."""
    summary = about.summary
    limited, share = summary.verdict.bottleneck, summary.verdict.client_cpu_share
    return Fitness(
        bottleneck_text(summary),
        limited == "none",
        tuple(about.named(text) for text in summary.verdict.because),
        () if share is None else (("client's processor time", f"{percent(share)} of a core"),),
        about.data.provider is None and not summary.virtual,
        [*_delays(summary), *_counts(summary), *_first_calls(about), *_server(about)],
    )


def _delays(summary: Summary) -> Iterator[Table]:
    verdict, oracle = summary.verdict, summary.oracle
    spreads: list[tuple[str, Spread | None]] = [
        ("timer lag, worst setting", verdict.event_loop_lag_s),
        ("provider lateness, worst setting", verdict.provider_lateness_s),
        ("client's first text after the provider's first write", verdict.clock_disagreement_s),
    ]
    found: list[tuple[str, float, float | None]] = [
        (what, one.p50, one.p99) for what, one in spreads if one is not None
    ]
    if oracle is not None and oracle.inter_token_p50_s is not None:
        found.append(("gap between chunks, client minus provider", oracle.inter_token_p50_s, None))
    if found:
        yield Table(
            "delays",
            "Delays of the measurement itself, in real milliseconds",
            (
                Column("delay", "what", [what for what, _, _ in found]),
                Column("p50 ms", "p50_real_ms", [1000 * p50 for _, p50, _ in found]),
                Column("p99 ms", "p99_real_ms", [p99 and 1000 * p99 for _, _, p99 in found]),
            ),
        )


def _counts(summary: Summary) -> Iterator[Table]:
    oracle = summary.oracle
    if oracle is not None:
        rows = {
            "matched by their span ids": oracle.attempts,
            "only in one of the logs": oracle.unmatched,
            "with different outcomes": oracle.outcome_mismatches,
            "with different token counts": oracle.token_mismatches,
        }
        yield Table(
            "provider-log",
            "Attempts compared with the log of the provider",
            (
                Column("attempts", "what", list(rows)),
                Column("number", "attempts", list(rows.values()), whole_number),
            ),
        )


def _first_calls(about: Subject) -> Iterator[Table]:
    """Yield how long the first call of each trial took, where trials are tested for it."""
    seen = about.summary.cold_start
    starts = seen.starts if seen else ()
    by_id = {cell.id: cell for cell in about.cells}
    if starts and all(one.cell in by_id for one in starts):
        yield Table(
            "first-calls",
            "First call of each trial: time to first token over the median of later calls",
            (
                *about.cell_columns([by_id[one.cell] for one in starts]),
                Column("repeat", "", [one.repeat + 1 for one in starts], whole_number),
                Column("", "repeat", [one.repeat for one in starts]),
                Column("times as long", "ratio", [one.ratio for one in starts]),
            ),
        )


def _server(about: Subject) -> Iterator[Table]:
    """Yield what the model's own server said of its load, beside what the client had in flight."""
    loads = server_loads(about.data)
    if not loads:
        return
    names = [about.labels.get(load.cell, load.cell) for load in loads]
    columns = [Column("setting", "cell", names)]
    for head, key in (
        ("client: in flight", "in_flight"), ("server: running", "running"),
        ("server: waiting", "waiting"), ("server: KV cache", "kv_cache"),
    ):  # fmt: skip
        pairs = [getattr(load, key) for load in loads]
        show = percent if key == "kv_cache" else number
        for part in ("mean", "most"):
            values = [getattr(pair, part) if pair else None for pair in pairs]
            columns.append(Column(f"{head}, {part}", f"{key}_{part}", values, show))
    columns += [
        Column("readings", "readings", [load.readings for load in loads], whole_number),
        Column("failed", "failed", [load.failed for load in loads], whole_number),
        Column("last problem", "problem", [load.problem for load in loads]),
    ]
    yield Table("server", "Load by the server's own metrics, read once a second", tuple(columns))


def overhead(summary: Summary, records: Records, account: DeliveryAccount | None) -> Definitions:
    """Return the cost of recording in real time, and the delivery of the spans."""
    return (*_cost(summary, records), *_spans(account))


def _cost(summary: Summary, records: Records) -> Iterator[tuple[str, str]]:
    if summary.virtual:
        yield "recording", "Time was virtual: recording had no effect on the results."
        return
    lag, calls = summary.verdict.event_loop_lag_s, len(records.calls)
    cpu = sum(trial.cpu for trial in records.trials)
    recording = sum(trial.recording for trial in records.trials)
    if calls and cpu:
        yield "processor time a call", f"{_ms(cpu / calls)} of the client"
    if calls and recording:
        yield (
            "of that for recording",
            f"{_ms(recording / calls)} a call, {percent(recording / cpu)}. Each record is written "
            "when it ends; spans, statistics and plots are made after the trials.",
        )
    if lag is not None:
        p50, p99 = _ms(lag.p50 * SECOND), _ms(lag.p99 * SECOND)
        yield "timer lag", f"{p50} (p50), {p99} (p99) in the worst setting, including recording"


def _spans(account: DeliveryAccount | None) -> Iterator[tuple[str, str]]:
    if account is None:
        yield "spans", "not made; “harness trace export” writes and sends them at any time"
        return
    yield "spans made", f"{account.made}"
    if account.left_out:
        yield "without a span", f"{counted(account.left_out, 'attempt')} of unfinished workflows"
    if account.endpoint is None:
        yield "spans sent", "none; “harness trace export” sends them at any time"
        return
    yield (
        "spans sent",
        f"{account.delivered} delivered to {account.endpoint}, {account.refused} refused, "
        f"{account.undelivered} undelivered",
    )
    if account.problem and (account.refused or account.undelivered):
        yield "reason", account.problem


def _ms(nanoseconds: float) -> str:
    return f"{number(nanoseconds / 1e6)} ms"


def _processes(run: Run) -> list[tuple[str, str]]:
    if run.on_cluster:
        shares = "each with a fixed share of permits and budget, and its own breakers"
        return [("workers of a trial", f"{run.processes} of a Dask cluster, {shares}")]
    return [("processes of a trial", str(run.processes))] if run.processes > 1 else []
