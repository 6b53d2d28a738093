"""Reasoning and answer are told apart in one text, however it was cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.transports import reasoning_tags
from harness.transports.reasoning_tags import ReasoningSplitter
from tests.transports.cutting import cut

TEXT = st.lists(
    st.sampled_from(
        [
            "<think>",
            "</think>",
            "<",
            "/",
            "think",
            ">",
            "\n",
            " ",
            "so ",
            "1 < 2",
            "é",
            "[THINK]",
            "[/THINK]",
            "[",
            "◁think▷",
            "◁/think▷",
            "<thinking>",
            "</thinking>",
            "<|channel|>analysis<|message|>",
            "<|end|>",
            "<|start|>assistant",
            "<|return|>",
            "<|channel|>final<|message|>",
        ]
    ),
    max_size=10,
).map("".join)


def split(pieces: list[str]) -> tuple[str, str]:
    splitter = ReasoningSplitter()
    reasoning, answer = "", ""
    for parts in (*map(splitter.feed, pieces), splitter.end()):
        if parts.earlier_was_reasoning:
            reasoning, answer = answer, ""
        reasoning += parts.reasoning
        answer += parts.answer
    return reasoning, answer


@given(text=TEXT, cuts=st.data())
def test_any_cutting_of_the_text_gives_the_same_parts(text: str, cuts: st.DataObject) -> None:
    assert split(cuts.draw(cut(text))) == split([text])


@pytest.mark.parametrize(
    ("text", "reasoning", "answer"),
    [
        ("<think>why</think>\n\nbecause", "why", "because"),
        (" \n<think>\nwhy</think>because", "\nwhy", "because"),
        ("why</think>because", "why", "because"),
        ("<think>cut off", "cut off", ""),
        ("<think></think>because", "", "because"),
        ("no tags, 1 < 2", "", "no tags, 1 < 2"),
        ("  spaces stay", "", "  spaces stay"),
        ("ends like a tag </thi", "", "ends like a tag </thi"),
        ("<think>a</think>b</think>c", "a", "b</think>c"),
        ("<thinking>", "", ""),
        ("<thinking>why</thinking>because", "why", "because"),
        ("why</thinking>because", "why", "because"),
        ("[THINK]why[/THINK]because [1]", "why", "because [1]"),
        ("why[/THINK]because", "why", "because"),
        ("◁think▷why◁/think▷because", "why", "because"),
        ("<seed:think>why</seed:think>because", "why", "because"),
        ("<thought>why</thought>because", "why", "because"),
        ("<reasoning>why</reasoning>because", "why", "because"),
        ("text with </thought> in it", "", "text with </thought> in it"),
        ("<think>a</think>\n<think>b</think>c", "ab", "c"),
        (
            "<|channel|>analysis<|message|>why<|end|><|start|>assistant"
            "<|channel|>final<|message|>because<|return|>",
            "why",
            "because",
        ),
        ("<|channel|>final<|message|>because", "", "because"),
        ("<|channel>thought why<channel|>because", " why", "because"),
        (
            "<|START_THINKING|>why<|END_THINKING|><|START_RESPONSE|>because<|END_RESPONSE|>",
            "why",
            "because",
        ),
        ("<thi", "", "<thi"),
        ("", "", ""),
    ],
)
def test_the_tags_part_the_text(text: str, reasoning: str, answer: str) -> None:
    assert split([text]) == (reasoning, answer)


def test_text_without_a_tag_in_sight_is_handed_out_at_once() -> None:
    splitter = ReasoningSplitter()
    assert splitter.feed("The ") == ("", "The ", False)
    assert splitter.feed("tide <") == ("", "tide ", False)
    assert splitter.feed("3 m") == ("", "<3 m", False)


def test_blanks_at_the_beginning_are_held_back_until_there_are_many() -> None:
    """Otherwise each of 64,000 chunks of blanks would look at all those before it."""
    splitter = ReasoningSplitter()
    answers = [len(splitter.feed(" ").answer) for _ in range(64_000)]
    assert sum(answers) == 64_000
    assert max(answers) <= 1000
    assert answers[1000:] == [1] * 63_000


@pytest.mark.parametrize("mark", reasoning_tags._LONE)
def test_a_mark_that_closes_is_looked_for_in_an_answer(mark: str) -> None:
    splitter = ReasoningSplitter()
    splitter.feed("an answer ")
    assert splitter.passes_on("a[0] < b and more")
    assert not splitter.passes_on(f"it {mark} more")
    for size in range(1, len(mark) + 1):
        assert not splitter.passes_on(f"it {mark[:size]}")
