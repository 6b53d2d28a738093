"""The section that says why workflows were slow, and the account of the traces."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from harness.analysis.model import Figure
from harness.analysis.summary import summarise
from harness.report.charts.timeline import MOST_ROWS
from harness.report.html.method import overhead
from harness.report.html.waterfalls import FAILED, MEDIANS, SLOWEST, Slowness, slowness
from harness.report.waterfall import Waterfalls
from harness.store.run_directory import Records
from harness.telemetry import delivery_log
from harness.telemetry.delivery_log import DeliveryAccount
from harness.telemetry.jaeger import Jaeger
from tests.analysis.played import Shape, make_records
from tests.report.subjects import about, render_report, save_report

CELLS = ("sync_1_full-jitter_attempt", "async_2_full-jitter_attempt", "async_8_none_attempt")
BASE = Jaeger("http://127.0.0.1:16686", lambda _: True)


def played(workflows: int = 3, branches: int = 3, repeats: int = 2) -> Records:
    shape = Shape(failure_rate=0.2)
    return make_records(
        CELLS, repeats, workflows=workflows, branches=branches, shape=shape, time_scale=0.05
    )


@pytest.fixture(scope="module")
def records() -> Records:
    return played()


def shown(records: Records, jaeger: Jaeger | None = None) -> Slowness:
    return slowness(about(summarise(records), records), jaeger)


def test_a_small_run_is_there_whole_and_a_big_one_by_what_is_telling() -> None:
    small = played(workflows=1, repeats=1)
    section = shown(small)
    assert len(section.pictures) == len(small.workflows)
    assert section.note == "All workflows of the run."
    big = played(workflows=30)
    section = shown(big)
    assert SLOWEST + FAILED < len(section.pictures) <= SLOWEST + FAILED + MEDIANS
    assert section.note.startswith(f"{len(section.pictures)} of 180 workflows: the slowest")
    kinds = [picture.kind for picture in section.pictures]
    assert kinds == sorted(
        kinds, key=["Slowest", "Failed or degraded", "Median of its setting"].index
    )
    names = [picture.name for picture in section.pictures]
    assert len(set(names)) == len(names)
    slowest = Waterfalls(big).counted()[0]
    assert names[0] == f"{slowest.cell}-{slowest.repeat + 1}-{slowest.workflow + 1}"


def test_the_critical_path_is_drawn_under_its_calls_and_covers_the_workflow(
    records: Records,
) -> None:
    for picture in shown(records).pictures:
        path = [bar for row in picture.panel.rows for bar in row.bars if bar.look == "path"]
        assert sum(bar.end - bar.start for bar in path) == pytest.approx(picture.panel.axis.end)
        for row in picture.panel.rows:
            assert any(bar.look == "path" for bar in row.bars) == bool(row.mark)
            assert all(0 <= bar.start <= bar.end for bar in row.bars)


def test_the_table_has_what_a_permit_more_would_do_and_shares_that_add_up(
    records: Records,
) -> None:
    table = shown(records).table
    assert table is not None
    by_key = {column.key: column for column in table.columns}
    shares = [column.values for key, column in by_key.items() if key.endswith("_share")]
    for values in zip(*shares, strict=True):
        assert sum(value for value in values if isinstance(value, float)) == pytest.approx(1)
    sync, two, _ = by_key["makespan_ratio_with_a_permit_more"].values
    assert sync is None
    assert isinstance(two, Figure)
    assert two.value < 1
    assert re.search(r"−\d+\u00a0%", render_report(summarise(records), records))


def test_many_branches_are_cut_and_it_is_said() -> None:
    section = shown(played(workflows=1, branches=60, repeats=1))
    for picture in section.pictures:
        assert len(picture.panel.rows) <= MOST_ROWS
    assert any(
        "more calls: harness trace RUN" in " ".join(picture.notes) for picture in section.pictures
    )


def test_links_are_there_where_a_jaeger_is_known_and_nowhere_else(records: Records) -> None:
    summary = summarise(records)
    text = render_report(summary, records, BASE)
    linked = re.findall(r'href="http://127\.0\.0\.1:16686/(trace|search)[^"]+"', text)
    assert linked.count("trace") == len(shown(records).pictures) + 2
    assert linked.count("search") == 1
    assert "16686" not in render_report(summary, records)


def test_the_report_of_a_directory_knows_what_became_of_its_spans(
    records: Records, tmp_path: Path
) -> None:
    traces = tmp_path / "traces"
    traces.mkdir()
    account = DeliveryAccount(
        made=20, delivered=14, refused=1, undelivered=5, endpoint="http://127.0.0.1:4318/v1/traces",
        problem="answered 503",
    )  # fmt: skip
    delivery_log.save_account(traces, account)
    text = save_report(summarise(records), records, tmp_path).read_text()
    for told in (
        "14 delivered to http://127.0.0.1:4318/v1/traces, 1 refused, 5 undelivered", "answered 503",
    ):  # fmt: skip
        assert told in text


def test_the_account_says_what_recording_cost(records: Records) -> None:
    told = dict(overhead(summarise(records), records, DeliveryAccount(made=7)))
    assert "ms of the client" in told["processor time a call"]
    assert told["spans made"] == "7"
    assert told["spans sent"].startswith("none")
    assert "(p99) in the worst setting" in told["timer lag"]
    assert "of that for recording" not in told, "it was not measured"
    told = dict(overhead(summarise(records), records, None))
    assert told["spans"] == "not made; “harness trace export” writes and sends them at any time"


def test_recording_is_told_by_the_call(records: Records) -> None:
    trials = [
        msgspec.structs.replace(one, cpu=4_000_000, recording=1_000_000) for one in records.trials
    ]
    measured = records._replace(trials=trials)
    told = dict(overhead(summarise(measured), measured, None))
    calls = len(records.calls)
    assert told["of that for recording"].startswith(f"{6 / calls:.3g}"[:4])
    assert "25\u00a0%" in told["of that for recording"]
