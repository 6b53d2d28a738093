"""From the names of policies to what they are made of; a policy that cannot be is refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, assert_never

import msgspec
from pydantic import TypeAdapter

from harness.config.tables import SettingError, nearest
from harness.policies.protocol import Policy, Stateless
from harness.policies.registry import BUILT_IN_POLICIES, RetryPolicy
from harness.policies.section import (
    AnyPolicy,
    BackoffSection,
    PolicyContext,
    StackSection,
    WrapperSection,
)
from harness.policies.stack import Stack
from harness.records.schema import PolicyCode, Run

SWEPT = ("sweep", "retry")
"""The key that names the policies of the cells."""

_TABLES = TypeAdapter(dict[str, RetryPolicy])


class PolicyParts(NamedTuple):
    """A policy with its stacks taken apart: wrappers by name, outermost first, around a backoff."""

    wrappers: Mapping[str, WrapperSection]
    name: str
    backoff: BackoffSection

    @property
    def hedges(self) -> bool:
        """Whether it may send a call a second time while the first attempt runs."""
        return any(wrapper.hedges for wrapper in self.wrappers.values())

    @property
    def most_attempts(self) -> int:
        """How often a call is sent at most, without what a breaker sends again."""
        return self.backoff.most_attempts * (2 if self.hedges else 1)

    def build(self, time_scale: float, streamed: bool) -> Policy:
        """Return the policy of a trial, with nothing in its memory."""

        def context(name: str) -> PolicyContext:
            return PolicyContext(name, time_scale, streamed)

        layers = [wrapper.layer(context(name)) for name, wrapper in self.wrappers.items()]
        layers += self.backoff.layers(context(self.name))
        retry = self.backoff.retry(context(self.name))
        return Stack(layers, retry) if layers else Stateless(retry)

    def code(self) -> PolicyCode:
        """Return Python that retries like the backoff, with notes on what is around it."""
        code = self.backoff.code()
        notes = (*(wrapper.note() for wrapper in self.wrappers.values()), *code.notes)
        return msgspec.structs.replace(code, notes=notes)


def resolve(described: Mapping[str, AnyPolicy], name: str) -> PolicyParts:
    """Return what the policy `name` is made of, of those `described` and the built-in ones.

    Raises SettingError if that is not possible.
    """
    policies = {**BUILT_IN_POLICIES, **described}
    if name not in policies:
        raise SettingError(_unknown(name, policies), *SWEPT, value=name)
    where = ("retry", name, "layers")
    wrappers: dict[str, WrapperSection] = {}
    *outer, (last, innermost) = _taken_apart(policies, name, ())
    if isinstance(innermost, WrapperSection):
        if not isinstance(policies[name], StackSection):
            raise SettingError(
                "wraps another policy; name a stack instead: "
                f'[retry.NAME] with kind = "stack", layers = ["{name}", "none"]',
                *SWEPT,
                value=name,
            )
        raise SettingError(
            "wraps another policy and cannot be the last layer; end with a policy that decides, "
            "such as 'none' or 'openai-sdk'",
            *where,
            value=last,
        )
    for part, policy in outer:
        if isinstance(policy, BackoffSection):
            raise SettingError(
                "decides alone and cannot wrap another policy; put it last", *where, value=part
            )
        if part in wrappers:
            raise SettingError("occurs twice; remove one", *where, value=part)
        for other, wrapper in wrappers.items():
            if policy.once and wrapper.kind == policy.kind:
                raise SettingError(
                    f"{other!r} is of kind {policy.kind!r} too; remove one", *where, value=part
                )
        wrappers[part] = policy
    return PolicyParts(wrappers, last, innermost)


def code_of(run: Run) -> dict[str, PolicyCode]:
    """Return the code of each cell of a run that has none, as an earlier version recorded it.

    Empty if this version does not know the run's policies.
    """
    try:
        described = _TABLES.validate_python(run.scenario["retry"])
        return {cell.id: resolve(described, cell.retry).code() for cell in run.cells}
    except ValueError:
        return {}


def names_in(described: Mapping[str, AnyPolicy], name: str) -> Iterator[str]:
    """Yield the name of a policy, and those of all that its stacks name."""
    policy = {**BUILT_IN_POLICIES, **described}[name]
    yield name
    for layer in policy.layers if isinstance(policy, StackSection) else ():
        yield from names_in(described, layer)


def check_policies(
    described: Mapping[str, AnyPolicy], swept: Sequence[str], modes: Sequence[str], streamed: bool
) -> None:
    """Raise SettingError if the policies of a scenario cannot be used.

    `described`: its `[retry.*]` tables; `swept`: `sweep.retry`; `modes`: `sweep.mode`;
    `streamed`: `endpoint.stream`.
    """
    for name, policy in described.items():
        if isinstance(policy, StackSection):
            resolve(described, name)
    for name in swept:
        hedges = resolve(described, name).hedges
        if hedges and "sync" in modes:
            raise SettingError(
                "hedges, and sweep.mode contains 'sync', which has one request in flight at a "
                "time; remove one of them",
                *SWEPT,
                value=name,
            )
        if hedges and not streamed:
            raise SettingError(
                "hedges on the first token, which endpoint.stream = false does not show; remove "
                "one of them",
                *SWEPT,
                value=name,
            )


def _taken_apart(
    policies: Mapping[str, AnyPolicy], name: str, around: tuple[str, ...]
) -> Iterator[tuple[str, BackoffSection | WrapperSection]]:
    policy = policies[name]
    match policy:
        case BackoffSection() | WrapperSection():
            yield name, policy
            return
        case StackSection():
            pass
        case _:
            assert_never(policy)
    if name in around:
        circle = " > ".join((*around[around.index(name) :], name))
        raise SettingError(
            f"contains itself ({circle}); remove it", "retry", name, "layers", value=name
        )
    for part in policy.layers:
        if part not in policies:
            raise SettingError(_unknown(part, policies), "retry", name, "layers", value=part)
        yield from _taken_apart(policies, part, (*around, name))


def _unknown(name: str, policies: Mapping[str, Any]) -> str:
    return (
        f"unknown policy{nearest(name, policies)}; describe it in [retry.{name}], or use "
        f"one of: {', '.join(sorted(policies))}"
    )
