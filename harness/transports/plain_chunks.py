"""Recognises the chunks of a stream that differ from an earlier one in their text alone.

Almost all chunks of a stream are equal but for a short text. Where the bytes around it are those of
a chunk that was decoded, and the text has no quotation mark, backslash or control character, it is
known without decoding. This takes a third of the time.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from harness.transports.messages import STREAM_FAILURES, MessageText, ResponseMessage, decode_plain

_FIELDS = ("content", "reasoning_content", "reasoning")
_DATA = b"data: "
_TEXT = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
"""What can be between the quotation marks of a text in JSON."""
_decode_texts = msgspec.json.Decoder(list[str]).decode
_OTHER = "~"
"""A text that is put in the place of a chunk's own, to find out whether it is the right place."""
_MOST_MISSES = 16
"""Servers that number their chunks have no two alike; it is not tried again after so many."""


class PlainChunks:
    """The chunks of one stream, in events of one line, without their ends.

    `longest`: the most bytes of a chunk. `is_reasoning`: the texts of the known form are reasoning.
    """

    def __init__(self, longest: int) -> None:
        self.is_reasoning = False
        self._before = b""
        self._after = b""
        self._shortest = 0
        self._longest = longest + len(_DATA)
        self._misses = 0

    @property
    def around(self) -> tuple[bytes, bytes]:
        """What is before and after the text of an event of the known form; empty if none is."""
        return self._before, self._after

    @property
    def bytes_around(self) -> int:
        """How many bytes more an event of the known form has than its text, with its end."""
        return self._shortest + 2

    def text_of(self, event: bytes) -> str:
        """Return the text of an event of the known form; empty if it has another one."""
        before, after = self._before, self._after
        if (
            not before
            or not event.startswith(before)
            or not event.endswith(after)
            or not self._shortest < len(event) <= self._longest
        ):
            return ""
        middle = event[len(before) : len(event) - len(after)]
        if b'"' in middle or b"\\" in middle:
            return ""
        try:
            text = middle.decode()
        except UnicodeDecodeError:
            return ""
        if not text.isprintable():
            return ""
        self._misses = 0
        return text

    def learn(self, payload: bytes, message: ResponseMessage) -> None:
        """Take the form of a chunk that was decoded, if its text is all that it adds."""
        if self._misses > _MOST_MISSES or self._is_known(payload):
            return
        self._misses += 1
        found = _only_text(message)
        if found is None:
            return
        field, text = found
        for separator in (b'":"', b'": "'):
            mark = field.encode() + separator
            whole = mark + text.encode() + b'"'
            at = payload.find(whole)
            if at < 0:
                continue
            before, after = payload[: at + len(mark)], payload[at + len(whole) - 1 :]
            if _decoded(before + _OTHER.encode() + after) == _with_text(message, field):
                self._before, self._after = _DATA + before, after
                self._shortest = len(self._before) + len(after)
                self.is_reasoning = field != _FIELDS[0]
            return

    def _is_known(self, payload: bytes) -> bool:
        """Return whether a chunk begins as the known form, and has a text that is not plain."""
        return bool(self._before) and payload.startswith(self._before[len(_DATA) :])


def text_of_parts(encoded: Sequence[bytes]) -> str:
    """Return texts one after another, each given as it is in JSON; empty if one is not valid."""
    whole = b'["' + b'","'.join(encoded) + b'"]'
    if b"\\" in whole:
        is_valid = all(map(_TEXT.fullmatch, encoded))
    else:
        is_valid = whole.count(b'"') == 2 * len(encoded)
    try:
        return "".join(_decode_texts(whole)) if is_valid else ""
    except STREAM_FAILURES:
        return ""


def _only_text(message: ResponseMessage) -> tuple[str, str] | None:
    """Return the field of the only text of a chunk, and the text; None if it has anything else."""
    choices = message.choices
    if message.usage is not None or message.error or choices is None or len(choices) != 1:
        return None
    [choice] = choices
    if choice.finish_reason or choice.usage is not None or choice.message is not None:
        return None
    if choice.delta is None:
        return None
    texts = {name: getattr(choice.delta, name) for name in MessageText.__struct_fields__}
    given = [(name, value) for name, value in texts.items() if value]
    if len(given) != 1 or given[0][0] not in _FIELDS or not isinstance(given[0][1], str):
        return None
    return given[0]


def _decoded(payload: bytes) -> ResponseMessage | None:
    try:
        return decode_plain(payload)
    except STREAM_FAILURES:
        return None


def _with_text(message: ResponseMessage, field: str) -> ResponseMessage:
    """Return a chunk with another text. `message`: has one choice with this field."""
    replace = msgspec.structs.replace
    choices = [
        replace(one, delta=None if one.delta is None else replace(one.delta, **{field: _OTHER}))
        for one in message.choices or ()
    ]
    return replace(message, choices=choices)
