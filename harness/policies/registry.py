"""The kinds of policy that `[retry.NAME]` can describe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator, SerializeAsAny

from harness.config.kinds import KindTable
from harness.policies.section import AnyPolicy

BUILT_IN_KINDS: Mapping[str, str] = {
    "none": "harness.policies.no_retry:NoRetry",
    "fixed": "harness.policies.fixed:Fixed",
    "exponential": "harness.policies.exponential:Exponential",
    "openai-sdk": "harness.policies.openai_sdk:OpenAISdk",
    "aws-standard": "harness.policies.aws_standard:AwsStandard",
    "retry-budget": "harness.policies.retry_budget:RetryBudget",
    "grpc-throttling": "harness.policies.grpc_throttling:GrpcThrottling",
    "finagle-budget": "harness.policies.finagle_budget:FinagleBudget",
    "breaker": "harness.policies.breaker:Breaker",
    "hedge": "harness.policies.hedge:Hedge",
    "stack": "harness.policies.section:StackSection",
}
"""The place of the class of each kind."""

POLICIES: KindTable[type[AnyPolicy]] = KindTable(
    "harness.policies", BUILT_IN_KINDS, lambda kind: kind
)

RetryPolicy = Annotated[SerializeAsAny[AnyPolicy], BeforeValidator(POLICIES.validate)]

BUILT_IN_POLICIES: Mapping[str, AnyPolicy] = {
    kind: POLICIES.validate({"kind": kind}) for kind in ("none", "openai-sdk", "aws-standard")
}
"""Policies that a scenario may name without describing them."""
