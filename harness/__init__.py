"""Measures how an LLM workflow should call its model: permits, retries, sync or async.

A program uses a measured setting with `harness.AsyncOpenAI` or `harness.OpenAI`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness import policies as policies
    from harness.client.async_client import AsyncOpenAI as AsyncOpenAI
    from harness.client.calls import FailedResponseError as FailedResponseError
    from harness.client.sync_client import OpenAI as OpenAI
    from harness.config.timeouts import Timeouts as Timeouts
else:  # type checkers would accept any name

    def __getattr__(name: str) -> Any:
        """Return a name of the public face; each is imported when it is first used."""
        if name == "policies":
            return importlib.import_module("harness.policies")
        if name in _PLACES:
            return getattr(importlib.import_module(_PLACES[name]), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *_PLACES, "policies"})


__version__ = "0.1.0"

_PLACES = {
    "AsyncOpenAI": "harness.client.async_client",
    "FailedResponseError": "harness.client.calls",
    "OpenAI": "harness.client.sync_client",
    "Timeouts": "harness.config.timeouts",
}
