"""The environment variables that programs need."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager

from harness.config.overlapping import OverlappingContexts

PLACEHOLDER = "placeholder-of-harness"

KEY_VARIABLES = ("OPENAI_API_KEY", "AZURE_OPENAI_API_KEY")
_VARIABLES = {
    **dict.fromkeys(KEY_VARIABLES, PLACEHOLDER),
    # Otherwise the Agents SDK sends traces to its vendor, from a thread of its own.
    "OPENAI_AGENTS_DISABLE_TRACING": "1",
}
"""Variables that are set while programs are imported and run, if they are absent."""


_added: dict[str, str] = {}


def _set() -> None:
    absent = {name: it for name, it in _VARIABLES.items() if name not in os.environ}
    _added.update(absent)
    os.environ.update(absent)


def _unset() -> None:
    for name, value in _added.items():
        if os.environ.get(name) == value:
            del os.environ[name]
    _added.clear()


_contexts = OverlappingContexts(_set, _unset)


def prepared_environment() -> AbstractContextManager[None]:
    """Set the variables that programs need and that are absent; never change one that is there.

    So a client can be made without a key: its requests go to the endpoint of the scenario.
    """
    return _contexts.entered()
