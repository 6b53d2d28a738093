"""Server-sent events come out the same however the bytes were cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.transports.sse import Data, EventDecoder, Stray
from tests.transports.cutting import cut

LINES = st.sampled_from(
    [
        b"data: one",
        b"data:two",
        b"data:  indented",
        b"data:",
        b"data",
        b": keep-alive",
        b":",
        b"event: error",
        b"id: 7",
        b"retry: 10",
        b"502 Bad Gateway",
        b"note: not a field",
        b"",
        b"",
        "data: schön — 水".encode(),
    ]
)


def decode(pieces: list[bytes]) -> list[Data | Stray]:
    decoder = EventDecoder()
    found = [event for piece in pieces for event in decoder.feed(piece)]
    return found + decoder.end()


@given(
    lines=st.lists(LINES, max_size=12),
    end=st.sampled_from([b"\n", b"\r\n", b"\r"]),
    bom=st.booleans(),
    cuts=st.data(),
)
def test_any_cutting_of_the_bytes_gives_the_same_events(
    lines: list[bytes], end: bytes, bom: bool, cuts: st.DataObject
) -> None:
    plain = b"".join(line + b"\n" for line in lines)
    sent = b"\xef\xbb\xbf" * bom + b"".join(line + end for line in lines)
    assert decode(cuts.draw(cut(sent))) == decode([plain])


@given(sent=st.binary(max_size=60), cuts=st.data())
def test_any_bytes_at_all_are_cut_without_a_difference(sent: bytes, cuts: st.DataObject) -> None:
    assert decode(cuts.draw(cut(sent))) == decode([sent])


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_an_event_is_out_as_soon_as_its_blank_line_has_come(end: bytes) -> None:
    decoder = EventDecoder()
    assert decoder.feed(b"data: x" + end) == []
    blank = end[:1]  # the LF of a CRLF is not waited for
    assert decoder.feed(blank) == [Data(b"x")]
    assert decoder.feed(end[1:] + b"data: y" + end * 2) == [Data(b"y")]


def test_data_lines_of_one_event_are_joined_by_line_feeds() -> None:
    assert decode([b"data: a\ndata:b\ndata\ndata:  c\n\n"]) == [Data(b"a\nb\n\n c")]


def test_comments_ids_and_retry_times_are_no_events() -> None:
    assert decode([b": keep-alive\n\n:\n\nid: 1\nretry: 5\n\n\n"]) == []


def test_an_event_has_the_type_that_its_server_names_and_the_next_has_none() -> None:
    sent = b"event: error\ndata: x\n\nevent: ping\n\ndata: y\n\n"
    assert decode([sent]) == [Data(b"x", b"error"), Data(b"y")]


def test_a_line_that_is_no_field_is_stray() -> None:
    assert decode([b"data: a\nupstream: gone\n<html>\n\n"]) == [
        Stray(b"upstream: gone"),
        Stray(b"<html>"),
        Data(b"a"),
    ]


def test_an_event_that_only_the_end_of_the_stream_ends_is_kept() -> None:
    assert decode([b"data: a\n\ndata: b"]) == [Data(b"a"), Data(b"b")]


def test_a_byte_order_mark_counts_at_the_beginning_only() -> None:
    mark = b"\xef\xbb\xbf"
    assert decode([mark + b"data: a\n\n"]) == [Data(b"a")]
    assert decode([mark[:2]]) == [Stray(mark[:2])]
    assert decode([b"data: a\n" + mark + b"\n"]) == [Stray(mark), Data(b"a")]
