"""Runs with sub-questions of the scenario, against a server whose answers are no JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.cli.main import main
from harness.store.run_directory import Records, read_records
from tests.cli.answering import KEY, saying, scenario

LOREM = "Lorem ipsum dolor sit amet, consectetur adipiscing elit."
GIVEN = ["What causes {topic}?", "Who {{really}} needs them?"]


def run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, sub_questions: object, code: int
) -> tuple[Records, list[dict[str, Any]]]:
    """Run one workflow about tides; return its records and the bodies of its requests."""
    monkeypatch.setenv("OWN_KEY", KEY)
    with saying(LOREM) as server:
        workflow = {"topics": ["tides"], "sub_questions": sub_questions}
        file = scenario(folder, server.base_url, workflow=workflow, load={"workflows": 1})
        assert main(["run", str(file), "--out", "out", "--yes", "--quiet"]) == code
    return read_records(Path("out")), server.bodies


def asked(bodies: list[dict[str, Any]]) -> list[str]:
    return [body["messages"][-1]["content"] for body in bodies]


def test_a_server_that_answers_lorem_ipsum_completes_workflows(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records, bodies = run(elsewhere, monkeypatch, GIVEN, 0)
    assert [one.outcome for one in records.workflows] == ["ok"]
    first, *branches, last = [(one.phase, one.branch) for one in records.calls]
    assert (first, last) == (("decompose", None), ("synthesize", None))
    assert sorted(branches) == [("fan_out", 0), ("fan_out", 1)]
    assert records.calls[0].done > records.calls[0].ready, "the call is made and timed"
    assert not any("response_format" in body for body in bodies)
    prompts = asked(bodies)
    assert "exactly 2 sub-questions" in prompts[0]
    for question in ("What causes tides?", "Who {really} needs them?"):
        assert sum(question in prompt for prompt in prompts[1:3]) == 1
        assert question in prompts[3]
    assert prompts[3].count(LOREM) == 2


def test_without_them_the_same_server_completes_none(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records, bodies = run(elsewhere, monkeypatch, 2, 1)
    assert [one.outcome for one in records.workflows] == ["failed"]
    assert len(bodies) == 2, "the call and its repair"


def test_a_dry_run_counts_one_branch_for_each_question_and_no_repair(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = scenario(elsewhere, "http://127.0.0.1:1/v1", load={"workflows": 1})
    given = [f"workflow.sub_questions={json.dumps(GIVEN)}", 'sweep.retry=["none"]']
    options = [part for one in given for part in ("--set", one)]
    assert main(["run", str(file), "--dry-run", *options]) == 0
    assert "calls    4; at most 4 attempts" in capsys.readouterr().out


def test_the_first_screen_of_such_a_run_says_that_questions_can_be_given(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OWN_KEY", KEY)
    with saying(LOREM) as server:
        file = scenario(elsewhere, server.base_url, load={"workflows": 2})
        assert main(["run", str(file), "--out", "out", "--yes"]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "decompose unreadable, 2 workflows" in said
    assert "give the questions (docs/workflows.md)" in said
