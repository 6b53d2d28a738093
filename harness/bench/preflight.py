"""What must hold before the first record: a directory, a key, an endpoint, enough open files."""

from __future__ import annotations

import resource
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from harness.bench.scenario import Scenario
from harness.endpoints.local_llm import LocalLLMEndpoint, find_weights
from harness.endpoints.openai import OpenAIEndpoint
from harness.records.errors import PreflightError
from harness.store.run_lock import LOCK
from harness.workflows.layout import widest

_CONNECT_SECONDS = 5.0
_NO_KEY = "none"
_OTHER_FILES = 128
"""Files that are open beside the connections: records, libraries, pipes, the event loop's own."""


def run_directory(name: str, out: str | None) -> Path:
    """Create and return the run's directory; it is new or empty, and can be written to."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    directory = Path(out) if out else Path("results") / f"{stamp}-{name}"
    try:
        directory.mkdir(parents=True, exist_ok=bool(out))
        if any(path.name != LOCK for path in directory.iterdir()):
            raise PreflightError(f"{directory}: not empty; name a new directory with --out")
        probe = directory / ".writable"
        probe.touch()
        probe.unlink()
    except FileExistsError:
        raise PreflightError(f"{directory}: exists already; name another with --out") from None
    except OSError as error:
        raise PreflightError(
            f"{directory}: cannot be written ({error.strerror}); name another with --out"
        ) from None
    return directory


def api_key(scenario: Scenario, environment: Mapping[str, str]) -> str:
    """Return the key for the scenario's endpoint; servers that want none get a placeholder."""
    endpoint = scenario.endpoint
    if not isinstance(endpoint, OpenAIEndpoint) or endpoint.api_key_env is None:
        return _NO_KEY
    key = environment.get(endpoint.api_key_env, "").strip()
    if not key:
        raise PreflightError(
            f"{endpoint.api_key_env}: not set; "
            "put the API key into this environment variable or .env"
        )
    if not (key.isascii() and key.isprintable()):
        raise PreflightError(
            f"{endpoint.api_key_env}: has characters that no header can carry; set the key anew"
        )
    return key


def reach(scenario: Scenario) -> None:
    """Open one TCP connection to a live endpoint, or look for the local model.

    Raises PreflightError when nobody listens, or when the model is not installed.
    """
    endpoint = scenario.endpoint
    if isinstance(endpoint, LocalLLMEndpoint):
        find_weights()
    if not isinstance(endpoint, OpenAIEndpoint):
        return
    url = urlsplit(endpoint.base_url)
    assert url.hostname is not None, "the scenario's URL has been read"
    port = url.port or (443 if url.scheme == "https" else 80)
    try:
        socket.create_connection((url.hostname, port), _CONNECT_SECONDS).close()
    except (OSError, UnicodeError) as error:  # the second for a name that is none
        reason = getattr(error, "strerror", None) or str(error)
        raise PreflightError(
            f"{url.hostname}:{port}: cannot be reached ({reason}); check endpoint.base_url, "
            "or skip this check with --no-preflight"
        ) from None


def open_files(scenario: Scenario) -> None:
    """Make sure that every permit can have a connection: raise the soft limit of open files.

    Raises PreflightError when the hard limit is too low for the scenario's permits.
    """
    # No more attempts are in flight than the workflows in flight have calls at once.
    most = min(max(scenario.sweep.permits), scenario.load.at_once * widest(scenario.layout))
    needed = most + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if _allows(soft, needed):
        return
    if _allows(hard, needed):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
        except (OSError, ValueError):
            hard = soft
        else:
            return
    raise PreflightError(
        f"sweep.permits = {max(scenario.sweep.permits)}: needs {needed} open files, but only "
        f"{hard} are allowed; raise the limit (ulimit -n {needed}) or use fewer permits"
    )


def _allows(limit: int, needed: int) -> bool:
    return limit == resource.RLIM_INFINITY or limit >= needed
