"""What answers the requests of a run, whichever kind of endpoint the scenario names."""

from __future__ import annotations

from pathlib import Path

from harness.bench.scenario import Scenario
from harness.endpoints.local_llm import LocalLLM, LocalLLMEndpoint
from harness.endpoints.openai import Elsewhere, OpenAIEndpoint
from harness.endpoints.section import EndpointServer
from harness.endpoints.simulated import SimulatedEndpoint, Simulator


def server_of(scenario: Scenario, api_key: str, log: Path) -> EndpointServer:
    """Return the server of a run, not started; `api_key` is for a live endpoint.

    `log`: where a simulated provider writes what it saw.

    Raises PreflightError when what it needs is not installed.
    """
    match scenario.endpoint:
        case SimulatedEndpoint() as simulated:
            return Simulator(
                simulated.profile,
                simulated.overrides,
                scenario.seed,
                simulated.time_scale,
                log,
            )
        case LocalLLMEndpoint() as local:
            return LocalLLM(local)
        case OpenAIEndpoint() as live:
            return Elsewhere(live.base_url, api_key, live.settle)
