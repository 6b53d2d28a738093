"""From the names of policies to what they are made of; a policy that cannot be is refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, assert_never

import msgspec
from pydantic import TypeAdapter

from harness.config.tables import nearest
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

    Raises ValueError, one line, where it cannot be.
    """
    policies = {**BUILT_IN_POLICIES, **described}
    if name not in policies:
        raise ValueError(f"sweep.retry names {name!r}, {_unknown(name, policies)}")
    where = f"retry.{name}.layers"
    wrappers: dict[str, WrapperSection] = {}
    *outer, (last, innermost) = _taken_apart(policies, name, ())
    if isinstance(innermost, WrapperSection):
        if not isinstance(policies[name], StackSection):
            raise ValueError(
                f"sweep.retry names {name!r}, which wraps another policy; name a stack: "
                f'[retry.NAME] with kind = "stack", layers = ["{name}", "none"]'
            )
        raise ValueError(
            f"{where}: {last!r} wraps another policy and cannot be the last; end with one that "
            "decides, such as 'none' or 'openai-sdk'"
        )
    for part, policy in outer:
        if isinstance(policy, BackoffSection):
            raise ValueError(
                f"{where}: {part!r} decides alone and nothing can stand inside it; put it last"
            )
        if part in wrappers:
            raise ValueError(f"{where}: {part!r} occurs twice; remove one")
        for other, wrapper in wrappers.items():
            if policy.once and wrapper.kind == policy.kind:
                raise ValueError(
                    f"{where}: {other!r} and {part!r} are both of kind {policy.kind!r}; remove one"
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
    """Raise ValueError, one line, when the policies of a scenario cannot be what they say.

    `described`: its `[retry.*]` tables; `swept`: `sweep.retry`; `modes`: `sweep.mode`;
    `streamed`: `endpoint.stream`.
    """
    for name, policy in described.items():
        if isinstance(policy, StackSection):
            resolve(described, name)
    for name in swept:
        hedges = resolve(described, name).hedges
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
        raise ValueError(f"retry.{name}.layers: {name!r} contains itself ({circle}); take it out")
    for part in policy.layers:
        if part not in policies:
            raise ValueError(f"retry.{name}.layers names {part!r}, {_unknown(part, policies)}")
        yield from _taken_apart(policies, part, (*around, name))


def _unknown(name: str, policies: Mapping[str, Any]) -> str:
    return (
        f"which is no policy{nearest(name, policies)}; describe it in [retry.{name}] or use "
        f"one of: {', '.join(sorted(policies))}"
    )
