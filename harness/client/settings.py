"""The settings of a client, checked once."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypedDict, TypeVar

import httpx2
import openai

from harness.config.base_url import BASE_URL_EXPECTED, is_base_url, may_hold_secret
from harness.config.tables import SettingError
from harness.config.timeouts import Timeouts
from harness.config.validation_messages import one_line
from harness.engine.adaptive_limit import AdaptiveLimit
from harness.engine.attempt import CallTimeouts
from harness.engine.effects import EmitRecord
from harness.engine.permits import Turnstile
from harness.limits.section import LimitSection
from harness.policies.exponential import Exponential
from harness.policies.resolve import PolicyParts, resolve
from harness.policies.section import BackoffSection, StackSection, WrapperSection
from harness.records.clock import SECOND, ReadClock

Layers = BackoffSection | WrapperSection | Sequence[BackoffSection | WrapperSection]
"""A policy that decides, or layers, outermost first, that end with one."""

HoldPermit = Literal["attempt", "call"]

DEFAULT_RETRY = Exponential()
DEFAULT_TIMEOUTS = Timeouts()


_URL_VARIABLE = "OPENAI_BASE_URL"
"""The environment variable that the package reads without `base_url`."""


class ClientOptions(TypedDict, total=False):
    """The keywords of the package's clients that a client passes on to them."""

    admin_api_key: str | None
    workload_identity: Any
    organization: str | None
    project: str | None
    webhook_secret: str | None
    provider: Any
    base_url: str | httpx2.URL | None
    data_residency: Any
    websocket_base_url: str | httpx2.URL | None
    timeout: float | httpx2.Timeout | None
    default_headers: Mapping[str, str] | None
    default_query: Mapping[str, object] | None
    _strict_response_validation: bool
    _enforce_credentials: bool


class ClientSettings(NamedTuple):
    """The keywords of a client; see `harness.client.async_client.AsyncOpenAI`."""

    permits: int | LimitSection
    retry: Layers
    permit_scope: HoldPermit
    timeouts: Timeouts
    whole_responses: bool
    on_record: EmitRecord | None

    def check(self, max_retries: int, http_client: object, http_class: type) -> None:
        """Raise ValueError, one line, if a keyword is invalid.

        `http_class`: of an `http_client` that is not None.
        """
        if http_client is not None and not isinstance(http_client, http_class):
            raise ValueError(f"http_client={http_client!r}: give an httpx2.{http_class.__name__}")
        permits = self.permits
        is_count = isinstance(permits, int) and not isinstance(permits, bool) and permits >= 1
        if not is_count and not isinstance(permits, LimitSection):
            raise ValueError(
                f"permits={permits!r}: give a whole number of at least 1, or a limit that adapts, "
                "such as harness.limits.Elastic()"
            )
        if self.permit_scope not in ("attempt", "call"):
            raise ValueError(f"permit_scope={self.permit_scope!r}: use 'attempt' or 'call'")
        if not isinstance(self.whole_responses, bool):
            raise ValueError(f"whole_responses={self.whole_responses!r}: use True or False")
        if self.on_record is not None and not callable(self.on_record):
            raise ValueError(f"on_record={self.on_record!r}: give a function of one record")
        if not isinstance(self.timeouts, Timeouts):
            raise ValueError(f"timeouts={self.timeouts!r}: use harness.Timeouts(first_token=30)")
        if max_retries != 0:
            is_valid = isinstance(max_retries, int) and max_retries > 0
            instead = f"OpenAISdk(max_retries={max_retries})" if is_valid else "NoRetry()"
            raise ValueError(
                f"max_retries={max_retries!r}: the policy retries; use "
                f"retry=harness.policies.{instead}"
            )
        self.policy()

    def policy(self) -> PolicyParts:
        """Return the parts of the policy. Raises ValueError if they do not fit."""
        layers = list(self.retry) if isinstance(self.retry, Sequence) else [self.retry]
        kinds = (BackoffSection, WrapperSection)
        if not layers or not all(isinstance(layer, kinds) for layer in layers):
            raise ValueError(
                f"retry={self.retry!r}: give a policy, such as harness.policies.Exponential(), or "
                "a list that ends with one"
            )
        named = {f"{layer.kind}.{number}": layer for number, layer in enumerate(layers)}
        stack = StackSection(kind="stack", layers=tuple(named))
        try:
            return resolve({**named, "stack": stack}, "stack")
        except SettingError as error:
            shown = "".join(f"{value}: " for value in error.shown)
            raise ValueError(f"retry: {shown}{error.problem}") from None


_P = TypeVar("_P", bound=Turnstile)


def permits_for(
    settings: ClientSettings, kind: Callable[[int, ReadClock], _P], now: ReadClock, emit: EmitRecord
) -> tuple[_P, EmitRecord]:
    """Return the permits of a client, and the function that takes the records of its calls."""
    if isinstance(settings.permits, int):
        return kind(settings.permits, now), emit
    adaptive = AdaptiveLimit(settings.permits.limiter(1.0), now())
    permits = kind(adaptive.permits, now)
    return permits, adaptive.feeding(permits, emit)


def check_options(options: ClientOptions) -> None:
    """Raise ValueError, one line, if the URL or the timeout that the package gets is invalid."""
    given = options.get("base_url")
    name, url = ("base_url", given) if given else (_URL_VARIABLE, os.environ.get(_URL_VARIABLE))
    if url and not is_base_url(str(url)):
        shown = "" if may_hold_secret(str(url)) else f"={str(url)!r}"
        raise ValueError(one_line(f"{name}{shown}: {BASE_URL_EXPECTED}"))
    timeout = options.get("timeout")
    is_number = isinstance(timeout, int | float) and not isinstance(timeout, bool) and timeout > 0
    if not (timeout is None or is_number or isinstance(timeout, httpx2.Timeout | openai.NotGiven)):
        raise ValueError(f"timeout={timeout!r}: give seconds above 0, an httpx2.Timeout, or None")


def with_timeout(limits: CallTimeouts, timeout: Mapping[str, float | None]) -> CallTimeouts:
    """Return the limits of a request that has a timeout of its own: the shorter of each.

    `timeout`: the seconds of an httpx2.Timeout; reading is waiting for the next text.
    """

    def shorter(limit: int, name: str) -> int:
        seconds = timeout.get(name)
        return limit if seconds is None else min(limit, round(seconds * SECOND))

    return limits._replace(
        connect=shorter(limits.connect, "connect"),
        first_token=shorter(limits.first_token, "read"),
        idle=shorter(limits.idle, "read"),
    )


def http_options(http: httpx2.Client | httpx2.AsyncClient | None) -> dict[str, Any]:
    """Return the options of an HTTP client that builds requests as `http` does."""
    if http is None:
        return {"follow_redirects": True, "timeout": None, "trust_env": False}
    same = ("headers", "cookies", "params", "follow_redirects", "timeout")
    return {**{name: getattr(http, name) for name in same}, "trust_env": False}
