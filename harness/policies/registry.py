"""The kinds of policy that `[retry.NAME]` can describe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator, SerializeAsAny

from harness.config.kinds import KindTable
from harness.policies.section import AnyPolicy

POLICIES: KindTable[type[AnyPolicy]] = KindTable(
    "harness.policies",
    {
        "none": "harness.policies.no_retry:NoRetrySection",
        "fixed": "harness.policies.fixed:FixedSection",
        "exponential": "harness.policies.exponential:ExponentialSection",
        "openai-sdk": "harness.policies.openai_sdk:OpenAISdkSection",
        "aws-standard": "harness.policies.aws_standard:AwsStandardSection",
        "retry-budget": "harness.policies.retry_budget:RetryBudgetSection",
        "grpc-throttling": "harness.policies.grpc_throttling:GrpcThrottlingSection",
        "finagle-budget": "harness.policies.finagle_budget:FinagleBudgetSection",
        "breaker": "harness.policies.breaker:BreakerSection",
        "hedge": "harness.policies.hedge:HedgeSection",
        "stack": "harness.policies.section:StackSection",
    },
    lambda kind: kind,
)

RetryPolicy = Annotated[SerializeAsAny[AnyPolicy], BeforeValidator(POLICIES.validate)]

BUILT_IN_POLICIES: Mapping[str, AnyPolicy] = {
    kind: POLICIES.validate({"kind": kind}) for kind in ("none", "openai-sdk", "aws-standard")
}
"""Policies that a scenario may name without describing them."""
