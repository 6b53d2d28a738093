"""Limits that adapt: pure rules that set the number of permits from the attempts that end.

The classes of all kinds of limit can be imported from here. Durations are in seconds.
"""

from __future__ import annotations

import pkgutil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.limits.aimd import Aimd as Aimd
    from harness.limits.elastic import Elastic as Elastic
    from harness.limits.gradient2 import Gradient2 as Gradient2
    from harness.limits.inspect_ai import InspectAI as InspectAI
else:  # type checkers would accept any name

    def __getattr__(name: str) -> Any:
        """Return the class of a kind of limit; each is imported when it is first used."""
        from harness.limits.registry import BUILT_IN_LIMITS

        for place in BUILT_IN_LIMITS.values():
            if place.endswith(f":{name}"):
                return pkgutil.resolve_name(place)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        from harness.limits.registry import BUILT_IN_LIMITS

        return sorted({*globals(), *(at.partition(":")[2] for at in BUILT_IN_LIMITS.values())})
