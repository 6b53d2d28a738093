"""Costs in the views of runs, and the models that have no price."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness.bench.resume import changes
from harness.bench.scenario import Scenario
from harness.cli.main import main
from harness.records.schema import Attempt, Call, Tokens, Trial, Workflow
from harness.store.run_directory import RUN_FILE, Records, read_run, write_whole
from tests.analysis.builders import make_attempt, make_call, make_run, make_trial, make_workflow
from tests.cli.test_imports import imported_by
from tests.cli.test_report import save

CELLS = ["async_2_none_attempt", "async_2_full-jitter_attempt"]
PRICE = {"input": 2.0, "cached": 1.0, "output": 10.0, "source": "made up"}
LOST = 3
"""In each repeat of the second cell, an attempt of so many hundred output tokens fails."""


def live_run(folder: Path, name: str, price: dict[str, Any] | None = None, lost: int = LOST) -> str:
    """Save a run at a provider, with two workflows in each of three repeats of two cells."""
    attempts: list[Attempt] = []
    calls: list[Call] = []
    workflows: list[Workflow] = []
    trials: list[Trial] = []
    tokens = Tokens(input=1000, cached=500, output=100, reasoning=50)  # 0.0025 USD
    wasted = Tokens(input=500, output=100 * lost)  # 0.001 + 0.001 x lost USD
    for cell, repeat in itertools.product(CELLS, range(3)):
        trials.append(make_trial(cell=cell, repeat=repeat))
        for number in range(2):
            key: dict[str, Any] = {"cell": cell, "repeat": repeat, "workflow": number}
            workflows.append(make_workflow(**key))
            calls.append(make_call(**key))
            attempts.append(make_attempt(**key, tokens=tokens))
        if cell == CELLS[1]:
            attempts.append(make_attempt(**key, attempt=2, outcome="idle_timeout", tokens=wasted))
    run = make_run(CELLS, 3, simulated=False, price=price)
    records = Records(run, attempts, calls, workflows, trials, None)
    directory = folder / name
    directory.mkdir()
    save(records, directory)
    run = read_run(directory)
    endpoint = {**run.scenario["endpoint"], "base_url": "https://api.example.com/v1"}
    moved = msgspec.structs.replace(run, scenario={**run.scenario, "endpoint": endpoint})
    write_whole(directory / RUN_FILE, moved)
    return str(directory)


def shown(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    assert main([*command]) == 0
    return " ".join(capsys.readouterr().out.split())


def test_every_view_names_a_model_without_a_price_and_shows_no_cost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = live_run(tmp_path, "run")
    way_out = "give [endpoint.price] with input and output, USD per million tokens"
    said = f"no price for m, so no cost of it is shown; {way_out}"
    first, verbose = shown(capsys, "report", run), shown(capsys, "report", run, "--verbose")
    assert f"Note: {said}." in first
    assert f"Warning: {said}." in verbose
    page = (tmp_path / "run" / "report.html").read_text()
    assert f"o price for m, so no cost of it is shown; {way_out}" in page
    assert f"none, so no cost is known; {way_out}" in page
    for view in (first, verbose):
        assert "USD a" not in view
        assert "Cost" not in view.replace("Cost of each retry policy", "")
    compared = shown(capsys, "compare", run, live_run(tmp_path, "new", PRICE))
    assert (
        f"Warning: no price for m, so no cost in the first run is compared; {way_out}." in compared
    )


def test_costs_are_shown_by_policy_of_waste_and_for_each_success(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verbose = shown(capsys, "report", live_run(tmp_path, "run", PRICE), "--verbose")
    assert "no price" not in verbose
    # 6 workflows at 0.0025 USD; in the second setting, 3 failed attempts at 0.004 USD
    assert "async 2 none 0.0150 0 0.00250 0 0.00250" in verbose
    assert "async 2 full-jitter 0.0270 0.0120 0.00450 0.00200 0.00450" in verbose
    page = (tmp_path / "run" / "report.html").read_text()
    for head in ("of it wasted", "cost a workflow", "wasted a workflow", "cost a success"):
        assert head in page
    assert "$0.00450" in page


def test_costs_and_waste_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = live_run(tmp_path, "base", PRICE)
    new = live_run(tmp_path, "new", PRICE, lost=9)
    compared = shown(capsys, "compare", base, new)
    # 0.0025 + 0.004 / 2 before and 0.0025 + 0.010 / 2 afterwards; of waste 0.002 and 0.005
    assert "async 2 full-jitter 0.00450 0.00750 +66.7%" in compared
    assert "async 2 full-jitter 0.00200 0.00500 +150.0%" in compared
    for what in ("cost of a workflow, USD", "wasted money of a workflow, USD"):
        assert what in compared
    rule = ["--fail-on", "cost_per_workflow>+10%"]
    assert main(["compare", base, new, *rule]) == 1


def test_other_prices_are_said_when_runs_are_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = live_run(tmp_path, "base", PRICE)
    new = live_run(tmp_path, "new", {**PRICE, "output": 20.0})
    compared = shown(capsys, "compare", base, new)
    assert (
        "Warning: prices differ: USD per million tokens: 2 input, 1 cached, 10 output" in compared
    )


def test_a_report_takes_its_price_from_the_run_and_reads_no_list(tmp_path: Path) -> None:
    run = live_run(tmp_path, "run", PRICE)
    code, modules = imported_by(tmp_path, "report", run)
    assert code == 0
    assert not any(name.partition(".")[0] == "genai_prices" for name in modules)


def test_a_plan_names_the_price_or_says_why_there_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at = ["run", "rate-limited", "--dry-run", "--endpoint", "https://api.openai.com/v1", "--model"]
    known, unknown = shown(capsys, *at, "gpt-4o"), shown(capsys, *at, "gpt-0")
    assert "USD per million tokens: 2.5 input, 1.25 cached, 10 output (genai-prices" in known
    assert "no price for gpt-0: genai-prices" in unknown
    assert "does not have it for OpenAI; give [endpoint.price]" in unknown
    own = shown(capsys, *at, "gpt-4o", "--set", "endpoint.price={input = 1, output = 2}")
    assert "USD per million tokens: 1 input, 1 cached, 2 output (the scenario)" in own


def test_a_simulated_run_has_no_cost_unless_a_price_is_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--set", "load.workflows=2", "--set", "sweep.repeats=1"]
    free, priced = str(tmp_path / "free"), str(tmp_path / "priced")
    main(["run", "rate-limited", "--out", free, *small])
    assert "USD" not in capsys.readouterr().out
    price = ["--set", "endpoint.price={input = 1, output = 2}"]
    main(["run", "rate-limited", "--out", priced, *small, *price])
    verbose = shown(capsys, "report", priced, "--verbose")
    assert "Cost, SIMULATED: nobody pays it" in verbose


def test_a_resumed_run_says_that_prices_have_changed() -> None:
    said = "prices have changed since the run began"
    own = "[endpoint.price]\ninput = 2.0\ncached = 1.0\noutput = 10.0"
    same = make_run(extra_toml=own, price=PRICE)
    for run, is_said in ((make_run(price=PRICE), True), (same, False), (make_run(), False)):
        scenario = Scenario.model_validate(run.scenario)
        assert any(said in line for line in changes(run, scenario)) is is_said
