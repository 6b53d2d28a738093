"""The run directory: what is written is read back, and what is broken is named."""

from __future__ import annotations

import resource
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.records.clock import Anchor
from harness.records.errors import PreflightError, StorageError
from harness.records.histogram import Packed
from harness.records.provider_log import ProviderHead, Served
from harness.records.schema import (
    NO_TOKENS,
    SCHEMA,
    Attempt,
    Call,
    Run,
    Session,
    Tokens,
    Transcript,
    Trial,
    Workflow,
)
from harness.store import run_directory
from harness.store.column_reader import read_columns
from harness.store.run_directory import (
    Records,
    Writer,
    append_to_file,
    read_records,
    read_run,
    write_whole,
)
from harness.store.run_lock import locked
from tests.analysis.builders import (
    make_attempt,
    make_call,
    make_run,
    make_trial,
    make_workflow,
)
from tests.store.schema_1 import write_in_schema_1

NANOSECONDS = st.integers(-(2**63), 2**63 - 1)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
PLAIN = st.recursive(
    st.none() | st.booleans() | NANOSECONDS | NUMBERS | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)
LEAVES: dict[Any, st.SearchStrategy[Any]] = {
    int: NANOSECONDS,
    float: NUMBERS,
    str: st.text(),
    bool: st.booleans(),
    types.NoneType: st.none(),
    Any: PLAIN,
}


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Return a strategy for whatever a record's field can hold."""
    if hint in LEAVES:
        return LEAVES[hint]
    origin, inside = get_origin(hint), get_args(hint)
    if origin is Literal:
        return st.sampled_from(inside)
    if origin in (Union, types.UnionType):
        return st.one_of(*map(values, inside))
    if origin is tuple:
        return st.lists(values(inside[0]), max_size=2).map(tuple)
    if origin in (dict, Mapping):
        return st.dictionaries(values(inside[0]), values(inside[1]), max_size=2)
    fields = get_type_hints(hint)
    return st.builds(hint, **{name: values(kind) for name, kind in fields.items()})


def of(kind: type) -> st.SearchStrategy[list[Any]]:
    return st.lists(values(kind), max_size=2)


def write(directory: Path, *records: Attempt | Call | Workflow | Trial | Transcript) -> None:
    with Writer(directory, transcripts=True) as writer:
        for record in records:
            writer.append(record)


def write_provider(directory: Path, head: ProviderHead, served: list[Served]) -> None:
    lines = map(msgspec.json.encode, [head, *served])
    (directory / run_directory.PROVIDER_FILE).write_bytes(b"".join(line + b"\n" for line in lines))


@settings(max_examples=40)
@given(
    values(Run),
    st.tuples(of(Attempt), of(Call), of(Workflow), of(Trial)),
    st.none() | st.tuples(values(ProviderHead), of(Served)),
)
def test_every_record_is_read_back_as_it_was_written(
    run: Run,
    records: tuple[list[Attempt], list[Call], list[Workflow], list[Trial]],
    provider: tuple[ProviderHead, list[Served]] | None,
) -> None:
    tables: dict[str, Any] = {key: {} for key in ("workflow", "endpoint", "load", "sweep", "slo")}
    run = msgspec.structs.replace(
        run,
        schema=SCHEMA,
        scenario=run.scenario | tables,
        time_scale=run.time_scale if run.time_scale > 0 else 1.0,
    )
    with TemporaryDirectory() as name:
        directory = Path(name)
        write_whole(directory / run_directory.RUN_FILE, run)
        write(directory, *(record for kind in records for record in kind))
        if provider is not None:
            write_provider(directory, *provider)
        assert read_records(directory) == Records(run, *records, provider)


DEFAULTS: dict[type, dict[str, Any]] = {
    Attempt: {
        "branch": None, "sent": None, "headers": None, "first_reasoning": None,
        "first_answer": None, "last_token": None, "status": None, "retry_after": None,
        "request_id": None, "finish_reason": None, "tokens": {}, "chunks": 0, "gaps": {},
        "decision": None, "response_id": None, "response_model": None, "hedge": False,
        "marked_simulated": False, "anomalies": [], "first_chunk": None,
        "error_body": None, "location": None, "rate_limit_reset": None,
    },
    Call: {
        "branch": None, "backoffs": [], "tokens": None, "wasted_tokens": None, "traceparent": None,
    },
    Workflow: {
        "phases": [], "error": None, "own_code": 0, "own_retries": 0, "ok": None,
        "exit_code": None, "stderr": None,
    },
    Trial: {
        "cpu": 0, "loop_lag": {}, "late_timers": None, "interrupted": False, "recording": 0,
        "limits": [], "processes": 1,
    },
    Transcript: {"branch": None},
}  # fmt: skip
ALWAYS: dict[type, dict[str, Any]] = {
    Attempt: {
        "phase": "fan_out", "call": 1, "attempt": 1, "ready": 0, "permit_requested": 0,
        "permit_granted": 0, "done": 0, "outcome": "connect_failed",
    },
    Call: {"phase": "fan_out", "call": 1, "ready": 0, "done": 0, "outcome": "ok", "attempts": 0},
    Workflow: {
        "topic": "", "ready": 0, "started": 0, "done": 0, "outcome": "ok",
        "branches": {"total": 0, "ok": 0},
    },
    Trial: {"start": 0, "end": 0},
    Transcript: {
        "phase": "fan_out", "call": 1, "outcome": "ok", "messages": [], "reasoning": "",
        "answer": "",
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", DEFAULTS, ids=lambda kind: kind.__name__)
def test_a_field_with_its_default_is_left_out_of_the_line(tmp_path: Path, kind: type) -> None:
    key = {"cell": "c", "repeat": 0, "execution": 0}
    always = key | ({} if kind is Trial else {"workflow": 0}) | ALWAYS[kind]
    record: Any = msgspec.convert(always | DEFAULTS[kind], kind)
    with Writer(tmp_path, transcripts=True) as writer:
        writer.append(msgspec.convert(always, kind))
    (path,) = [path for path in tmp_path.iterdir() if path.stat().st_size]
    (line,) = path.read_bytes().splitlines()
    assert msgspec.json.decode(line) == always
    assert msgspec.json.decode(line, type=kind) == record
    assert always.keys() | DEFAULTS[kind].keys() == set(kind.__struct_fields__)  # type: ignore[attr-defined]


def test_no_reported_token_is_no_text_in_the_line() -> None:
    attempt = make_attempt(tokens=NO_TOKENS)
    assert b"tokens" not in msgspec.json.encode(attempt)
    some = msgspec.json.encode(make_attempt(tokens=Tokens(input=5, reasoning=0)))
    assert msgspec.json.decode(some)["tokens"] == {"input": 5, "reasoning": 0}


@pytest.mark.parametrize("read", [read_records, read_columns])
def test_lines_of_schema_1_are_read(tmp_path: Path, read: Callable[[Path], Records]) -> None:
    records: list[Any] = [
        make_attempt(), make_attempt(attempt=2, **DEFAULTS[Attempt] | {"tokens": NO_TOKENS}),
        make_call(), make_call(call=2, tokens=None), make_workflow(), make_trial(loop_lag={}),
    ]  # fmt: skip
    write_whole(tmp_path / run_directory.RUN_FILE, make_run())
    write(tmp_path, *records)
    new = read(tmp_path)
    write_in_schema_1(tmp_path)
    assert b'"finish_reason":null' in (tmp_path / run_directory.ATTEMPTS_FILE).read_bytes()
    old = read(tmp_path)
    assert (old.run.schema, new.run.schema) == (1, SCHEMA)
    for name, many in (("attempts", 2), ("calls", 2), ("workflows", 1), ("trials", 1)):
        before, after = (
            [msgspec.structs.asdict(one) for one in getattr(records, name)]
            for records in (old, new)
        )
        assert before == after
        assert len(before) == many


@given(of(Transcript))
def test_transcripts_are_lines_of_json(transcripts: list[Transcript]) -> None:
    with TemporaryDirectory() as name:
        write(Path(name), *transcripts)
        lines = (Path(name) / run_directory.TRANSCRIPTS_FILE).read_bytes().splitlines()
        assert [msgspec.json.decode(line, type=Transcript) for line in lines] == transcripts


def test_a_record_is_on_disk_as_soon_as_it_is_appended(tmp_path: Path) -> None:
    write_whole(tmp_path / run_directory.RUN_FILE, make_run())
    with Writer(tmp_path) as writer:
        writer.append(make_call(call=1))
        assert [call.call for call in read_records(tmp_path).calls] == [1]
        writer.append(make_call(call=2))
        assert [call.call for call in read_records(tmp_path).calls] == [1, 2]


def test_a_run_that_is_opened_again_is_appended_to(tmp_path: Path) -> None:
    write_whole(tmp_path / run_directory.RUN_FILE, make_run())
    write(tmp_path, make_trial(repeat=0))
    write(tmp_path, make_trial(repeat=1))
    assert [trial.repeat for trial in read_records(tmp_path).trials] == [0, 1]


def test_a_directory_without_records_is_a_run_in_which_nothing_ended(tmp_path: Path) -> None:
    write_whole(tmp_path / run_directory.RUN_FILE, make_run())
    assert read_records(tmp_path) == Records(make_run(), [], [], [], [], None)


# What a killed process leaves behind.


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write_whole(tmp_path / run_directory.RUN_FILE, make_run())
    write(
        tmp_path,
        *(make_attempt(attempt=number, request_id="é" * number) for number in (1, 2, 3)),
        *(make_call(call=number) for number in (1, 2, 3)),
        *(make_workflow(workflow=number, topic=f"Flüsse {number}") for number in (1, 2, 3)),
        *(make_trial(repeat=number) for number in (1, 2, 3)),
    )
    head = ProviderHead(anchor=make_run().anchor, profile={}, seed=1, time_scale=1.0)
    write_provider(tmp_path, head, [served(number) for number in (1, 2)])
    return tmp_path


def served(arrival: int) -> Served:
    plain: dict[str, Any] = dict.fromkeys(get_type_hints(Served), 0) | {
        "trace_id": None, "span_id": "é", "cell": "c", "streamed": True, "outcome": "ok",
        "tokens": msgspec.json.decode(b"{}", type=get_type_hints(Served)["tokens"]),
        "gaps": {}, "lateness": {}, "arrival": arrival, "fault": None,
    }  # fmt: skip
    return Served(**plain)


KINDS: list[tuple[str, Callable[[Records], list[Any]]]] = [
    (run_directory.ATTEMPTS_FILE, lambda records: [*records.attempts]),
    (run_directory.CALLS_FILE, lambda records: [*records.calls]),
    (run_directory.WORKFLOWS_FILE, lambda records: records.workflows),
    (run_directory.TRIALS_FILE, lambda records: records.trials),
    (run_directory.PROVIDER_FILE, lambda records: [*records.provider] if records.provider else []),
]
FILES = [name for name, _ in KINDS]


def cuts(whole: bytes) -> Iterator[tuple[int, int]]:
    """Yield places to cut a file at, all ends of lines among them, and the lines left whole."""
    ends = [place for place, byte in enumerate(whole) if byte == ord("\n")]
    near = {end + offset for end in ends for offset in (-1, 0, 1)}
    for cut in sorted({*range(0, len(whole), 11), *near} - {len(whole)}):
        yield cut, sum(end < cut for end in ends)


@pytest.mark.parametrize(("name", "kind"), KINDS[:-1])
def test_a_file_cut_off_anywhere_gives_every_line_that_is_whole(
    run: Path, name: str, kind: Callable[[Records], list[Any]]
) -> None:
    path = run / name
    whole, before = path.read_bytes(), kind(read_records(run))
    for cut, lines in cuts(whole):
        path.write_bytes(whole[:cut])
        assert kind(read_records(run)) == before[:lines]


def test_a_providers_log_cut_off_anywhere_gives_what_is_whole_of_it(run: Path) -> None:
    path = run / run_directory.PROVIDER_FILE
    whole, before = path.read_bytes(), read_records(run).provider
    assert before is not None
    for cut, lines in cuts(whole):
        path.write_bytes(whole[:cut])
        after = read_records(run).provider
        assert after == ((before[0], before[1][: lines - 1]) if lines else None)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize(
    "broken", [b"", b"{}", b"[", b'"\xff"', b"\x00" * 9, b'{"cell": 3}', b'{"cell": "\xff"}']
)
def test_a_line_that_is_whole_but_no_record_is_named_by_its_number(
    run: Path, name: str, number: int, broken: bytes
) -> None:
    lines = (run / name).read_bytes().splitlines()
    lines[number - 1] = broken
    (run / name).write_bytes(b"\n".join(lines) + b"\n")
    said = refusal(lambda: read_records(run))
    assert said.startswith(f"{run / name}:{number}: not a record (")


@pytest.mark.parametrize("name", [*FILES, run_directory.RUN_FILE])
def test_a_file_that_cannot_be_read_is_named(run: Path, name: str) -> None:
    (run / name).unlink()
    (run / name).mkdir()
    said = refusal(lambda: read_records(run))
    assert said.startswith(f"{run / name}: cannot be read (")


def test_a_folder_that_holds_no_run_is_named(tmp_path: Path) -> None:
    said = refusal(lambda: read_run(tmp_path))
    assert said == f"{tmp_path}: not a run directory, run.json is missing"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": "1"}', '{"schema": 1}', "\udcff"])
def test_a_run_that_cannot_be_understood_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / run_directory.RUN_FILE
    path.write_bytes(text.encode(errors="surrogateescape"))
    assert refusal(lambda: read_run(tmp_path)).startswith(f"{path}: cannot be read (")


def test_a_run_of_a_newer_schema_is_refused_by_its_number_whatever_else_it_holds(
    tmp_path: Path,
) -> None:
    write_whole(tmp_path / run_directory.RUN_FILE, {"schema": SCHEMA + 1, "cells": "all of them"})
    said = refusal(lambda: read_run(tmp_path))
    assert said == (
        f"{tmp_path / run_directory.RUN_FILE}: schema {SCHEMA + 1}, "
        f"but this version reads 1 to {SCHEMA}; install the version that wrote it"
    )


# What cannot be written.


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond `size` bytes: what a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_line_that_is_cut_off_by_a_full_disk_is_an_error_that_names_the_file(
    tmp_path: Path,
) -> None:
    write_whole(tmp_path / run_directory.RUN_FILE, make_run())
    with Writer(tmp_path) as writer:
        writer.append(make_call(call=1))
        size = (tmp_path / run_directory.CALLS_FILE).stat().st_size
        with largest_file(size + 10):
            said = refusal(lambda: writer.append(make_call(call=2)))
        again = refusal(lambda: writer.append(make_attempt()))
    assert said == (
        f"{tmp_path / run_directory.CALLS_FILE}: cannot be written (a line was cut off; "
        f"is the disk full?); make room and go on with `harness run --resume {tmp_path}`"
    )
    assert again == said, "nothing is written after what is missing"
    assert [call.call for call in read_records(tmp_path).calls] == [1]
    assert (tmp_path / run_directory.CALLS_FILE).read_bytes().endswith(b"\n")


def test_a_line_that_cannot_be_written_at_all_is_an_error_that_names_the_file(
    tmp_path: Path,
) -> None:
    (tmp_path / run_directory.CALLS_FILE).symlink_to("/dev/full")
    with Writer(tmp_path) as writer:
        said = refusal(lambda: writer.append(make_call()))
    assert said.startswith(
        f"{tmp_path / run_directory.CALLS_FILE}: cannot be written (No space left on device); "
        "make room and go"
    )


def test_a_writer_without_its_directory_says_so(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    said = refusal(lambda: Writer(missing).__enter__())
    assert said.startswith(f"{missing / run_directory.ATTEMPTS_FILE}: cannot be written (")


def test_a_writer_that_cannot_open_all_its_files_leaves_none_open(tmp_path: Path) -> None:
    """An open file would be a ResourceWarning, which is an error here."""
    (tmp_path / run_directory.TRIALS_FILE).mkdir()
    said = refusal(lambda: Writer(tmp_path).__enter__())
    assert said.startswith(f"{tmp_path / run_directory.TRIALS_FILE}: cannot be written (")


def test_appended_lines_follow_complete_ones_only(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    append_to_file(path, [b"one\n", b"two\n"])
    with path.open("ab") as file:
        file.write(b"thr")  # killed
    append_to_file(path, [b"three\n"])
    assert path.read_bytes() == b"one\ntwo\nthree\n"
    with largest_file(20):
        said = refusal(lambda: append_to_file(path, [b"f\n", b"long enough\n"]))
    assert said == f"{path}: cannot be written (a line was cut off; is the disk full?)"
    assert path.read_bytes() == b"one\ntwo\nthree\nf\n"


def test_a_file_that_is_written_whole_is_the_old_one_until_it_is_the_new_one(
    tmp_path: Path,
) -> None:
    path = tmp_path / run_directory.RUN_FILE
    write_whole(path, make_run(seed=1))
    with largest_file(100):
        said = refusal(lambda: write_whole(path, make_run(seed=2)))
    assert said.startswith(f"{path}: cannot be written (")
    assert list(tmp_path.iterdir()) == [path], "a full disk needs the room"
    assert read_run(tmp_path) == make_run(seed=1)
    write_whole(path, make_run(seed=2))
    assert read_run(tmp_path) == make_run(seed=2)
    assert [file.name for file in tmp_path.iterdir()] == [run_directory.RUN_FILE], (
        "nothing else is left"
    )


def refusal(act: Callable[[], object]) -> str:
    """Return the one line of the StorageError that `act` ends in."""
    with pytest.raises(StorageError) as caught:
        act()
    [line] = str(caught.value).splitlines()
    return line


@pytest.mark.parametrize("outcome", ["ok", "rate_limited", "an outcome of another version"])
def test_columns_say_the_same_as_the_records_but_for_what_no_statistic_needs(
    outcome: str, tmp_path: Path
) -> None:
    write_whole(tmp_path / run_directory.RUN_FILE, make_run())
    with Writer(tmp_path) as writer:
        for number in (1, 2):
            writer.append(make_attempt(attempt=number, outcome=outcome, request_id=f"req-{number}"))
        writer.append(make_call(outcome=outcome))
    whole, small = read_records(tmp_path), read_columns(tmp_path)
    pairs = zip([*whole.attempts, *whole.calls], [*small.attempts, *small.calls], strict=True)
    for was, now in pairs:
        told, wanted = msgspec.structs.asdict(now), msgspec.structs.asdict(was)
        for name in ("request_id",) if "request_id" in told else ("tokens", "wasted_tokens"):
            assert told.pop(name) is None
            wanted.pop(name)
        assert told == wanted


def test_columns_of_histograms_are_packed_those_of_the_provider_too(tmp_path: Path) -> None:
    gaps = {47_448_064: 900, 47_710_208: 30, 12: 1}
    late = msgspec.structs.replace(served(1), gaps=gaps, lateness={255: 2})
    write_whole(tmp_path / run_directory.RUN_FILE, make_run([make_attempt().cell]))
    write(tmp_path, make_attempt(gaps=gaps))
    head = ProviderHead(anchor=make_run().anchor, profile={}, seed=1, time_scale=1.0)
    write_provider(tmp_path, head, [msgspec.structs.replace(late, cell=make_attempt().cell)])
    small = read_columns(tmp_path)
    assert small.provider is not None
    (attempt,), (one,) = small.attempts, small.provider[1]
    assert all(isinstance(it, Packed) for it in (one.gaps, one.lateness))
    assert (attempt.gaps, one.gaps, one.lateness) == (gaps, gaps, {255: 2})


# What is written to again.


@pytest.mark.parametrize("torn", ["{", "x" * 200_000, ""])
def test_a_torn_last_line_is_cut_off_before_anything_is_written_after_it(
    torn: str, tmp_path: Path
) -> None:
    write_whole(tmp_path / run_directory.RUN_FILE, make_run())
    with Writer(tmp_path) as writer:
        writer.append(make_call(call=1))
    with (tmp_path / run_directory.CALLS_FILE).open("a") as file:
        file.write(torn)
    with Writer(tmp_path) as writer:
        writer.append(make_call(call=2))
    assert [call.call for call in read_records(tmp_path).calls] == [1, 2]


def test_a_file_that_is_one_torn_line_is_empty_afterwards(tmp_path: Path) -> None:
    (tmp_path / run_directory.CALLS_FILE).write_bytes(b'{"cell": "asyn')
    with Writer(tmp_path):
        pass
    assert (tmp_path / run_directory.CALLS_FILE).read_bytes() == b""


def test_a_directory_takes_one_writer_at_a_time(tmp_path: Path) -> None:
    with (
        locked(tmp_path),
        pytest.raises(PreflightError, match="another run is writing into it; wait"),
        locked(tmp_path),
    ):
        pytest.fail("two at once")
    with locked(tmp_path):
        pass


def test_the_logs_of_a_run_that_went_on_are_one_log_in_the_times_of_the_first(
    tmp_path: Path,
) -> None:
    """The provider of each session reads its own clock, and so does the run."""
    run = make_run()
    later = Anchor(unix_ns=run.anchor.unix_ns, monotonic_ns=run.anchor.monotonic_ns - 7_000)
    went_on = msgspec.structs.replace(run, resumed=(Session(execution=1, anchor=later, away=500),))
    write_whole(tmp_path / run_directory.RUN_FILE, went_on)
    first, second = (
        ProviderHead(
            anchor=Anchor(unix_ns=0, monotonic_ns=at + 1_000), profile={}, seed=1, time_scale=1.0
        )
        for at in (run.anchor.monotonic_ns, later.monotonic_ns + 50)
    )
    for execution, head, arrived in ((0, first, 10), (1, second, 20_000)):
        lines = [msgspec.json.encode(line) for line in (head, make_served(arrived=arrived))]
        (tmp_path / run_directory.provider_log(execution)).write_bytes(b"\n".join(lines) + b"\n")
    provider = read_records(tmp_path).provider
    assert provider is not None
    head, served = provider
    assert head.anchor.monotonic_ns == run.anchor.monotonic_ns + 1_000
    # 50 ns later than the first log's zero would be on the second session's clock
    assert [one.arrived for one in served] == [10, 20_050]


def make_served(arrived: int) -> Served:
    return Served(
        trace_id=None, span_id=None, cell=None, repeat=0, arrival=1, streamed=True,
        arrived=arrived, first_scheduled=None, first_written=None, first_answer_written=None,
        last_scheduled=None, last_written=None, done=arrived + 5, outcome="ok", status=200,
        active=0, tokens=Tokens(), chunks=0, gaps={}, lateness={},
    )  # fmt: skip
