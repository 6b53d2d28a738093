"""What renders an answer as the bytes of an API: the events of a stream, or one JSON body."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from harness.records.schema import Tokens
from harness.simulator.script import TextChunk


class WholeAnswer(NamedTuple):
    """A complete answer; `text`: its text, or the arguments of the tool call that it is."""

    reasoning: str
    text: str
    finish: str
    tokens: Tokens


class Rendering(Protocol):
    """Renders one answer. A stream is `begin`, the `text` of each chunk, and `end`."""

    def begin(self) -> bytes:
        """Return the first events of a stream, without text."""

    def text(self, piece: TextChunk) -> bytes:
        """Return the events for a chunk of text."""

    def end(self, finish: str, tokens: Tokens) -> bytes:
        """Return the last events of a stream."""

    def whole(self, answer: WholeAnswer) -> bytes:
        """Return the body of a response that is not streamed."""
