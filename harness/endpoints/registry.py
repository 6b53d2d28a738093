"""The kinds of endpoint that `[endpoint]` can describe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator, SerializeAsAny

from harness.config.kinds import KindTable
from harness.endpoints.local_llm import LocalLLMEndpoint
from harness.endpoints.openai import OpenAIEndpoint
from harness.endpoints.section import EndpointSection
from harness.endpoints.simulated import SimulatedEndpoint


class EndpointKind(NamedTuple):
    """A kind of endpoint: its name, and the class that describes it."""

    name: str
    section: type[EndpointSection]


ENDPOINTS = KindTable(
    "harness.endpoints",
    [
        EndpointKind("simulated", SimulatedEndpoint),
        EndpointKind("openai", OpenAIEndpoint),
        EndpointKind("local-llm", LocalLLMEndpoint),
    ],
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
