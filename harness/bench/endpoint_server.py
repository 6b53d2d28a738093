"""What answers the requests of a run, whichever kind of endpoint the scenario names."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType
from typing import Protocol

from harness.bench.scenario import Scenario
from harness.endpoints.local_llm_process import LocalLLM
from harness.endpoints.sections import LocalLLMEndpoint, OpenAIEndpoint, SimulatedEndpoint
from harness.endpoints.simulator_process import Simulator


class Server(Protocol):
    """A context manager: inside, `base_url` answers requests that carry `api_key`."""

    @property
    def base_url(self) -> str:
        """Where the API is."""

    @property
    def api_key(self) -> str:
        """What requests authenticate with."""

    def __enter__(self) -> Server: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def begin_trial(self, cell: str, repeat: int) -> None:
        """Make ready for a trial: whatever an earlier one left behind is not to be felt."""


class Elsewhere:
    """A live endpoint: nothing to start or stop; `settle` seconds lie between trials."""

    def __init__(self, base_url: str, api_key: str, settle: float) -> None:
        self.base_url = base_url
        self.api_key = api_key
        self._settle = settle
        self._begun = False

    def __enter__(self) -> Elsewhere:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    def begin_trial(self, cell: str, repeat: int) -> None:
        """Let the endpoint come to rest after the trial before."""
        if self._begun:
            time.sleep(self._settle)
        self._begun = True


def server_of(scenario: Scenario, api_key: str, log: Path) -> Server:
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
