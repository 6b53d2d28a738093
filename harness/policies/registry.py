"""The kinds of policy that `[retry.NAME]` can describe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, NamedTuple

from pydantic import BeforeValidator, SerializeAsAny

from harness.config.kinds import KindTable
from harness.policies.aws_standard import AwsStandardSection
from harness.policies.breaker import BreakerSection
from harness.policies.exponential import ExponentialSection
from harness.policies.finagle_budget import FinagleBudgetSection
from harness.policies.fixed import FixedSection
from harness.policies.grpc_throttling import GrpcThrottlingSection
from harness.policies.hedge import HedgeSection
from harness.policies.no_retry import NoRetrySection
from harness.policies.openai_sdk import OpenAISdkSection
from harness.policies.retry_budget import RetryBudgetSection
from harness.policies.section import AnyPolicy, StackSection


class PolicyKind(NamedTuple):
    """A kind of policy: its name, and the class that describes it."""

    name: str
    section: type[AnyPolicy]


POLICIES = KindTable(
    "harness.policies",
    [
        PolicyKind("none", NoRetrySection),
        PolicyKind("fixed", FixedSection),
        PolicyKind("exponential", ExponentialSection),
        PolicyKind("openai-sdk", OpenAISdkSection),
        PolicyKind("aws-standard", AwsStandardSection),
        PolicyKind("retry-budget", RetryBudgetSection),
        PolicyKind("grpc-throttling", GrpcThrottlingSection),
        PolicyKind("finagle-budget", FinagleBudgetSection),
        PolicyKind("breaker", BreakerSection),
        PolicyKind("hedge", HedgeSection),
        PolicyKind("stack", StackSection),
    ],
)

RetryPolicy = Annotated[SerializeAsAny[AnyPolicy], BeforeValidator(POLICIES.validate)]

BUILT_IN_POLICIES: Mapping[str, AnyPolicy] = {
    "none": NoRetrySection(kind="none"),
    "openai-sdk": OpenAISdkSection(kind="openai-sdk"),
    "aws-standard": AwsStandardSection(kind="aws-standard"),
}
"""Policies that a scenario may name without describing them."""
