"""The packets of a Perfetto trace: tracks, slices and counters, encoded in protobuf.

https://perfetto.dev/docs/reference/synthetic-track-event: a trace is a sequence of packets. A name
is written once and then referred to by its number. The numbers of the fields are those of
`protos/perfetto/trace/perfetto_trace.proto`. Written by hand because generated classes take ten
times as long for a million slices.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

AnnotationValue = str | bool | int | float
Annotations = Mapping[str, AnnotationValue]
"""What a slice is described with, by name."""

_VARINT, _FIXED64, _BYTES = 0, 1, 2
_SEQUENCE = 1
_CLEARED, _NEEDS_STATE = 1, 2
_BEGIN, _END, _COUNTER = 1, 2, 4
_EXPLICIT = 3
_REALTIME, _BOOTTIME = 1, 6


def _varint(value: int) -> bytes:
    if value < 0:
        value &= 0xFFFF_FFFF_FFFF_FFFF
    if value < _PAIRS:
        return _LAST[value]
    parts = []
    while value >= _PAIRS:
        parts.append(_MORE[value & _PAIRS - 1])
        value >>= 14
    parts.append(_LAST[value])
    return b"".join(parts)


_PAIRS = 1 << 14
_MORE = [bytes((value & 0x7F | 0x80, value >> 7 | 0x80)) for value in range(_PAIRS)]
"""Two bytes of a number that goes on: 14 bits at once."""
_LAST = [
    bytes((value,)) if value < 0x80 else bytes((value & 0x7F | 0x80, value >> 7))
    for value in range(_PAIRS)
]


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3 | _VARINT) + _varint(value)


def _message(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | _BYTES) + _varint(len(content)) + content


def _text(field: int, value: str) -> bytes:
    return _message(field, value.encode())


def _double(field: int, value: float) -> bytes:
    return _varint(field << 3 | _FIXED64) + struct.pack("<d", value)


class _Names:
    """The names of one kind that have been written, with their numbers.

    `field`: of `InternedData`. `as_value`: whether they are values of annotations.
    """

    def __init__(self, field: int) -> None:
        self._field = field
        self._numbers: dict[str, int] = {}

    def number(self, name: str, new: list[bytes]) -> int:
        """Return the number of a name; add its definition to `new` if it has none yet."""
        found = self._numbers.get(name)
        if found is None:
            found = self._numbers[name] = len(self._numbers) + 1
            new.append(_message(self._field, _number(1, found) + _text(2, name)))
        return found


class PerfettoPackets:
    """Makes packets; each method returns the bytes of one, to be written in this order.

    Times are nanoseconds since the Unix epoch. Tracks are numbered from 1.
    """

    def __init__(self) -> None:
        self._tracks = 0
        self._names, self._categories = _Names(2), _Names(1)
        self._keys, self._values = _Names(3), _Names(29)
        self._annotations: dict[tuple[str, AnnotationValue], bytes] = {}
        self._named: dict[tuple[str, str], bytes] = {}

    def first(self, time: int) -> bytes:
        """Return the packet that begins a trace: its clock shows the time of day."""
        clocks = b"".join(
            _message(1, _number(1, clock) + _number(2, time)) for clock in (_REALTIME, _BOOTTIME)
        )
        return _packet(_message(6, clocks) + _tail(_CLEARED))

    def process(self, number: int, name: str) -> tuple[int, bytes]:
        """Return the track of a process and its packet. `number`: from 1."""
        described = _number(1, number) + _text(6, name)
        return self._track(_message(3, described) + _number(11, _EXPLICIT))

    def lane(self, process: int, rank: int, name: str) -> tuple[int, bytes]:
        """Return a track for slices in the process with the track `process`, and its packet.

        `rank`: its place there.
        """
        return self._track(_number(5, process) + _text(2, name) + _number(12, rank))

    def counter(self, process: int, rank: int, name: str) -> tuple[int, bytes]:
        """Return a track for the values of a counter, and its packet."""
        return self._track(
            _number(5, process) + _text(2, name) + _message(8, b"") + _number(12, rank)
        )

    def begin(
        self, track: int, time: int, name: str, category: str, annotations: Annotations
    ) -> bytes:
        """Return the packet that begins a slice; it ends with the next `end` of its track."""
        new: list[bytes] = []
        named = self._named.get((name, category))
        if named is None:
            named = self._named[name, category] = (
                _number(9, _BEGIN)
                + _number(10, self._names.number(name, new))
                + _number(3, self._categories.number(category, new))
            )
        event = [named, _TRACK, _varint(track)]
        known = self._annotations
        for item in annotations.items():
            made = known.get(item)
            event.append(self._annotation(*item, new) if made is None else made)
        described = b"".join(event)
        interned = _message(12, b"".join(new)) if new else b""
        return _packet(
            b"".join(
                (_TIME, _varint(time), interned, _EVENT, _varint(len(described)), described, _TAIL)
            )
        )

    def end(self, track: int, time: int) -> bytes:
        """Return the packet that ends the slice of a track that has begun last."""
        on = _varint(track)
        return _packet(
            b"".join((_TIME, _varint(time), _EVENT, _varint(len(on) + 3), _ENDS, on, _TAIL))
        )

    def count(self, track: int, time: int, value: int) -> bytes:
        """Return the packet with the value of a counter from a time on."""
        event = _number(9, _COUNTER) + _number(11, track) + _number(30, value)
        return _packet(_number(8, time) + _message(11, event) + _TAIL)

    def _track(self, described: bytes) -> tuple[int, bytes]:
        self._tracks += 1
        descriptor = _number(1, self._tracks) + described
        return self._tracks, _packet(_message(60, descriptor) + _TAIL)

    def _annotation(self, key: str, value: AnnotationValue, new: list[bytes]) -> bytes:
        named = _number(1, self._keys.number(key, new))
        if isinstance(value, float):  # seldom the same twice
            return _message(4, named + _double(5, value))
        if isinstance(value, str):
            given = _number(17, self._values.number(value, new))
        else:
            given = _number(2 if isinstance(value, bool) else 4, value)
        made = self._annotations[key, value] = _message(4, named + given)
        return made


def _packet(content: bytes) -> bytes:
    return _PACKET + _varint(len(content)) + content


def _tail(flags: int) -> bytes:
    return _number(10, _SEQUENCE) + _number(13, flags)


# What is the same in all packets of slices.
_PACKET, _EVENT = (_varint(field << 3 | _BYTES) for field in (1, 11))
_TIME, _TRACK = (_varint(field << 3 | _VARINT) for field in (8, 11))
_ENDS = _number(9, _END) + _TRACK
_TAIL = _tail(_NEEDS_STATE)
