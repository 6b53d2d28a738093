"""Perfetto traces, read with the classes of the package `perfetto`."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TrackEvent

from harness.analysis.summary import summarise
from harness.cli.main import main
from harness.records.failures import is_failure
from harness.records.groups import decisive_attempt
from harness.store.run_directory import Records, read_records
from harness.telemetry import semconv
from harness.telemetry.perfetto_file import Slice, in_lanes, nested
from harness.telemetry.span import Span

SCENARIO = """
name = "lanes"
[workflow]
topics = ["tides", "winds"]
[endpoint]
profile = "plain-chat"
time = "virtual"
override = { concurrency_cap = 3 }
[load]
workflows = 6
in_flight = 3
[sweep]
permits = [4, "elastic"]
retry = ["openai-sdk", "none"]
permit_scope = ["attempt", "call"]
repeats = 2
"""


class Read(NamedTuple):
    """A slice as a reader of the file finds it."""

    process: str
    lane: str
    name: str
    start: int
    end: int
    about: dict[str, object]


class Opened(NamedTuple):
    """The slices of a file, and the values of its counters by process and name."""

    slices: list[Read]
    counters: dict[tuple[str, str], list[tuple[int, int]]]
    processes: list[str]


def opened(path: Path) -> Opened:
    """Read a file; every end must have its begin, and times must ascend in each track."""
    trace = Trace()
    trace.ParseFromString(path.read_bytes())
    names: dict[str, dict[int, str]] = defaultdict(dict)
    lanes: dict[int, tuple[int, str]] = {}
    processes: dict[int, str] = {}
    found = Opened([], defaultdict(list), [])
    open_in: dict[int, list[tuple[int, TrackEvent]]] = defaultdict(list)
    last: dict[int, int] = {}
    for packet in trace.packet:
        for kind in ("event_names", "debug_annotation_names"):
            for one in getattr(packet.interned_data, kind):
                names[kind][one.iid] = one.name
        for one in packet.interned_data.debug_annotation_string_values:
            names["values"][one.iid] = one.str.decode()
        if packet.HasField("track_descriptor"):
            track = packet.track_descriptor
            if track.HasField("process"):
                processes[track.uuid] = track.process.process_name
                found.processes.append(track.process.process_name)
            lanes[track.uuid] = (track.parent_uuid, track.name)
        if not packet.HasField("track_event"):
            continue
        event, at = packet.track_event, packet.timestamp
        assert at >= last.get(event.track_uuid, 0)
        last[event.track_uuid] = at
        process, lane = lanes[event.track_uuid]
        if event.type == TrackEvent.TYPE_COUNTER:
            found.counters[processes[process], lane].append((at, event.counter_value))
        elif event.type == TrackEvent.TYPE_SLICE_BEGIN:
            open_in[event.track_uuid].append((at, event))
        else:
            start, begun = open_in[event.track_uuid].pop()
            about = dict(_annotations(begun, names))
            name = names["event_names"][begun.name_iid]
            found.slices.append(Read(processes[process], lane, name, start, at, about))
    assert not any(open_in.values()), "each slice has an end"
    return found


def _annotations(
    event: TrackEvent, names: dict[str, dict[int, str]]
) -> Iterator[tuple[str, object]]:
    for one in event.debug_annotations:
        kind = one.WhichOneof("value")
        value = getattr(one, kind)
        text = names["values"][value] if kind == "string_value_iid" else value
        yield names["debug_annotation_names"][one.name_iid], text


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lanes")
    (folder / "lanes.toml").write_text(SCENARIO)
    main(["run", str(folder / "lanes.toml"), "--out", str(folder / "run"), "--quiet"])
    assert main(["trace", str(folder / "run"), "--perfetto", str(folder / "run.pftrace")]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def records(run: Path) -> Records:
    return read_records(run)


@pytest.fixture(scope="module")
def read(run: Path) -> Opened:
    return opened(run.with_name("run.pftrace"))


def test_the_slices_of_permits_are_the_attempts_of_the_records(
    read: Opened, records: Records
) -> None:
    cells = {cell.id: cell for cell in records.run.cells}
    attempts = [one for one in read.slices if semconv.RETRY in one.about]
    attempts = [one for one in attempts if semconv.ATTEMPT in one.about]
    found, wanted = Counter[object](), Counter[object]()
    for one in attempts:
        key = one.about[semconv.RETRY], one.about[semconv.OUTCOME]
        found[key, "count"] += 1
        found[key, "held"] += one.end - one.start
        failed = is_failure(str(one.about[semconv.OUTCOME]))
        assert one.name.startswith(f"{one.about[semconv.OUTCOME]}: ") == failed
    for attempt in records.attempts:
        key = cells[attempt.cell].retry, attempt.outcome
        wanted[key, "count"] += 1
        wanted[key, "held"] += attempt.done - attempt.permit_granted
    assert found == wanted
    assert any(is_failure(one.outcome) for one in records.attempts)


def test_the_sums_of_a_lane_and_of_the_summary_are_the_same(read: Opened, records: Records) -> None:
    cells = summarise(records).cells
    for cell in cells:
        mine = [name for name in read.processes if name.startswith(f"permits: {cell.id},")]
        assert len(mine) == 2
        refused = sum(
            read.counters[name, "429s"][-1][1] for name in mine if read.counters[name, "429s"]
        )
        assert refused == cell.attempts.by_outcome.get("rate_limited", 0)
        lanes = {one.lane for one in read.slices if one.process in mine}
        assert lanes == {f"permit {number + 1}" for number in range(len(lanes))}
        assert len(lanes) <= cell.permits
        most = max(value for name in mine for _, value in read.counters[name, "attempts in flight"])
        assert most <= len(lanes)
        assert all(read.counters[name, "attempts in flight"][-1][1] == 0 for name in mine)
        assert any(read.counters[name, "limit"] for name in mine) == bool(cell.limiter)


def test_lanes_of_a_permit_do_not_overlap(read: Opened) -> None:
    lanes = defaultdict(list)
    for one in read.slices:
        if one.process.startswith("permits") and "call" not in one.name:
            lanes[one.process, one.lane].append((one.start, one.end))
    for times in lanes.values():
        times.sort()
        assert all(a[1] <= b[0] for a, b in pairwise(times))


def test_each_workflow_is_a_process_with_all_its_spans(read: Opened, records: Records) -> None:
    workflows = [name for name in read.processes if name.startswith("workflow ")]
    assert len(workflows) == len(set(workflows)) == len(records.workflows)
    roots = [one for one in read.slices if semconv.INVOKE_WORKFLOW in one.name]
    latency = sum(one.end - one.start for one in roots)
    assert latency == sum(one.done - one.ready for one in records.workflows)
    attempts = [one for one in read.slices if one.name.endswith(semconv.ATTEMPT_SPAN)]
    assert len(attempts) == len(records.attempts)
    tokens = Counter[str]()
    for one in read.slices:
        if semconv.USAGE_OUTPUT in one.about and semconv.RETRY not in one.about:
            tokens["output"] += int(str(one.about[semconv.USAGE_OUTPUT]))
    by_call = defaultdict(list)
    for attempt in records.attempts:
        by_call[attempt.call_key].append(attempt)
    decisive = [decisive_attempt(call, by_call[call.call_key]) for call in records.calls]
    written: list[int] = [one.tokens.output or 0 for one in decisive if one is not None]
    assert tokens["output"] == sum(written) > 0


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9)), max_size=40))
def test_lanes_are_as_many_as_are_held_at_once(times: list[tuple[int, int]]) -> None:
    slices = [Slice(start, start + long, "x", "x", {}) for start, long in times]
    placed = list(in_lanes(slices))
    assert sorted(one for _, one in placed) == sorted(slices)
    ends: dict[int, int] = {}
    for lane, one in placed:
        assert ends.get(lane, 0) <= one.start
        ends[lane] = one.end
    at_once = [len([a for a in slices if a.start <= b.start < a.end or a is b]) for b in slices]
    assert len(ends) <= max(at_once, default=0)


@st.composite
def spans(draw: st.DrawFn) -> list[Span]:
    made: list[Span] = []
    for number in range(draw(st.integers(1, 25))):
        parent = made[draw(st.integers(0, number - 1))] if number else None
        start = draw(st.integers(0, 40)) + (parent.start if parent else 0)
        made.append(
            Span(
                name=str(number),
                trace_id="t",
                span_id=str(number),
                parent_id=parent.span_id if parent else None,
                start=start,
                end=start + draw(st.integers(0, 40)),
                attributes={},
            )
        )
    return made


@given(spans())
def test_spans_nest_in_their_lanes_whatever_their_times_are(made: list[Span]) -> None:
    open_in: dict[int, list[Span]] = defaultdict(list)
    last: dict[int, int] = defaultdict(int)
    seen = []
    for lane, time, span in nested(made):
        assert time >= last[lane]
        last[lane] = time
        if span is None:
            assert open_in[lane].pop().end == time
            continue
        assert span.start == time
        around = open_in[lane][-1:]
        assert all(one.span_id == span.parent_id and span.end <= one.end for one in around)
        open_in[lane].append(span)
        seen.append(span)
    assert not any(open_in.values())
    assert sorted(one.span_id for one in seen) == sorted(one.span_id for one in made)


def test_a_file_of_the_run_is_not_replaced(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (run / "calls.jsonl").read_bytes()
    assert main(["trace", str(run), "--perfetto", str(run / "calls.jsonl")]) == 2
    assert "may replace a file of the run; end it in .pftrace" in capsys.readouterr().err
    assert (run / "calls.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--perfetto", "x", "--json"], "--perfetto x: it has all workflows; leave out json"),
        (["--perfetto", "."], "--perfetto .: is no plain file; give the name of one"),
        (["--perfetto", "/dev/null"], "--perfetto /dev/null: is no plain file"),
        (["--perfetto", "missing/x"], "missing/x"),
    ],
)
def test_a_wrong_option_is_one_line(
    run: Path, options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["trace", str(run), *options]) in (2, 4)
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
