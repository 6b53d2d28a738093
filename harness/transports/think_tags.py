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
    """Feed it the content of a response as it comes.

    It is at the `start` until it knows whether a tag opens, in `reasoning` or in an `answer` until
    a tag closes, then skips the line breaks behind that tag (`break`), and the `rest` is answer.
    """

    def __init__(self) -> None:
        self._held = ""
        self._state = "start"

    def feed(self, text: str) -> Parts:
        """Return what is certain now; the rest is held back, a few characters at most."""
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
        """Return what was held back when the response has ended."""
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
        if _CLOSE.startswith(text[tail:]):  # perhaps the beginning of the tag
            self._held = text[tail:]
            text = text[:tail]
        return self._known(text)

    def _behind_close(self, text: str) -> Parts:
        if self._state == "break":
            text = text.lstrip("\n")
            self._state = "rest" if text else "break"
        return Parts("", text)
