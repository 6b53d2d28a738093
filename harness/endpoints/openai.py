"""Any OpenAI-compatible API that runs elsewhere."""

from __future__ import annotations

import ipaddress
import re
import time
from types import TracebackType
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from harness.config.budget import OwnPrice
from harness.config.config_base import Text
from harness.config.prices import Price, price_of
from harness.config.tables import Delay
from harness.endpoints.section import RealModelSection

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
    def known_price(self) -> Price | None:
        """What tokens cost, as the scenario or the price list says; None where neither does."""
        return self.price.as_price() if self.price else price_of(self.model, self.base_url)


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


def is_paid(endpoint: OpenAIEndpoint) -> bool:
    """Return whether requests may cost money: not on this machine, nor where the price is 0."""
    price = endpoint.known_price
    if price is not None and price.is_free:
        return False
    host = urlsplit(endpoint.base_url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return False
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return True
