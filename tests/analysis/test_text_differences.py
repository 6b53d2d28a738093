"""Where two texts part, and how similar they are."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.analysis.text_differences import compare_texts, sentences

TEXT = st.text("ab.!?\n \u3002", max_size=60)


def test_sentences_end_at_marks_before_white_space_and_at_lines() -> None:
    text = "One is 1.5.  Is it?\nYes!\n\n  \tA  last   line\n\u4f60\u597d\u3002 \u518d\u89c1"
    assert sentences(text) == [
        "One is 1.5.", "Is it?", "Yes!", "A last line", "\u4f60\u597d\u3002", "\u518d\u89c1",
    ]  # fmt: skip


def test_the_first_divergence_is_the_first_sentence_that_differs() -> None:
    found = compare_texts("A is so. B is so. C follows.", "A is so.  B is not. C follows.")
    assert (found.equal, found.first, found.second) == (1, "B is so.", "B is not.")
    assert found.similarity == pytest.approx(2 * (8 + 10) / (26 + 27), abs=1e-9)
    assert found.lengths == (26, 27)


def test_a_text_that_ends_early_parts_at_its_end() -> None:
    found = compare_texts("A. B.", "A. B. C.")
    assert (found.equal, found.first, found.second) == (2, None, "C.")


def test_two_empty_texts_are_equal() -> None:
    assert compare_texts("", " \n") == (0, None, None, 1.0, (0, 0))


@given(TEXT, TEXT)
def test_a_comparison_is_symmetric_and_bounded(one: str, other: str) -> None:
    found, back = compare_texts(one, other), compare_texts(other, one)
    assert (found.equal, found.first, found.second) == (back.equal, back.second, back.first)
    assert 0 <= found.similarity <= 1
    assert compare_texts(one, one).is_equal
    assert compare_texts(one, one).similarity == 1
    assert found.is_equal == (sentences(one) == sentences(other))


@given(st.lists(st.sampled_from(["A.", "Bb.", "Ccc.", "Dddd."]), max_size=12), st.data())
def test_the_edited_sentence_is_found(parts: list[str], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(parts)))
    edited = [*parts[:at], "New.", *parts[at:]]
    found = compare_texts(" ".join(parts), " ".join(edited))
    assert found.equal == at
    assert found.second == "New."


@pytest.mark.parametrize("seed", range(200))
def test_the_first_divergence_of_a_known_edit_is_right(seed: int) -> None:
    draw = random.Random(seed)
    words = ["the", "tide", "then", "moon", "pulls", "water", "so", "wait", "3.5", "e.g.a"]
    said = [
        " ".join(draw.choices(words, k=8))
        + draw.choice([f" {number}.", f" {number}?", f" {number}…", f" {number}\n"])
        for number in range(draw.randrange(2, 60))
    ]
    at = draw.randrange(len(said))
    edited = {
        "changed": [*said[:at], "Something else.", *said[at + 1 :]],
        "left out": [*said[:at], *said[at + 1 :]],
        "added": [*said[:at], "Something else.", *said[at:]],
        "swapped": [*said[:at], *said[at + 1 :], said[at]],
    }
    kind = draw.choice(sorted(edited))
    found = compare_texts(" ".join(said), draw.choice(" \n").join(edited[kind]))
    if kind == "swapped" and at == len(said) - 1:
        assert found.is_equal
        return
    assert found.equal == at
    assert found.first == said[at].strip()
    after = edited[kind][at].strip() if at < len(edited[kind]) else None
    assert found.second == after
    assert found.similarity < 1


def test_long_texts_are_compared_without_their_order() -> None:
    many = [f"Sentence {number}." for number in range(2_000)]
    found = compare_texts(" ".join(many), " ".join(reversed(many)))
    assert found.equal == 0
    assert found.similarity == 1.0, "the same sentences"
    blank = compare_texts("a" + " " * 10**6 + "b", "a b")
    assert blank.is_equal
