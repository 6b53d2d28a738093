"""The whole report, made from records and read back."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from harness.analysis.model import Summary
from harness.analysis.summary import summarise
from harness.analysis.workflow_failures import REJECTED
from harness.records.errors import StorageError
from harness.records.failures import FAILURES
from harness.report.wording import in_seconds, number, percent, with_interval
from tests.analysis.played import Shape
from tests.report.html.reading import csv_rows, downloads, rows_of
from tests.report.html.reports import Report, playable, report_of
from tests.report.subjects import render_report, save_report
from tests.report.summaries import make_cell, make_summary

EVIL = """</title></script><script>alert("1")</script><img src=x onerror='alert(2)'> & "q" 'r'"""


@pytest.fixture(scope="module")
def simulated() -> Report:
    return report_of(playable())


@pytest.fixture(scope="module")
def live() -> Report:
    return report_of(playable(simulated=False, time_scale=1.0))


@pytest.fixture(params=["simulated", "live"])
def either(request: pytest.FixtureRequest) -> Report:
    report: Report = request.getfixturevalue(request.param)
    return report


# What is in it


def table_of(report: Report, name: str) -> dict[str, dict[str, str]]:
    return rows_of(report.document.one("table", aria_labelledby=f"{name}-table"))


def shown(value: str) -> str:
    """Return a figure as tables have it: the interval without its brackets."""
    return value.replace("(", "").replace(")", "")


def test_every_cell_has_its_speed_in_scenario_seconds_with_the_interval(either: Report) -> None:
    table = table_of(either, "speed")
    assert set(table) == set(either.labels.values())
    for cell in either.summary.cells:
        row = table[either.labels[cell.id]]
        makespan = with_interval(in_seconds(cell.makespan_s, either.summary))
        latency = with_interval(in_seconds(cell.workflow_latency_s.p50, either.summary))
        assert row["makespan s"] == shown(makespan)
        assert row["speed-up"] == shown(with_interval(cell.speedup_over_sync))
        assert row["latency of all p50 s"] == shown(latency)


def test_every_cell_has_its_counts_and_tokens(either: Report) -> None:
    work, tokens = table_of(either, "work"), table_of(either, "tokens")
    for cell in either.summary.cells:
        row = work[either.labels[cell.id]] | tokens[either.labels[cell.id]]
        counts = (cell.workflows.started, cell.workflows.ok, cell.calls.failed, cell.tokens.output)
        said = tuple(row[name] for name in ("workflows", "ok", "calls failed", "output"))
        assert said == tuple(map(str, counts))
        assert row["attempts a call"] == number(cell.attempts.amplification)


def test_every_phase_has_its_latency_in_every_cell(either: Report) -> None:
    for name in ("decompose", "fan_out", "synthesize"):
        table = table_of(either, f"phase-{name.replace('_', '-')}")
        for cell in either.summary.cells:
            row, phase = table[either.labels[cell.id]], cell.phases[name]
            median = with_interval(in_seconds(phase.latency_s.p50, either.summary))
            assert row["p50 s"] == shown(median)
            assert (row["n"], row["failed"]) == (str(phase.latency_s.n), str(phase.failed))


def test_every_failure_that_was_seen_stands_there_with_its_number_and_advice(
    either: Report,
) -> None:
    seen: Counter[str] = Counter()
    for attempt in either.records.attempts:
        seen[attempt.outcome] += 1
    del seen["ok"]
    table = table_of(either, "failures")
    assert {name: row["attempts"] for name, row in table.items()} == {
        name: str(count) for name, count in seen.items()
    }
    assert {name: row["advice"] for name, row in table.items()} == {
        name: FAILURES[name].advice for name in seen
    }


def test_a_run_without_failures_says_so() -> None:
    report = report_of(playable(shape=Shape(failure_rate=0.0)))
    said = report.document.one("section", id="failures").text
    assert said == "Failures No attempt and no workflow failed."


def test_what_the_policies_decided_is_counted(simulated: Report) -> None:
    decided = [one.decision for one in simulated.records.attempts if one.decision is not None]
    rows = simulated.document.one("table", aria_labelledby="decisions-table").every("tr")[1:]
    assert sum(int(row.every("td")[-1].text) for row in rows) == len(decided)


def test_the_readings_of_the_measurement_itself_are_in_real_milliseconds(
    simulated: Report,
) -> None:
    lag = simulated.summary.verdict.event_loop_lag_s
    assert lag is not None
    row = table_of(simulated, "delays")["timer lag, worst setting"]
    assert row == {"p50 ms": number(1000 * lag.p50), "p99 ms": number(1000 * lag.p99)}


def test_scenario_seed_versions_host_and_run_id_are_told(either: Report) -> None:
    section = either.document.one("details", id="environment")
    terms = dict(
        zip(
            (one.text for one in section.every("dt")),
            (one.text for one in section.every("dd")),
            strict=True,
        )
    )
    run = either.records.run
    assert terms["run"] == run.run_id
    assert terms["seed"] == str(run.seed)
    assert terms["versions"] == "harness 0.1.0"
    assert terms["host"] == "cpus 2"
    assert terms["started"] == "2025-10-09 08:53 UTC"
    settings = section.every("pre")[0].text
    assert msgspec.json.decode(settings) == run.scenario


def test_cost_is_shown_where_it_is_known_and_nowhere_else(simulated: Report) -> None:
    assert "cost" not in next(iter(table_of(simulated, "tokens").values()))
    cells = [
        make_cell("sync_1_none_attempt", cost_usd=1.5, cost_per_successful_workflow_usd=0.125),
        make_cell("async_2_none_attempt"),
    ]
    report = report_of(playable(cells=[cell.id for cell in cells]), make_summary(cells))
    table = table_of(report, "tokens")
    assert [row["cost"] for row in table.values()] == ["$1.50", "—"]
    assert [row["cost a success"] for row in table.values()] == ["$0.125", "—"]


def test_the_price_that_the_run_was_reckoned_with_is_told() -> None:
    records = playable(simulated=False, time_scale=1.0)
    price = {"input": 0.5, "cached": 0.1, "output": 2.0, "source": "a list", "date": "2026-11-01"}
    records = records._replace(run=msgspec.structs.replace(records.run, price=price))
    said = report_of(records).document.one("details", id="environment").text
    assert "0.5 input, 0.1 cached, 2 output (a list, 2026-11-01)" in said


# Figures and their data


def test_every_figure_and_every_table_can_be_downloaded(either: Report) -> None:
    document = either.document
    figures = document.every("figure")
    assert [one.attributes["id"] for one in figures] == [
        "permits", "latency-ecdf", "latency-throughput", "repeats", "time-spent", "phases",
        "timeline", "permit-lanes", "attempts-over-time", "heat-map",
    ]  # fmt: skip
    tables = [one for one in document.every("article") if one.every("table")]
    assert len(tables) > 10
    for one in (*figures, *tables):
        links = [link for link in one.every("a") if "download" in link.attributes]
        assert links, one.text[:60]
    assert all(len(csv_rows(text)) for name, text in downloads(document).items() if "csv" in name)


def test_the_data_have_every_digit_and_the_bounds(either: Report) -> None:
    name = "synthetic-simulated-speed.csv" if either.summary.simulated else "synthetic-speed.csv"
    unit = "scenario_s" if either.summary.simulated else "s"
    rows = {row["cell"]: row for row in csv_rows(downloads(either.document)[name])}
    for cell in either.summary.cells:
        makespan = in_seconds(cell.makespan_s, either.summary)
        assert makespan is not None
        got = [rows[cell.id][f"makespan_{unit}{part}"] for part in ("", "_low", "_high")]
        assert [float(text) for text in got] == [makespan.value, makespan.low, makespan.high]
        settings = (cell.mode, str(cell.permits), cell.retry, cell.permit_scope)
        names = ("mode", "permits", "retry", "permit_scope")
        assert tuple(rows[cell.id][name] for name in names) == settings


def test_the_whole_summary_is_in_the_file(either: Report) -> None:
    (text,) = (
        text for name, text in downloads(either.document).items() if name.endswith("summary.json")
    )
    assert msgspec.json.decode(text, type=Summary) == either.summary


def test_every_workflow_is_in_the_data_of_the_latency_figure(live: Report) -> None:
    rows = csv_rows(downloads(live.document)["synthetic-workflows.csv"])
    assert len(rows) == len(live.records.workflows)
    figure = live.document.one("figure", id="latency-throughput")
    crosses = [one for one in figure.every("svg") if "cross" in one.attributes.get("class", "")]
    assert len(figure.every("circle")) + len(crosses) == len(rows)


def test_many_workflows_are_drawn_and_saved_as_a_histogram() -> None:
    report = report_of(playable(cells=["async_8_none_attempt"], repeats=4, workflows=30))
    figure = report.document.one("figure", id="latency-throughput")
    assert not figure.every("circle")
    assert "synthetic-simulated-workflows.csv" not in downloads(report.document)
    bins = csv_rows(
        downloads(report.document)["synthetic-simulated-workflow-latency-histogram.csv"]
    )
    assert sum(int(one["workflows"]) for one in bins) == 120


def test_a_run_ten_times_as_long_makes_no_larger_report() -> None:
    cells = ("sync_1_none_attempt", "async_8_none_attempt")
    short, long = (
        report_of(playable(cells=cells, repeats=2, workflows=count)) for count in (40, 400)
    )
    assert len(long.html) < 1.2 * len(short.html)


# Simulated or not


def test_a_simulated_run_says_so_once_at_the_top_and_in_every_file(simulated: Report) -> None:
    document = simulated.document
    assert "(simulated)" in document.one("title").text
    assert document.one("header").text.lower().count("simulated") == 1
    for heading in (one for level in ("h2", "h3", "summary") for one in document.every(level)):
        assert "simulated" not in heading.text.replace("the simulated provider", "").lower()
    for figure in document.every("figure"):
        assert "simulated" not in figure.one("figcaption").text.lower()
    for name, text in downloads(document).items():
        assert name.startswith("synthetic-simulated-")
        if name.endswith(".csv"):
            assert {row["simulated"] for row in csv_rows(text)} == {"true"}


def test_a_live_run_says_simulated_nowhere(live: Report) -> None:
    body = re.sub(r"(?s)<style>.*?</style>", "", live.html)
    assert "simulat" not in body.lower()
    for name, text in downloads(live.document).items():
        assert "simulated" not in name + text.replace('"simulated":false', "")


def test_a_live_run_without_a_log_judges_the_client_alone(live: Report) -> None:
    said = live.document.one("details", id="provider").text
    assert "no log of the provider to" in said
    assert "The client was" in said
    assert not live.document.every("table", aria_labelledby="provider-log-table")


def test_in_virtual_time_nobody_is_judged_and_one_of_each_is_not_several() -> None:
    played = playable(cells=["async_2_none_attempt"], repeats=1, workflows=1)
    run = msgspec.structs.replace(played.run, virtual=True)
    document = report_of(played._replace(run=run, provider=None)).document
    said = document.one("details", id="provider").text
    assert "Time was virtual" in said
    assert "only the client was checked" not in said
    method = document.one("details", id="design").text
    assert "1 repeat of 1 setting." in method
    assert "1 workflow a trial" in method


# Untrusted text


@pytest.fixture(scope="module")
def hostile() -> Report:
    records = playable(simulated=False, time_scale=1.0)
    scenario = records.run.scenario
    run = msgspec.structs.replace(
        records.run, name=EVIL, versions={"harness": EVIL}, host={"system": EVIL},
        scenario={
            **scenario, "description": EVIL,
            "endpoint": {**scenario["endpoint"], "model": EVIL, "base_url": EVIL},
        },
    )  # fmt: skip
    workflows = [msgspec.structs.replace(one, topic=EVIL, error=EVIL) for one in records.workflows]
    return report_of(records._replace(run=run, workflows=workflows))


def test_what_users_and_servers_wrote_is_text_and_nothing_else(hostile: Report) -> None:
    document = hostile.document
    assert len(document.every("script")) == 1
    assert not document.every("img")
    attributes = {name for one in document.walk() for name in one.attributes}
    assert not {name for name in attributes if name.startswith("on")}
    spaced = " ".join(EVIL.split())
    assert document.one("h1").text == spaced
    assert document.one("p", class_="about").text == spaced
    errors = rows_of(document.one("table", aria_labelledby="workflow-errors-table"))
    assert list(errors) == [spaced]
    assert f"topic: {spaced[:79]}" in document.one("figure", id="timeline").text


def test_results_that_the_program_rejects_are_among_the_reasons() -> None:
    records = playable(cells=["async_2_none_attempt"])
    first, *others = records.workflows
    rejected = [msgspec.structs.replace(first, ok=False), *others]
    document = report_of(records._replace(workflows=rejected)).document
    errors = rows_of(document.one("table", aria_labelledby="workflow-errors-table"))
    assert REJECTED in errors


def test_names_of_files_are_plain_whatever_the_scenario_is_called(hostile: Report) -> None:
    assert all(re.fullmatch(r"[\w.-]+", name) for name in downloads(hostile.document))


def test_cells_of_the_data_that_look_like_formulas_are_not() -> None:
    records = playable(cells=["async_2_none_attempt"])
    workflows = [msgspec.structs.replace(one, topic="=HYPERLINK(1)") for one in records.workflows]
    report = report_of(records._replace(workflows=workflows))
    rows = csv_rows(downloads(report.document)["synthetic-simulated-workflows.csv"])
    assert {row["topic"] for row in rows} == {"'=HYPERLINK(1)"}


# One file


def test_the_file_asks_for_nothing_from_anywhere(either: Report) -> None:
    for one in either.document.walk():
        for name in ("href", "src", "srcset", "action", "data", "poster", "xlink:href"):
            target = one.attributes.get(name, "#")
            assert target.startswith(("#", "data:")), f"{one.name} {name}={target[:60]}"
    style = either.document.one("style").children[0]
    assert isinstance(style, str)
    assert "url(" not in style
    assert "@import" not in style


def test_the_same_records_make_the_same_file(simulated: Report) -> None:
    assert render_report(summarise(playable()), playable()) == simulated.html


def test_ids_are_unique_and_every_reference_leads_somewhere(either: Report) -> None:
    elements = list(either.document.walk())
    ids = Counter(one.attributes["id"] for one in elements if "id" in one.attributes)
    assert set(ids.values()) == {1}
    targets = {
        one.attributes[name].removeprefix("#")
        for one in elements
        for name in ("href", "aria-labelledby")
        if one.attributes.get(name, "data:").partition(":")[0] != "data"
    }
    assert targets <= set(ids)


def test_headings_go_down_one_level_at_a_time_and_tables_have_scopes(either: Report) -> None:
    levels = [int(one.name[1]) for one in either.document.walk() if re.fullmatch(r"h\d", one.name)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert all("scope" in head.attributes for head in either.document.every("th"))
    for chart in either.document.every("div", role="img"):
        assert len(chart.attributes["aria-label"]) > 20


def test_a_percentage_is_written_as_one(simulated: Report) -> None:
    cell = simulated.summary.cells[0]
    assert cell.success_rate is not None
    row = table_of(simulated, "work")[simulated.labels[cell.id]]
    written = percent(cell.success_rate.value).replace("\u00a0", " ")
    assert row["success rate"].startswith(f"{written} ")


# Files


def test_a_report_is_written_beside_its_records_and_replaces_the_last_one(
    simulated: Report, tmp_path: Path
) -> None:
    (tmp_path / "report.html").write_text("old")
    path = save_report(simulated.summary, simulated.records, tmp_path)
    assert path == tmp_path / "report.html"
    assert path.read_text(encoding="utf-8") == simulated.html
    assert [one.name for one in tmp_path.iterdir()] == ["report.html"]


def test_a_report_that_cannot_be_written_is_a_storage_error(
    simulated: Report, tmp_path: Path
) -> None:
    with pytest.raises(StorageError, match="cannot be written"):
        save_report(simulated.summary, simulated.records, tmp_path / "missing")
