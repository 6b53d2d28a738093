"""Warnings about the figures of a run."""

from __future__ import annotations

from collections.abc import Iterator
from operator import itemgetter

from harness.analysis.cells import FEWEST_BURSTS
from harness.analysis.model import Summary
from harness.analysis.unpriced import unpriced_text
from harness.records.failures import advice_for
from harness.report.anomalies import anomaly_warning
from harness.report.failures import most_frequent_failure_in
from harness.report.next_steps import can_be_virtual
from harness.report.wording import (
    cell_labels,
    counted,
    ended,
    kept,
    lost,
    never_ended,
    percent,
    with_labels,
)

SURE = 0.01
"""First calls stand out if chance alone makes them so slow with a lower probability than this."""

SLOW = 1.2
"""First calls that take less than this many times as long as later ones are not warned of."""

NO_LONGER = 0.9
"""MSER-5 cuts at most half. When it cuts this share of that, there was no steady state."""

MOST_MODELS = 3

FEWEST_LOST, MANY_LOST = 4, 0.25
"""From so many lost connections on, and such a share of all requests, they have a pattern."""

CACHE_GAP = 0.05
"""Cells whose cached shares of the input differ by more than this are not comparable."""


def warnings_of(summary: Summary) -> list[str]:
    """Return warnings about the figures, each with advice."""
    return [
        *_of_run(summary),
        *_of_models(summary),
        *_of_prices(summary),
        *_of_lost_connections(summary),
        *_of_cold_start(summary),
        *_of_workflows(summary),
        *_of_reasoning(summary),
        *_of_bursts(summary),
        *_of_cells(summary),
    ]


def _of_run(summary: Summary) -> Iterator[str]:
    if summary.lacking:
        yield (
            f"the records are incomplete, and nothing is proven: {' '.join(summary.lacking)} The "
            "figures are of what is left."
        )
    if summary.unverified_tls:
        yield (
            "endpoint.verify = false: the server's certificate was not checked, so another server "
            "may have answered and seen the key; set endpoint.ca_file instead."
        )
    if summary.status != "complete":
        lacking = never_ended(summary)
        never = f": {counted(lacking, 'workflow')} never ended" if lacking else ""
        state = "still runs or was killed" if summary.status == "running" else "is partial"
        yield f"the run {state}{never}, so the work of the settings may differ."
    limited, arrivals = summary.verdict.bottleneck, summary.verdict.arrivals
    if arrivals:
        yield with_labels(arrivals[0].lower() + arrivals[1:], cell_labels(summary.cells))
    if limited == "client" and arrivals:
        return
    is_answer = summary.question == "accuracy" or (summary.question, limited) == ("client",) * 2
    if limited != "none" and not is_answer:
        ways_out = ["use fewer permits", "a less busy machine"]
        if "time_scale" in summary.endpoint_keys and summary.time_scale < 1:
            ways_out.insert(0, "set a larger endpoint.time_scale")
        if can_be_virtual(summary):
            ways_out.insert(0, 'set endpoint.time = "virtual"')
        yield (
            f"the {limited} limited some of the results, not the provider; "
            f"{', '.join(ways_out[:-1])}, or {ways_out[-1]}."
        )


def _of_models(summary: Summary) -> Iterator[str]:
    for model, counts in summary.answered_by.items():
        total = sum(counts.values())
        named = [f"{name} ({percent(count / total)})" for name, count in counts.items()]
        yield (
            f"requests for {model} were answered by {' and '.join(named[:MOST_MODELS])}, so not "
            "all results are of one model; name a fixed version in endpoint.model."
        )


def _of_prices(summary: Summary) -> Iterator[str]:
    if summary.unpriced:
        yield f"{unpriced_text(summary.unpriced)}."


def _of_lost_connections(summary: Summary) -> Iterator[str]:
    if "reuse_connections" not in summary.endpoint_keys:
        return
    total = sum(cell.attempts.total for cell in summary.cells)
    lost = sum(cell.attempts.by_outcome.get("connection_lost", 0) for cell in summary.cells)
    if lost >= FEWEST_LOST and lost > MANY_LOST * total:
        yield (
            f"{percent(lost / total)} of the requests lost their connection: the server may close "
            "connections after a response without saying so; set endpoint.reuse_connections = "
            "false."
        )


def _of_cold_start(summary: Summary) -> Iterator[str]:
    seen = summary.cold_start
    if seen is None:
        return
    if seen.failed:
        failed = sum(seen.failed.values())
        most = max(seen.failed, key=lambda name: seen.failed[name])
        yield (
            f"{failed} of {counted(seen.warmup_calls, 'warm-up call')} failed, most often by "
            f"{most}, so trials may have begun cold; "
            f"{advice_for(most, summary.endpoint_keys)}."
        )
    if seen.ratio is not None and seen.p is not None and seen.p < SURE and seen.ratio > SLOW:
        slowest = max(seen.starts, key=lambda one: one.ratio, default=None)
        most = ""
        if slowest is not None:
            name = cell_labels(summary.cells).get(slowest.cell, slowest.cell)
            most = f"; most, {slowest.ratio:.1f} times, in {name}, repeat {slowest.repeat + 1}"
        yield (
            f"the first calls of the trials took {seen.ratio:.1f} times as long to the first token "
            f"as later ones (median of {counted(seen.trials, 'trial')}{most}), so trials began "
            "cold; raise load.warmup_calls."
        )


def _of_workflows(summary: Summary) -> Iterator[str]:
    labels = cell_labels(summary.cells)
    losing = [cell for cell in summary.cells if lost(cell)]
    if losing and any(map(kept, summary.cells)):  # otherwise the answer says so
        worst = max(losing, key=lambda cell: lost(cell) / ended(cell))
        share = f"{lost(worst)} of {counted(ended(worst), 'workflow')}"
        if worst.late:
            share += f", {worst.late} of which took too long"
        who = f"{labels[worst.id]} lost {share}"
        if len(losing) > 1:
            as_bad = sum(lost(cell) * ended(worst) == lost(worst) * ended(cell) for cell in losing)
            most, each = labels[worst.id], ""
            if as_bad > 1:
                most, each = f"{most} and {as_bad - 1} more", " each"
            who = (
                f"{len(losing)} of {len(summary.cells)} settings lost workflows, "
                f"most of all {most} ({share}{each})"
            )
            if as_bad == len(summary.cells):
                who = f"all {as_bad} settings lost {share} each"
        yield f"{who}. {most_frequent_failure_in(worst, summary)}".rstrip()
    if again := summary.own_retries:
        yield (
            f"{counted(again, 'call')} are retries of the program's own client, made after the "
            "policy had given up; set its max_retries=0, so that the policies alone retry."
        )
    oracle = summary.oracle
    if wrong := oracle.outcome_mismatches + oracle.token_mismatches if oracle else 0:
        yield (
            f"client and provider disagree on {counted(wrong, 'attempt')}, so counts may be wrong; "
            "compare attempts.jsonl with provider.jsonl."
        )
    if unreported := sum(cell.tokens.unreported for cell in summary.cells):
        yield (
            f"{counted(unreported, 'whole response')} had no usage, so tokens and cost are too "
            "low; do not compare settings by cost."
        )
    yield from anomaly_warning(summary)
    if cut := [
        labels[c.id] for c in summary.cells if 2 * c.warm_up >= NO_LONGER * c.workflows.started > 0
    ]:
        yield (
            f"no steady state in {', '.join(cut)}: workflows arrive faster than they end, so "
            "latencies grow with the length of the run; use more permits or a lower "
            "load.arrivals.per_second."
        )


def _of_reasoning(summary: Summary) -> Iterator[str]:
    for one in summary.reasoning:
        if not one.truncated:
            continue
        enough = (
            "more than 1 % need more than was allowed"
            if one.sufficient_tokens is None
            else f"{one.sufficient_tokens} suffice for 99 % of the responses"
        )
        yield (
            f"{one.truncated} of {counted(one.responses, 'response')} of phase {one.phase} reached "
            "max_tokens within the reasoning, before any answer; raise workflow.max_tokens: "
            f"{enough}."
        )


def _of_bursts(summary: Summary) -> Iterator[str]:
    labels = cell_labels(summary.cells)
    few = [
        f"{labels[cell.id]} ({cell.bursts})"
        for cell in summary.cells
        if cell.bursts is not None
        and cell.bursts < FEWEST_BURSTS
        and (cell.bursts or summary.has_simulator)
    ]
    if few:
        yield (
            f"few bursts of failures in {', '.join(few)}: fewer than {FEWEST_BURSTS} do not show "
            "how often they come, so these settings have no intervals; use longer or more repeats."
        )


def _of_cells(summary: Summary) -> Iterator[str]:
    cells = summary.cells
    if cells and not summary.serves_requests and all(cell.repeats == 1 for cell in cells):
        yield "every setting ran once, so there are no intervals; set sweep.repeats=auto."
    labels = cell_labels(cells)
    shares = [(c.tokens.cached / c.tokens.input, labels[c.id]) for c in cells if c.tokens.input]
    (low, least), (high, most) = (
        find(shares, key=itemgetter(0), default=(0.0, "")) for find in (min, max)
    )
    if high - low > CACHE_GAP:
        has_key = "cache" in summary.endpoint_keys
        way_out = 'set endpoint.cache = "avoid"' if has_key else "give each setting other prompts"
        yield (
            f"the prompt cache served {percent(low)} of the input in {least} but "
            f"{percent(high)} in {most}, so they are not comparable; "
            f"{way_out}."
        )
