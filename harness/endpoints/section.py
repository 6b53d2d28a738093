"""The base classes of kinds of endpoint: keys of `[endpoint]`, facts, and the server of a run.

To add a kind, derive a class from `EndpointSection`, or from `RealModelSection` for a model that
takes extra fields in its requests, and name it in `endpoints.registry`, or in another package in
an entry point of the group `harness.endpoints`.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, Field

from harness.config.config_base import Section
from harness.config.prices import Price
from harness.config.request_settings import ClientKind, RequestSettings, Secrets
from harness.config.response_reading import (
    DEFAULT_TERMS,
    FinishMeaning,
    ReadingTerms,
    ResponseLimits,
)


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
    """A profile, and the values that replace those of the profile.

    `virtual`: without HTTP, on a clock that jumps to the next event.
    """

    profile: str
    overrides: Mapping[str, Any]
    virtual: bool


class EndpointFacts(NamedTuple):
    """The differences between endpoints.

    `heading`: its name, before a run and in the report. `price`: None if it is unknown; `no_price`
    then names the model and says why. `may_cost`: whether to ask before a run. `call_seconds`: the
    assumed duration of a call, if it is not simulated. `nonce`: prompts begin with a nonce, so that
    no prompt cache contains them. `own_server`: the run starts it, so no proxy is used.
    `simulation`: None for a real model. `time_scale`: how many real seconds a scenario second
    lasts; 1 for a real model. `key_variable`: the environment variable of the API key, None without
    a key; `key_advice`: what to check if the key is refused. `settle`: scenario seconds between two
    trials. `connect_floor`: the minimum of real seconds for connecting. `json_mode`: it can be
    asked for a JSON object. `extra_body`: fields of the bodies of all requests;
    `extra_body_by_phase`: of phases, by the setting of the phase. `request`: how requests differ
    otherwise. `reuse_connections`: a connection can serve several requests. `packages`:
    distributions whose versions are recorded. `reading`: how responses are read. `metrics`: its
    server has a `metrics_url`.
    """

    heading: str
    price: Price | None
    no_price: str
    may_cost: bool
    call_seconds: SecondsRange
    nonce: bool
    own_server: bool
    simulation: SimulationSettings | None = None
    time_scale: float = 1.0
    key_variable: str | None = None
    key_advice: str = ""
    settle: float = 0.0
    connect_floor: float = 0.0
    json_mode: bool = True
    extra_body: Mapping[str, Any] = {}
    extra_body_by_phase: Mapping[str, Mapping[str, Any]] = {}
    request: RequestSettings = RequestSettings()
    reuse_connections: bool = True
    packages: tuple[str, ...] = ()
    reading: ReadingTerms = DEFAULT_TERMS
    metrics: bool = False

    @property
    def secret_variables(self) -> tuple[str, ...]:
        """The environment variables with the API key and with the values of headers and query."""
        own = () if self.key_variable is None else (self.key_variable,)
        return tuple(dict.fromkeys((*own, *self.request.variables)))

    @property
    def bodies(self) -> tuple[Mapping[str, Any], ...]:
        """The fields that are added to the bodies of requests, of all phases and of one."""
        return (self.extra_body, *self.extra_body_by_phase.values())


def _begin_trial(cell: str, repeat: int) -> None:
    """Do nothing, for servers in which no trial affects another."""


class EndpointServer(NamedTuple):
    """A server that runs: `base_url` answers requests that carry `api_key`.

    `metrics_url`: where it says how busy it is, None for nowhere; `metrics_key`: the key for that.
    `begin_trial`: prepares it for a trial (cell, repeat), so that earlier ones do not affect it.
    """

    base_url: str
    api_key: str
    begin_trial: Callable[[str, int], None] = _begin_trial
    metrics_url: str | None = None
    metrics_key: str | None = None


class EndpointSection(Section):
    """The keys that `[endpoint]` has for every kind."""

    kind: str
    """The kind of endpoint."""
    model: str
    """The name of the model in the requests."""
    stream: bool = True
    """Stream the responses."""
    client: ClientKind = "openai"
    """What sends the requests. `openai`: the openai package, as programs use it. `wire`: sockets
    alone, which take least time for a call, so that many streams are measured more exactly; only
    in the modes `async` and `serial`.
    """

    @property
    @abstractmethod
    def facts(self) -> EndpointFacts:
        """The facts that other parts of the harness need."""

    @abstractmethod
    def server(self, api_key: str, seed: int, log: Path) -> AbstractContextManager[EndpointServer]:
        """Start the server of a run, and stop it at the end.

        `api_key`: from `key_variable`. `log`: where a simulated provider writes its log. Raises
        PreflightError if a package that it needs is not installed.
        """

    def phase_settings(self) -> Iterable[tuple[tuple[str | int, ...], Iterable[str]]]:
        """Return the lists of settings of phases in its keys, with the path of each list.

        Settings that the workflow does not have are refused. Most kinds have no such lists.
        """
        return ()

    @abstractmethod
    def check(self) -> None:
        """Raise PreflightError if a run cannot begin, for example if the server is down."""

    def wait(self, secrets: Secrets, say: Callable[[str], None]) -> None:
        """Wait until the server answers, if the scenario asks for that; `say` tells the user.

        Raises PreflightError if it does not. By default, do nothing.
        """


class RealModelSection(EndpointSection):
    """The keys of every real model."""

    extra_body: Body = Field(default_factory=dict)
    """Keys that are added to the body of every request."""
    extra_body_by_phase: dict[str, Body] = Field(default_factory=dict)
    """Keys that are added to the requests of one phase only, by its setting; they replace those of
    `extra_body`.
    """
    json_mode: bool = True
    """Send `response_format` in calls that ask for JSON."""
    reuse_connections: bool = True
    """`false` makes a new connection for each request. This is for servers that close a connection
    after a response without notice, as llama.cpp does after a stream: the next request would be
    lost.
    """
    strict: bool = False
    """`true` makes every anomaly of a response a failure, such as a stream without `[DONE]`; see
    docs/endpoints.md.
    """
    limits: ResponseLimits = ResponseLimits()
    """The most that is read of one response."""
    finish_reasons: dict[str, FinishMeaning] = Field(default_factory=dict)
    """The meaning of finish reasons that only this server has, such as `{ fin = "ok" }`. Without
    it, one that the harness does not know is the failure `unknown_finish`.
    """

    @property
    def reading(self) -> ReadingTerms:
        """How responses are read."""
        return ReadingTerms(self.strict, self.limits, self.finish_reasons)
