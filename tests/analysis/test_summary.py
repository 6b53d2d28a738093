"""The summary of a whole run, and the file that holds it."""

from __future__ import annotations

from pathlib import Path

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.analysis.model import Figure, Summary
from harness.analysis.summary import summarise, write_summary
from harness.report.wording import speedup
from harness.store import run_directory
from harness.store.run_directory import Records
from tests.analysis.builders import make_run
from tests.analysis.played import Shape, make_records

CELLS = ("sync_1_none_attempt", "sync_1_full-jitter_call", "async_4_full-jitter_call")


def written(records: Records, directory: Path) -> Path:
    """Write records the way a run does."""
    run_directory.write_whole(directory / run_directory.RUN_FILE, records.run)
    with run_directory.Writer(directory) as writer:
        for kind in (records.attempts, records.calls, records.workflows, records.trials):
            for record in kind:
                writer.append(record)
    if records.provider is not None:
        head, log = records.provider
        lines = b"".join(msgspec.json.encode(line) + b"\n" for line in (head, *log))
        (directory / run_directory.PROVIDER_FILE).write_bytes(lines)
    return directory


def test_a_summary_is_written_and_reads_back_as_it_was(tmp_path: Path) -> None:
    records = make_records(CELLS, shape=Shape(failure_rate=0.1))
    summary = write_summary(written(records, tmp_path))
    text = (tmp_path / run_directory.SUMMARY_FILE).read_bytes()
    assert msgspec.json.decode(text, type=Summary) == summary == summarise(records)
    assert write_summary(tmp_path) == summary
    assert (tmp_path / run_directory.SUMMARY_FILE).read_bytes() == text


def test_a_summary_has_every_cell_in_the_order_of_the_run() -> None:
    summary = summarise(make_records(CELLS))
    assert tuple(cell.id for cell in summary.cells) == CELLS
    assert summary.simulated
    assert (summary.scenario, summary.status) == ("synthetic", "complete")
    assert summary.oracle is not None


def test_sync_is_the_base_only_for_cells_with_its_retry_and_scope() -> None:
    other, base, fast = summarise(make_records(CELLS)).cells
    assert base.speedup_over_sync is not None
    assert base.speedup_over_sync.value == 1.0
    assert other.speedup_over_sync is not None
    assert fast.speedup_over_sync is not None
    assert fast.speedup_over_sync.value > 1.2
    alone = summarise(make_records(["sync_1_none_attempt", "async_4_full-jitter_call"]))
    assert alone.cells[1].speedup_over_sync is None


def of_clients(clients: dict[str, str]) -> Records:
    """Return the records of a run whose cells have these clients."""
    records = make_records(list(clients), 3, workflows=30)
    cells = [
        msgspec.structs.replace(cell, settings={"endpoint.client": clients[cell.id]})
        for cell in records.run.cells
    ]
    return records._replace(run=msgspec.structs.replace(records.run, cells=tuple(cells)))


def test_sync_is_the_base_only_for_cells_with_its_client() -> None:
    serial, fast = "serial_1_none_attempt", "async_8_none_attempt"
    alike = summarise(of_clients({serial: "wire", fast: "wire"})).cells[1]
    assert alike.speedup_over_sync is not None
    assert alike.speedup_per_token is not None
    other = summarise(of_clients({serial: "openai", fast: "wire"}))
    assert [cell.speedup_over_sync for cell in other.cells] == [Figure(value=1.0), None]
    assert [cell.speedup_per_token for cell in other.cells] == [Figure(value=1.0), None]
    assert speedup(other.cells[1], other.cells) is None


def test_no_setting_is_recommended_among_several_clients() -> None:
    ids = ("async_2_none_attempt", "async_8_none_attempt")
    alike = summarise(of_clients(dict.fromkeys(ids, "wire")))
    assert (alike.question, alike.clients) == ("permits", ("wire",))
    assert alike.recommendation.cell == ids[1]
    summary = summarise(of_clients({ids[0]: "openai", ids[1]: "wire"}))
    assert (summary.question, summary.clients) == ("client", ("openai", "wire"))
    found = summary.recommendation
    assert (found.state, found.cell, found.candidate) == ("open", None, None)
    assert (found.rivals, found.lead_over_next, found.code) == ((), None, ())
    [because] = found.because
    assert because.startswith("The settings differ in endpoint.client")


def test_a_live_run_has_no_oracle() -> None:
    summary = summarise(make_records(CELLS, simulated=False))
    assert not summary.simulated
    assert summary.oracle is None


def test_a_run_that_has_not_begun_can_be_summarised() -> None:
    summary = summarise(Records(make_run(CELLS), [], [], [], [], None))
    assert [cell.workflows.started for cell in summary.cells] == [0, 0, 0]
    assert summary.recommendation.cell is None


@settings(max_examples=20, deadline=None)
@given(data=st.data(), seed=st.integers(0, 100))
def test_whatever_an_interruption_leaves_can_be_summarised(data: st.DataObject, seed: int) -> None:
    records = make_records(CELLS, 2, seed=seed, shape=Shape(failure_rate=0.3))
    left = records._replace(
        attempts=records.attempts[: data.draw(st.integers(0, len(records.attempts)))],
        calls=records.calls[: data.draw(st.integers(0, len(records.calls)))],
        workflows=records.workflows[: data.draw(st.integers(0, len(records.workflows)))],
        trials=records.trials[: data.draw(st.integers(0, len(records.trials)))],
    )
    summary = summarise(left)
    assert msgspec.json.decode(msgspec.json.encode(summary), type=Summary) == summary
