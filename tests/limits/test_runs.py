"""Whole runs with limits that adapt: in virtual time, over HTTP, in programs, and in every view."""

from __future__ import annotations

import asyncio
import csv
import itertools
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import harness
from harness.analysis.limit_steps import in_flight_over, limit_steps, most_allowed, permit_time
from harness.analysis.selection import Dataset
from harness.bench.cell_code import code_of_cells
from harness.bench.cells import expand
from harness.bench.scenario_file import parse_scenario
from harness.cli.main import main
from harness.records.errors import InputError
from harness.records.schema import LimitChange, Record, Trial
from harness.store.run_directory import read_records
from tests.cli.answering import copied
from tests.client.talking import MESSAGES, good, refused
from tests.wire.fault_server import FaultServer, Seen, Step

HEAD = """
name = "limited"
[workflow]
topics = ["tides"]
sub_questions = 6
[endpoint]
profile = "plain-chat"
time = "virtual"
[endpoint.override]
concurrency_cap = 8
[load]
workflows = 24
in_flight = 6
[retry.patient]
kind = "exponential"
attempts = 12
base = "1s"
"""
SWEEP = """
[sweep]
mode = ["sync", "async"]
permits = [2, 16, "elastic", "own"]
retry = "patient"
[permits.own]
kind = "aimd"
min = 2
max = 12
"""
OWN = "async_own_patient_attempt"
ELASTIC = "async_elastic_patient_attempt"


def run(folder: Path, text: str, *options: str) -> Path:
    scenario, out = folder / "limited.toml", folder / "out"
    scenario.write_text(text)
    assert main(["run", str(scenario), "--quiet", "--jobs", "1", "--out", str(out), *options]) == 0
    return out


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp("limits"), HEAD + SWEEP)


def test_a_name_is_a_value_of_the_axis() -> None:
    scenario = parse_scenario(HEAD + SWEEP, "x")
    found = {cell.id: (cell.permits, cell.limiter) for cell in expand(scenario)}
    assert found == {
        "sync_1_patient_attempt": (1, ""),
        "async_2_patient_attempt": (2, ""),
        "async_16_patient_attempt": (16, ""),
        ELASTIC: (100, "elastic"),
        OWN: (12, "own"),
    }
    assert scenario.permit_counts == (2, 16, 100, 12)
    assert scenario.as_dict()["permits"]["elastic"]["cooldown"] == 2.0, "the run says its keys"


def test_one_call_at_a_time_has_one_permit_whatever_the_limit() -> None:
    scenario = parse_scenario(
        HEAD + '[sweep]\nmode = ["sync", "serial"]\npermits = "elastic"\n', "x"
    )
    assert [(cell.id, cell.limiter) for cell in expand(scenario)] == [
        ("sync_1_none_attempt", ""), ("serial_1_none_attempt", ""),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (
            '[sweep]\npermits = [2, "elastc"]\n',
            "x: sweep.permits[1] = 'elastc': unknown limit (did you mean 'elastic'?); use a "
            "number, or one of aimd, elastic, gradient2, inspect-ai, or describe it in "
            "[permits.NAME] with its kind",
        ),
        (
            '[sweep]\npermits = ["a", "A"]\n',
            "x: sweep.permits = ['a', 'A']: duplicate value; remove one",
        ),
        ("[sweep]\npermits = [2.5]\n", "x: sweep.permits[0] = 2.5: must be a whole number"),
        (
            '[permits.8]\nkind = "aimd"\n',
            "x: permits.8: reads like a number of permits; give the limit a name with a letter",
        ),
        (
            '[permits.a]\nkind = "aimd"\nmin = 30\nmax = 20\n',
            "x: permits.a.min = 30: is above max = 20; lower it, or raise max",
        ),
        ('[permits.a]\nmax = 20\n', "x: permits.a.kind: missing; add it"),
        (
            '[permits.a]\nkind = "vegas"\n',
            "x: permits.a.kind = 'vegas': unknown kind; use one of: aimd, elastic, gradient2, "
            "inspect-ai",
        ),
        (
            '[sweep]\n"permits.a.max" = [2, 3]\n[permits.a]\nkind = "aimd"\n',
            'x: sweep."permits.a.max": cannot vary within a run; keys of these sections can: '
            "endpoint, load, retry, timeouts, workflow",
        ),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_with_the_way_out(more: str, line: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_scenario(HEAD + more, "x")
    assert str(caught.value) == line


def test_a_limit_can_be_described_by_set() -> None:
    scenario = parse_scenario(
        HEAD, "x", ['sweep.permits=["b"]', "permits.b.kind=aimd", "permits.b.max=9"]
    )
    assert scenario.limit("b").max == 9


def test_the_limit_finds_the_cap_and_the_records_have_its_changes(ran: Path) -> None:
    records = read_records(ran)
    trials = {trial.cell: trial for trial in records.trials}
    assert trials["async_16_patient_attempt"].limits == ()
    limits = trials[ELASTIC].limits
    assert limits[0] == LimitChange(0, 10)
    settled = [one.limit for one in limits if one.at > trials[ELASTIC].end / 4]
    assert min(settled) >= 6
    assert max(settled) <= 10, "the cap is 8"
    assert {change.limit for change in trials[OWN].limits} <= set(range(2, 13))
    summary = json.loads((ran / "summary.json").read_text())
    cells = {cell["id"]: cell for cell in summary["cells"]}
    few, many, mine = (cells[f"async_{n}_patient_attempt"] for n in ("2", "16", "elastic"))
    good = "goodput_workflows_per_s"
    assert mine[good]["value"] > 2.5 * few[good]["value"]
    refused_429 = [one["attempts"]["by_outcome"].get("rate_limited", 0) for one in (many, mine)]
    assert refused_429[1] < refused_429[0] / 5
    assert mine["limiter"] == "elastic"
    assert mine["scheduling_efficiency"] is None, "there is no number to replay with"
    assert mine["output_tokens_per_s"]["while_full"] is None
    assert many["scheduling_efficiency"] is not None


def test_never_more_are_in_flight_than_the_limit_has_ever_allowed(ran: Path) -> None:
    data = Dataset.read(ran)
    trial = data.cells[OWN].whole_trials()[0]
    over = in_flight_over(data.cells[OWN].attempts, trial, 500)
    assert over.max() <= most_allowed(trial)


def test_a_virtual_run_is_the_same_bytes_again(ran: Path, tmp_path: Path) -> None:
    again = run(tmp_path, HEAD + SWEEP)
    for name in ("attempts.jsonl", "trials.jsonl"):
        assert sorted((again / name).read_bytes().splitlines()) == sorted(
            (ran / name).read_bytes().splitlines()
        )


def test_every_view_names_the_limit(ran: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(ran), "--verbose"]) == 0
    said = capsys.readouterr().out
    assert "the limit elastic (at most 100 async calls at once)" in said
    assert "async elastic" in said
    assert "100 permits" not in said
    assert main(["compare", str(ran), copied(ran)]) == 0
    assert "elastic" in capsys.readouterr().out
    assert main(["trace", str(ran), "--slowest", "1"]) == 0
    spans = (ran / "traces" / f"{ELASTIC}.otlp.jsonl").read_text()
    assert "harness.limiter" in spans
    page = (ran / "report.html").read_text()
    assert "Limits that adapt" in page
    assert list((ran / "plots").glob("limits-simulated.*"))
    assert main(["export", str(ran)]) == 0
    with (ran / "export" / "limits.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[0].keys() >= {"cell", "repeat", "at", "limit"}
    assert {row["cell"] for row in rows} == {OWN, ELASTIC}
    with (ran / "export" / "cells.csv").open() as file:
        assert {row["limiter"] for row in csv.DictReader(file)} == {"", "own", "elastic"}
    assert main(["run", str(ran.parent / "limited.toml"), "--dry-run"]) == 0
    plan = capsys.readouterr().out
    assert "elastic  patient" in plan


def test_a_prediction_can_have_a_limit(ran: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["whatif", str(ran), "--set", 'sweep.permits=["elastic"]']) == 0
    assert "async elastic" in capsys.readouterr().out


def test_the_code_to_paste_makes_the_limit(ran: Path) -> None:
    code = code_of_cells(read_records(ran).run)
    assert code[OWN].limit == (
        "harness.limits.Aimd(min=2, max=12, start=10, decrease=0.75, successes=25, cooldown=2.0)"
    )
    assert code["async_2_patient_attempt"].limit == ""


def test_a_resumed_run_begins_the_limit_anew(tmp_path: Path) -> None:
    out = run(tmp_path, HEAD + SWEEP)
    trials = out / "trials.jsonl"
    lines = trials.read_text().splitlines(keepends=True)
    trials.write_text("".join(line for line in lines if OWN not in line))
    run_file = out / "run.json"
    run_file.write_text(run_file.read_text().replace('"complete"', '"running"'))
    workflows = out / "workflows.jsonl"
    kept = [one for one in workflows.read_text().splitlines(keepends=True) if OWN not in one]
    workflows.write_text("".join(kept))
    assert main(["run", "--resume", str(out), "--quiet", "--jobs", "1"]) == 0
    again = {(one.cell, one.execution): one for one in read_records(out).trials}
    assert again[OWN, 1].limits[0] == LimitChange(0, 10)


@pytest.mark.parametrize("mode", ["threads", "async"])
def test_over_http_the_limit_adapts_too(tmp_path: Path, mode: str) -> None:
    text = HEAD.replace('time = "virtual"', "time_scale = 0.05").replace("= 24", "= 4")
    text = text.replace("concurrency_cap = 8", "concurrency_cap = 3")
    text += f'[timeouts]\nfirst_token = "1h"\nidle = "1h"\ncall = "2h"\n[sweep]\nmode = "{mode}"\n'
    out = run(tmp_path, text + 'permits = "elastic"\nretry = "patient"\n', "--no-preflight")
    (trial,) = read_records(out).trials
    assert len(trial.limits) > 1
    assert trial.limits[0].limit == 10
    assert trial.limits[0].at <= trial.start
    times = [one.at for one in trial.limits]
    assert times == sorted(times)
    assert any(b.limit < a.limit for a, b in itertools.pairwise(trial.limits)), "the cap is 3"


# Clients


def test_a_client_has_a_limit_that_adapts() -> None:
    """The server refuses the first requests; the limit falls and the calls succeed."""
    left = [refused(429)] * 3
    lock = threading.Lock()

    def answer(seen: Seen) -> Sequence[Step]:
        with lock:
            return left.pop() if left else good(seen)

    records = list[Record]()

    async def asking(url: str) -> list[Any]:
        limit = harness.limits.Elastic(start=8, max=8)
        async with harness.AsyncOpenAI(
            permits=limit, api_key="k", base_url=url, on_record=records.append,
            retry=harness.policies.Exponential(attempts=9, base=0.001, cap=0.01),
        ) as client:  # fmt: skip
            calls = (
                client.chat.completions.create(model="m", messages=MESSAGES) for _ in range(20)
            )
            replies = await asyncio.gather(*calls)
            transport = client._client._transport
            assert transport._permits._line.permits < 8, "it has been lowered"  # type: ignore[attr-defined]
            same = client.with_options(timeout=9)
            assert same._client is client._client, "it shares the limit"
            return replies

    with FaultServer(answer) as server:
        replies = asyncio.run(asking(server.base_url))
    assert len(replies) == 20
    assert len(records) == 43


def test_the_blocking_client_has_one_too() -> None:
    left = [refused(429)] * 2
    with FaultServer(lambda seen: left.pop() if left else good(seen)) as server, harness.OpenAI(
        permits=harness.limits.Aimd(start=8, cooldown=100), api_key="k",
        base_url=server.base_url,
        retry=harness.policies.Exponential(attempts=9, base=0.001, cap=0.01),
    ) as client:  # fmt: skip
        client.chat.completions.create(model="m", messages=MESSAGES)
        line = client._client._transport._permits._line  # type: ignore[attr-defined]
        assert line.permits == 6, "cut once: both 429s came within the cooldown"
        assert line.in_use == 0


@pytest.mark.parametrize("permits", [0, True, 2.5, "elastic", None])
def test_what_is_no_limit_is_refused_in_one_line(permits: Any) -> None:
    with pytest.raises(
        ValueError, match=r"^permits=.*: give a whole number of at least 1, or a li"
    ):
        harness.OpenAI(permits=permits, api_key="k")


# What views are made of


def test_the_steps_of_a_limit_are_within_the_trial() -> None:
    changes = tuple(LimitChange(at, limit) for at, limit in ((0, 4), (50, 6), (50, 7), (250, 2)))
    trial = Trial(cell="c", repeat=0, execution=0, start=20, end=200, limits=changes)
    assert limit_steps(trial) == [(20, 50, 4), (50, 200, 7)]
    assert permit_time(trial, 99) == 30 * 4 + 150 * 7
    assert most_allowed(trial) == 7
    fixed = Trial(cell="c", repeat=0, execution=0, start=20, end=200)
    assert limit_steps(fixed) == []
    assert permit_time(fixed, 3) == 540
