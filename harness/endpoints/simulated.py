"""The simulated provider: each run starts a process for it, or simulates it in virtual time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import TracebackType
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from harness.config.budget import OwnPrice
from harness.config.faults import Fault
from harness.config.tables import SettingError
from harness.endpoints.section import (
    EndpointFacts,
    EndpointSection,
    SecondsRange,
    SimulationSettings,
)
from harness.endpoints.subprocess_server import Child
from harness.records.errors import HarnessError

_WHAT = "the simulated provider"


class SimulatedEndpoint(EndpointSection):
    """The harness's own provider. `override` replaces keys of the profile.

    `faults` replace those of the profile. `time`: `real` is HTTP on this machine, `virtual` calls
    the model of time directly, with a clock that jumps to the next event. `price`: of its tokens,
    which cost nothing without it.
    """

    kind: Literal["simulated"] = "simulated"
    profile: str = "deepseek-reasoner"
    override: dict[str, Any] = Field(default_factory=dict)
    faults: tuple[Fault, ...] | None = Field(default=None, strict=False)
    time: Literal["real", "virtual"] = "real"
    time_scale: float = Field(default=1.0, ge=1e-6, le=1)
    model: str = "simulated-reasoner"
    price: OwnPrice | None = None

    @model_validator(mode="after")
    def _faults_can_strike(self) -> SimulatedEndpoint:
        for number, fault in enumerate(self.faults or ()):
            if fault.row.streams_only and not self.stream:
                raise SettingError(
                    "affects only streams, and endpoint.stream is false; set that to true, or "
                    "remove the fault",
                    "faults",
                    number,
                    "kind",
                    value=fault.kind,
                )
        return self

    @property
    def overrides(self) -> dict[str, Any]:
        """The keys that replace those of the profile, with the faults."""
        if self.faults is None:
            return self.override
        faults = [fault.model_dump(mode="json", exclude_defaults=True) for fault in self.faults]
        return {**self.override, "faults": faults}

    @property
    def facts(self) -> EndpointFacts:
        """A simulated provider on this machine that costs what the scenario says."""
        virtual = self.time == "virtual"
        how = "virtual time" if virtual else f"time scale {self.time_scale:g}"
        return EndpointFacts(
            heading=f"SIMULATED provider {self.profile}, {how}",
            simulation=SimulationSettings(self.profile, self.overrides, virtual),
            time_scale=self.time_scale,
            key_variable=None,
            key_advice="",
            price=self.price.as_price() if self.price else None,
            no_price="the provider is simulated",
            may_cost=False,
            settle=0.0,
            call_seconds=SecondsRange(0.0, 0.0),  # the profile says it
            connect_floor=1.0,  # connecting is the machine's own work, which no scale shortens
            nonce=False,
            json_mode=True,
            extra_body={},
            extra_body_by_phase={},
            reuse_connections=True,
            own_server=True,
            packages=(),
        )

    def phase_settings(self) -> Iterator[tuple[tuple[str | int, ...], Iterable[str]]]:
        """Yield the phases of its faults."""
        for number, fault in enumerate(self.faults or ()):
            yield ("faults", number, "phases"), fault.phases or ()

    def server(self, api_key: str, seed: int, log: Path) -> Simulator:
        """Return a provider that writes `log`; it takes no key."""
        return Simulator(self.profile, self.overrides, seed, self.time_scale, log)

    def check(self) -> None:
        """Do nothing: it is part of the harness."""


class Simulator:
    """A `harness serve` on a free port of 127.0.0.1. Use it as a context manager."""

    api_key = "none"
    """It needs no key, but the client must send one."""

    def __init__(
        self, profile: str, override: Mapping[str, Any], seed: int, time_scale: float, log: Path
    ) -> None:
        arguments = [
            "serve", profile,
            "--port", "0", "--seed", str(seed), "--time-scale", repr(time_scale),
            "--log", str(log), "--json", "--until-stdin-closes",
            *(part for setting in settings(override) for part in ("--set", setting)),
        ]  # fmt: skip
        self._child = Child(_WHAT, "harness", arguments)
        self._control: HTTPConnection | None = None
        self.base_url = ""

    def __enter__(self) -> Simulator:
        self.base_url = self._child.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._control is not None:
            self._control.close()
        self._child.stop()

    def begin_trial(self, cell: str, repeat: int) -> None:
        """Reset the provider: no request in service, no memory of earlier requests."""
        # One connection for all trials: an outage of the last trial refuses new connections.
        if self._control is None:
            url = urlsplit(self.base_url)
            self._control = HTTPConnection(url.hostname or "", url.port, timeout=30)
        try:
            body = json.dumps({"cell": cell, "repeat": repeat})
            headers = {"content-type": "application/json"}
            self._control.request("POST", "/simulator/trial", body, headers)
            response = self._control.getresponse()
            said = response.read()
        except (OSError, HTTPException) as error:
            raise HarnessError(f"{_WHAT} does not answer ({error})") from None
        if response.status != 200:
            raise HarnessError(f"{_WHAT} does not understand: {said.decode(errors='replace')}")


def settings(override: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the `dotted.key=value` settings that say what nested tables say."""
    for key, value in override.items():
        if isinstance(value, Mapping):
            yield from settings(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}={in_toml(value)}"


def in_toml(value: Any) -> str:
    """Return a plain value on one line, as TOML writes it."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(k)} = {in_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(in_toml, value)) + "]"
    return json.dumps(value)  # also TOML, for text, numbers, true and false
