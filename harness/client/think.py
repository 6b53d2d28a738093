"""Reasoning and answer apart where a server sends both in one text, as `<think>…</think>`.

Some servers leave the opening tag out (the chat template has written it already), so a closing tag
without one says that everything before it was reasoning.
"""

from __future__ import annotations

from typing import NamedTuple

_OPEN = "<think>"
_CLOSE = "</think>"


class Parts(NamedTuple):
    """What a piece of content holds.

    `earlier_was_reasoning`: all text handed out before as answer was in fact reasoning.
    """

    reasoning: str
    answer: str
    earlier_was_reasoning: bool = False


class ThinkSplitter:
    """Feed it the content of a response as it comes."""

    def __init__(self) -> None:
        self._held = ""
        self._state = "start"

    def feed(self, text: str) -> Parts:
        """Return what is certain now; the rest is held back, a few characters at most."""
        text = self._held + text
        self._held = ""
        if self._state == "start":
            begin = text.lstrip()
            if len(begin) < len(_OPEN) and _OPEN.startswith(begin):
                self._held = text
                return Parts("", "")
            self._state = "reasoning" if begin.startswith(_OPEN) else "answer"
            if self._state == "reasoning":
                text = begin.removeprefix(_OPEN)
        if self._state == "closed":
            return Parts("", text)
        before, found, after = text.partition(_CLOSE)
        if found:
            opened = self._state == "reasoning"
            self._state = "closed"
            return Parts(before, after.lstrip("\n"), earlier_was_reasoning=not opened)
        kept = _partial(text)
        self._held = text[len(text) - kept :] if kept else ""
        known = text[: len(text) - kept]
        return Parts(known, "") if self._state == "reasoning" else Parts("", known)

    def end(self) -> Parts:
        """Return what was held back when the response has ended."""
        held, self._held = self._held, ""
        return Parts(held, "") if self._state == "reasoning" else Parts("", held)


def _partial(text: str) -> int:
    """Return how many characters at the end of `text` may be the beginning of a closing tag."""
    for length in range(min(len(_CLOSE) - 1, len(text)), 0, -1):
        if _CLOSE.startswith(text[-length:]):
            return length
    return 0
