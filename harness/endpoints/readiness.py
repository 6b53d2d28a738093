"""Waits until a server that is still starting answers."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from harness.config.network import tls_context
from harness.config.request_settings import AUTHORIZATION, NO_KEY, RequestSettings
from harness.records.errors import PreflightError

if TYPE_CHECKING:
    import httpx2

_PAUSE = 1.0
"""Seconds between two requests."""
_LONGEST_REQUEST = 10.0
_STARTING = frozenset({425, 502, 503, 504})
"""Statuses of a server, or of a gateway before it, that is not ready yet."""


class Clock(NamedTuple):
    """The clock of the wait, in seconds; tests have their own."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


def wait_until_ready(
    base_url: str,
    request: RequestSettings,
    api_key: str,
    seconds: float,
    say: Callable[[str], None],
    clock: Clock = Clock(),  # noqa: B008 - immutable
) -> None:
    """Ask for the list of models until the server answers. Raises PreflightError if it does not.

    Any status but those of a server that is starting is an answer. `request`: with the values of
    its variables. `say`: tells the user once that the server is not ready.
    """
    import httpx2

    headers = plain_headers(request, api_key)
    tls = tls_context(True, request.ca_file, verify=request.verify)
    end, last = clock.now() + seconds, ""
    with httpx2.Client(verify=tls, headers=headers, params=dict(request.query)) as http:
        while True:
            problem = _problem(http, f"{base_url.rstrip('/')}/models")
            if problem is None:
                return
            if clock.now() + _PAUSE > end:
                raise PreflightError(
                    f"{base_url}: not ready within endpoint.wait_ready = {seconds:g} s "
                    f"({problem}); start the server, or raise endpoint.wait_ready"
                )
            if not last:
                say(f"{base_url} is not ready ({problem}); waiting up to {seconds:g} s")
            last = problem
            clock.sleep(_PAUSE)


def _problem(http: httpx2.Client, url: str) -> str | None:
    """Return why the server is not ready; None if it is."""
    import httpx2

    try:
        status = http.get(url, timeout=_LONGEST_REQUEST).status_code
    except httpx2.TransportError as error:
        return str(error) or type(error).__name__
    return f"status {status}" if status in _STARTING else None


def plain_headers(request: RequestSettings, api_key: str) -> dict[str, str]:
    """Return the headers of a request without a body, the key included."""
    own = {**request.headers, **request.key_headers(api_key)}
    headers = {name: value for name, value in own.items() if value is not None}
    if AUTHORIZATION not in own and api_key != NO_KEY:
        headers[AUTHORIZATION] = f"Bearer {api_key}"
    return headers
