"""What answers the requests of a run: the sections that `[endpoint]` can be."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import TracebackType
from typing import Annotated, Any, Protocol

from pydantic import AfterValidator, Field

from harness.config.config_base import Section


def _sendable(value: dict[str, Any]) -> dict[str, Any]:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"cannot be sent as JSON ({error}); use text, numbers, lists") from None
    return value


Body = Annotated[dict[str, Any], AfterValidator(_sendable)]


class BodyByPhase(Section):
    """What goes into the body of one phase's requests alone; its keys go before `extra_body`'s."""

    decompose: Body = Field(default_factory=dict)
    research: Body = Field(default_factory=dict)
    synthesize: Body = Field(default_factory=dict)


class RealModelSection(Section):
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


class EndpointServer(Protocol):
    """A context manager: inside, `base_url` answers requests that carry `api_key`."""

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
        """Make ready for a trial: whatever an earlier one left behind is not to be felt."""
