"""The simulated provider: in a process of its own, or in virtual time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from harness.config.budget import OwnPrice
from harness.config.faults import Fault
from harness.config.request_settings import NO_KEY
from harness.config.tables import SettingError
from harness.endpoints.section import (
    EndpointFacts,
    EndpointSection,
    EndpointServer,
    SecondsRange,
    SimulationSettings,
)
from harness.records.errors import HarnessError
from harness.records.redaction import escape_controls

_WHAT = "the simulated provider"


class SimulatedEndpoint(EndpointSection):
    """The simulated provider, which the run starts.

    Example::

        [endpoint]
        kind = "simulated"
        profile = "deepseek-reasoner"
        override = { concurrency_cap = 6 }
        time = "virtual"
    """

    kind: Literal["simulated"] = "simulated"
    """The kind of endpoint."""
    profile: str = "deepseek-reasoner"
    """A shipped profile (`harness serve --list`), or the path of a TOML file, relative to the
    folder of the scenario.
    """
    override: dict[str, Any] = Field(default_factory=dict)
    """Keys of the profile to replace; docs/provider.md lists them."""
    faults: tuple[Fault, ...] | None = Field(default=None, strict=False)
    """What goes wrong, and when; the faults of the profile if absent."""
    time: Literal["real", "virtual"] = "real"
    """`real`: HTTP on this machine. `virtual`: the provider's model is called directly, with a
    clock that jumps to the next event.
    """
    time_scale: float = Field(default=1.0, ge=1e-6, le=1)
    """Real seconds in one scenario second, with `time = "real"`."""
    model: str = "simulated-reasoner"
    """The name of the model in the requests."""
    price: OwnPrice | None = None
    """The price of its tokens, which are free if absent."""

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
        """Return the facts; the price is that of the scenario."""
        virtual = self.time == "virtual"
        how = "virtual time" if virtual else f"time scale {self.time_scale:g}"
        return EndpointFacts(
            heading=f"SIMULATED provider {escape_controls(self.profile)}, {how}",
            simulation=SimulationSettings(self.profile, self.overrides, virtual),
            time_scale=self.time_scale,
            price=self.price.as_price() if self.price else None,
            no_price="the provider is simulated",
            may_cost=False,
            call_seconds=SecondsRange(0.0, 0.0),  # the profile determines it
            connect_floor=1.0,  # connecting takes real time
            nonce=False,
            own_server=True,
        )

    def phase_settings(self) -> Iterator[tuple[tuple[str | int, ...], Iterable[str]]]:
        """Yield the phases of each fault."""
        for number, fault in enumerate(self.faults or ()):
            yield ("faults", number, "phases"), fault.phases or ()

    def server(self, api_key: str, seed: int, log: Path) -> AbstractContextManager[EndpointServer]:
        """Start a provider that writes `log`; it needs no key."""
        return start_simulator(self.profile, self.overrides, seed, self.time_scale, log)

    def check(self) -> None:
        """Do nothing: it is part of the harness."""


@contextmanager
def start_simulator(
    profile: str, overrides: Mapping[str, Any], seed: int, time_scale: float, log: Path
) -> Iterator[EndpointServer]:
    """Run `harness serve` on a free port of 127.0.0.1; each trial resets it."""
    from http.client import HTTPConnection, HTTPException

    from harness.endpoints.subprocess_server import serving

    arguments = [
        "serve", profile,
        "--port", "0", "--seed", str(seed), "--time-scale", repr(time_scale),
        "--log", str(log), "--json", "--until-stdin-closes",
        *(part for setting in settings(overrides) for part in ("--set", setting)),
    ]  # fmt: skip
    with serving(_WHAT, "harness", arguments) as base_url:
        url = urlsplit(base_url)
        # One connection for all trials: an outage of the last trial refuses new connections.
        control = HTTPConnection(url.hostname or "", url.port, timeout=30)

        def begin_trial(cell: str, repeat: int) -> None:
            body = json.dumps({"cell": cell, "repeat": repeat})
            try:
                headers = {"content-type": "application/json"}
                control.request("POST", "/simulator/trial", body, headers)
                response = control.getresponse()
                said = response.read()
            except (OSError, HTTPException) as error:
                raise HarnessError(f"{_WHAT} does not answer ({error})") from None
            if response.status != 200:
                reason = said.decode(errors="replace")
                raise HarnessError(f"{_WHAT} refuses to begin a trial: {reason}")

        with closing(control):
            yield EndpointServer(base_url, NO_KEY, begin_trial)


def settings(overrides: Mapping[str, Any]) -> list[str]:
    """Return `overrides` as `key=value` settings, with values in TOML."""
    return [f"{key}={_in_toml(value)}" for key, value in overrides.items()]


def _in_toml(value: Any) -> str:
    if isinstance(value, Mapping):
        pairs = (f"{json.dumps(key)} = {_in_toml(inner)}" for key, inner in value.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_in_toml, value))}]"
    return json.dumps(value)  # also TOML, for text, numbers, true and false
