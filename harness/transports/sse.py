"""Decodes server-sent events from bytes that arrive in arbitrary pieces.

Follows the WHATWG HTML standard, section 9.2.6 (interpreting an event stream): lines end in LF,
CRLF or CR; `data` lines of one event are joined by LF; lines that begin with a colon are comments;
a blank line ends an event. A line with an unknown field is returned instead of ignored, because in
this protocol it comes from a broken server or proxy.
"""

from __future__ import annotations

from typing import NamedTuple

_BOM = b"\xef\xbb\xbf"
_IGNORED = {b"id", b"retry"}


class Data(NamedTuple):
    """The data of one event and its type, which is empty if the server names none."""

    payload: bytes
    type: bytes = b""


class Stray(NamedTuple):
    """A line that does not belong to the protocol."""

    line: bytes


class EventDecoder:
    """Decodes bytes as they arrive, in a time that is proportional to their number.

    `held`: about the number of bytes of the event that is not complete, at most one read more.
    `had_mark`: the stream began with a byte order mark.
    """

    def __init__(self) -> None:
        self.held = 0
        self.had_mark = False
        self._pieces: list[bytes] = []
        self._kept = 0
        self._data: list[bytes] = []
        self._type = b""
        self._at_start = True
        self._after_cr = False

    @property
    def is_between(self) -> bool:
        """Whether an event has ended and no byte of another one has come."""
        return not (self._at_start or self._after_cr or self._pieces or self._data or self._type)

    def feed(self, received: bytes) -> list[Data | Stray]:
        """Return the events and stray lines that `received` completes."""
        if self._after_cr and received:
            # The CR has ended the line, and this LF belongs to it.
            received = received.removeprefix(b"\n")
            self._after_cr = False
        if b"\r" in received:
            self._after_cr = received.endswith(b"\r")
            received = received.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if self._at_start:
            received = self._without_mark(received)
        lines = received.split(b"\n")
        rest = lines.pop()
        if not lines:
            if rest:
                self._pieces.append(rest)
                self.held += len(rest)
            return []
        if self._pieces:
            lines[0] = b"".join([*self._pieces, lines[0]])
            self._pieces.clear()
        found: list[Data | Stray] = []
        for line in lines:
            if line.startswith(b"data: "):
                self._data.append(line[6:])
            elif line:
                self._other(line, found)
            else:
                self._dispatch(found)
        if rest:
            self._pieces.append(rest)
        self._kept = self._kept + len(received) if self._data else 0
        self.held = self._kept + len(rest)
        return found

    def _without_mark(self, received: bytes) -> bytes:
        """Remove a byte order mark from the beginning; hold back the beginning of one."""
        begin = b"".join([*self._pieces, received])
        self._pieces.clear()
        self.held = 0
        if begin and len(begin) < len(_BOM) and _BOM.startswith(begin):
            self._pieces.append(begin)
            return b""
        self._at_start = not begin
        self.had_mark = begin.startswith(_BOM)
        return begin.removeprefix(_BOM)

    def end(self) -> list[Data | Stray]:
        """Return the last event, if the stream ended without a blank line.

        The standard drops such an event. Some servers close directly after their last line, so it
        is returned here.
        """
        self._at_start = False
        return self.feed(b"\n\n")

    def _dispatch(self, found: list[Data | Stray]) -> None:
        if self._data:
            found.append(Data(b"\n".join(self._data), self._type))
            self._data = []
        self._type = b""

    def _other(self, line: bytes, found: list[Data | Stray]) -> None:
        field, _, value = line.partition(b":")
        if field == b"event":
            self._type = value.removeprefix(b" ")
        elif field == b"data":
            self._data.append(value)
        elif field and field not in _IGNORED:
            found.append(Stray(line))
