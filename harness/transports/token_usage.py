"""Reads the token counts of a response, and believes only those that can be right.

Servers report them as whole numbers, as floats or as text, once or in each chunk. Some count the
reasoning beside the output and not as a part of it, and some report numbers that are impossible. A
count that cannot be right is unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from harness.records.schema import NO_TOKENS, Tokens

_MOST_TOKENS = 100_000_000
"""More than any model reads or writes at once: counts above it are overflows."""

_MOST_BYTES_A_TOKEN = 64
"""Text has fewer bytes a token than this on average, in every language and tokenizer."""

_NAMES: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "input": (("prompt_tokens",), ("input_tokens",)),
    "output": (("completion_tokens",), ("output_tokens",)),
    "total": (("total_tokens",),),
    "cached": (
        ("prompt_cache_hit_tokens",),
        ("prompt_tokens_details", "cached_tokens"),
        ("input_tokens_details", "cached_tokens"),
        ("cached_tokens",),
    ),
    "reasoning": (
        ("completion_tokens_details", "reasoning_tokens"),
        ("output_tokens_details", "reasoning_tokens"),
        ("reasoning_tokens",),
    ),
}
"""The places of each count; the first one that has a value is read."""


class CheckedTokens(NamedTuple):
    """Token counts that can be right. `odd`: something was reported that cannot be."""

    tokens: Tokens
    odd: bool


class TokenUsage:
    """The token counts of one response, as reported so far."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._odd = False

    def note(self, usage: Any) -> None:
        """Take a usage object. Counts only grow: a smaller one than before is not believed."""
        if not isinstance(usage, dict):
            self._odd = True
            return
        for name, places in _NAMES.items():
            count = self._count(usage, places)
            if count is None:
                continue
            if count < self._counts.get(name, 0):
                self._odd = True
            else:
                self._counts[name] = count

    def checked(self, received: int) -> CheckedTokens:
        """Return the counts, checked against each other and `received`: the bytes of the texts."""
        if not self._counts:
            return CheckedTokens(NO_TOKENS, self._odd)
        found: dict[str, int | None] = {name: self._counts.get(name) for name in _NAMES}
        odd = _with_total(found) or self._odd
        if found["input"] == 0:  # no prompt is empty
            found["input"], odd = None, True
        odd = _with_reasoning(found) or odd
        cached, read, written = found["cached"], found["input"], found["output"]
        if cached is not None and read is not None and cached > read:
            found["cached"] = found["input"] = None
            odd = True
        if written is not None and written * _MOST_BYTES_A_TOKEN < received:
            found["output"] = found["reasoning"] = None
            odd = True
        del found["total"]
        return CheckedTokens(Tokens(**found), odd)

    def _count(self, usage: Mapping[str, Any], places: tuple[tuple[str, ...], ...]) -> int | None:
        for path in places:
            value: Any = usage
            for key in path:
                value = value.get(key) if isinstance(value, dict) else None
            if value is None:
                continue
            count = usage_number(value)
            if type(value) is not int or count is None:
                self._odd = True
            return count
        return None


def _with_total(found: dict[str, int | None]) -> bool:
    """Correct the output by the total; return whether they disagree.

    A total above the sum of input and output contains reasoning that the output does not.
    """
    total, read, written = found["total"], found["input"], found["output"]
    if total is None or read is None:
        return False
    if written is None or total - read > written:
        found["output"] = max(total - read, 0)
        return True
    return total - read < written


def _with_reasoning(found: dict[str, int | None]) -> bool:
    """Correct the output by the reasoning; return whether they disagree."""
    written, thought = found["output"], found["reasoning"]
    if written is None or thought is None or thought <= written:
        return False
    beside = found["total"] is None or found["input"] is None
    found["output"] = written + thought if beside else None
    if not beside:
        found["reasoning"] = None
    return True


def usage_number(value: Any) -> int | None:
    """Return a count that is given as a number or as text; None if it cannot be one."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str):
        text = value.strip()
        if not (text.isascii() and text.isdigit() and len(text) < 20):
            return None
        value = int(text)
    if not 0 <= value <= _MOST_TOKENS or value != int(value):
        return None
    return int(value)
