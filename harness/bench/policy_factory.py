"""Builds policies from the `[retry.*]` tables, and converts scenario seconds to nanoseconds."""

from __future__ import annotations

import math
from typing import assert_never

from harness.bench.scenario import Scenario
from harness.policies import sections
from harness.policies.aws import AwsBackoff, AwsQuota
from harness.policies.breaker import Breaker
from harness.policies.buckets import WHOLE, FinagleBudget, GrpcThrottling, RetryBudget
from harness.policies.protocol import Policy, Stateless
from harness.policies.retry import Exponential, Fixed, NoRetry, OpenAISdk, Retry
from harness.policies.stack import BreakerLayer, BudgetLayer, HedgeLayer, Layer, Stack
from harness.records.clock import SECOND


def policy(scenario: Scenario, name: str) -> Policy:
    """Return a new policy, without any state, that the scenario calls `name`."""
    parts = scenario.layers(name)
    layers = [layer for part in parts if (layer := _layer(scenario, *part)) is not None]
    innermost = _retry(scenario, parts[-1][1])
    return Stack(layers, innermost) if layers else Stateless(innermost)


def _retry(scenario: Scenario, described: sections.AnyPolicy) -> Retry:
    assert isinstance(described, sections.BackoffPolicy), "the scenario was checked for it"
    match described:
        case sections.FixedRetry():
            return Fixed(described.attempts, _ns(scenario, described.delay))
        case sections.ExponentialRetry():
            return Exponential(
                attempts=described.attempts,
                base=_ns(scenario, described.base),
                cap=_ns(scenario, described.cap),
                jitter=described.jitter,
            )
        case sections.OpenAISdkRetry():
            return OpenAISdk(
                max_retries=described.max_retries,
                streamed=scenario.endpoint.stream,
                second=_ns(scenario, 1.0),
            )
        case sections.AwsStandardRetry():
            return AwsBackoff(described.attempts, _ns(scenario, 1.0))
        case sections.NoRetry():
            return NoRetry()
        case _:
            assert_never(described)


def _layer(scenario: Scenario, name: str, described: sections.AnyPolicy) -> Layer | None:
    """Return the layer around other policies; None for a policy that is not a layer."""
    assert not isinstance(described, sections.Stack), "Scenario.layers() takes stacks apart"
    match described:
        case sections.AwsStandardRetry():
            return BudgetLayer(AwsQuota(), described.scope)
        case sections.RetryBudget():
            rule = RetryBudget(_thousandths(described.ratio), described.burst)
            return BudgetLayer(rule, described.scope)
        case sections.GrpcThrottling():
            throttling = GrpcThrottling(described.tokens, _thousandths(described.ratio))
            return BudgetLayer(throttling, described.scope)
        case sections.FinagleBudget():
            finagle = FinagleBudget(
                ratio=_thousandths(described.ratio),
                reserve=round(described.per_second * described.window),
                window=_ns(scenario, described.window),
            )
            return BudgetLayer(finagle, described.scope)
        case sections.Breaker():
            breaker = Breaker(
                failures=described.failures,
                many=math.ceil(described.rate * described.last),
                last=described.last,
                pause=_ns(scenario, min(described.pause, described.cap)),
                cap=_ns(scenario, described.cap),
            )
            return BreakerLayer(breaker, name, described.scope)
        case sections.Hedge():
            after, ratio = _ns(scenario, described.after), _thousandths(described.ratio)
            return HedgeLayer(after, ratio, described.burst, described.scope)
        case (
            sections.NoRetry()
            | sections.FixedRetry()
            | sections.ExponentialRetry()
            | sections.OpenAISdkRetry()
        ):
            return None
        case _:
            assert_never(described)


def _ns(scenario: Scenario, seconds: float) -> int:
    """Return scenario seconds as nanoseconds of the records' clock, at least one."""
    return max(1, round(seconds * scenario.endpoint.time_scale * SECOND))


def _thousandths(ratio: float) -> int:
    return max(1, round(ratio * WHOLE))
