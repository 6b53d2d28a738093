"""Resolves the names of policies, and refuses policies that cannot be used."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import msgspec
from pydantic import TypeAdapter

from harness.config.tables import SettingError, nearest
from harness.policies.registry import BUILT_IN_POLICIES, RetryPolicy
from harness.policies.retry import Retry
from harness.policies.section import (
    AnyPolicy,
    BackoffSection,
    PolicyContext,
    StackSection,
    WrapperSection,
)
from harness.policies.stack import Stack
from harness.records.schema import PolicyCode
from harness.records.settings import one_at_a_time

Path: TypeAlias = tuple[str | int, ...]
"""A key of a scenario, with positions in lists."""

_TABLES = TypeAdapter(dict[str, RetryPolicy])


class PolicyParts(NamedTuple):
    """The parts of a policy: wrappers by name, outermost first, around a backoff."""

    wrappers: Mapping[str, WrapperSection]
    name: str
    backoff: BackoffSection

    @property
    def hedges(self) -> bool:
        """Whether it may send a second attempt of a call while the first one runs."""
        return any(wrapper.hedges for wrapper in self.wrappers.values())

    @property
    def most_attempts(self) -> int:
        """The most attempts of a call, without those that a breaker makes."""
        return self.backoff.most_attempts * (2 if self.hedges else 1)

    def build(self, time_scale: float, streamed: bool) -> Stack:
        """Return a new policy for a trial."""

        def context(name: str) -> PolicyContext:
            return PolicyContext(name, time_scale, streamed)

        layers = [wrapper.layer(context(name)) for name, wrapper in self.wrappers.items()]
        layers += self.backoff.layers(context(self.name))
        return Stack(layers, self.retry(time_scale, streamed))

    def retry(self, time_scale: float, streamed: bool) -> Retry:
        """Return the rule inside the layers."""
        return self.backoff.retry(PolicyContext(self.name, time_scale, streamed))

    def code(self) -> PolicyCode:
        """Return Python that retries like the policy."""
        sections: list[BackoffSection | WrapperSection] = [*self.wrappers.values(), self.backoff]
        modules = {type(section).__module__.partition(".")[0] for section in sections}
        alone = self.backoff.layers(PolicyContext(self.name, 1.0, streamed=True))
        return msgspec.structs.replace(
            self.backoff.code(),
            policy=tuple(_expression(section) for section in sections),
            imports=tuple(sorted(modules - {"harness"})),
            plain=not self.wrappers and not alone,
            hedges=self.hedges,
            safety=self.safety,
            simplicity=self.simplicity,
        )

    @property
    def safety(self) -> tuple[int, int]:
        """Its rank among policies by safety: most attempts first, with jitter before without."""
        return (-self.most_attempts, 0 if self.backoff.jitters else 1)

    @property
    def simplicity(self) -> tuple[int, int]:
        """Its rank among policies by simplicity: fewest layers first, then fewest keys."""
        parts = (*self.wrappers.values(), self.backoff)
        return (len(parts), sum(len(type(part).model_fields) - 1 for part in parts))


def _expression(section: BackoffSection | WrapperSection) -> str:
    """Return Python that makes the section, with all its values."""
    cls = type(section)
    ours = cls.__module__.startswith("harness.policies.")
    arguments = [
        f"{name}={json.dumps(value) if isinstance(value, str) else repr(value)}"
        for name, value in section
        if name != "kind" or cls.model_fields[name].is_required()
    ]
    module = "harness.policies" if ours else cls.__module__
    return f"{module}.{cls.__name__}({', '.join(arguments)})"


def resolve(
    described: Mapping[str, AnyPolicy], name: str, path: Path = ("sweep", "retry")
) -> PolicyParts:
    """Return the parts of the policy `name`, one of those `described` or built in.

    `path`: the key of the scenario that names it. Raises SettingError if the policy cannot be used.
    """
    wrappers: dict[str, WrapperSection] = {}
    *outer, (where, last, innermost) = _layers(described, name, path, ())
    if isinstance(innermost, WrapperSection):
        raise SettingError(
            "wraps another policy and cannot be the last layer; end with a policy that decides, "
            "such as 'none' or 'openai-sdk'"
            if where != path
            else "wraps another policy; name a stack instead: "
            f'[retry.NAME] with kind = "stack", layers = ["{name}", "none"]',
            *where,
            value=last,
        )
    for where, part, policy in outer:
        same = [known for known, other in wrappers.items() if other.kind == policy.kind]
        problem = None
        if isinstance(policy, BackoffSection):
            problem = "decides alone and cannot wrap another policy; put it last"
        elif part in wrappers:
            problem = "occurs twice; remove one"
        elif policy.once and same:
            problem = f"{same[0]!r} is of kind {policy.kind!r} too; remove one"
        else:
            wrappers[part] = policy
        if problem:
            raise SettingError(problem, *where, value=part)
    return PolicyParts(wrappers, last, innermost)


def _layers(
    described: Mapping[str, AnyPolicy], name: str, path: Path, around: tuple[str, ...]
) -> Iterator[tuple[Path, str, BackoffSection | WrapperSection]]:
    """Yield the policies in `name`, outermost first, each with its name and the key that names it.

    `around`: the stacks that contain it.
    """
    policies = {**BUILT_IN_POLICIES, **described}
    if name not in policies:
        raise SettingError(
            f"unknown policy{nearest(name, policies)}; describe it in [retry.{name}], or use "
            f"one of: {', '.join(sorted(policies))}",
            *path,
            value=name,
        )
    if name in around:
        circle = " > ".join((*around[around.index(name) :], name))
        raise SettingError(f"contains itself ({circle}); remove it", *path, value=name)
    policy = policies[name]
    if not isinstance(policy, StackSection):
        yield path, name, policy
        return
    for number, layer in enumerate(policy.layers):
        yield from _layers(described, layer, ("retry", name, "layers", number), (*around, name))


def code_of_policy(described: Mapping[str, Any], name: str) -> PolicyCode:
    """Return the code of a policy of a recorded scenario; `described`: its table `retry`.

    Raises ValueError if this version does not know the policy.
    """
    return resolve(_TABLES.validate_python(described), name).code()


def names_in(described: Mapping[str, AnyPolicy], name: str) -> Iterator[str]:
    """Yield the name of a policy, and the names of all policies in its stacks."""
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
    for number, name in enumerate(swept):
        path = ("sweep", "retry", number)
        if not resolve(described, name, path).hedges:
            continue
        problem = None
        alone = next(filter(one_at_a_time, modes), None)
        if alone is not None:
            problem = (
                f"hedges, and sweep.mode contains '{alone}', which has one request in flight at a "
                "time"
            )
        elif not streamed:
            problem = "hedges on the first token, which endpoint.stream = false does not show"
        if problem:
            raise SettingError(f"{problem}; remove one of them", *path, value=name)
