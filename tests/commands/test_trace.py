"""`harness trace` on run directories made by hand, against receivers on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli import main
from tests.analysis.played import Shape, make_records
from tests.commands.test_report import save
from tests.views.traces.otlp import Answer, Receiver, receiving, spans_in
from tests.views.traces.test_export import spans_made
from tests.views.traces.test_otlp_http import closed_port

CELLS = ["sync_1_none_attempt", "async_2_none_attempt"]


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER"):
        monkeypatch.delenv(name, raising=False)
    save(make_records(CELLS, 2, shape=Shape(failure_rate=0.1), time_scale=0.05), tmp_path)
    return tmp_path


def test_a_stored_run_is_sent_and_each_span_is_accounted_for(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with receiving(Receiver()) as receiver:
        command = ["trace", "export", str(directory), "--endpoint", receiver.url]
        assert main(command) == 0
        said = capsys.readouterr().out
        sent = [span["ids"][1] for one in receiver.got for span in spans_in(one.message)]
        assert sorted(sent) == sorted(spans_made(directory).elements())
        assert said == (
            f"{len(sent)} spans in {directory / 'traces'}\n"
            f"{receiver.url}/v1/traces: {len(sent)} delivered, 0 refused, 0 undelivered\n"
        )
        assert main(command) == 0
        assert capsys.readouterr().out == said, "nothing was left to send"
        assert sum(len(spans_in(one.message)) for one in receiver.got) == len(sent)
        assert main([*command, "--again"]) == 0
        assert sum(len(spans_in(one.message)) for one in receiver.got) == 2 * len(sent)


def test_the_variables_say_where_to_send(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving(Receiver()) as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        assert main(["trace", "export", str(directory)]) == 0
        assert receiver.got
        monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
        receiver.got.clear()
        assert main(["trace", "export", str(directory)]) == 0
        assert main(["trace", "export", str(directory), "--endpoint", receiver.url]) == 2
        assert receiver.got == []


def test_without_an_endpoint_the_files_are_made_and_the_way_out_is_said(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["trace", "export", str(directory)]) == 0
    assert spans_made(directory)
    assert "Sent nowhere: name an --endpoint" in capsys.readouterr().out


def test_a_collector_that_is_down_is_one_line_before_anything_is_made(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"http://127.0.0.1:{closed_port()}"
    assert main(["trace", "export", str(directory), "--endpoint", url]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "connection refused; start a collector there" in said
    assert not (directory / "traces").exists()


def test_what_is_refused_is_said_with_its_reason_and_ends_with_4(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with receiving(Receiver(lambda _: Answer(401))) as receiver:
        assert main(["trace", "export", str(directory), "--endpoint", receiver.url]) == 4
    said = capsys.readouterr().out
    assert "0 delivered" in said
    assert "Last problem: " in said
    assert "answered 401" in said


@pytest.mark.parametrize("url", ["127.0.0.1:4318", "ftp://x"])
def test_an_endpoint_that_is_no_address_is_refused_by_its_flag(
    directory: Path, capsys: pytest.CaptureFixture[str], url: str
) -> None:
    assert main(["trace", "export", str(directory), "--endpoint", url]) == 2
    assert capsys.readouterr().err.startswith("harness: --endpoint: ")


def test_a_directory_without_a_run_is_refused_with_a_way_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["trace", "export", str(tmp_path / "nowhere")]) == 2
    assert "holds no run.json; give a directory" in capsys.readouterr().err
