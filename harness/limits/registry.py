"""The kinds of limit that `[permits.NAME]` can describe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator, SerializeAsAny

from harness.config.kinds import KindTable
from harness.limits.section import LimitSection

BUILT_IN_LIMITS: Mapping[str, str] = {
    "aimd": "harness.limits.aimd:Aimd",
    "gradient2": "harness.limits.gradient2:Gradient2",
    "inspect-ai": "harness.limits.inspect_ai:InspectAI",
    "elastic": "harness.limits.elastic:Elastic",
}
"""The place of the class of each kind."""

LIMIT_KINDS: KindTable[type[LimitSection]] = KindTable(
    "harness.limits", BUILT_IN_LIMITS, lambda kind: kind
)

AdaptivePermits = Annotated[SerializeAsAny[LimitSection], BeforeValidator(LIMIT_KINDS.validate)]


def limit_named(described: Mapping[str, LimitSection], name: str) -> LimitSection | None:
    """Return the limit with this name: one that is described, or a kind with its defaults.

    None if there is neither.
    """
    if name in described:
        return described[name]
    if name not in LIMIT_KINDS.names():
        return None
    section: LimitSection = LIMIT_KINDS.validate({"kind": name})
    return section
