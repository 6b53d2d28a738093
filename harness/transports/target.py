"""Where the attempts of a run are sent; without the SDK, whose import is slow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from harness.config.request_settings import ClientKind, RequestSettings
from harness.config.response_reading import DEFAULT_TERMS, ReadingTerms
from harness.records.clock import Anchor


class Target(NamedTuple):
    """Where attempts are sent, and what every request contains.

    `extra_body` is added to the body of each request, then the entry of `extra_body_by_phase` for
    its phase. `simulated`: headers tell the simulator the repeat, so that its draws differ between
    repeats and are equal between cells, and the phase, by its name in `settings`: the name under
    which the scenario has settings for it. `reuse_connections`: False for servers that close a
    connection after a response without announcing it. `own_server`: the run started the server.
    `reading`: how responses are read.
    `request`: how requests differ otherwise, with the values of environment variables. `secrets`:
    the texts that no record may contain. `keep_error_bodies`: record the bodies of refusals.
    `client`: what sends the requests.
    """

    base_url: str
    api_key: str
    model: str
    stream: bool
    extra_body: Mapping[str, Any]
    run_id: str
    anchor: Anchor
    simulated: bool
    extra_body_by_phase: Mapping[str, Mapping[str, Any]] = {}
    settings: Mapping[str, str] = {}
    reuse_connections: bool = True
    own_server: bool = False
    reading: ReadingTerms = DEFAULT_TERMS
    request: RequestSettings = RequestSettings()
    secrets: tuple[str, ...] = ()
    keep_error_bodies: bool = True
    client: ClientKind = "openai"

    @property
    def trust_env(self) -> bool:
        """Whether to use the proxies and certificates of the environment; not for own servers."""
        return not (self.simulated or self.own_server)
