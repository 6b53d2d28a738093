"""Splits reasoning and answer if a server sends both in one text, as `<think>…</think>`.

Some servers omit the opening tag, because the chat template contains it. A closing tag without an
opening tag means that all text before it was reasoning.
"""

from __future__ import annotations

from typing import NamedTuple

_OPEN = "<think>"
_CLOSE = "</think>"


class Parts(NamedTuple):
    """The reasoning and answer in a piece of content.

    `earlier_was_reasoning`: all text returned before as answer was reasoning.
    """

    reasoning: str
    answer: str
    earlier_was_reasoning: bool = False


class ThinkSplitter:
    """Splits the content of a response as it arrives.

    The state is `start` until it is known whether a tag opens, then `reasoning` or `answer` until a
    tag closes, then `break` for the line breaks after that tag, then `rest`, which is answer.
    """

    def __init__(self) -> None:
        self._held = ""
        self._state = "start"

    def feed(self, text: str) -> Parts:
        """Return the text that is certain; hold back at most a few characters."""
        if self._held:
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
        if self._state in ("reasoning", "answer"):
            return self._until_close(text) if "<" in text else self._known(text)
        return self._behind_close(text)

    def end(self) -> Parts:
        """Return the text that was held back, at the end of the response."""
        held, self._held = self._held, ""
        return self._known(held)

    def _known(self, text: str) -> Parts:
        return Parts(text, "") if self._state == "reasoning" else Parts("", text)

    def _until_close(self, text: str) -> Parts:
        before, found, after = text.partition(_CLOSE)
        if found:
            opened = self._state == "reasoning"
            self._state = "break"
            answer = self._behind_close(after).answer
            return Parts(before, answer, earlier_was_reasoning=not opened)
        tail = text.rfind("<")
        if _CLOSE.startswith(text[tail:]):  # possibly the beginning of the tag
            self._held = text[tail:]
            text = text[:tail]
        return self._known(text)

    def _behind_close(self, text: str) -> Parts:
        if self._state == "break":
            text = text.lstrip("\n")
            self._state = "rest" if text else "break"
        return Parts("", text)
