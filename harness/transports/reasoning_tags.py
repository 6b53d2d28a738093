"""Splits reasoning and answer if a server sends both in one text, as `<think>…</think>`.

Models mark their reasoning in different ways, and servers pass some of the marks on. Some servers
omit the opening mark, because the chat template contains it: a closing mark without an opening one
means that all text before it was reasoning.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

_State = Literal["start", "reasoning", "answer", "between", "rest"]


class Parts(NamedTuple):
    """The reasoning and answer in a piece of content.

    `earlier_was_reasoning`: all text returned before as answer was reasoning.
    """

    reasoning: str
    answer: str
    earlier_was_reasoning: bool = False


_PAIRS = {
    "<think>": "</think>",
    "<thinking>": "</thinking>",
    "[THINK]": "[/THINK]",
    "<seed:think>": "</seed:think>",
    "◁think▷": "◁/think▷",
    "<|START_THINKING|>": "<|END_THINKING|>",
}
"""Marks of reasoning whose opening one may be missing."""

_LONE = tuple(_PAIRS.values())
_HARMONY = ("<|channel|>analysis<|message|>", "<|start|>assistant<|channel|>analysis<|message|>")

_REASONING: dict[str, str] = {
    **_PAIRS,
    "<thought>": "</thought>",
    "<reasoning>": "</reasoning>",
    "<|begin_of_thought|>": "<|end_of_thought|>",
    "<|channel>thought": "<channel|>",
    **dict.fromkeys(_HARMONY, "<|end|>"),
}
"""The closing mark of each opening mark of reasoning."""

_ANSWER: dict[str, str] = {
    "<|START_RESPONSE|>": "<|END_RESPONSE|>",
    "<|begin_of_solution|>": "<|end_of_solution|>",
    "<|channel|>final<|message|>": "<|return|>",
    "<|start|>assistant<|channel|>final<|message|>": "<|return|>",
}
"""The closing mark of each opening mark of an answer."""

_OPENINGS = (*_REASONING, *_ANSWER)
_LONGEST = max(map(len, (*_OPENINGS, *_REASONING.values(), *_ANSWER.values())))
_MOST_BLANKS = 1000
"""Blanks at the beginning are held back until there are so many."""

_BEGINS = re.compile(r"[<\[◁]")
_MAY_CLOSE = re.compile(r"[<\[◁](?:[/|]|\Z)")
"""What may begin one of `_LONE`."""


class ReasoningSplitter:
    """Splits the content of a response as it arrives.

    The state is `start` until it is known whether a mark opens, then `reasoning` or `answer` until
    a mark closes, then `between` until it is known what follows, then `rest`, which is answer.
    """

    def __init__(self) -> None:
        self._held = ""
        self._state: _State = "start"
        self._closings: tuple[str, ...] = ()

    def passes_on(self, text: str) -> bool:
        """Return whether a text is answer as it is, and changes nothing."""
        if self._held:
            return False
        if self._state == "rest":
            return not self._closings
        if self._state != "answer":
            return False
        may_close = "<" in text or "[" in text or "◁" in text
        return not may_close or _MAY_CLOSE.search(text) is None

    def feed(self, text: str) -> Parts:
        """Return the text that is certain; hold back at most a few characters."""
        if self.passes_on(text):
            return Parts("", text)
        if self._state == "start" and not self._held and _is_plain(text):
            self._state, self._closings = "answer", _LONE
            return Parts("", text)
        if self._held:
            text = self._held + text
            self._held = ""
        elif self._state == "reasoning" and self._closings[0][0] not in text:
            return Parts(text, "")
        reasoning, answer, reclassified = "", "", False
        while text:
            if self._state in ("start", "between"):
                text = self._open(text)
                continue
            known, text, closed = self._until_closing(text)
            if self._state == "reasoning":
                reasoning += known
            elif closed and self._state == "answer":
                reasoning, answer, reclassified = reasoning + answer + known, "", True
            else:
                answer += known
            if closed:
                self._state, self._closings = "between", ()
        return Parts(reasoning, answer, reclassified)

    def end(self) -> Parts:
        """Return the text that was held back, at the end of the response."""
        held, self._held = self._held, ""
        return Parts(held, "") if self._state == "reasoning" else Parts("", held)

    def _open(self, text: str) -> str:
        """Find out what follows; return the text after an opening mark, or hold the text back."""
        at_start = self._state == "start"
        begin = text.lstrip() if at_start else text.lstrip("\n")
        if not begin and (len(text) < _MOST_BLANKS or not at_start):
            self._held = text if at_start else ""
            return ""
        for opening in _OPENINGS:
            if begin.startswith(opening):
                closing = _REASONING.get(opening)
                self._state = "rest" if closing is None else "reasoning"
                self._closings = (closing or _ANSWER[opening],)
                return begin[len(opening) :]
        if begin and any(opening.startswith(begin) for opening in _OPENINGS):
            self._held = text if at_start else begin
            return ""
        self._state, self._closings = ("answer", _LONE) if at_start else ("rest", ())
        return text if at_start else begin

    def _until_closing(self, text: str) -> tuple[str, str, bool]:
        """Return the text before a closing mark, the text after it, and whether there is one.

        A possible beginning of a mark at the end of the text is held back.
        """
        found = [(at, mark) for mark in self._closings if (at := text.find(mark)) >= 0]
        if found:
            at, mark = min(found)
            return text[:at], text[at + len(mark) :], True
        if self._closings:
            for match in _BEGINS.finditer(text, max(0, len(text) - _LONGEST)):
                tail = text[match.start() :]
                if any(mark.startswith(tail) for mark in self._closings):
                    self._held = tail
                    return text[: match.start()], "", False
        return text, "", False


def _is_plain(text: str) -> bool:
    """Return whether a text has more than blanks, and nothing that can begin a mark."""
    return not text.isspace() and text != "" and _BEGINS.search(text) is None
