"""What a kind of endpoint is: the keys of `[endpoint]`, facts about it, and the server of a run.

To add a kind, derive a class from `EndpointSection`, or from `RealModelSection` for a model that
takes extra keys in its requests, and name it in `endpoints.registry`, or in an entry point of the
group `harness.endpoints` in another package.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, NamedTuple, Protocol

from pydantic import AfterValidator, Field

from harness.config.config_base import Section
from harness.config.prices import Price


def _sendable(value: dict[str, Any]) -> dict[str, Any]:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"cannot be sent as JSON ({error}); use text, numbers, lists") from None
    return value


Body = Annotated[dict[str, Any], AfterValidator(_sendable)]


class SecondsRange(NamedTuple):
    """A rough range, scenario seconds."""

    low: float
    high: float


class SimulationSettings(NamedTuple):
    """What a simulated provider simulates: a profile, and what replaces keys of the profile.

    `virtual`: without HTTP, on a clock that jumps to what is next.
    """

    profile: str
    overrides: Mapping[str, Any]
    virtual: bool


class EndpointFacts(NamedTuple):
    """What is done differently for different endpoints.

    `heading`: names it, before a run and in its report. `simulation`: None for a real model.
    `time_scale`: how many real seconds a scenario second lasts; 1 for a real model. `key_variable`:
    the environment variable that holds the API key, None if it takes none; `key_advice`: what to
    look at when the key is refused. `price`: None where it is not known; `no_price` then says why.
    `may_cost`: whether to ask before a run. `settle`: scenario seconds between two trials.
    `call_seconds`: how long a call is assumed to take, if it is not simulated. `connect_floor`: the
    fewest real seconds that connecting may take. `nonce`: prompts begin with a nonce, so that no
    prompt cache knows them. `json_mode`: it can be asked for a JSON object. `extra_body`: keys of
    the bodies of all requests; `extra_body_by_phase`: of phases, by the setting of the phase.
    `reuse_connections`: whether a connection can serve several requests. `own_server`: the run
    starts it, so that no proxy is used. `packages`: distributions whose versions are recorded.
    """

    heading: str
    simulation: SimulationSettings | None
    time_scale: float
    key_variable: str | None
    key_advice: str
    price: Price | None
    no_price: str
    may_cost: bool
    settle: float
    call_seconds: SecondsRange
    connect_floor: float
    nonce: bool
    json_mode: bool
    extra_body: Mapping[str, Any]
    extra_body_by_phase: Mapping[str, Mapping[str, Any]]
    reuse_connections: bool
    own_server: bool
    packages: tuple[str, ...]

    @property
    def bodies(self) -> tuple[Mapping[str, Any], ...]:
        """All that is added to the bodies of requests, of every phase and of one."""
        return (self.extra_body, *self.extra_body_by_phase.values())


class EndpointSection(Section):
    """The keys that `[endpoint]` has for every kind."""

    kind: str
    model: str
    stream: bool = True

    @property
    @abstractmethod
    def facts(self) -> EndpointFacts:
        """What the other parts of the harness need to know."""

    @abstractmethod
    def server(self, api_key: str, seed: int, log: Path) -> EndpointServer:
        """Return the server of a run, not started.

        `api_key`: from `key_variable`. `log`: where a simulated provider writes what it saw.
        Raises PreflightError when what it needs is not installed.
        """

    def phase_settings(self) -> Iterable[tuple[tuple[str | int, ...], Iterable[str]]]:
        """Return the settings of phases that its keys name, with the place of each key.

        Those that the workflow does not have are refused. Most kinds name none.
        """
        return ()

    @abstractmethod
    def check(self) -> None:
        """Raise PreflightError when a run cannot begin, for example as nobody listens."""


class RealModelSection(EndpointSection):
    """What every real model has in common.

    `extra_body` goes into the body of every request, `extra_body_by_phase` into those of phases
    that have this setting; its keys replace those of `extra_body`. `reuse_connections`: if false,
    each request makes a new connection. This is for servers that close connections after a response
    without saying so, as llama.cpp's does after a stream: the next request on it would be lost.
    """

    extra_body: Body = Field(default_factory=dict)
    extra_body_by_phase: dict[str, Body] = Field(default_factory=dict)
    json_mode: bool = True
    reuse_connections: bool = True


class EndpointServer(Protocol):
    """A context manager; inside it, `base_url` answers requests that carry `api_key`."""

    @property
    def base_url(self) -> str:
        """Where the API is."""

    @property
    def api_key(self) -> str:
        """What requests authenticate with."""

    def __enter__(self) -> EndpointServer: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def begin_trial(self, cell: str, repeat: int) -> None:
        """Prepare for a trial, so that earlier trials do not affect it."""
