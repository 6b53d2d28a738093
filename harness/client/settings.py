"""The settings of a client, checked once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypedDict

import httpx2

from harness.config.tables import SettingError
from harness.config.timeouts import Timeouts
from harness.engine.effects import EmitRecord
from harness.policies.exponential import Exponential
from harness.policies.resolve import PolicyParts, resolve
from harness.policies.section import BackoffSection, StackSection, WrapperSection

Layers = BackoffSection | WrapperSection | Sequence[BackoffSection | WrapperSection]
"""A policy that decides, or layers, outermost first, that end with one."""

HoldPermit = Literal["attempt", "call"]

DEFAULT_RETRY = Exponential()
DEFAULT_TIMEOUTS = Timeouts()


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

    permits: int
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
        is_count = isinstance(self.permits, int) and not isinstance(self.permits, bool)
        if not is_count or self.permits < 1:
            raise ValueError(f"permits={self.permits!r}: give a whole number of at least 1")
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


def http_options(http: httpx2.Client | httpx2.AsyncClient | None) -> dict[str, Any]:
    """Return the options of an HTTP client that builds requests as `http` does."""
    if http is None:
        return {"follow_redirects": True, "timeout": None, "trust_env": False}
    same = ("headers", "cookies", "params", "follow_redirects", "timeout")
    return {**{name: getattr(http, name) for name in same}, "trust_env": False}
