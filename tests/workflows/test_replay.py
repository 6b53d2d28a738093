"""What a replay reads, refuses, sends and does when a call fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.bench.scenario import Scenario
from harness.bench.scenario_file import parse_scenario
from harness.cli.main import main
from harness.config.tables import SettingError
from harness.engine.effects import Message
from harness.engine.load import recorded_times
from harness.records.errors import InputError
from harness.workflows.layout import tokens_of
from harness.workflows.replay.data_file import (
    ReplayedCall,
    ReplayedWorkflow,
    encoded_data,
    read_data,
)
from harness.workflows.replay.made_prompts import made_prompts

CHAIN = (ReplayedCall(input=100, output=20), ReplayedCall(input=50, output=7, after=(0,), gap=2.0))
WORKFLOWS = [
    ReplayedWorkflow(0.0, CHAIN),
    ReplayedWorkflow(4.0, (ReplayedCall(input=9, output=3),)),
]


def scenario(folder: Path, keys: str = "", rest: str = "") -> Scenario:
    (folder / "d.jsonl").write_bytes(encoded_data(WORKFLOWS))
    text = f"""name = "r"
[workflow]
kind = "replay"
data = "d.jsonl"
{keys}
[endpoint]
time = "virtual"
{rest}"""
    return parse_scenario(text, "r.toml", folder=folder)


def test_each_workflow_is_a_topic_and_has_its_own_calls(tmp_path: Path) -> None:
    whole = scenario(tmp_path, rest="[load]\nworkflows = 3")
    assert whole.workflow.topics == ("1", "2")
    assert [count for _, count in whole.layouts] == [2, 1]
    assert whole.workflow.recorded_arrivals == (0.0, 4.0)
    assert scenario(tmp_path, 'topics = "2"').workflow.recorded_arrivals == (0.0,)


@pytest.mark.parametrize(
    ("keys", "rest", "words"),
    [
        ('topics = "3"', "", "the number of a workflow in the data file, 1 to 2"),
        ('digest = "0"', "", "the data file has changed since"),
        ("max_tokens = { replayed = 5 }", "", "has no effect on a replay"),
        ("carry_reasoning = true", "", "has no effect on a replay"),
        (
            'topics = "1"',
            '[load.arrivals]\nprocess = "recorded"\nper_second = 1\n'
            '[objective]\nminimise = "workflow_p95"',
            "needs the recorded arrivals",
        ),
        ("", '[sweep]\n"workflow.data" = ["a", "b"]', "run one scenario for each"),
    ],
)
def test_what_cannot_be_replayed_is_refused(
    tmp_path: Path, keys: str, rest: str, words: str
) -> None:
    with pytest.raises(InputError, match=words) as raised:
        scenario(tmp_path, keys, rest)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"at":0,"calls":[]}', "line 2: a workflow needs at least one call"),
        ('{"at":-1,"calls":[{"input":1,"output":1}]}', "line 2: at = -1.0"),
        ('{"at":0,"calls":[{"input":1,"output":1,"after":[0]}]}', "must wait for calls before it"),
        ('{"at":0,"calls":[{"input":0,"output":1}]}', "input and output of at least 1"),
        ('{"at":0,"calls":[{"input":1,"output":1,"reasoning":2}]}', "more reasoning than output"),
        ('{"at":0,"calls":[{"input":1,"output":1,"cached":2}]}', "more cached than input"),
        ('{"at":0,"calls":[{"input":1,"output":1,"name":"x"}]}', "unknown field `name`"),
    ],
)
def test_a_data_file_that_is_wrong_says_in_which_line(
    tmp_path: Path, line: str, words: str
) -> None:
    head = '{"format":"harness-replay","version":1,"workflows":1}'
    (tmp_path / "d.jsonl").write_text(f"{head}\n{line}\n")
    with pytest.raises(SettingError, match=words):
        read_data(str(tmp_path / "d.jsonl"))


def test_prompts_have_the_recorded_lengths_and_begin_differently() -> None:
    calls = [ReplayedCall(input=size, output=1) for size in (20, 300, 100_000)]
    one, other = made_prompts(calls, "a"), made_prompts(calls, "b")
    for text, call in zip(one, calls, strict=True):
        assert tokens_of([Message("user", text)]) == call.input
    assert len({text[:40] for text in (*one, *other)}) == 6
    assert made_prompts(calls, "a") == one


def test_cached_tokens_are_the_beginning_of_the_prompt_before() -> None:
    calls = [
        ReplayedCall(input=300, output=1),
        ReplayedCall(input=400, output=1, after=(0,), cached=200),
    ]
    first, second = made_prompts(calls, "a")
    assert second[:800] == first[:800]
    assert second[800:840] != first[800:840]


def test_recorded_arrivals_are_stretched_and_begin_again() -> None:
    assert recorded_times([0.0, 1.0, 4.0], 1.0, 5) == [0.0, 0.5, 2.0, 3.0, 3.5]


def test_a_failed_call_ends_its_workflow_and_what_waits_for_it_is_not_made(tmp_path: Path) -> None:
    scenario(tmp_path)
    (tmp_path / "r.toml").write_text(
        """name = "r"
[workflow]
kind = "replay"
data = "d.jsonl"
[endpoint]
time = "virtual"
[[endpoint.faults]]
kind = "unavailable"
probability = 1.0
[load]
workflows = 2
in_flight = 2
"""
    )
    out = tmp_path / "out"
    assert main(["run", str(tmp_path / "r.toml"), "--out", str(out), "--quiet"]) == 1
    flows = [json.loads(line) for line in (out / "workflows.jsonl").read_text().splitlines()]
    assert [flow["outcome"] for flow in flows] == ["failed", "failed"]
    assert len((out / "calls.jsonl").read_text().splitlines()) == 2
