"""Topics and prompts that stand in files of their own, beside the scenario."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.bench.scenario import Scenario
from harness.bench.scenario_file import load_scenario
from harness.records.errors import InputError
from harness.workflows.text_files import MOST_TEXT_BYTES

TOPICS = "\ufeff# what we want to know\n\n  ocean tides  \n# not this one\nC# in schools\n\n"


def scenario(folder: Path, text: str) -> Scenario:
    file = folder / "own.toml"
    file.write_text(f'name = "own"\n{text}', encoding="utf-8")
    return load_scenario(file)


def complaint(folder: Path, text: str) -> str:
    with pytest.raises(InputError) as raised:
        scenario(folder, text)
    said = str(raised.value)
    assert "\n" not in said
    assert "own.toml" in said
    return said


def test_topics_come_one_a_line_without_comments_and_blank_lines(tmp_path: Path) -> None:
    (tmp_path / "topics.txt").write_text(TOPICS, encoding="utf-8")
    read = scenario(tmp_path, '[workflow]\ntopics_file = "topics.txt"')
    assert read.workflow.topics == ("ocean tides", "C# in schools")


def test_a_resolved_scenario_holds_the_topics_themselves(tmp_path: Path) -> None:
    (tmp_path / "topics.txt").write_text(TOPICS, encoding="utf-8")
    resolved = scenario(tmp_path, '[workflow]\ntopics_file = "topics.txt"').as_dict()
    assert resolved["workflow"]["topics"] == ["ocean tides", "C# in schools"]
    assert resolved["workflow"]["topics_file"] == "topics.txt"


def test_files_are_looked_for_beside_the_scenario_not_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "topics.txt").write_text("here")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "topics.txt").write_text("there")
    monkeypatch.chdir(elsewhere)
    read = scenario(tmp_path, '[workflow]\ntopics_file = "topics.txt"')
    assert read.workflow.topics == ("here",)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no such file"),
        (b"", "contains no topic"),
        (b"# nothing\n\n   \n", "contains no topic"),
        (b"\xff\xfe\x00tides", "not UTF-8"),
    ],
)
def test_topics_that_cannot_be_had_are_one_line(
    tmp_path: Path, content: bytes | None, said: str
) -> None:
    if content is not None:
        (tmp_path / "topics.txt").write_bytes(content)
    told = complaint(tmp_path, '[workflow]\ntopics_file = "topics.txt"')
    assert said in told
    assert "workflow.topics_file" in told


def test_a_file_of_topics_or_of_a_prompt_has_a_limit(tmp_path: Path) -> None:
    (tmp_path / "large.txt").write_bytes(b"a topic\n" * (MOST_TEXT_BYTES // 8))
    assert scenario(tmp_path, '[workflow]\ntopics_file = "large.txt"').workflow.topics
    with (tmp_path / "large.txt").open("ab") as file:
        file.write(b"\n")
    for table in (
        "[workflow]\ntopics_file",
        '[workflow]\ntopics = ["t"]\n[prompts]\nresearch_file',
    ):
        said = complaint(tmp_path, f'{table} = "large.txt"')
        assert "is larger than 4 MiB; name a smaller file" in said
    said = complaint(tmp_path, '[workflow]\ntopics_file = "/dev/zero"')
    assert "is larger than 4 MiB" in said


def test_a_folder_is_no_file_of_topics(tmp_path: Path) -> None:
    assert "cannot be read" in complaint(tmp_path, '[workflow]\ntopics_file = "."')


def test_topics_in_two_places_are_refused(tmp_path: Path) -> None:
    (tmp_path / "topics.txt").write_text("tides")
    text = '[workflow]\ntopics_file = "topics.txt"\ntopics = ["kelp"]'
    assert "remove one of the two" in complaint(tmp_path, text)


def test_an_override_that_names_the_file_is_the_one_to_blame(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text('name = "own"\n[workflow]\n')
    with pytest.raises(
        InputError, match=r"^--set workflow\.topics_file = .none\.txt.: no such file"
    ):
        load_scenario(file, ["workflow.topics_file=none.txt"])


PROMPTED = '[workflow]\ntopics = ["tides"]\n{more}\n[prompts]\n{phase}_file = "words.txt"\n'


def prompted(phase: str, more: str = "") -> str:
    return PROMPTED.format(phase=phase, more=more)


def test_words_of_ones_own_take_the_place_of_the_usual_ones(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("Tell me: {question}\n")
    words = scenario(tmp_path, prompted("research")).plan.templates
    assert words["research"].text == "Tell me: {question}"
    assert words["decompose"].text.startswith("Break the topic")


@pytest.mark.parametrize(
    ("phase", "words", "more", "said"),
    [
        ("research", "{qestion}", "", "unknown placeholder {qestion}"),
        ("synthesize", "Write!", "", "has no {findings}"),
        ("research", "{question}", "carry_reasoning = true", "has no {notes}"),
        ("decompose", "{count} of {topic}", "", "does not contain the word JSON"),
        ("research", "", "", "has no {question}"),
    ],
)
def test_words_that_cannot_be_used_are_one_line(
    tmp_path: Path, phase: str, words: str, more: str, said: str
) -> None:
    (tmp_path / "words.txt").write_text(words)
    told = complaint(tmp_path, prompted(phase, more))
    assert said in told
    assert f"prompts.{phase}_file = 'words.txt'" in told


def test_words_need_not_say_json_where_json_is_not_asked_for(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("{count} of {topic}")
    endpoint = (
        '[endpoint]\nkind = "openai"\nbase_url = "http://127.0.0.1:1"\nmodel = "m"\n'
        "json_mode = false\n"
    )
    assert scenario(tmp_path, prompted("decompose") + endpoint).prompts["decompose"]


def test_a_missing_file_of_words_and_an_unknown_phase_are_one_line(tmp_path: Path) -> None:
    assert "no such file" in complaint(tmp_path, prompted("research"))
    assert "unknown key" in complaint(tmp_path, prompted("resarch"))


INLINE = '[workflow]\ntopics = ["tides"]\n[prompts]\n'


def test_a_prompt_can_stand_in_the_scenario_itself(tmp_path: Path) -> None:
    read = scenario(tmp_path, INLINE + 'research = """\nTell me: {question}\n"""')
    assert read.plan.templates["research"].text == "Tell me: {question}"


@pytest.mark.parametrize(
    ("prompts", "said"),
    [
        ('research = "Tell me: {qestion}"', "unknown placeholder {qestion}"),
        (
            'research = "words/research.txt"',
            "prompts.research = 'words/research.txt': has no {question}; add the missing fields; "
            "if it is a file, write research_file = 'words/research.txt'",
        ),
        (
            'research_file = "none.txt"\nresearch = "{question}"',
            "prompts.research_file: cannot be combined with prompts.research; remove one of the "
            "two",
        ),
        ("research_file = 3", "prompts.research_file = 3: must be text in quotes"),
        ("research = 3", "prompts.research = 3: must be text in quotes"),
        ('resarch_file = "a"', "prompts.resarch_file: unknown key"),
    ],
)
def test_a_prompt_that_cannot_be_used_is_one_line(tmp_path: Path, prompts: str, said: str) -> None:
    assert said in complaint(tmp_path, INLINE + prompts)


def test_a_prompt_set_on_the_command_line_takes_the_place_of_the_scenarios_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "words.txt").write_text("From a file: {question}")
    file = tmp_path / "own.toml"
    file.write_text(f'name = "own"\n{INLINE}research = "Inline: {{question}}"')
    typed = load_scenario(file, ["prompts.research_file=words.txt"])
    assert typed.prompts["research"] == "From a file: {question}"
    file.write_text(f'name = "own"\n{INLINE}research_file = "words.txt"')
    typed = load_scenario(file, ["prompts.research=Now: {question}"])
    assert typed.prompts["research"] == "Now: {question}"


def test_topics_typed_on_the_command_line_take_the_place_of_the_scenarios_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a file that is named there is looked for where the command is typed."""
    folder, here = tmp_path / "folder", tmp_path / "here"
    folder.mkdir()
    here.mkdir()
    (here / "mine.txt").write_text("moss\nlichen\n")
    (folder / "own.toml").write_text('name = "own"\n[workflow]\ntopics = ["kelp"]\n')
    monkeypatch.chdir(here)
    mine = load_scenario(folder / "own.toml", ["workflow.topics_file=mine.txt"])
    assert mine.workflow.topics == ("moss", "lichen")

    (folder / "own.toml").write_text('name = "own"\n[workflow]\ntopics_file = "none.txt"\n')
    typed = load_scenario(folder / "own.toml", ['workflow.topics=["fern"]'])
    assert (typed.workflow.topics, typed.workflow.topics_file) == (("fern",), None)
