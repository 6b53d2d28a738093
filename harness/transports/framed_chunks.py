"""Collects the pieces of a stream that hold one chunk of a known form each, to read them later.

Most pieces of a stream are one chunk of HTTP with one event that differs from an earlier one in its
text alone. They are only stamped while the stream goes on, and read together: that takes a quarter
of the time, and delays other streams less. Whatever is otherwise is read as ever.
"""

from __future__ import annotations

import re

_MOST_BYTES = 64 * 1024


class FramedChunks:
    """Pieces that have arrived and are not read.

    `before` and `after`: what is around the text of each event, without its end. `since`: when the
    text before the first one arrived.
    """

    def __init__(self, before: bytes, after: bytes, since: int) -> None:
        self.since = since
        self.pieces: list[bytes] = []
        self.stamps: list[int] = []
        self._head, self._tail = b"\r\n" + before, after + b"\n\n\r\n"
        self._shortest = len(self._head) + len(self._tail) + 3  # a text is not empty
        self._room = _MOST_BYTES

    def takes(self, piece: bytes, at: int) -> bool:
        """Keep a piece that arrived at `at`; return False if it has another form."""
        head, size = self._head, len(piece)
        if (
            size < self._shortest
            or size > self._room
            or not piece.endswith(self._tail)
            # after 2 or 3 digits: events have 16 to 4,095 bytes
            or not (piece.startswith(head, 2) or piece.startswith(head, 3))
        ):
            return False
        self._room -= size
        self.pieces.append(piece)
        self.stamps.append(at)
        return True

    def text(self) -> bytes | None:
        """Return the text of all pieces; None unless each is exactly one chunk with one event."""
        head, tail = self._head, self._tail
        pattern = rb'([0-9a-fA-F]+)%b([^"\\\x00-\x1f]+)%b' % (re.escape(head), re.escape(tail))
        found = re.findall(pattern, b"".join(self.pieces))
        if len(found) != len(self.pieces):
            return None
        frame = len(head) + len(tail)
        event = frame - 4  # without the ends of two lines
        for (size, text), piece in zip(found, self.pieces, strict=True):
            length = len(text)
            if int(size, 16) != event + length or len(piece) != len(size) + frame + length:
                return None
        return b"".join([text for _, text in found])


def is_one_chunk(piece: bytes, body: bytes) -> bool:
    """Return whether a piece was exactly one chunk of HTTP. `body`: what a parser found in it."""
    at = piece.find(b"\r\n")
    return 2 <= at <= 3 and piece[at + 2 : -2] == body and piece.endswith(b"\r\n")
