"""The kinds of endpoint that `[endpoint]` can be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from harness.endpoints.local_llm import LocalLLMEndpoint
from harness.endpoints.openai import OpenAIEndpoint
from harness.endpoints.simulated import SimulatedEndpoint


def _simulated_unless_said(value: Any) -> Any:
    if isinstance(value, Mapping) and "base_url" not in value:
        return {"kind": "simulated", **value}
    return value


Endpoint = Annotated[
    SimulatedEndpoint | OpenAIEndpoint | LocalLLMEndpoint,
    Field(discriminator="kind"),
    BeforeValidator(_simulated_unless_said),
]
