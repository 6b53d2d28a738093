"""Any OpenAI-compatible API that the run does not start."""

from __future__ import annotations

import itertools
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from harness.config.base_url import (
    BASE_URL_EXPECTED,
    is_base_url,
    is_on_this_machine,
    may_hold_secret,
)
from harness.config.budget import OwnPrice
from harness.config.config_base import Text
from harness.config.model_prices import NoPrice, price_of
from harness.config.network import environment_proxy
from harness.config.prices import PRICE_WAY_OUT, Price
from harness.config.request_settings import (
    AuthText,
    Headers,
    Omitted,
    Query,
    Renamed,
    RequestSettings,
    Secrets,
    SystemMessages,
    key_header,
)
from harness.config.tables import Delay, Duration, SettingError
from harness.endpoints.readiness import wait_until_ready
from harness.endpoints.section import EndpointFacts, EndpointServer, RealModelSection, SecondsRange
from harness.records.errors import PreflightError

_CONNECT_SECONDS = 5.0
_PORTS = {"http": 80, "https": 443}
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def _base_url(value: str) -> str:
    if not is_base_url(value):
        if may_hold_secret(value):
            raise SettingError(BASE_URL_EXPECTED)
        raise SettingError(BASE_URL_EXPECTED, value=value)
    if "?" in value or "#" in value:
        raise SettingError("must not have a query or fragment; remove it")
    if urlsplit(value).username is not None:
        raise SettingError(
            "must not have a user or password; name the variable of the key in api_key_env"
        )
    return value


def _model(value: str) -> str:
    if not value.isprintable():
        raise SettingError(
            "must be one line of printable characters, as GET URL/models lists it", value=value
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

    Example::

        [endpoint]
        kind = "openai"
        base_url = "https://api.deepseek.com"
        model = "deepseek-flash"
        api_key_env = "DEEPSEEK_API_KEY"
    """

    kind: Literal["openai"]
    """The kind of endpoint."""
    base_url: Annotated[str, AfterValidator(_base_url)]
    """The URL of the API, without `/chat/completions`."""
    model: Annotated[Text, AfterValidator(_model)]
    """The model to request."""
    api_key_env: Annotated[str, AfterValidator(_variable)] | None = None
    """The environment variable, or name in a file `.env` of the current folder, that holds the API
    key; no key is sent if absent.
    """
    cache: Literal["avoid", "keep"] = "avoid"
    """`avoid`: prompts begin with a random text, so that no prompt cache makes later settings
    faster. `keep` leaves it out.
    """
    metrics_url: Annotated[str, AfterValidator(_base_url)] | None = None
    """The URL of the server's own metrics in Prometheus' format, as vLLM, SGLang and llama.cpp have
    them, for example `http://127.0.0.1:8000/metrics`; read once a second during trials.
    """
    settle: Delay = 0.0
    """The pause between two trials."""
    price: OwnPrice | None = None
    """The price of tokens. If absent, that of the package genai-prices, or none for a model that
    it does not have; see docs/cost.md.
    """
    auth: AuthText = "bearer"
    """How the API key is sent. `bearer`: in `Authorization`. `header:NAME`: in the header NAME, as
    it is. `none`: not at all.
    """
    headers: Headers = Field(default_factory=dict)
    """Headers of every request. `env:NAME` stands for the value of an environment variable, or name
    in `.env`; secrets have to be given so.
    """
    query: Query = Field(default_factory=dict)
    """Query parameters of every request, such as `api-version`; `env:NAME` as in `headers`."""
    omit: Omitted = ()
    """Keys that the harness would send in the body and the server refuses, such as
    `stream_options`, without which a stream reports no usage.
    """
    rename: Renamed = Field(default_factory=dict)
    """Other names of keys in the body: `{ max_tokens = "max_completion_tokens" }`. Budgets still
    hold.
    """
    system: SystemMessages = "message"
    """System prompts. `message`: as messages of their own. `user`: at the beginning of the next
    message of the user. `omit`: not at all.
    """
    ca_file: Text | None = None
    """A file with the only certificates (PEM) to trust, relative to the folder of the scenario."""
    verify: bool = True
    """`false` accepts every certificate, so that anybody on the way can read the key."""
    follow_redirects: bool = False
    """Follow redirects (307 and 308) within the same scheme, host and port."""
    wait_ready: Duration | None = None
    """How long to wait before the run until the server answers; if absent, there is no wait."""

    @model_validator(mode="after")
    def _settings_agree(self) -> OpenAIEndpoint:
        if key_header(self.auth) is not None and self.api_key_env is None:
            problem = "has no key to send; name its environment variable in endpoint.api_key_env"
            raise SettingError(problem, "auth", value=self.auth)
        if self.auth == "none" and self.api_key_env is not None:
            problem = "sends no key, but endpoint.api_key_env names one; remove one of the two"
            raise SettingError(problem, "auth", value=self.auth)
        if both := sorted(set(self.omit) & set(self.rename)):
            problem = "is also in endpoint.omit; remove one of the two"
            raise SettingError(problem, "rename", both[0])
        if self.ca_file is not None and not self.verify:
            problem = "has no effect with endpoint.verify = false; remove one of the two"
            raise SettingError(problem, "ca_file", value=self.ca_file)
        return self

    @property
    def facts(self) -> EndpointFacts:
        """Return the facts; the price is that of the scenario, or of a price list."""
        found = self.price.as_price() if self.price else self._listed_price()
        price = None if isinstance(found, NoPrice) else found
        no_variable = "none: name its variable in endpoint.api_key_env"
        return EndpointFacts(
            heading=f"{self.model} at {self.base_url}",
            key_variable=self.api_key_env,
            key_advice=self.api_key_env or no_variable,
            price=price,
            no_price=_no_price(self.model, found),
            may_cost=_may_cost(self.base_url, price),
            settle=self.settle,
            call_seconds=SecondsRange(10.0, 60.0),  # of a reasoning model of a large provider
            nonce=self.cache == "avoid",
            json_mode=self.json_mode,
            extra_body=self.extra_body,
            extra_body_by_phase=self.extra_body_by_phase,
            request=RequestSettings(
                self.headers,
                self.query,
                self.auth,
                self.omit,
                self.rename,
                self.system,
                self.ca_file,
                self.verify,
                self.follow_redirects,
            ),
            reuse_connections=self.reuse_connections,
            reading=self.reading,
            own_server=False,
            metrics=self.metrics_url is not None,
        )

    def _listed_price(self) -> Price | NoPrice:
        tier = self.extra_body.get("service_tier")
        if any("service_tier" in body for body in self.extra_body_by_phase.values()):
            return NoPrice("service_tier differs between phases")
        return price_of(self.model, self.base_url, tier if isinstance(tier, str) else None)

    @contextmanager
    def server(self, api_key: str, seed: int, log: Path) -> Iterator[EndpointServer]:
        """Wait `settle` seconds between trials; there is nothing to start or stop."""
        pauses = itertools.chain([0.0], itertools.repeat(self.settle))
        yield EndpointServer(
            self.base_url,
            api_key,
            lambda cell, repeat: time.sleep(next(pauses)),
            metrics_url=self.metrics_url,
            metrics_key=api_key if self._shares_key else None,
        )

    @property
    def _shares_key(self) -> bool:
        """Whether the API key may be sent to `metrics_url`: only to the server of the model."""
        one, other = urlsplit(self.base_url), urlsplit(self.metrics_url or "")
        same = (one.scheme, one.netloc) == (other.scheme, other.netloc)
        return same and self.api_key_env is not None and self.auth == "bearer"

    def check(self) -> None:
        """Open one TCP connection, unless `wait` does. Raises PreflightError if that fails."""
        if self.wait_ready is not None:
            return
        import httpx2

        proxy = environment_proxy(httpx2.URL(self.base_url))
        way = "check endpoint.base_url"
        url = urlsplit(self.base_url)
        if proxy is not None:
            url = urlsplit(str(proxy.url))
            way = "it is the proxy of the environment; unset it, or name the server in NO_PROXY"
        assert url.hostname is not None, "the URL has been validated"
        port = url.port or _PORTS[url.scheme]
        if proxy is None and url.scheme == "http" and port == _PORTS["https"]:
            raise PreflightError(
                f"{self.base_url}: port {port} is that of https; change http:// to https:// in "
                "endpoint.base_url, or skip this check with --no-preflight"
            )
        try:
            socket.create_connection((url.hostname, port), _CONNECT_SECONDS).close()
        except (OSError, UnicodeError) as error:  # the second for an invalid host name
            reason = getattr(error, "strerror", None) or str(error)
            raise PreflightError(
                f"{url.hostname}:{port}: cannot be reached ({reason}); {way}, "
                "or skip this check with --no-preflight"
            ) from None

    def wait(self, secrets: Secrets, say: Callable[[str], None]) -> None:
        """Wait for `wait_ready` at most until the server answers. Raises PreflightError."""
        if self.wait_ready is not None:
            request = self.facts.request.with_values(dict(secrets.variables))
            wait_until_ready(self.base_url, request, secrets.api_key, self.wait_ready, say)


def _may_cost(base_url: str, price: Price | None) -> bool:
    """Return whether requests may cost money: not on this machine, nor if the price is 0."""
    if price is not None and price.input == price.cached == price.output == 0:
        return False
    return not is_on_this_machine(base_url)


def _no_price(model: str, found: Price | NoPrice) -> str:
    if isinstance(found, Price):
        return ""
    return f"no price for {model}: {found.why}; {PRICE_WAY_OUT}"
