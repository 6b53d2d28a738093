"""Files and deliveries of a run, as the commands ask for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest

from harness.bench.store import Records
from harness.errors import StorageError
from harness.records import Attempt, Call, Trial, Workflow
from harness.views.traces.attributes import Attributes
from harness.views.traces.export import (
    Account,
    export_records,
    export_run,
    export_trial,
    total,
)
from harness.views.traces.otlp_http import OtlpTarget
from harness.views.traces.resource import make_resource
from tests.analysis.played import make_records
from tests.views.traces.example import CELL, example
from tests.views.traces.otlp import Answer, Receiver, parse_line, receiving, spans_in
from tests.views.traces.test_otlp_http import closed_port

CELLS = ("async_2_none_attempt", "sync_1_none_attempt")


class Ended(NamedTuple):
    """A trial with its records, as the runner hands it over."""

    trial: Trial
    attempts: list[Attempt]
    calls: list[Call]
    workflows: list[Workflow]


def trials_of(records: Records) -> list[Ended]:
    def within(trial: Trial, rows: list[Any]) -> list[Any]:
        return [row for row in rows if (row.cell, row.repeat) == (trial.cell, trial.repeat)]

    return [
        Ended(
            trial,
            within(trial, records.attempts),
            within(trial, records.calls),
            within(trial, records.workflows),
        )
        for trial in records.trials
    ]


def resource_of(records: Records) -> Attributes:
    return make_resource(records.run, {})


def read(directory: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the spans of every file of the run's traces."""
    return {
        path.name: [
            span for line in path.read_bytes().splitlines() for span in spans_in(parse_line(line))
        ]
        for path in sorted((directory / "traces").iterdir())
    }


def export_live(
    directory: Path, records: Records, target: OtlpTarget | None = None
) -> list[Account]:
    """Export trial after trial as a run does."""
    resource = resource_of(records)
    accounts = [
        export_trial(directory, records.run, ended, resource, target)
        for ended in trials_of(records)
    ]
    return [*accounts, export_run(directory, records.run, records.trials, resource, target)]


def test_each_cell_has_one_file_with_the_trials_that_ran_in_it(tmp_path: Path) -> None:
    records = make_records(CELLS, repeats=2, workflows=2)
    made = total(export_live(tmp_path, records))
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
    assert made == Account(made=sum(map(len, files.values())))


def test_making_the_traces_again_gives_the_same_spans_and_none_twice(tmp_path: Path) -> None:
    records = make_records(CELLS, repeats=2, workflows=2)
    export_live(tmp_path, records)
    before = read(tmp_path)
    account = export_records(tmp_path, records, resource_of(records), None)
    assert read(tmp_path) == before
    assert account.made == sum(map(len, before.values()))


def test_everything_made_is_delivered_or_counted(tmp_path: Path) -> None:
    records = make_records(CELLS, repeats=1, workflows=1)
    with receiving(Receiver()) as receiver:
        account = total(export_live(tmp_path, records, receiver.target()))
    got = [span for request in receiver.got for span in spans_in(request.message)]
    assert account.delivered == account.made == len(got)
    assert account.undelivered == 0
    assert {span["ids"] for span in got} == {
        span["ids"] for spans in read(tmp_path).values() for span in spans
    }


def test_a_collector_that_is_down_costs_its_delivery_and_no_file(tmp_path: Path) -> None:
    records = example()
    target = OtlpTarget("http", "127.0.0.1", closed_port(), "/v1/traces")
    account = total(export_live(tmp_path, records, target))
    assert (account.delivered, account.undelivered) == (0, account.made)
    assert str(account.problem).endswith("connection refused")
    assert sum(map(len, read(tmp_path).values())) == account.made


def test_nothing_is_encoded_for_a_collector_that_is_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One short connection tells; without it every trial would pay for a failing delivery."""
    monkeypatch.delattr("harness.views.traces.export.send")
    records = example()
    target = OtlpTarget("http", "127.0.0.1", closed_port(), "/v1/traces")
    assert total(export_live(tmp_path, records, target)).delivered == 0


def test_a_collector_that_fails_half_way_is_accounted_for(tmp_path: Path) -> None:
    records = example()
    with receiving(Receiver(lambda n: Answer(500 if n == 1 else 200))) as receiver:
        first, second = export_live(tmp_path, records, receiver.target())
    assert (first.delivered, first.undelivered) == (0, first.made)
    assert (second.delivered, second.undelivered) == (second.made, 0)
    assert total([second, first]).problem == first.problem


def test_attempts_of_a_workflow_that_never_ended_are_counted_as_left_out(tmp_path: Path) -> None:
    records = example()._replace(workflows=[])
    (ended,) = trials_of(records)
    account = export_trial(tmp_path, records.run, ended, resource_of(records), None)
    assert account == Account(made=0, left_out=5)
    again = export_records(tmp_path, records, resource_of(records), None)
    assert again.left_out == 5


def test_a_directory_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "traces").write_text("in the way")
    records = example()
    with pytest.raises(StorageError, match="traces: cannot be made"):
        export_run(tmp_path, records.run, records.trials, {}, None)


def test_a_run_that_goes_on_adds_to_its_cell_and_renews_the_run_trace(tmp_path: Path) -> None:
    records = make_records([CELL], repeats=2, workflows=1)
    resource = resource_of(records)
    for number, ended in enumerate(trials_of(records), 1):
        export_trial(tmp_path, records.run, ended, resource, None)
        export_run(tmp_path, records.run, records.trials[:number], resource, None)
    files = read(tmp_path)
    assert [span["name"] for span in files["run.otlp.jsonl"]].count("harness.run") == 1
    roots = [s for s in files[f"{CELL}.otlp.jsonl"] if s["name"].startswith("invoke_workflow")]
    assert len(roots) == 2
