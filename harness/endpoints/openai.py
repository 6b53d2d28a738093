"""Any OpenAI-compatible API that runs elsewhere."""

from __future__ import annotations

import ipaddress
import re
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator

from harness.config.budget import PRICE_WAY_OUT, OwnPrice
from harness.config.config_base import Text
from harness.config.prices import Price, price_of
from harness.config.tables import Delay, SettingError
from harness.endpoints.section import EndpointFacts, RealModelSection, SecondsRange
from harness.records.errors import PreflightError

_CONNECT_SECONDS = 5.0
_URL_EXPECTED = 'must be a URL such as "https://api.example.com/v1"'
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def _base_url(value: str) -> str:
    try:
        url = urlsplit(value)
        usable = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        usable = False
    if not usable or not value.isprintable() or " " in value:
        if "@" in value or "?" in value:
            raise SettingError(_URL_EXPECTED)
        raise SettingError(_URL_EXPECTED, value=value)
    if "?" in value or "#" in value:
        raise SettingError("must not have a query or fragment; remove it")
    if url.username is not None:
        raise SettingError(
            "must not have a user or password; name the variable of the key in api_key_env"
        )
    return value


def _variable(value: str) -> str:
    if not _VARIABLE.match(value):
        raise SettingError(
            "must be the name of an environment variable; name the one that holds the API key"
        )
    return value


class OpenAIEndpoint(RealModelSection):
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
    def facts(self) -> EndpointFacts:
        """A model elsewhere; the scenario or the price list says what it costs."""
        price = self.price.as_price() if self.price else price_of(self.model, self.base_url)
        no_variable = "none: name its variable in endpoint.api_key_env"
        return EndpointFacts(
            heading=f"{self.model} at {self.base_url}",
            simulation=None,
            time_scale=1.0,
            key_variable=self.api_key_env,
            key_advice=self.api_key_env or no_variable,
            price=price,
            no_price=f"the price is not known; {PRICE_WAY_OUT}",
            may_cost=_may_cost(self.base_url, price),
            settle=self.settle,
            call_seconds=SecondsRange(10.0, 60.0),  # of a reasoning model of a large provider
            connect_floor=0.0,
            nonce=self.cache == "avoid",
            json_mode=self.json_mode,
            extra_body=self.extra_body,
            extra_body_by_phase=self.extra_body_by_phase,
            reuse_connections=self.reuse_connections,
            own_server=False,
            packages=(),
        )

    def server(self, api_key: str, seed: int, log: Path) -> RemoteServer:
        """Return the API, with nothing to start or stop."""
        return RemoteServer(self.base_url, api_key, self.settle)

    def check(self) -> None:
        """Open one TCP connection. Raises PreflightError when nobody listens."""
        url = urlsplit(self.base_url)
        assert url.hostname is not None, "the scenario's URL has been read"
        port = url.port or (443 if url.scheme == "https" else 80)
        try:
            socket.create_connection((url.hostname, port), _CONNECT_SECONDS).close()
        except (OSError, UnicodeError) as error:  # the second for a name that cannot be one
            reason = getattr(error, "strerror", None) or str(error)
            raise PreflightError(
                f"{url.hostname}:{port}: cannot be reached ({reason}); check endpoint.base_url, "
                "or skip this check with --no-preflight"
            ) from None


class RemoteServer:
    """An endpoint that is not started by the run; there are `settle` seconds between trials."""

    def __init__(self, base_url: str, api_key: str, settle: float) -> None:
        self.base_url = base_url
        self.api_key = api_key
        self._settle = settle
        self._begun = False

    def __enter__(self) -> RemoteServer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    def begin_trial(self, cell: str, repeat: int) -> None:
        """Wait, so that the previous trial does not affect this one."""
        if self._begun:
            time.sleep(self._settle)
        self._begun = True


def _may_cost(base_url: str, price: Price | None) -> bool:
    """Return whether requests may cost money: not on this machine, nor where the price is 0."""
    if price is not None and price.is_free:
        return False
    host = urlsplit(base_url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return False
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return True
