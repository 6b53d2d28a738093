"""Server-sent events out of bytes, however the network cut them.

Follows the WHATWG HTML standard, section 9.2.6 (interpreting an event stream): lines end in LF,
CRLF or CR; `data` lines of one event are joined by LF; lines that begin with a colon are comments;
an event ends at a blank line. A line that is no field at all is handed out too, because in this
protocol it is a proxy or a server talking out of turn.
"""

from __future__ import annotations

from typing import NamedTuple

_FIELDS = {b"event", b"id", b"retry"}


class Data(NamedTuple):
    """One event's data."""

    payload: bytes


class Stray(NamedTuple):
    """A line that is not part of the protocol."""

    line: bytes


class EventDecoder:
    """Feed it bytes as they come; it returns what they complete."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._at_start = True

    def feed(self, received: bytes) -> list[Data | Stray]:
        """Return the events and stray lines that `received` completes."""
        text = self._rest + received
        if self._at_start:
            if len(text) < 3 and b"\xef\xbb\xbf".startswith(text):
                self._rest = text
                return []
            text = text.removeprefix(b"\xef\xbb\xbf")
            self._at_start = False
        if b"\r" in text:
            held = text.endswith(b"\r")  # its LF may still be on the way
            body = text[:-1] if held else text
            text = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n") + (b"\r" if held else b"")
        *lines, self._rest = text.split(b"\n")
        found: list[Data | Stray] = []
        for line in lines:
            self._line(line, found)
        return found

    def end(self) -> list[Data | Stray]:
        """Return what the end of the stream completes.

        The standard drops an event that no blank line ends; servers do close right after their
        last line, so it is handed out.
        """
        found: list[Data | Stray] = []
        if self._rest:
            self._line(self._rest.rstrip(b"\r"), found)
            self._rest = b""
        self._line(b"", found)
        return found

    def _line(self, line: bytes, found: list[Data | Stray]) -> None:
        if not line:
            if self._data:
                found.append(Data(b"\n".join(self._data)))
                self._data = []
        elif line.startswith(b"data:"):
            value = line[5:]
            self._data.append(value[1:] if value.startswith(b" ") else value)
        elif line[:1] != b":" and line.partition(b":")[0] not in _FIELDS:
            found.append(Stray(line))
