"""Builds policies from the `[retry.*]` tables, and converts scenario seconds to nanoseconds."""

from __future__ import annotations

import math
from typing import assert_never

from harness.bench.scenario import Scenario
from harness.policies.aws_standard import AwsBackoff, AwsQuota, AwsStandardSection
from harness.policies.breaker import Breaker, BreakerLayer, BreakerSection
from harness.policies.budget_layer import BudgetLayer
from harness.policies.exponential import Exponential, ExponentialSection
from harness.policies.finagle_budget import FinagleBudget, FinagleBudgetSection
from harness.policies.fixed import Fixed, FixedSection
from harness.policies.grpc_throttling import GrpcThrottling, GrpcThrottlingSection
from harness.policies.hedge import HedgeLayer, HedgeSection
from harness.policies.layers import Layer
from harness.policies.no_retry import NoRetry, NoRetrySection
from harness.policies.openai_sdk import OpenAISdk, OpenAISdkSection
from harness.policies.protocol import Policy, Stateless
from harness.policies.retry import Retry
from harness.policies.retry_budget import RetryBudget, RetryBudgetSection
from harness.policies.sections import AnyPolicy, BackoffPolicy, StackSection
from harness.policies.stack import Stack
from harness.policies.token_bucket import WHOLE
from harness.records.clock import SECOND


def policy(scenario: Scenario, name: str) -> Policy:
    """Return a new policy, without any state, that the scenario calls `name`."""
    parts = scenario.layers(name)
    layers = [layer for part in parts if (layer := _layer(scenario, *part)) is not None]
    innermost = _retry(scenario, parts[-1][1])
    return Stack(layers, innermost) if layers else Stateless(innermost)


def _retry(scenario: Scenario, described: AnyPolicy) -> Retry:
    assert isinstance(described, BackoffPolicy), "the scenario was checked for it"
    match described:
        case FixedSection():
            return Fixed(described.attempts, _ns(scenario, described.delay))
        case ExponentialSection():
            return Exponential(
                attempts=described.attempts,
                base=_ns(scenario, described.base),
                cap=_ns(scenario, described.cap),
                jitter=described.jitter,
            )
        case OpenAISdkSection():
            return OpenAISdk(
                max_retries=described.max_retries,
                streamed=scenario.endpoint.stream,
                second=_ns(scenario, 1.0),
            )
        case AwsStandardSection():
            return AwsBackoff(described.attempts, _ns(scenario, 1.0))
        case NoRetrySection():
            return NoRetry()
        case _:
            assert_never(described)


def _layer(scenario: Scenario, name: str, described: AnyPolicy) -> Layer | None:
    """Return the layer around other policies; None for a policy that is not a layer."""
    assert not isinstance(described, StackSection), "Scenario.layers() takes stacks apart"
    match described:
        case AwsStandardSection():
            return BudgetLayer(AwsQuota(), described.scope)
        case RetryBudgetSection():
            rule = RetryBudget(_thousandths(described.ratio), described.burst)
            return BudgetLayer(rule, described.scope)
        case GrpcThrottlingSection():
            throttling = GrpcThrottling(described.tokens, _thousandths(described.ratio))
            return BudgetLayer(throttling, described.scope)
        case FinagleBudgetSection():
            finagle = FinagleBudget(
                ratio=_thousandths(described.ratio),
                reserve=round(described.per_second * described.window),
                window=_ns(scenario, described.window),
            )
            return BudgetLayer(finagle, described.scope)
        case BreakerSection():
            breaker = Breaker(
                failures=described.failures,
                many=math.ceil(described.rate * described.last),
                last=described.last,
                pause=_ns(scenario, min(described.pause, described.cap)),
                cap=_ns(scenario, described.cap),
            )
            return BreakerLayer(breaker, name, described.scope)
        case HedgeSection():
            after, ratio = _ns(scenario, described.after), _thousandths(described.ratio)
            return HedgeLayer(after, ratio, described.burst, described.scope)
        case NoRetrySection() | FixedSection() | ExponentialSection() | OpenAISdkSection():
            return None
        case _:
            assert_never(described)


def _ns(scenario: Scenario, seconds: float) -> int:
    """Return scenario seconds as nanoseconds of the records' clock, at least one."""
    return max(1, round(seconds * scenario.endpoint.time_scale * SECOND))


def _thousandths(ratio: float) -> int:
    return max(1, round(ratio * WHOLE))
