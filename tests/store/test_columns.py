"""Attempts and calls in columns are the records that were written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.records.anomalies import ANOMALIES
from harness.records.errors import StorageError
from harness.records.histogram import bucket, bucket_number
from harness.records.schema import NO_TOKENS, Backoff, Decision
from harness.store import run_directory
from harness.store.column_reader import read_columns
from harness.store.column_values import Words, ranges
from harness.store.columns import AttemptTable, CallTable
from harness.store.packed_histograms import bucket_numbers
from harness.store.run_directory import Writer, write_whole
from tests.analysis.builders import make_attempt, make_call, make_run

moments = st.none() | st.integers(0, 2**62)
buckets = st.integers(0, 2**63 - 1).map(bucket)
decisions = st.builds(
    Decision,
    retry_in=st.none() | st.integers(0, 2**40),
    source=st.none() | st.sampled_from(["policy", "retry_after"]),
    give_up=st.just("too many"),
)
attempts = st.builds(
    make_attempt, branch=st.none() | st.integers(0, 9), sent=moments, first_answer=moments,
    status=st.none() | st.integers(100, 599), retry_after=moments, outcome=st.text(max_size=5),
    decision=st.none() | decisions, hedge=st.booleans(),
    anomalies=st.sets(st.sampled_from(sorted(ANOMALIES))).map(sorted).map(tuple),
    gaps=st.dictionaries(buckets, st.integers(1, 2**32 - 1), max_size=40),
)  # fmt: skip
waits = st.builds(
    Backoff, start=st.integers(0, 9), end=st.integers(0, 9), planned=st.integers(0, 2**40),
    source=st.sampled_from(["policy", "retry_after", "breaker"]),
)  # fmt: skip
calls = st.builds(
    make_call, branch=st.none() | st.integers(0, 9), done=st.integers(0, 2**62),
    backoffs=st.lists(waits, max_size=3).map(tuple), tokens=st.none(), wasted_tokens=st.none(),
)  # fmt: skip


def stored(directory: Path, lines: bytes) -> AttemptTable:
    """Return the attempts of a run with this attempts.jsonl."""
    write_whole(directory / run_directory.RUN_FILE, make_run())
    (directory / run_directory.ATTEMPTS_FILE).write_bytes(lines)
    found = read_columns(directory).attempts
    assert isinstance(found, AttemptTable)
    return found


@given(st.lists(attempts, max_size=5), st.lists(calls, max_size=5))
def test_every_record_comes_back_as_it_was(written: list[Any], more: list[Any]) -> None:
    for kind, records in ((AttemptTable, written), (CallTable, more)):
        table: Any = kind.of(records, Words())
        table = table.with_columns(repeat=table.column("repeat"))  # forgets the records themselves
        assert list(table) == records
        assert list(table.take(np.arange(len(records))[::-1])) == records[::-1]


def test_a_run_is_read_in_batches_as_if_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.store.column_reader._BATCH_BYTES", 1)
    write_whole(tmp_path / run_directory.RUN_FILE, make_run())
    written: list[Any] = [
        make_attempt(attempt=1, gaps={300: 2}), make_attempt(attempt=2, gaps={}, tokens=NO_TOKENS),
        make_attempt(attempt=3, gaps={bucket(2**40): 70_000}, branch=7),
    ]  # fmt: skip
    with Writer(tmp_path) as writer:
        for one in written:
            writer.append(one)
    assert list(read_columns(tmp_path).attempts) == written


@pytest.mark.parametrize("gaps", ['{"256": 3, "12":1}', '{ "256":3,"12":1 }'])
def test_gaps_are_read_however_they_are_written(gaps: str, tmp_path: Path) -> None:
    line = msgspec.json.encode(make_attempt(gaps={}))[:-1] + f',"gaps":{gaps}}}\n'.encode()
    (attempt,) = stored(tmp_path, line)
    assert attempt.gaps == {256: 3, 12: 1}


@pytest.mark.parametrize("gaps", ['{"256":-3}', '{"256":"3"}', "null", "[]", '{"x":1}'])
def test_gaps_that_are_not_counts_are_refused(gaps: str, tmp_path: Path) -> None:
    line = msgspec.json.encode(make_attempt(gaps={}))[:-1] + f',"gaps":{gaps}}}\n'.encode()
    with pytest.raises(StorageError):
        stored(tmp_path, line)


def test_a_torn_last_line_is_left_out_and_a_broken_one_is_named(tmp_path: Path) -> None:
    line = msgspec.json.encode(make_attempt()) + b"\n"
    assert len(stored(tmp_path, line + line[:-9])) == 1
    with pytest.raises(StorageError, match=r"attempts\.jsonl:2: not a record"):
        stored(tmp_path, line + b"{}\n" + line)


@given(written=st.lists(attempts, max_size=3))
def test_a_table_without_gaps_has_the_same_attempts_but_for_them(written: list[Any]) -> None:
    table = AttemptTable.of(written, Words()).without_gaps()
    assert list(table) == [msgspec.structs.replace(one, gaps={}) for one in written]
    assert table.gaps.of(0) == {} if written else not len(table)


@given(st.lists(st.integers(0, 2**53), min_size=1))
def test_the_number_of_a_bucket_is_that_of_the_histogram(values: list[int]) -> None:
    names = [bucket(value) for value in values]
    assert bucket_numbers(np.array(names)).tolist() == list(map(bucket_number, names))


def test_ranges_follow_one_another() -> None:
    assert ranges(np.array([5, 0, 8]), np.array([2, 0, 3])).tolist() == [5, 6, 8, 9, 10]
