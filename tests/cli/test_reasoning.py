"""`harness reasoning`: the texts of a run, and where those of two sides part."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.cli.main import main

SCENARIO = """
name = "thoughts"
seed = 3
transcripts = true
[workflow]
topics = ["tides", "kelp", "moss"]
sub_questions = 2
[endpoint]
profile = "deepseek-reasoner"
time = "virtual"
[load]
workflows = 6
[sweep]
mode = ["async"]
permits = [2, 4]
retry = ["none"]
repeats = 2
"""
CELLS = ("async_2_none_attempt", "async_4_none_attempt")
Show = Callable[..., str]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reasoning")
    (folder / "thoughts.toml").write_text(SCENARIO)
    out = folder / "run"
    assert main(["run", str(folder / "thoughts.toml"), "--out", str(out), "--quiet"]) in (0, 1)
    return out


@pytest.fixture
def show(capsys: pytest.CaptureFixture[str]) -> Show:
    def shown(*arguments: object) -> str:
        capsys.readouterr()
        assert main(["reasoning", *map(str, arguments)]) == 0
        return capsys.readouterr().out

    return shown


def edited(stored: Path, tmp_path: Path, edit: Callable[[dict[str, Any]], None]) -> Path:
    """Return a copy of the run with its transcripts edited."""
    copy = tmp_path / "other"
    shutil.copytree(stored, copy)
    path = copy / "transcripts.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        edit(line)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return copy


def test_the_shares_of_reasoning_are_shown_by_phase(stored: Path, show: Show) -> None:
    text = show(stored)
    assert "SIMULATED" in text
    assert [line.split()[0] for line in text.splitlines() if line and line[0].islower()] == [
        "phase", "decompose", "fan_out", "synthesize",
    ]  # fmt: skip
    assert f"harness reasoning {stored} {CELLS[0]}/1/1" in text
    phases = json.loads(show(stored, "--json"))["phases"]
    assert phases == json.loads((stored / "summary.json").read_text())["reasoning"]
    assert all(0 < one["share_of_tokens"] < 1 for one in phases)


def test_a_workflow_is_shown_phase_by_phase(stored: Path, show: Show) -> None:
    key = f"{CELLS[0]}/1/2"
    calls = json.loads(show(stored, key, "--json"))["calls"]
    assert [(one["phase"], one.get("branch")) for one in calls] == [
        ("decompose", None), ("fan_out", 0), ("fan_out", 1), ("synthesize", None),
    ]  # fmt: skip
    text = show(stored, key)
    places = [text.index(one["reasoning"].split("\n")[0]) for one in calls]
    assert places == sorted(places)
    first, topic, *_ = text.splitlines()
    assert first == f"Workflow {key}: ok"
    assert topic.startswith("Topic: ")
    (head,) = (one for one in text.splitlines() if one.startswith("Phase fan_out, branch 2:"))
    assert re.fullmatch(r".* 2: ok; tokens: \d+ read, \d+ written, \d+ reasoning", head)
    asked = calls[2]["messages"][-1]["content"][:50]
    assert f"Question: {' '.join(asked.split())}" in " ".join(text.split())


def test_the_sentence_that_was_changed_is_found(stored: Path, show: Show, tmp_path: Path) -> None:
    def edit(line: dict[str, Any]) -> None:
        workflow = (line["cell"], line["repeat"], line["workflow"])
        if (*workflow, line["phase"]) == (CELLS[1], 1, 4, "synthesize"):
            first, second, *rest = line["reasoning"].split(". ")
            line["reasoning"] = ". ".join([first, "Something else", second, *rest])

    other = edited(stored, tmp_path, edit)
    found = json.loads(show("diff", stored, other, "--json"))
    first, *rest = found["questions"]
    assert first["first"] == f"{CELLS[1]}/2/5"
    assert [one["equal"] for one in rest] == [True] * 23
    difference = first["first_difference"]
    assert (difference["call"], difference["text"]) == ("synthesize", "reasoning")
    assert (difference["equal_sentences"], difference["second"]) == (1, "Something else.")
    assert difference["same_prompt"]
    text = show("diff", stored, other)
    assert "1 of 24 questions differ, 0 in the last answer." in text
    assert "other: Something else." in text


def test_two_hundred_edits_are_found(stored: Path, show: Show, tmp_path: Path) -> None:
    """Every text of the run loses, gains or changes one sentence."""
    draw = random.Random(7)
    edits: dict[tuple[str, int], int] = {}

    def edit(line: dict[str, Any]) -> None:
        if line["phase"] != "decompose":
            return
        parts = line["reasoning"].split(". ")
        at = draw.randrange(len(parts))
        parts[at] = f"Edit {at}"
        edits[line["cell"], int(line["repeat"]) * 6 + int(line["workflow"])] = at
        line["reasoning"] = ". ".join(parts)

    for number in range(9):  # 24 questions each
        edits.clear()
        other = edited(stored, tmp_path / str(number), edit)
        for one in json.loads(show("diff", stored, other, "--json"))["questions"]:
            cell, repeat, workflow = one["first"].rsplit("/", 2)
            found = one["first_difference"]
            at = edits[cell, (int(repeat) - 1) * 6 + int(workflow) - 1]
            assert found["call"] == "decompose"
            assert found["second"].startswith(f"Edit {at}")


def test_two_cells_of_one_run_are_compared_by_topic(stored: Path, show: Show) -> None:
    text = show("diff", stored, "--cells", *CELLS)
    assert "0 of 12 questions differ" in text, "the draws are the same"
    repeats = json.loads(
        show("diff", stored, "--cells", f"{CELLS[0]}/1", f"{CELLS[1]}/2", "--json")
    )
    assert len(repeats["questions"]) == 6
    assert [one["first"].split("/")[1] for one in repeats["questions"]] == ["1"] * 6
    assert [one["second"].split("/")[1] for one in repeats["questions"]] == ["2"] * 6


def test_a_question_of_one_side_alone_is_named(stored: Path, show: Show, tmp_path: Path) -> None:
    (tmp_path / "two.toml").write_text(SCENARIO.replace('"moss"', '"lichen\\u001b[2J"'))
    other = tmp_path / "two"
    main(["run", str(tmp_path / "two.toml"), "--out", str(other), "--quiet"])
    text = show("diff", stored, other)
    assert "Only in run: moss; moss" in text
    assert "Only in two: lichen\N{REPLACEMENT CHARACTER}[2J" in text
    assert "\x1b" not in text


def test_what_a_model_wrote_does_not_control_the_terminal(
    stored: Path, show: Show, tmp_path: Path
) -> None:
    def edit(line: dict[str, Any]) -> None:
        line["answer"] = "\x1b[31mred\u202e [bold]not bold[/bold] " + "long" * 50_000

    text = show(edited(stored, tmp_path, edit), f"{CELLS[0]}/1/1")
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "[bold]not bold[/bold]" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["diff"], "no run; write harness reasoning diff"),
        (["diff", "RUN"], "one run; name a second one, or two settings of it with --cells"),
        (["diff", "RUN", "--cells", "x", CELLS[0]], f"one of: {CELLS[0]}, {CELLS[1]}"),
        (["diff", "RUN", "--cells", f"{CELLS[0]}/0", CELLS[0]], "SETTING or SETTING/REPEAT"),
        (["RUN", "x/1/1"], "no workflow of this run"),
        (["RUN", "--cells", "a", "b"], "only for harness reasoning diff"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(
    stored: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    chosen = [str(stored) if one == "RUN" else one for one in arguments]
    assert main(["reasoning", *chosen]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_a_run_without_texts_says_how_to_keep_them(
    stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "plain.toml").write_text(SCENARIO.replace("transcripts = true\n", ""))
    out = tmp_path / "plain"
    main(["run", str(tmp_path / "plain.toml"), "--out", str(out), "--quiet"])
    capsys.readouterr()
    assert main(["reasoning", str(out)]) == 0, "the shares need no texts"
    assert "Next:" not in capsys.readouterr().out
    assert main(["reasoning", str(out), f"{CELLS[0]}/1/1"]) == 2
    assert "--set transcripts=true" in capsys.readouterr().err


def test_the_report_has_the_texts_folded(stored: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(stored, run)
    file = run / "transcripts.jsonl"
    first, *others = file.read_text().splitlines()
    changed = json.loads(first) | {"reasoning": "<b>bold\u202e</b> " + "long " * 1000}
    file.write_text("\n".join([json.dumps(changed), *others, ""]))
    assert main(["report", str(run)]) == 0
    page = (run / "report.html").read_text()
    assert page.count("<summary>Reasoning and answers</summary>") >= 2
    assert "&lt;b&gt;bold\ufffd&lt;/b&gt; long" in page
    assert "Cut at 4,000 characters: harness reasoning RUN " in page
    assert "long " * 801 not in page


def test_the_report_of_a_run_without_texts_has_none(tmp_path: Path) -> None:
    scenario = tmp_path / "s.toml"
    scenario.write_text(SCENARIO.replace("transcripts = true", ""))
    assert main(["run", str(scenario), "--out", str(tmp_path / "run"), "--quiet"]) == 0
    assert "Reasoning and answers" not in (tmp_path / "run" / "report.html").read_text()
