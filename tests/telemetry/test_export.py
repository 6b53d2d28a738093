"""Files and deliveries of a run, as the commands ask for them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness.records.errors import StorageError
from harness.records.schema import Session, Trial
from harness.store.run_directory import RUN_FILE, Records, TrialRecords
from harness.store.trial_reader import TrialReader
from harness.telemetry import delivery_log
from harness.telemetry.collector_reply import DeliveryClock
from harness.telemetry.delivery_log import Acknowledged, DeliveryAccount
from harness.telemetry.export import TRACES, Exporter, export_stored
from harness.telemetry.otlp_target import OtlpTarget
from tests.analysis.played import make_records
from tests.cli.test_report import save
from tests.telemetry.example import CELL, example
from tests.telemetry.otlp import Answer, Receiver, parse_line, receiving, spans_in
from tests.telemetry.test_otlp_http import closed_port, partial
from tests.telemetry.test_outbox import Slow

CELLS = ("async_2_none_attempt", "sync_1_none_attempt")
STILL = DeliveryClock(lambda: 0.0, lambda _: None)
"""Time stands still, so that a collector has as much of it as it needs."""


def trials_of(records: Records) -> list[TrialRecords]:
    def within(trial: Trial, rows: Sequence[Any]) -> list[Any]:
        return [row for row in rows if (row.cell, row.repeat) == (trial.cell, trial.repeat)]

    return [
        TrialRecords(
            trial,
            within(trial, records.attempts),
            within(trial, records.calls),
            within(trial, records.workflows),
        )
        for trial in records.trials
    ]


def stored(records: Records, directory: Path) -> TrialReader:
    """Write the records of a run, once, and return their reader."""
    if not (directory / RUN_FILE).exists():
        save(records, directory)
    return TrialReader(directory)


def read(directory: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the spans of every file of the run's traces."""
    return {
        path.name: [
            span for line in path.read_bytes().splitlines() for span in spans_in(parse_line(line))
        ]
        for path in sorted((directory / TRACES).glob("*.otlp.jsonl"))
    }


def spans_made(directory: Path) -> Counter[str]:
    """Return how often each span stands in the files."""
    files = (directory / TRACES).glob("*.otlp.jsonl")
    found = re.findall(r'"spanId":"(\w+)","flags"', "".join(path.read_text() for path in files))
    return Counter(found)


def spans_got(receiver: Receiver) -> Counter[str]:
    """Return how often each span arrived."""
    return Counter(span["ids"][1] for one in receiver.got for span in spans_in(one.message))


def export_live(
    directory: Path,
    records: Records,
    target: OtlpTarget | None = None,
    clock: DeliveryClock = STILL,
    reachable: bool = True,
    wait: bool = False,
) -> DeliveryAccount:
    """Export trial after trial as a run does."""
    exporter = Exporter(directory, target, {}, reachable, clock)
    for ended in trials_of(records):
        exporter.after_trial(records.run, ended)
    return exporter.finish(records.run, wait)


def spans_of(account: DeliveryAccount) -> DeliveryAccount:
    """Return the account without that of metrics."""
    return msgspec.structs.replace(account, metrics=None)


def down() -> OtlpTarget:
    return OtlpTarget("http", "127.0.0.1", closed_port(), "/v1/traces")


def test_each_cell_has_one_file_with_the_trials_that_ran_in_it(tmp_path: Path) -> None:
    records = make_records(CELLS, repeats=2, workflows=2)
    made = export_live(tmp_path, records)
    files = read(tmp_path)
    assert list(files) == [
        "async_2_none_attempt.otlp.jsonl", "run.otlp.jsonl", "sync_1_none_attempt.otlp.jsonl",
    ]  # fmt: skip
    for cell in CELLS:
        spans = files[f"{cell}.otlp.jsonl"]
        assert {span["attributes"]["harness.cell"] for span in spans} == {cell}
        assert {span["attributes"]["harness.repeat"] for span in spans} == {0, 1}
        attempts = [row for row in records.attempts if row.cell == cell]
        assert sum(span["name"] == "attempt" for span in spans) == len(attempts)
    names = [span["name"] for span in files["run.otlp.jsonl"]]
    assert sorted(names) == ["harness.cell"] * 2 + ["harness.run"] + ["harness.trial"] * 4
    assert spans_of(made) == DeliveryAccount(made=sum(map(len, files.values())))


def test_making_the_traces_again_gives_the_same_spans_and_none_twice(tmp_path: Path) -> None:
    records = make_records(CELLS, repeats=2, workflows=2)
    export_live(tmp_path, records)
    before = read(tmp_path)
    account = export_stored(tmp_path, stored(records, tmp_path), None, {})
    assert read(tmp_path) == before
    assert account.made == sum(map(len, before.values()))
    assert set(spans_made(tmp_path).values()) == {1}


def test_everything_made_is_delivered_and_that_is_written_down(tmp_path: Path) -> None:
    records = make_records(CELLS, repeats=1, workflows=1)
    with receiving(Receiver()) as receiver:
        account = export_live(tmp_path, records, receiver.target())
    assert spans_got(receiver) == spans_made(tmp_path)
    assert spans_of(account) == DeliveryAccount(
        made=account.made, delivered=account.made, endpoint=f"{receiver.url}/v1/traces"
    )
    assert delivery_log.read_account(tmp_path / TRACES) == account
    taken = delivery_log.read_acknowledged(tmp_path / TRACES, str(account.endpoint))
    assert taken.span_ids == set(spans_made(tmp_path))


def test_a_collector_that_is_down_costs_its_delivery_and_no_file(tmp_path: Path) -> None:
    """It is not tried between the trials either once it has failed, or when it never answered."""
    records = make_records(CELLS, repeats=2, workflows=1)
    for reachable in (True, False):
        where = tmp_path / str(reachable)
        where.mkdir()
        account = export_live(where, records, down(), reachable=reachable)
        assert account.undelivered == account.made == spans_made(where).total()
        assert str(account.problem).endswith("connection refused")


@pytest.mark.parametrize(
    ("workflows", "spans"), [(120, 7_000), pytest.param(330, 20_000, marks=pytest.mark.more)]
)
def test_spans_that_a_slow_collector_had_no_time_for_come_later_none_lost_none_twice(
    workflows: int, spans: int, tmp_path: Path
) -> None:
    """A request takes 200 ms. The run ends within two seconds; an export sends the rest."""
    records = make_records([CELL], 1, workflows=workflows, in_flight=30, branches=12)
    slow = Slow(0.2)
    with receiving(slow.receiver) as receiver:
        began = slow.time
        first = export_live(tmp_path, records, receiver.target(), slow.clock)
        assert slow.time - began <= 2.0, "after the only trial, and at the end"
        assert first.made > spans
        assert 0 < first.delivered < first.made
        assert first.delivered + first.undelivered == first.made
        assert spans_got(receiver).total() == first.delivered
        later = export_stored(tmp_path, stored(records, tmp_path), receiver.target(), {})
    assert spans_of(later) == spans_of(
        msgspec.structs.replace(first, delivered=first.made, undelivered=0)
    )
    assert spans_got(receiver) == spans_made(tmp_path), "each once"
    assert set(spans_got(receiver).values()) == {1}


def test_a_slow_collector_costs_two_seconds_however_many_trials_there_are(tmp_path: Path) -> None:
    records = make_records([CELL], 24, workflows=14, in_flight=7, branches=12)
    slow = Slow(0.2)
    with receiving(slow.receiver) as receiver:
        began = slow.time
        account = export_live(tmp_path, records, receiver.target(), slow.clock)
    assert 0 < account.delivered < account.made
    assert slow.time - began <= 2.0


def test_who_waits_has_all_of_them_delivered_at_the_end(tmp_path: Path) -> None:
    records = make_records([CELL], 2, workflows=40, in_flight=30, branches=12)
    slow = Slow(1.5)
    with receiving(slow.receiver) as receiver:
        account = export_live(tmp_path, records, receiver.target(), slow.clock, wait=True)
    assert account.delivered == account.made == len(spans_got(receiver))
    assert slow.time > 105


def test_what_a_collector_that_was_down_has_missed_can_be_sent_when_it_is_up(
    tmp_path: Path,
) -> None:
    records = make_records(CELLS, repeats=1, workflows=2)
    export_live(tmp_path, records, down())
    with receiving(Receiver()) as receiver:
        account = export_stored(tmp_path, stored(records, tmp_path), receiver.target(), {})
        assert account.delivered == account.made
        assert spans_got(receiver) == spans_made(tmp_path)
        again = export_stored(tmp_path, stored(records, tmp_path), receiver.target(), {})
        assert spans_of(again) == spans_of(account)
        assert spans_got(receiver) == spans_made(tmp_path), "all was there already"


def test_a_collector_that_has_forgotten_everything_gets_it_again(tmp_path: Path) -> None:
    records = make_records(CELLS, repeats=1, workflows=1)
    with receiving(Receiver()) as receiver, receiving(Receiver()) as other:
        for one in (receiver, other):
            export_stored(tmp_path, stored(records, tmp_path), one.target(), {})
        account = export_stored(
            tmp_path, stored(records, tmp_path), receiver.target(), {}, again=True
        )
        export_stored(tmp_path, stored(records, tmp_path), other.target(), {})
    assert account.delivered == account.made
    assert set(spans_got(receiver).values()) == {2}
    assert set(spans_got(other).values()) == {1}, "what another one has is not forgotten"


def test_spans_that_were_rejected_are_refused_for_good(tmp_path: Path) -> None:
    records = example()
    body = partial(rejected_spans=3)
    with receiving(Receiver(lambda n: Answer(body=body) if n == 1 else Answer())) as receiver:
        account = export_live(tmp_path, records, receiver.target())
        assert (account.delivered, account.refused) == (account.made - 3, 3)
        assert account.undelivered == 0
        again = export_stored(tmp_path, stored(records, tmp_path), receiver.target(), {})
        assert (again.delivered, again.refused) == (account.made - 3, 3)
        assert set(spans_got(receiver).values()) == {1}


def test_a_collector_that_fails_half_way_is_accounted_for(tmp_path: Path) -> None:
    records = make_records(CELLS, repeats=1, workflows=1)
    with receiving(Receiver(lambda n: Answer(401 if n == 2 else 200))) as receiver:
        account = export_live(tmp_path, records, receiver.target())
    assert account.delivered + account.refused + account.undelivered == account.made
    assert account.delivered > 0
    assert account.refused > 0
    assert account.undelivered > 0
    assert "answered 401" in str(account.problem)


def test_attempts_of_a_workflow_that_never_ended_are_counted_as_left_out(tmp_path: Path) -> None:
    records = example()._replace(workflows=[])
    account = export_live(tmp_path, records)
    assert spans_of(account) == DeliveryAccount(made=3, left_out=5), "the run trace alone"
    assert export_stored(tmp_path, stored(records, tmp_path), None, {}).left_out == 5
    why = "because only workflows that ended have one"
    assert delivery_log.without_span(account) == f"5 attempts have no trace, {why}"
    one = delivery_log.without_span(DeliveryAccount(left_out=1))
    assert one == f"1 attempt has no trace, {why}"


def test_a_directory_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / TRACES).write_text("in the way")
    records = example()
    with pytest.raises(StorageError, match="traces: cannot be written"):
        export_live(tmp_path, records)


def test_a_torn_line_of_the_ledger_counts_as_not_delivered(tmp_path: Path) -> None:
    delivery_log.note(tmp_path, "here", ["a", "b"], 1)
    delivery_log.note(tmp_path, "there", ["c"], 0)
    with (tmp_path / delivery_log.DELIVERED).open("ab") as file:
        file.write(b'{"endpoint": "here", "rejec')
    assert delivery_log.read_acknowledged(tmp_path, "here") == Acknowledged(frozenset("ab"), 1)
    delivery_log.note(tmp_path, "here", ["d"], 0)
    assert delivery_log.read_acknowledged(tmp_path, "here") == Acknowledged(frozenset("abd"), 1), (
        "the incomplete line is gone"
    )
    delivery_log.forget(tmp_path, "here")
    assert delivery_log.read_acknowledged(tmp_path, "here") == Acknowledged(frozenset(), 0)
    assert delivery_log.read_acknowledged(tmp_path, "there") == Acknowledged(frozenset("c"), 0)


def test_a_ledger_that_cannot_be_read_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / delivery_log.DELIVERED).write_bytes(b"nonsense\n")
    with pytest.raises(StorageError, match=r"delivered\.jsonl: cannot be read"):
        delivery_log.read_acknowledged(tmp_path, "here")
    (tmp_path / delivery_log.ACCOUNT).write_bytes(b"nonsense\n")
    assert delivery_log.read_account(tmp_path) is None
    assert delivery_log.read_account(tmp_path / "nowhere") is None


def test_a_run_that_goes_on_has_its_earlier_trials_in_the_run_trace(tmp_path: Path) -> None:
    records = make_records([CELL], 2, workflows=1)
    first, second = trials_of(records)
    session = Session(execution=1, anchor=records.run.anchor, away=0)
    resumed = msgspec.structs.replace(records.run, resumed=(session,))
    with receiving(Receiver()) as receiver:
        for run, ended, earlier in ((records.run, first, ()), (resumed, second, (first.trial,))):
            exporter = Exporter(tmp_path, receiver.target(), {}, clock=STILL, earlier=earlier)
            exporter.after_trial(run, ended)
            exporter.finish(run)
        account = export_stored(
            tmp_path, stored(records, tmp_path), receiver.target(), {}, seconds=5
        )
    names = [span["name"] for span in read(tmp_path)["run.otlp.jsonl"]]
    assert sorted(names) == ["harness.cell", "harness.run", "harness.trial", "harness.trial"]
    assert account.delivered == account.made
    assert spans_got(receiver) == spans_made(tmp_path), "each once"
