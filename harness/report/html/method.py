"""How it was measured, on what, and whether the client itself was fit for it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, NamedTuple

from harness.analysis.metrics import METRICS
from harness.analysis.model import Spread, Summary
from harness.analysis.settings import swept_keys
from harness.records.clock import SECOND
from harness.records.schema import Run
from harness.records.settings import value_text
from harness.report.tables import Column, Subject, Table, whole_number
from harness.report.wording import counted, percent
from harness.store.run_directory import Records

Definitions = tuple[tuple[str, str], ...]
"""Terms, each with what is said of it."""

DEFINITIONS: Definitions = (
    ("attempt, call, workflow",
     "One HTTP request; one question to the model with all its attempts; one topic, from "
     "its first call to its result."),
    ("ready",
     "The moment when a thing could start if nothing were scarce. Latency is done minus ready, so "
     "no queue is hidden."),
    *((metric.words, metric.definition) for metric in METRICS if metric.definition),
    ("intervals",
     "95\u00a0%, two-sided: Student's t on the logs over repeats, order statistics for "
     "percentiles, calls of one workflow counted as the cluster that they are. What the sample "
     "cannot carry is left out: a p95 needs 72 observations, a p99 368."),
)  # fmt: skip


def description(run: Run) -> str:
    """Return what the scenario says of itself."""
    return str(run.scenario.get("description") or "")


def endpoint_text(run: Run) -> str:
    """Return the name of the endpoint."""
    if run.endpoint:
        return run.endpoint
    settings: dict[str, Any] = run.scenario["endpoint"]
    if run.simulated:
        time = "virtual time" if run.virtual else f"time scale {run.time_scale:g}"
        return f"simulated provider, profile {settings.get('profile')}, {time}"
    where = f" at {settings['base_url']}" if "base_url" in settings else " on this machine"
    return f"{settings.get('model')}{where}"


def started(run: Run) -> str:
    """Return when the run began, to the minute, in UTC."""
    at = datetime.fromtimestamp(run.anchor.unix_ns / SECOND, UTC)
    return f"{at:%Y-%m-%d %H:%M} UTC"


def _load(load: dict[str, Any]) -> str:
    arrivals = load.get("arrivals")
    if arrivals is None:
        return (
            f"A closed loop: {counted(load['workflows'], 'workflow')} a trial, at most "
            f"{load['in_flight']} in flight; the next is ready when a slot frees."
        )
    return (
        f"An open loop: {counted(load['workflows'], 'workflow')} a trial, coming by themselves, "
        f"{arrivals['per_second']:g} a scenario second ({arrivals['process']}); each is ready when "
        "it is due. What MSER-5 takes for the warm-up is left out of every distribution."
    )


def design(run: Run) -> Definitions:
    """Return how this run was laid out."""
    load: dict[str, Any] = run.scenario["load"]
    needed = run.scenario["success"]["min_branches"]
    degraded = (
        "degraded counts as failed"
        if needed is None
        else f"degraded counts when {needed} or more of its branches did"
    )
    told = [
        ("load", _load(load)),
        ("design", f"Randomised complete blocks: {counted(run.repeats, 'repeat')} of "
                   f"{counted(len(run.cells), 'cell')}, each cell once a repeat, in an order drawn "
                   "from the seed, on the same topics."),
        ("success", f"A workflow that is ok; {degraded}."),
        ("counting", "Failed workflows and calls are in every distribution: a cell that drops "
                     "its work must not look fast for it."),
    ]  # fmt: skip
    if run.virtual:
        told.append(("seconds", (
            "Everything here is simulated, in virtual time: the workflow, the retry policies and "
            "the permits ran straight against the provider's model of time, on a clock that jumped "
            "to whatever was next. No network, no client library and no machine's speed is in any "
            "figure; durations are scenario seconds."
        )))  # fmt: skip
    elif run.simulated:
        told.append(("seconds", (
            "Everything here is simulated. One scenario second lasted "
            f"{run.time_scale:g} real seconds; durations are scenario seconds, unless they are "
            "said to be real."
        )))  # fmt: skip
    elif run.scenario["endpoint"].get("cache") == "avoid":
        told.append(("caching", "Each workflow's prompts begin with a nonce, so that no cell "
                                "finds the provider's prompt cache warm."))  # fmt: skip
    return tuple(told)


def environment(run: Run) -> Definitions:
    """Return what it takes to do the same again."""
    host = ", ".join(f"{name} {value}" for name, value in run.host.items())
    versions = ", ".join(f"{name} {value}" for name, value in run.versions.items())
    told = [
        ("run", run.run_id),
        ("started", started(run)),
        ("status", run.status if run.stopped is None else f"{run.status}: {run.stopped.because}"),
        ("seed", str(run.seed)),
        ("endpoint", endpoint_text(run)),
        ("versions", versions),
        ("host", host),
    ]
    told += [
        (key.key, "; ".join([*map(value_text, key.values)] if not key.legend() else key.legend()))
        for key in swept_keys(run.cells)
    ]
    if run.price is not None:
        told.append(("price", _price(run.price)))
    return tuple(told)


def _price(price: dict[str, Any]) -> str:
    parts = ", ".join(f"{name} {price.get(name)}" for name in ("input", "cached", "output"))
    dated = f", {price['date']}" if price.get("date") else ""
    return f"USD per million tokens: {parts} ({price.get('source')}{dated})"


def as_json(value: Any) -> str:
    """Write settings for people to read."""
    return json.dumps(value, indent=2, ensure_ascii=False)


class Fitness(NamedTuple):
    """Whether the measurement measured the endpoint: in a sentence, why, and in numbers.

    `without_log`: only the client could be judged; in virtual time there was neither to judge.
    """

    verdict: str
    sound: bool
    because: tuple[str, ...]
    facts: Definitions
    without_log: bool
    tables: list[Table]


def fitness(about: Subject, records: Records) -> Fitness:
    """Return client against provider. All times in it are real ones, in milliseconds."""
    summary = about.summary
    limited, share = summary.verdict.bottleneck, summary.verdict.client_cpu_share
    if limited != "none":
        verdict = f"The {limited} was the bottleneck: part of what was measured is its own doing."
    elif summary.virtual:
        verdict = "Time was virtual, so neither the client nor the simulator could be too slow."
    elif summary.simulated:
        verdict = "Neither the client nor the simulator was the bottleneck."
    else:
        verdict = "The client was not the bottleneck."
    return Fitness(
        verdict,
        limited == "none",
        tuple(about.named(text) for text in summary.verdict.because),
        () if share is None else (("the client's processor time", f"{percent(share)} of a core"),),
        records.provider is None and not summary.virtual,
        [table for table in (_delays(summary), _counts(summary)) if table is not None],
    )


def _delays(summary: Summary) -> Table | None:
    verdict, oracle = summary.verdict, summary.oracle
    gap = None if oracle is None else oracle.inter_token_p50_s
    found: list[tuple[str, Spread | None]] = [
        ("event-loop lag, worst cell", verdict.event_loop_lag_s),
        ("provider lateness, worst cell", verdict.provider_lateness_s),
        ("client's first text after the provider's first write", verdict.clock_disagreement_s),
    ]
    rows: list[tuple[str, float, float | None]] = [
        (what, spread.p50, spread.p99) for what, spread in found if spread is not None
    ]
    if gap is not None:
        rows.append(("gap between chunks, client minus provider", gap, None))
    if not rows:
        return None
    return Table(
        "delays",
        "Delays of the measurement itself, in real milliseconds",
        (
            Column("what", "what", [what for what, _, _ in rows]),
            Column("p50", "p50_real_ms", [1000 * typical for _, typical, _ in rows]),
            Column("p99", "p99_real_ms", [_milli(rare) for _, _, rare in rows]),
        ),
    )


def _milli(seconds: float | None) -> float | None:
    return None if seconds is None else 1000 * seconds


def _counts(summary: Summary) -> Table | None:
    oracle = summary.oracle
    if oracle is None:
        return None
    rows = {
        "joined by their span ids": oracle.attempts,
        "on one side only": oracle.unmatched,
        "with another outcome": oracle.outcome_mismatches,
        "with other token counts": oracle.token_mismatches,
    }
    return Table(
        "provider-log",
        "Attempts held against the provider's own log",
        (
            Column("attempts", "what", list(rows)),
            Column("number", "attempts", list(rows.values()), whole_number),
        ),
    )
