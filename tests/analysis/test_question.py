"""The question that a run answers follows from what it sweeps, unless the scenario says it."""

from __future__ import annotations

import msgspec
import pytest

from harness.analysis.question import clients_of, hedged_policies, question_of
from harness.bench.cells import expand
from harness.bench.scenario_file import parse_scenario
from harness.config import shipped_scenarios
from harness.records.schema import Run
from tests.analysis.builders import make_run

HEDGED = """
[retry.late]
kind = "hedge"
after = "1s"
[retry.hedged]
kind = "stack"
layers = ["late", "none"]
"""


def run_of(text: str) -> Run:
    scenario = parse_scenario(f'name = "x"\n{text}\n[workflow]\ntopics = ["tides"]', "x.toml")
    return msgspec.structs.replace(
        make_run(), scenario=scenario.as_dict(), cells=tuple(expand(scenario))
    )


@pytest.mark.parametrize(
    ("sweep", "question"),
    [
        ("", "permits"),
        ("permits = [2, 8]", "permits"),
        ('permits = [2, 8]\nretry = ["none", "openai-sdk"]', "permits"),
        ('retry = ["none", "openai-sdk"]\npermits = [8]', "policy"),
        ('mode = ["sync", "async"]\nretry = ["none", "openai-sdk"]\npermits = [8]', "policy"),
        ('permit_scope = ["attempt", "call"]', "permits"),
        (f'retry = ["none", "hedged"]\n{HEDGED}', "hedge"),
        (f'retry = ["hedged"]\n"retry.late.after" = ["1s", "3s"]\n{HEDGED}', "hedge"),
        (f'retry = ["hedged"]\n{HEDGED}', "permits"),
        ('permits = [2, 8]\n"endpoint.client" = ["openai", "wire"]', "client"),
        ('permits = [2, 8]\n"endpoint.client" = ["wire"]', "permits"),
    ],
)
def test_the_swept_settings_ask_the_question(sweep: str, question: str) -> None:
    assert question_of(run_of(f"[sweep]\n{sweep}")) == question


def test_the_clients_of_a_run_are_those_of_its_cells() -> None:
    assert clients_of(run_of("")) == ("openai",)
    assert clients_of(run_of('[endpoint]\nclient = "wire"')) == ("wire",)
    swept = run_of('[sweep]\n"endpoint.client" = ["openai", "wire"]')
    assert clients_of(swept) == ("openai", "wire")
    run = make_run()
    endpoint = {key: value for key, value in run.scenario["endpoint"].items() if key != "client"}
    earlier = msgspec.structs.replace(run, scenario={**run.scenario, "endpoint": endpoint})
    assert clients_of(earlier) == ("openai",), "a run of an earlier version"


def test_the_scenario_can_ask_another_question() -> None:
    run = run_of('question = "accuracy"\n[sweep]\npermits = [2, 8]')
    assert question_of(run) == "accuracy"


def test_the_policies_that_send_second_requests_are_named() -> None:
    run = run_of(f'[sweep]\nretry = ["none", "hedged"]\n{HEDGED}')
    assert hedged_policies(run) == ("hedged",)


@pytest.mark.parametrize(
    ("name", "question"),
    [
        ("quickstart", "permits"), ("rate-limited", "permits"), ("outage", "policy"),
        ("retry-storm", "policy"), ("faults", "policy"), ("openrouter", "policy"),
        ("hedge", "hedge"), ("streaming", "accuracy"), ("vllm", "permits"),
        ("sdk-cost", "client"),
    ],
)  # fmt: skip
def test_the_shipped_scenarios(name: str, question: str) -> None:
    text = shipped_scenarios.find(name).read_text()
    scenario = parse_scenario(text, name, folder=shipped_scenarios.folder())
    whole = make_run()
    run = msgspec.structs.replace(whole, scenario=scenario.as_dict(), cells=tuple(expand(scenario)))
    assert question_of(run) == question
