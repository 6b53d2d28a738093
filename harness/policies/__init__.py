"""Retry policies: pure decisions whether to try again, and when.

The classes of all kinds of policy can be imported from here. Durations are in seconds.
"""

from __future__ import annotations

import pkgutil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.policies.aws_standard import AwsStandard as AwsStandard
    from harness.policies.breaker import Breaker as Breaker
    from harness.policies.exponential import Exponential as Exponential
    from harness.policies.finagle_budget import FinagleBudget as FinagleBudget
    from harness.policies.fixed import Fixed as Fixed
    from harness.policies.grpc_throttling import GrpcThrottling as GrpcThrottling
    from harness.policies.hedge import Hedge as Hedge
    from harness.policies.no_retry import NoRetry as NoRetry
    from harness.policies.openai_sdk import OpenAISdk as OpenAISdk
    from harness.policies.retry_budget import RetryBudget as RetryBudget
else:  # type checkers would accept any name

    def __getattr__(name: str) -> Any:
        """Return the class of a kind of policy; each is imported when it is first used."""
        from harness.policies.registry import BUILT_IN_KINDS

        for place in BUILT_IN_KINDS.values():
            if place.endswith(f":{name}"):
                return pkgutil.resolve_name(place)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        from harness.policies.registry import BUILT_IN_KINDS

        return sorted({*globals(), *(place.partition(":")[2] for place in BUILT_IN_KINDS.values())})
