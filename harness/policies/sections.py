"""The `[retry.*]` tables of a scenario, and what may be said with them.

Backoff policies stand alone or innermost in a stack; breakers, budgets and hedges only in one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from harness.config.config_base import Name, Section, Several
from harness.config.validation_messages import nearest
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


class StackSection(Section):
    """Policies around one another, outermost first; the last one is a backoff policy."""

    kind: Literal["stack"]
    layers: Several[Name]


BackoffPolicy: TypeAlias = (
    NoRetrySection | FixedSection | ExponentialSection | OpenAISdkSection | AwsStandardSection
)
Wrapper: TypeAlias = (
    BreakerSection
    | RetryBudgetSection
    | GrpcThrottlingSection
    | FinagleBudgetSection
    | HedgeSection
)
AnyPolicy: TypeAlias = BackoffPolicy | Wrapper | StackSection
RetryPolicy = Annotated[AnyPolicy, Field(discriminator="kind")]

BUILT_IN_POLICIES: Mapping[str, AnyPolicy] = {
    "none": NoRetrySection(kind="none"),
    "openai-sdk": OpenAISdkSection(kind="openai-sdk"),
    "aws-standard": AwsStandardSection(kind="aws-standard"),
}
"""Policies that a scenario may name without describing them."""


_KINDS = {
    "breaker": "a breaker",
    "retry-budget": "a budget",
    "grpc-throttling": "a budget",
    "finagle-budget": "a budget",
    "hedge": "a hedge",
}
_ONCE = ("breaker", "hedge")
"""Kinds of which a stack has one at most: two would not know of each other's probes and copies."""


def layers_of(policies: Mapping[str, AnyPolicy], name: str) -> tuple[str, ...]:
    """Return the names that the policy `name` is made of, outermost first: stacks taken apart.

    Raises ValueError, one line, where a stack cannot be.
    """
    return _taken_apart(policies, name, ())


def check_policies(
    described: Mapping[str, AnyPolicy], swept: Sequence[str], modes: Sequence[str], streamed: bool
) -> None:
    """Raise ValueError, one line, when the policies of a scenario cannot be what they say.

    `described`: its `[retry.*]` tables; `swept`: `sweep.retry`; `modes`: `sweep.mode`;
    `streamed`: `endpoint.stream`.
    """
    policies = {**BUILT_IN_POLICIES, **described}
    for name in swept:
        if name not in policies:
            raise ValueError(f"sweep.retry names {name!r}, {_unknown(name, policies)}")
    for name, policy in described.items():
        if isinstance(policy, StackSection):
            _check_stack(policies, name)
    for name in swept:
        policy = policies[name]
        if isinstance(policy, Wrapper):
            raise ValueError(
                f"sweep.retry names {name!r}, {_KINDS[policy.kind]}, which wraps another policy; "
                f'name a stack: [retry.NAME] with kind = "stack", layers = ["{name}", "none"]'
            )
        hedges = [part for part in layers_of(policies, name) if policies[part].kind == "hedge"]
        if hedges and "sync" in modes:
            raise ValueError(
                f"sweep.retry names {name!r}, which hedges, and sweep.mode sync, which has one "
                "request in flight at a time; leave one of them out"
            )
        if hedges and not streamed:
            raise ValueError(
                f"sweep.retry names {name!r}, which hedges on the first token, and endpoint.stream "
                "= false, which shows the whole answer only; leave one of them out"
            )


def _check_stack(policies: Mapping[str, AnyPolicy], name: str) -> None:
    where = f"retry.{name}.layers"
    *outer, last = layers_of(policies, name)
    seen: dict[str, str] = {}
    for part in (*outer, last):
        if part in seen.values():
            raise ValueError(f"{where}: {part!r} stands in it twice; leave one out")
        kind = policies[part].kind
        if kind in _ONCE and kind in seen:
            raise ValueError(
                f"{where}: {seen[kind]!r} and {part!r} are both {_KINDS[kind]}; leave one out"
            )
        seen[kind if kind in _ONCE else part] = part
    for part in outer:
        if not isinstance(policies[part], Wrapper):
            raise ValueError(
                f"{where}: {part!r} decides alone and nothing can stand inside it; put it last"
            )
    if isinstance(policies[last], Wrapper):
        raise ValueError(
            f"{where}: {last!r}, {_KINDS[policies[last].kind]}, wraps another policy and cannot "
            "be the last; end with one that decides, such as 'none' or 'openai-sdk'"
        )


def _taken_apart(
    policies: Mapping[str, AnyPolicy], name: str, around: tuple[str, ...]
) -> tuple[str, ...]:
    policy = policies[name]
    if not isinstance(policy, StackSection):
        return (name,)
    if name in around:
        circle = " > ".join((*around[around.index(name) :], name))
        raise ValueError(f"retry.{name}.layers: {name!r} contains itself ({circle}); take it out")
    for part in policy.layers:
        if part not in policies:
            raise ValueError(f"retry.{name}.layers names {part!r}, {_unknown(part, policies)}")
    inside = (_taken_apart(policies, part, (*around, name)) for part in policy.layers)
    return tuple(part for parts in inside for part in parts)


def _unknown(name: str, policies: Mapping[str, AnyPolicy]) -> str:
    return (
        f"which is no policy{nearest(name, policies)}; describe it in [retry.{name}] or use "
        f"one of: {', '.join(sorted(policies))}"
    )
