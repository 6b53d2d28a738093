"""Checks of retry policies and permits."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import NamedTuple

from harness.bench.preflight import most_ready
from harness.bench.scenario import Scenario
from harness.doctor.findings import NO_RUN, Examined, Found, ok, skipped
from harness.policies.resolve import PolicyParts
from harness.policies.retry import Failure
from harness.records.clock import SECOND
from harness.records.failures import FAILURES
from harness.workflows.layout import regular_calls

MOST_ATTEMPTS = 20
"""Requests of one call above which a policy multiplies an outage."""
MANY_PERMITS = 4
_SPARE = 1.25
"""By how much permits may exceed the calls that can be ready: more of them is a mistake."""
_FAR = 10**6 * SECOND


class _Policy(NamedTuple):
    """A retry policy of a cell, and the scenario of the cell."""

    name: str
    parts: PolicyParts
    scenario: Scenario


def _policies(examined: Examined) -> Iterator[_Policy]:
    """Yield the policies of all cells, each with the keys that the cell gives it."""
    seen = set()
    for mine in examined.own.values():
        for name in mine.sweep.retry:
            known = (name, str(mine.retry), mine.timeouts.call)
            if known not in seen:
                seen.add(known)
                yield _Policy(name, mine.policy(name), mine)


class _LongestRandom(Random):
    """Draws the highest value."""

    def random(self) -> float:
        """Return almost 1."""
        return 1 - 2**-53


def pauses(parts: PolicyParts) -> list[float]:
    """Return the longest pauses of a policy, in seconds, after each failed attempt of a call.

    The server gives no Retry-After.
    """
    rule, waited = parts.retry(1.0, streamed=True), None
    found: list[float] = []
    for attempt in range(1, min(parts.backoff.most_attempts, 1000)):
        failure = Failure(attempt, "unavailable", 503, None, None, 0, _FAR, waited)
        waited = rule.decide(failure, _LongestRandom()).retry_in
        if waited is None:
            break
        found.append(waited / SECOND)
    return found


def check_multiplied(examined: Examined) -> Found:
    """Find policies that send one call many times."""
    # A wrapper around it, such as a budget or a breaker, ends an outage's retries.
    bare = [one for one in _policies(examined) if set(one.parts.wrappers) <= _hedges(one.parts)]
    if not bare:
        return ok("a budget or a breaker limits the retries of every policy")
    worst = max(bare, key=lambda one: one.parts.most_attempts)
    most = worst.parts.most_attempts
    if most <= MOST_ATTEMPTS:
        return ok(f"at most {most} requests a call")
    how = f"{worst.parts.backoff.most_attempts} attempts" + (
        ", each with a second request" if worst.parts.hedges else ""
    )
    return Found(
        "warning",
        f"{worst.name} sends a call up to {most} times in an outage ({how}); retries of the "
        "openai package or of a proxy multiply that",
        "use fewer attempts, a retry-budget or a breaker around it, and max_retries=0 in the "
        "package",
    )


def _hedges(parts: PolicyParts) -> set[str]:
    return {name for name, wrapper in parts.wrappers.items() if wrapper.hedges}


def check_sleeps(examined: Examined) -> Found:
    """Find pauses that are longer than the call may take."""
    longest = 0.0
    for name, parts, scenario in _policies(examined):
        waits = pauses(parts)
        longest = max([longest, *waits])
        call = scenario.timeouts.call
        if waits and max(waits) >= call:
            return Found(
                "failure",
                f"{name} may wait {max(waits):.3g} s before a retry, but timeouts.call = "
                f"{call:g} s ends the call before",
                f"lower the cap of {name}, or raise timeouts.call",
            )
        if sum(waits) >= call:
            usable = _usable(waits, call)
            return Found(
                "warning",
                f"{name} may wait {sum(waits):.3g} s in all, but timeouts.call = {call:g} s ends "
                f"the call after about {usable} of {len(waits) + 1} attempts",
                f"use {usable} attempts, lower the cap of {name}, or raise timeouts.call",
            )
    return ok(f"the longest pause is {longest:.3g} s")


def _usable(waits: list[float], call: float) -> int:
    """Return how many attempts begin within a call if each pause is the longest one."""
    begun, total = 1, 0.0
    for wait in waits:
        total += wait
        if total >= call:
            break
        begun += 1
    return begun


def check_permanent(examined: Examined) -> Found:
    """Find policies that retry what no retry can heal."""
    for name, parts, _ in _policies(examined):
        if parts.backoff.most_attempts < 2:
            continue
        rule = parts.retry(1.0, streamed=True)
        for row in FAILURES.values():
            if row.retryable:
                continue
            status = int(row.seen) if row.seen.isdigit() else 200
            failure = Failure(1, row.name, status, None, None, 0, _FAR)
            if rule.decide(failure, _LongestRandom()).retry_in is not None:
                return Found(
                    "warning",
                    f"{name} retries {row.name} ({row.seen}), which the same request never heals",
                    "give up on it: `harness.records.failures` says what can be retried",
                )
    return ok("only failures that can pass are retried")


def check_jitter(examined: Examined) -> Found:
    """Find policies that send many calls again at the same moment."""
    permits = max(examined.scenario.permit_counts)
    for name, parts, _ in _policies(examined):
        if parts.backoff.most_attempts > 1 and not parts.backoff.jitters:
            said = f"{name} waits the same time in every call"
            if permits >= MANY_PERMITS:
                return Found(
                    "warning",
                    f"{said}, so {permits} calls that fail together are sent again together",
                    'use kind = "exponential" with jitter = "full"',
                )
            return ok(f"{said}, with {permits} permits")
    return ok("pauses are random")


def check_permits(examined: Examined) -> Found:
    """Find permits that cannot be used, and those that the server refused in a run."""
    fewest, most = min(examined.scenario.permit_counts), max(examined.scenario.permit_counts)
    ready = most_ready(examined.scenario)
    if fewest > _SPARE * ready:
        return Found(
            "warning",
            f"sweep.permits = {fewest}, but at most {ready} calls are ready at the same time",
            f"use {ready} permits, or raise load.in_flight",
        )
    if examined.measured is None:
        return skipped(NO_RUN)
    # A limit that adapts meets 429s on purpose, so its highest value says nothing of the server.
    cells = [one for one in examined.measured.summary.cells if not one.limiter]
    refused = [one.permits for one in cells if one.attempts.by_outcome.get("rate_limited")]
    fine = [one.permits for one in cells if one.permits not in refused]
    if refused and fewest >= min(refused) and fewest > max(fine, default=0):
        known = f"; {max(fine)} had none" if fine else ""
        return Found(
            "warning",
            f"sweep.permits = {fewest}, and the server answered 429 with {min(refused)}{known}",
            f"use {max(fine)} permits" if fine else "use fewer permits",
        )
    return _little(examined, most)


def _little(examined: Examined, most: int) -> Found:
    """Compare permits with the calls in flight that arrivals need, by Little's law."""
    arrivals = examined.scenario.load.arrivals
    assert examined.measured is not None
    summary = examined.measured.summary
    latencies = [
        mean.value / summary.time_scale
        for one in summary.cells
        if (mean := one.call_latency_s.mean) is not None
    ]
    if arrivals is None or not latencies:
        return ok(f"up to {most}")
    needed = arrivals.per_second * regular_calls(examined.scenario.layout) * min(latencies)
    said = f"by Little's law, arrivals need {needed:.3g} calls in flight; at most {most} permits"
    if needed < most:
        return ok(said)
    return Found("failure", f"{said}, so the queue grows without end", "raise sweep.permits")
