"""The environment variables that programs need."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

PLACEHOLDER = "placeholder-of-harness"

_VARIABLES = {
    "OPENAI_API_KEY": PLACEHOLDER,
    "AZURE_OPENAI_API_KEY": PLACEHOLDER,
    # Otherwise the Agents SDK sends traces to its vendor, from a thread of its own.
    "OPENAI_AGENTS_DISABLE_TRACING": "1",
}
"""Variables that are set while programs are imported and run, if they are absent."""


@contextmanager
def prepared_environment() -> Iterator[None]:
    """Set the variables that programs need and that are absent; never change one that is there.

    So a client can be made without a key: its requests go to the endpoint of the scenario.
    """
    added = {name: value for name, value in _VARIABLES.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name, value in added.items():
            if os.environ.get(name) == value:
                del os.environ[name]
