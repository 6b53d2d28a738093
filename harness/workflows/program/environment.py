"""The environment variables that programs need."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

PLACEHOLDER = "placeholder-of-harness"

KEY_VARIABLES = ("OPENAI_API_KEY", "AZURE_OPENAI_API_KEY")
_VARIABLES = {
    **dict.fromkeys(KEY_VARIABLES, PLACEHOLDER),
    # Otherwise the Agents SDK sends traces to its vendor, from a thread of its own.
    "OPENAI_AGENTS_DISABLE_TRACING": "1",
}
"""Variables that are set while programs are imported and run, if they are absent."""


_lock = threading.Lock()
_added: dict[str, str] = {}
_entered = 0


@contextmanager
def prepared_environment() -> Iterator[None]:
    """Set the variables that programs need and that are absent; never change one that is there.

    So a client can be made without a key: its requests go to the endpoint of the scenario. They are
    set until the last of the contexts that overlap has ended, as of workflows at the same time.
    """
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    global _entered
    with _lock:
        _entered += 1
        if _entered == 1:
            absent = {name: it for name, it in _VARIABLES.items() if name not in os.environ}
            _added.update(absent)
            os.environ.update(absent)


def _leave() -> None:
    global _entered
    with _lock:
        _entered -= 1
        if _entered:
            return
        for name, value in _added.items():
            if os.environ.get(name) == value:
                del os.environ[name]
        _added.clear()
