"""`harness trace` on run directories made by hand, against receivers on this machine."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from harness.cli.main import main
from tests.analysis.played import Shape, make_records
from tests.cli.test_report import save
from tests.telemetry.otlp import Answer, Receiver, receiving, spans_in
from tests.telemetry.test_export import spans_made
from tests.telemetry.test_otlp_http import closed_port

CELLS = ["sync_1_none_attempt", "async_2_none_attempt"]


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_SDK_DISABLED",
        "OTEL_TRACES_EXPORTER",
        "HARNESS_JAEGER_URL",
    ):
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
        points = re.search(r"(\d+) data points in", said)
        assert points is not None
        assert said == (
            f"{len(sent)} spans in {directory / 'traces'}\n"
            f"{points[1]} data points in {directory / 'metrics.otlp.jsonl'}\n"
            f"{receiver.url}/v1/traces: {len(sent)} delivered, 0 refused, 0 undelivered\n"
            f"{receiver.url}/v1/metrics: {points[1]} delivered, 0 refused, 0 undelivered\n"
        )
        assert main(command) == 0
        assert capsys.readouterr().out == said, "nothing was left to send"
        assert sum(len(spans_in(one.message)) for one in receiver.got) == len(sent)
        assert main([*command, "--again"]) == 0
        assert sum(len(spans_in(one.message)) for one in receiver.got) == 2 * len(sent)


@pytest.mark.parametrize(("status", "code"), [(404, 0), (400, 4)])
def test_a_collector_that_takes_no_metrics_is_no_failure(
    status: int, code: int, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with receiving(Receiver(metrics_status=status)) as receiver:
        command = ["trace", "export", str(directory), "--endpoint", receiver.url]
        assert main(command) == code
    said = capsys.readouterr().out
    assert (f"{receiver.url}/v1/metrics: takes no metrics" in said) == (code == 0)


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
    assert "Not sent: name an --endpoint" in capsys.readouterr().out


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
    assert "contains no run.json; give a directory" in capsys.readouterr().err


# Drawing


def test_without_a_choice_the_cells_and_the_slowest_workflow_are_drawn(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["trace", str(directory)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("Critical paths of the workflows, in % of their latency\nSIMULATED")
    assert said.count("Critical path of ") == 1
    assert re.search(r"^\w+_none_attempt/\d/\d$", said, re.MULTILINE)


def test_a_number_a_key_or_the_failed_ones_are_drawn_as_asked(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["trace", str(directory), "--slowest", "3"]) == 0
    assert capsys.readouterr().out.count("Critical path of ") == 3
    assert main(["trace", str(directory), "async_2_none_attempt/2/3"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("async_2_none_attempt/2/3\n")
    assert said.count("Critical path of ") == 1
    assert main(["trace", str(directory), "--failed"]) == 0
    said = capsys.readouterr().out
    assert said.count("Critical path of ") == said.count("\nfailed") + said.count("\ndegraded") > 0
    assert main(["trace", str(directory), "--failed", "--slowest", "1"]) == 0
    assert capsys.readouterr().out.count("Critical path of ") == 1


def test_many_failed_workflows_are_cut_and_counted(
    directory: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.cli.trace.MOST_FAILED", 1)
    assert main(["trace", str(directory), "--failed"]) == 0
    said = capsys.readouterr().out
    assert said.count("Critical path of ") == 1
    more = re.search(
        r"^… \d+ more workflows?: harness (trace .* --failed --slowest \d+)$", said, re.M
    )
    assert more
    assert main(shlex.split(more[1])) == 0
    said = capsys.readouterr().out
    assert said.count("Critical path of ") == int(more[1].split()[-1]) > 1
    assert "more workflow" not in said


def test_the_same_for_programs(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", str(directory), "--json", "--slowest", "2"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["simulated"] is True
    assert [cell["id"] for cell in said["cells"]] == CELLS
    assert len(said["workflows"]) == 2
    for one in said["workflows"]:
        assert sum(one["critical_path_s"].values()) == pytest.approx(one["latency_s"])


def test_a_link_is_shown_where_a_jaeger_is_known(
    directory: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    main(["trace", str(directory)])
    assert "http" not in capsys.readouterr().out
    monkeypatch.setenv("HARNESS_JAEGER_URL", "http://127.0.0.1:16686/")
    main(["trace", str(directory)])
    assert "\nhttp://127.0.0.1:16686/trace/" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["nothing-there"], "no workflow of this run"),
        (["--endpoint", "http://127.0.0.1:1"], "only for harness trace export RUN"),
        (["--again"], "only for harness trace export RUN"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(
    directory: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], problem: str
) -> None:
    assert main(["trace", str(directory), *arguments]) == 2
    said = capsys.readouterr().err
    assert problem in said
    assert said.count("\n") == 1


def test_export_wants_a_run_and_a_number_is_a_number(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["trace", "export"]) == 2
    assert "no run; write harness trace export RUN" in capsys.readouterr().err
    for number in ("0", "-1", "many"):
        assert main(["trace", str(directory), "--slowest", number]) == 2
        said = capsys.readouterr().err
        assert said == f"harness: --slowest {number}: give a whole number, at least 1\n"
