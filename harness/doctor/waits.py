"""Checks of timeouts and of the sizes of answers, against a run that measured them."""

from __future__ import annotations

from collections.abc import Iterator

from harness.analysis.model import Distribution
from harness.doctor.findings import NO_RUN, Examined, Found, ok, skipped
from harness.report.wording import counted

_KEEP_ALIVE_HOSTS = {"api.deepseek.com": 60.0}
"""Hosts that keep a waiting request alive for minutes, and the least seconds to wait for text."""


def check_call_timeout(examined: Examined) -> Found:
    """Find a deadline that a measured call would miss."""
    return _against(examined, "timeouts.call", examined.scenario.timeouts.call, "call_latency_s")


def check_first_token(examined: Examined) -> Found:
    """Find a wait for the first text that is too short for what was measured, or for the server."""
    timeouts, endpoint = examined.scenario.timeouts, examined.scenario.endpoint
    if timeouts.first_token is None:
        return ok("no limit but timeouts.call")
    if not endpoint.stream and timeouts.first_token < timeouts.call:
        return Found(
            "warning",
            f"timeouts.first_token = {timeouts.first_token:g} s limits the whole answer, because "
            "endpoint.stream is false",
            "remove timeouts.first_token, or stream",
        )
    url = getattr(endpoint, "base_url", "")
    for host, least in _KEEP_ALIVE_HOSTS.items():
        if host in url and timeouts.first_token < least:
            return Found(
                "warning",
                f"timeouts.first_token = {timeouts.first_token:g} s, but {host} can keep a request "
                "waiting for minutes under load",
                "set timeouts.first_token = '5m'",
            )
    return _against(examined, "timeouts.first_token", timeouts.first_token, "ttft_s")


def _against(examined: Examined, key: str, limit: float, metric: str) -> Found:
    """Compare a timeout with the highest percentile that was measured."""
    if examined.measured is None:
        return skipped(NO_RUN)
    summary = examined.measured.summary
    slowest = 0.0
    for cell in summary.cells:
        values: Distribution = getattr(cell, metric)
        highest = next((one for one in (values.p99, values.p95, values.p50) if one), None)
        if highest is not None:
            slowest = max(slowest, highest.value / summary.time_scale)
    if not slowest:
        return skipped(f"{examined.measured.directory} measured too few calls")
    said = f"{key} = {limit:g} s, slowest setting's p99 (or highest known): {slowest:.3g} s"
    if slowest < limit:
        return ok(said)
    return Found(
        "failure", f"{said}, measured in {examined.measured.directory}",
        f"raise {key} to at least {2 * slowest:.2g} s, or use fewer permits",
    )  # fmt: skip


def check_max_tokens(examined: Examined) -> Found:
    """Find a limit of tokens that cuts reasoning before the answer."""
    if examined.measured is None:
        return skipped(NO_RUN)
    reasoning = examined.measured.summary.reasoning
    if not reasoning:
        return skipped("no answer of the run had reasoning")
    problems = list(_too_short(examined))
    if problems:
        fixes = "; ".join(fix for _, fix in problems)
        return Found("failure", "; ".join(reason for reason, _ in problems), fixes)
    return ok(f"enough for the reasoning of {counted(len(reasoning), 'phase')}")


def _too_short(examined: Examined) -> Iterator[tuple[str, str]]:
    """Yield each phase whose limit is too low: what is wrong, and the way out."""
    assert examined.measured is not None
    limits = {info.name: (info.setting, info.max_tokens) for info in examined.scenario.plan.phases}
    for one in examined.measured.summary.reasoning:
        setting, limit = limits.get(one.phase, ("", None))
        if limit is None:
            continue
        key, needed = f"workflow.max_tokens.{setting}", one.sufficient_tokens
        if needed is not None and needed > limit:
            yield (
                f"{key} = {limit:,}, but 99 % of the measured answers needed {needed:,}",
                f"raise {key} to {needed:,}",
            )
        elif needed is None and one.truncated:
            yield (
                f"{key} = {limit:,} cut {one.truncated} of {one.responses} answers of {one.phase} "
                "within the reasoning",
                f"raise {key} to {2 * limit:,} and measure again",
            )
