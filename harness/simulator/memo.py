"""Caches of limited size for what depends on a prompt alone."""

from __future__ import annotations

from typing import Any, TypeVar

_K = TypeVar("_K")
_V = TypeVar("_V")

_MOST = 1 << 22
"""Tokens, about 20 MB of text."""

_ENTRY = 500
"""The weight of an entry without its text, in tokens: about 2 kB."""


class Memo(dict[_K, _V]):
    """Values by key. When their weights exceed the limit, all are dropped.

    A trial asks for the prompts of its topics in turn. A cache that drops the least recently used
    value would drop each value just before its next use. In `benchmarks.virtual`, where each prompt
    comes 100 times, this halves the cost of an attempt.
    """

    _weight = 0

    def keep(self, key: _K, value: _V, tokens: int) -> _V:
        """Add and return a value with the weight of `tokens`."""
        weight = tokens + _ENTRY
        self._weight += weight
        if self._weight > _MOST:
            self.clear()
            self._weight = weight
        self[key] = value
        return value


class PromptMemory:
    """What the simulation of a provider has computed for prompts.

    The trials of a process share it: in each repeat, all cells ask the same prompts. `requests`:
    the parsed request by messages and phase. `scripts`: the content of the response by request and
    repeat.
    """

    def __init__(self) -> None:
        self._provider: object = None
        self.requests: Memo[Any, Any] = Memo()
        self.scripts: Memo[Any, Any] = Memo()

    def of(self, provider: object) -> PromptMemory:
        """Return this memory; empty it before if it is that of another provider.

        `provider`: all that determines the content of its responses.
        """
        if provider != self._provider:
            self._provider = provider
            self.requests, self.scripts = Memo(), Memo()
        return self
