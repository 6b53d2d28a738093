"""Reasoning and answer are told apart in one text, however it was cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.transports.think_tags import ThinkSplitter
from tests.transports.cutting import cut

TEXT = st.lists(
    st.sampled_from(
        ["<think>", "</think>", "<", "/", "think", ">", "\n", " ", "so ", "1 < 2", "é"]
    ),
    max_size=10,
).map("".join)


def split(pieces: list[str]) -> tuple[str, str]:
    splitter = ThinkSplitter()
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
        ("<thinking>", "", "<thinking>"),
        ("<thi", "", "<thi"),
        ("", "", ""),
    ],
)
def test_the_tags_part_the_text(text: str, reasoning: str, answer: str) -> None:
    assert split([text]) == (reasoning, answer)


def test_text_without_a_tag_in_sight_is_handed_out_at_once() -> None:
    splitter = ThinkSplitter()
    assert splitter.feed("The ") == ("", "The ", False)
    assert splitter.feed("tide <") == ("", "tide ", False)
    assert splitter.feed("3 m") == ("", "<3 m", False)
