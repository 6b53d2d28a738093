"""The kinds of endpoint that `[endpoint]` can describe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, SerializeAsAny

from harness.config.kinds import KindTable
from harness.endpoints.section import EndpointSection

ENDPOINTS: KindTable[type[EndpointSection]] = KindTable(
    "harness.endpoints",
    {
        "simulated": "harness.endpoints.simulated:SimulatedEndpoint",
        "openai": "harness.endpoints.openai:OpenAIEndpoint",
        "local-llm": "harness.endpoints.local_llm:LocalLLMEndpoint",
    },
    lambda kind: kind,
    way_out="remove it, or change the kind; "
    "`harness run --endpoint URL --model M` replaces the whole section",
)


def _with_default_kind(value: Any) -> Any:
    if isinstance(value, Mapping) and "base_url" not in value:
        return {"kind": "simulated", **value}
    return value


Endpoint = Annotated[
    SerializeAsAny[EndpointSection],
    BeforeValidator(ENDPOINTS.validate),
    BeforeValidator(_with_default_kind),
]
