"""Collects the pieces of a stream that hold chunks of a known form alone, to read them later.

Most pieces of a stream are chunks of HTTP with one event that differs from an earlier one in its
text alone. They are only stamped while the stream goes on, and read together: that takes a quarter
of the time, and delays other streams less. Whatever is otherwise is read as ever.
"""

from __future__ import annotations

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

    def text(self) -> tuple[bytes, list[int]] | None:
        """Return the text of all pieces, and when each of their chunks arrived.

        None unless each piece has nothing but whole chunks with one event of the known form.
        """
        head, tail = self._head, self._tail
        parts = b"".join(self.pieces).split(tail)
        if parts.pop():
            return None
        frame = len(head) + len(tail)
        event = frame - 4  # without the ends of two lines
        pieces, texts, stamps, left, at = iter(self.pieces), list[bytes](), list[int](), 0, -1
        for part in parts:
            digits = part.find(head, 2, len(head) + 3)
            text = part[digits + len(head) :]
            if digits < 0 or _size(part[:digits]) != event + len(text):
                return None
            if not left:
                left, at = len(next(pieces, b"")), at + 1
            left -= len(part) + len(tail)
            if left < 0:
                return None
            texts.append(text)
            stamps.append(self.stamps[at])
        whole = b"".join(texts)
        if left or b'"' in whole or b"\\" in whole or not all(texts):
            return None
        return whole, stamps


def _size(digits: bytes) -> int:
    """Return the size that a chunk of HTTP says; -1 for none."""
    try:
        return int(digits, 16) if digits.isalnum() else -1
    except ValueError:
        return -1


def is_one_chunk(piece: bytes, body: bytes) -> bool:
    """Return whether a piece was exactly one chunk of HTTP. `body`: what a parser found in it."""
    at = piece.find(b"\r\n")
    return 2 <= at <= 3 and piece[at + 2 : -2] == body and piece.endswith(b"\r\n")
