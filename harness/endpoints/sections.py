"""What answers the requests of a run: the sections that `[endpoint]` can be."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from harness.config.budget import OwnPrice
from harness.config.config_base import Section, Text
from harness.config.faults import Fault
from harness.config.prices import Price, price_of
from harness.config.tables import Delay

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def _base_url(value: str) -> str:
    try:
        url = urlsplit(value)
        usable = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        usable = False
    if not usable or not value.isprintable() or " " in value:
        if "@" in value or "?" in value:
            raise PydanticCustomError("secret", 'write it like "https://api.example.com/v1"')
        raise ValueError('write it like "https://api.example.com/v1"')
    if "?" in value or "#" in value:
        raise PydanticCustomError(
            "secret",
            "has a query or fragment in it, behind which no path can be added; end it before",
        )
    if url.username is not None:
        raise PydanticCustomError(
            "secret", "has a user or password in it; name the key's variable in api_key_env instead"
        )
    return value


def _variable(value: str) -> str:
    if not _VARIABLE.match(value):
        raise PydanticCustomError(
            "secret", "is no name of an environment variable; name the one that holds the API key"
        )
    return value


def _sendable(value: dict[str, Any]) -> dict[str, Any]:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"cannot be sent as JSON ({error}); use text, numbers, lists") from None
    return value


Body = Annotated[dict[str, Any], AfterValidator(_sendable)]


class SimulatedEndpoint(Section):
    """The harness's own provider. `override` replaces keys of the profile.

    `faults`: what goes wrong and when, in place of what the profile says of that.
    `time`: `real` over HTTP on this machine, `virtual` straight against the model of time, on a
    clock that jumps to what is next.
    `price`: what its tokens would cost; they cost nothing without it.
    """

    kind: Literal["simulated"] = "simulated"
    profile: str = "deepseek-reasoner"
    override: dict[str, Any] = Field(default_factory=dict)
    faults: tuple[Fault, ...] | None = Field(default=None, strict=False)
    time: Literal["real", "virtual"] = "real"
    time_scale: float = Field(default=1.0, ge=1e-6, le=1)
    stream: bool = True
    model: str = "simulated-reasoner"
    price: OwnPrice | None = None

    @model_validator(mode="after")
    def _faults_can_strike(self) -> SimulatedEndpoint:
        for number, fault in enumerate(self.faults or ()):
            if fault.row.streams_only and not self.stream:
                raise PydanticCustomError(
                    "within",
                    f"faults.{number}.kind = {fault.kind!r}: strikes streams only, and "
                    "endpoint.stream is false; set that to true or leave the fault out",
                )
        return self

    @property
    def overrides(self) -> dict[str, Any]:
        """What replaces keys of the profile, the faults among it."""
        if self.faults is None:
            return self.override
        faults = [fault.model_dump(mode="json", exclude_defaults=True) for fault in self.faults]
        return {**self.override, "faults": faults}

    @property
    def known_price(self) -> Price | None:
        """What tokens cost, None where that is not said."""
        return self.price.as_price() if self.price else None

    @property
    def extra_bodies(self) -> tuple[Mapping[str, Any], ...]:
        """All that is added to the bodies of requests: nothing."""
        return ()


class BodyByPhase(Section):
    """What goes into the body of one phase's requests alone; its keys go before `extra_body`'s."""

    decompose: Body = Field(default_factory=dict)
    research: Body = Field(default_factory=dict)
    synthesize: Body = Field(default_factory=dict)


class _RealModel(Section):
    """What every real model has in common.

    `extra_body` goes into the body of every request. `reuse_connections`: a new connection for
    each request when false, for servers that close one after a response without saying so, as
    llama.cpp's does after a stream: the next request on it would be lost.
    """

    extra_body: Body = Field(default_factory=dict)
    extra_body_by_phase: BodyByPhase = BodyByPhase()
    json_mode: bool = True
    stream: bool = True
    reuse_connections: bool = True

    @property
    def time_scale(self) -> float:
        """A real model runs in real time."""
        return 1.0

    @property
    def extra_bodies(self) -> tuple[Mapping[str, Any], ...]:
        """All that is added to the bodies of requests, of every phase and of one."""
        by_phase = self.extra_body_by_phase
        return (self.extra_body, by_phase.decompose, by_phase.research, by_phase.synthesize)


class OpenAIEndpoint(_RealModel):
    """Any OpenAI-compatible API. The key is read from the environment, never from the file.

    `price`: what tokens cost, for models that the shipped price list does not know.
    """

    kind: Literal["openai"]
    base_url: Annotated[str, AfterValidator(_base_url)]
    model: Text
    api_key_env: Annotated[str, AfterValidator(_variable)] | None = None
    cache: Literal["avoid", "keep"] = "avoid"
    settle: Delay = 0.0
    price: OwnPrice | None = None

    @property
    def known_price(self) -> Price | None:
        """What tokens cost, as the scenario or the price list says; None where neither does."""
        return self.price.as_price() if self.price else price_of(self.model, self.base_url)


class LocalLLMEndpoint(_RealModel):
    """A real model of 135 million weights that the run itself starts and stops on this machine.

    `context`: tokens of one request, prompt and answer together. `parallel`: requests in service
    at once; more of them queue in the server. `threads`: processor threads of the model.
    """

    kind: Literal["local-llm"]
    reuse_connections: bool = False
    model: Literal["SmolLM2-135M-Instruct"] = "SmolLM2-135M-Instruct"
    context: int = Field(default=2048, ge=256, le=8192)
    parallel: int = Field(default=4, ge=1, le=64)
    threads: int = Field(default=1, ge=1, le=256)

    @property
    def known_price(self) -> None:
        """Its tokens have no price."""
        return None


def _simulated_unless_said(value: Any) -> Any:
    if isinstance(value, Mapping) and "base_url" not in value:
        return {"kind": "simulated", **value}
    return value


Endpoint = Annotated[
    SimulatedEndpoint | OpenAIEndpoint | LocalLLMEndpoint,
    Field(discriminator="kind"),
    BeforeValidator(_simulated_unless_said),
]
