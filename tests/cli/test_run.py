"""`harness run` from a scenario file to everything it leaves behind, over real HTTP on loopback."""

import json
from collections import Counter
from pathlib import Path

import pytest

from harness.analysis.model import SUMMARY_SCHEMA, Summary
from harness.cli.main import main
from harness.records import ids
from harness.report.charts.catalogue import CHARTS
from harness.store.run_directory import Records, read_records

pytestmark = pytest.mark.plots

SCENARIO = """
name = "small"
seed = 5

[workflow]
topics = ["tides", "kelp"]
sub_questions = 3

[endpoint]
kind = "simulated"
profile = "deepseek-reasoner"
override = { tokens_per_chunk = 40, concurrency_cap = 3 }
time_scale = 0.001

[load]
workflows = 2
in_flight = 2

[timeouts]
idle = "1h"
call = "5h"

[sweep]
mode = ["sync", "async"]
permits = [2, 6]
retry = ["openai-sdk", "patient"]
repeats = 2

[retry.patient]
kind = "exponential"
attempts = 20
base = "2s"
cap = "30s"
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run of the small scenario, shared by the tests below, which only read it."""
    folder = tmp_path_factory.mktemp("run")
    scenario = folder / "small.toml"
    scenario.write_text(SCENARIO)
    out = folder / "out"
    assert main(["run", str(scenario), "--out", str(out), "--quiet"]) == 0
    return out


@pytest.fixture(scope="module")
def records(directory: Path) -> Records:
    return read_records(directory)


@pytest.fixture(scope="module")
def summary(directory: Path) -> dict[str, object]:
    loaded: dict[str, object] = json.loads((directory / "summary.json").read_text())
    return loaded


def spans_of(directory: Path) -> list[dict[str, object]]:
    spans = []
    for file in sorted((directory / "traces").glob("*.otlp.jsonl")):
        for line in file.read_text().splitlines():
            for resource in json.loads(line)["resourceSpans"]:
                for scope in resource["scopeSpans"]:
                    spans += scope["spans"]
    return spans


def test_every_cell_of_the_sweep_ran_once_in_each_repeat_and_sync_has_one_permit(
    records: Records,
) -> None:
    expected = {
        "sync_1_openai-sdk_attempt", "sync_1_patient_attempt",
        "async_2_openai-sdk_attempt", "async_2_patient_attempt",
        "async_6_openai-sdk_attempt", "async_6_patient_attempt",
    }  # fmt: skip
    assert {cell.id for cell in records.run.cells} == expected
    ran = Counter((trial.cell, trial.repeat) for trial in records.trials)
    assert ran == Counter({(cell, repeat): 1 for cell in expected for repeat in (0, 1)})
    assert records.run.status == "complete"


def test_no_trial_had_more_attempts_in_flight_than_permits(records: Records) -> None:
    permits = {cell.id: cell.permits for cell in records.run.cells}
    for trial in records.trials:
        edges = []
        for attempt in records.attempts:
            if (attempt.cell, attempt.repeat) == (trial.cell, trial.repeat):
                edges += [(attempt.permit_granted, 1), (attempt.done, -1)]
        in_flight = most = 0
        for _, change in sorted(edges):
            in_flight += change
            most = max(most, in_flight)
        assert most <= permits[trial.cell]


def test_every_attempt_stands_in_the_providers_log_with_the_same_end(records: Records) -> None:
    assert records.provider is not None
    _, served = records.provider
    by_span = {line.span_id: line for line in served}
    assert len(by_span) == len(served) == len(records.attempts)
    for attempt in records.attempts:
        line = by_span[ids.attempt_span(records.run.run_id, attempt)]
        assert line.outcome == attempt.outcome
        if attempt.outcome == "ok":
            assert line.tokens.output == attempt.tokens.output
            assert line.tokens.reasoning == attempt.tokens.reasoning


def test_the_same_prompts_get_the_same_answers_in_every_cell_of_a_repeat(records: Records) -> None:
    outputs: dict[tuple[object, ...], set[int | None]] = {}
    for attempt in records.attempts:
        if attempt.outcome == "ok" and attempt.phase == "fan_out":
            place = (attempt.repeat, attempt.workflow, attempt.branch)
            outputs.setdefault(place, set()).add(attempt.tokens.output)
    assert len(outputs) == 2 * 2 * 3
    assert all(len(seen) == 1 for seen in outputs.values())


def test_calls_account_for_their_attempts_and_their_stamps_are_in_order(records: Records) -> None:
    attempts = Counter(attempt.call_key for attempt in records.attempts)
    for call in records.calls:
        assert call.attempts == attempts[call.call_key]
        assert len(call.backoffs) >= call.attempts - 1
    for attempt in records.attempts:
        assert attempt.ready <= attempt.permit_requested <= attempt.permit_granted
        stamps = [
            stamp
            for stamp in (attempt.permit_granted, attempt.sent, attempt.headers,
                          attempt.first_text, attempt.last_token, attempt.done)
            if stamp is not None
        ]  # fmt: skip
        assert stamps == sorted(stamps)


def test_spans_form_whole_trees_with_one_span_for_each_attempt(
    directory: Path, records: Records
) -> None:
    spans = spans_of(directory)
    known = {(span["traceId"], span["spanId"]) for span in spans}
    assert len(known) == len(spans)
    for span in spans:
        if span.get("parentSpanId"):
            assert (span["traceId"], span["parentSpanId"]) in known
    attempts = {span["spanId"] for span in spans if span["name"] == "attempt"}
    assert attempts == {ids.attempt_span(records.run.run_id, one) for one in records.attempts}


def test_children_account_for_99_percent_of_each_workflow(directory: Path) -> None:
    spans = spans_of(directory)
    workflows = [span for span in spans if str(span["name"]).startswith("invoke_workflow")]
    assert len(workflows) == 6 * 2 * 2
    for workflow in workflows:
        covered = sum(
            int(str(span["endTimeUnixNano"])) - int(str(span["startTimeUnixNano"]))
            for span in spans
            if span.get("parentSpanId") == workflow["spanId"]
        )
        whole = int(str(workflow["endTimeUnixNano"])) - int(str(workflow["startTimeUnixNano"]))
        assert covered >= 0.99 * whole


def test_the_summary_has_every_cell_and_the_comparison_with_the_provider(
    summary: dict[str, object], directory: Path
) -> None:
    import msgspec

    read = msgspec.json.decode((directory / "summary.json").read_bytes(), type=Summary)
    assert len(read.cells) == 6
    assert read.simulated
    assert read.oracle is not None
    assert read.oracle.unmatched == 0
    assert read.oracle.outcome_mismatches == 0
    assert read.oracle.token_mismatches == 0
    assert summary["schema"] == SUMMARY_SCHEMA


def test_the_plots_are_there_as_svg_and_png(directory: Path) -> None:
    names = {path.name for path in (directory / "plots").iterdir()}
    stems = {name.partition("-simulated.")[0] for name in names}
    assert stems >= {"latency-throughput", "permits", "time-spent", "timeline"}
    assert stems <= {chart.name for chart in CHARTS}
    assert names == {f"{stem}-simulated.{kind}" for stem in stems for kind in ("svg", "png")}


def test_a_second_run_into_the_same_directory_is_refused(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (directory / "attempts.jsonl").read_bytes()
    scenario = directory.parent / "small.toml"
    assert main(["run", str(scenario), "--out", str(directory)]) == 2
    assert "not empty" in capsys.readouterr().err
    assert (directory / "attempts.jsonl").read_bytes() == before


def test_a_directory_is_refused_before_the_program_is_imported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(
        "import pathlib\n\npathlib.Path(__file__).with_name('imported').touch()\n"
    )
    (tmp_path / "mine.toml").write_text(
        'name = "own"\n[workflow]\nkind = "program"\nprogram = "mine.py:program"\ntopics = ["a"]\n'
        '[endpoint]\nprofile = "plain-chat"\n[sweep]\npermits = [1]\n'
    )
    assert main(["run", str(tmp_path / "mine.toml"), "--out", str(tmp_path)]) == 2
    assert "not empty" in capsys.readouterr().err
    assert not (tmp_path / "imported").exists()


def test_an_unreachable_collector_is_a_line_and_the_way_out_at_the_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenario = tmp_path / "small.toml"
    scenario.write_text(SCENARIO)
    out = tmp_path / "out"
    settings = [
        'sweep.mode=["async"]', "sweep.permits=[6]", "sweep.repeats=1",
        'sweep.retry=["patient"]', "load.workflows=1",
    ]  # fmt: skip
    command = ["run", str(scenario), "--out", str(out), "--otlp", "http://127.0.0.1:9"]
    for setting in settings:
        command += ["--set", setting]
    assert main(command) == 0
    said = capsys.readouterr().err
    first, *rest = [line for line in said.splitlines() if "127.0.0.1:9" in line]
    (last,) = [line for line in rest if "spans" in line]
    assert "connection refused; the run continues" in first
    assert "spans not delivered, 0 refused" in last
    assert last.endswith(f"harness trace export {out} --endpoint http://127.0.0.1:9/v1/traces")
    assert "Traceback" not in said
    assert (out / "summary.json").exists()
    assert (out / "traces").is_dir()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("[load]\nin_fligt = 2\n[ignored", "invalid TOML"),
        ("[slo]\nsuccess_rat = 1", "success_rate"),
        ("[slo]\nsuccess_rate = 'high'", "slo.success_rate"),
        ("[objective]\nminimise = 'cost'", "objective.minimise"),
    ],
)
def test_a_mistake_in_the_file_is_one_line_exit_2_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: str, named: str
) -> None:
    scenario = tmp_path / "broken.toml"
    scenario.write_text(SCENARIO + change)
    out = tmp_path / "out"
    assert main(["run", str(scenario), "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert named in said
    assert "broken.toml" in said
    assert said.count("\n") == 1
    assert not out.exists()


def test_an_unknown_policy_negative_permits_and_a_missing_file_are_refused_alike(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenario = tmp_path / "small.toml"
    scenario.write_text(SCENARIO)
    out = tmp_path / "out"
    for setting, named in [
        ('sweep.retry=["patent"]', "'patient'"),
        ("sweep.permits=[-2]", "sweep.permits"),
        ("endpoint.profile=deepsek", "deepseek-reasoner"),
    ]:
        assert main(["run", str(scenario), "--out", str(out), "--set", setting]) == 2
        said = capsys.readouterr().err
        assert named in said
        assert said.count("\n") == 1
    assert main(["run", str(tmp_path / "none.toml"), "--out", str(out)]) == 2
    assert "none.toml" in capsys.readouterr().err
    assert not out.exists()


def test_a_directory_that_cannot_be_made_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenario = tmp_path / "small.toml"
    scenario.write_text(SCENARIO)
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert main(["run", str(scenario), "--out", str(blocked / "out")]) == 2
    said = capsys.readouterr().err
    assert str(blocked) in said
    assert said.count("\n") == 1
