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


class RealModelSection(Section):
    """What every real model has in common.

    `extra_body` goes into the body of every request, `extra_body_by_phase` into those of phases
    that have this setting; its keys replace those of `extra_body`. `reuse_connections`: if false,
    each request makes a new connection. This is for servers that close connections after a response
    without saying so, as llama.cpp's does after a stream: the next request on it would be lost.
    """

    extra_body: Body = Field(default_factory=dict)
    extra_body_by_phase: dict[str, Body] = Field(default_factory=dict)
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
        return (self.extra_body, *self.extra_body_by_phase.values())


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
