"""From what a model answers to sub-questions, whatever it wraps them in."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.workflows.research.decomposition import DecompositionError, parse_sub_questions

TWO = '{"sub_questions": ["What is a?", "What is b?"]}'
READ = ["What is a?", "What is b?"]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(TWO, id="as asked"),
        pytest.param(f"```json\n{TWO}\n```", id="fenced"),
        pytest.param(f"```\n{TWO}\n```", id="fenced without a language"),
        pytest.param(f"```json\n{TWO}", id="fence never closed"),
        pytest.param(f"Sure! Here they are:\n\n{TWO}\n\nShall I go on?", id="prose around"),
        pytest.param(f"As [1] and {{x}} say [see 2: {TWO} ] }}", id="brackets in the prose"),
        pytest.param('["What is a?", "What is b?"]', id="bare list"),
        pytest.param('{"questions": ["What is a?", "What is b?"]}', id="another key"),
        pytest.param('{"items": ["What is a?", "What is b?"]}', id="any key"),
        pytest.param(f'{{"result": {{"plan": {TWO}}}}}', id="nested objects"),
        pytest.param(f"[{TWO}]", id="object in a list"),
        pytest.param(
            '{"sub_questions": {"1": "What is a?", "2": "What is b?"}}', id="numbered object"
        ),
        pytest.param(
            '{"sub_questions": [{"id": "q1", "question": "What is a?", "why": "It is the start."},'
            ' {"id": "q2", "question": "What is b?", "why": "x"}]}',
            id="list of objects",
        ),
        pytest.param(
            '[{"title": "a", "text": "What is a?"}, {"title": "b", "text": "What is b?", "n": 1}]',
            id="objects without a known field: the longest text",
        ),
        pytest.param(
            '[{"question": "What is a?", "keywords": ["x", "y", "z"]},'
            ' {"question": "What is b?", "keywords": ["u", "v", "w"]}]',
            id="lists inside the questions are details",
        ),
        pytest.param(
            '{"keywords": ["k", "l", "m"], "sub_questions": ["What is a?", "What is b?"]}',
            id="a longer list under another key",
        ),
        pytest.param(
            f'First thoughts: ["a", "b", "c"]. So: {TWO}', id="a longer list before the right one"
        ),
        pytest.param(
            '{"sub_questions": ["What is a?", "what is A", "WHAT IS A?!", " What  is a ?", "",'
            ' "What is b?"]}',
            id="duplicates in letter case, closing punctuation and space",
        ),
        pytest.param('{"sub_questions": ["What\n is a?", "What is\\tb?"]}', id="raw line breaks"),
        pytest.param(
            '{"sub_questions": ["What is a?", null, 7, ["x"], "What is b?"]}', id="other values"
        ),
        pytest.param(
            '{"sub_questions": ["What is a?", "What is b?", "What is c?"]}', id="too many are cut"
        ),
        pytest.param(
            '{"sub_questions": ["What is a?", "What is b?"], "no', id="cut after the list"
        ),
        pytest.param(
            '{"sub_questions": [{"text": "What is a?", "rationale": "It is longer than that."},'
            ' {"text": "What is b?", "rationale": "This one is longer, too."}]}',
            id="a rationale longer than the question",
        ),
        pytest.param(
            '[{"aim": "Find out what a is, at length.", "ask": "What is a?"},'
            ' {"aim": "Find out what b is, at length.", "ask": "What is b?"}]',
            id="objects without a known field: the text that asks",
        ),
        pytest.param(
            '{"research_questions": ["What is a?", "What is b?"], "keywords": ["x", "y", "z"]}',
            id="a key that contains the word question",
        ),
        pytest.param(
            '{"topics": ["x", "y", "z"], "list": ["What is a?", "What is b?"]}',
            id="the list that asks",
        ),
        pytest.param(
            f'Draft: {{"sub_questions": ["What is x?", "What is y?"]}}. Final: {TWO}',
            id="a draft of the same shape before the final one",
        ),
        pytest.param(
            f'Draft: ["What is x?", "What is y?", "What is z?"]. Final: {TWO}', id="a longer draft"
        ),
        pytest.param('{"sub_questions": ["What is a?", "What is b?",],}', id="trailing commas"),
        pytest.param("1. What is a?\n\n2) **What is b?**", id="a numbered list"),
        pytest.param("Q1: What is a?\n  - note\nQ2: What is b?", id="a numbered list with notes"),
        pytest.param("1. x\n2. y\n\nSo:\n1. What is a?\n2. What is b?", id="the last of two"),
        pytest.param("Here:\n- What is a?\n* What is b?\nDone.", id="bullets that ask"),
        pytest.param(
            '{"question_1": "What is a?", "question_2": "What is b?"}', id="numbered keys"
        ),
    ],
)
def test_two_questions_are_read_out_of(answer: str) -> None:
    assert parse_sub_questions(answer, 2) == READ


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        pytest.param("", "blank", id="nothing"),
        pytest.param(" \n\t ", "blank", id="spaces, which some providers send for no JSON"),
        pytest.param("I cannot do that.", "no JSON object", id="prose"),
        pytest.param("What is a?\nWhat is b?", "no JSON object", id="a plain list"),
        pytest.param('{"sub_questions": ["What is a?", "Wha', "no JSON object", id="truncated"),
        pytest.param(
            '{"sub_questions": [{"question": "What is a?"}, {"question": "What',
            "no JSON object",
            id="truncated after a whole object",
        ),
        pytest.param('{"sub_questions": "What is a?"}', "no JSON object", id="one text"),
        pytest.param('{"sub_questions": []}', "no JSON object", id="empty list"),
        pytest.param("[1, 2, 3]", "no JSON object", id="numbers"),
        pytest.param('{"keywords": ["x", "y"]}', "no JSON object", id="keywords alone"),
        pytest.param("- x\n- y", "no JSON object", id="bullets that ask nothing"),
        pytest.param('{"sub_questions": ["...", "..."]}', "no JSON object", id="the example"),
        pytest.param('["What is a?"]', "1 distinct sub-questions instead of 2", id="too few"),
        pytest.param(
            '["What is a?", "what is a"]', "1 distinct sub-questions instead of 2", id="the same"
        ),
        pytest.param("[" + "9" * 5000 + "]", "no JSON object", id="a number beyond Python's limit"),
        pytest.param("[" * 100_000, "no JSON object", id="lists in lists without end"),
        pytest.param('{"a":' * 100_000, "no JSON object", id="objects in objects without end"),
        pytest.param('["' * 100_000, "no JSON object", id="brackets in their thousands"),
        pytest.param("[" * 900 + "]" * 900, "no JSON object", id="deep but whole"),
    ],
)
def test_what_cannot_be_used_is_said_in_words_for_the_model(answer: str, says: str) -> None:
    with pytest.raises(DecompositionError, match=says):
        parse_sub_questions(answer, 2)


def test_broken_brackets_are_tried_a_bounded_number_of_times() -> None:
    """Each try costs time in which no other stream is read."""
    assert parse_sub_questions("{ " * 199 + TWO, 2) == READ
    with pytest.raises(DecompositionError):
        parse_sub_questions("{ " * 200 + TWO, 2)


@pytest.mark.parametrize(
    "answer",
    ["[" * 199 + '"a",' * 500_000, '["aaaa", ' * 250_000, '{"a": "' * 300_000, ", " * 1_000_000],
    ids=["brackets, then items", "lists", "strings without an end", "commas"],
)
def test_the_work_is_proportional_to_the_length(
    answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted in characters that the decoder read, whatever the machine."""
    real, read = json.JSONDecoder.raw_decode, 0

    def counting(decoder: json.JSONDecoder, text: str, start: int) -> Any:
        nonlocal read
        try:
            return real(decoder, text, start)
        except json.JSONDecodeError as error:
            read += (len(text) if "string" in error.msg else error.pos) - start
            raise

    monkeypatch.setattr(json.JSONDecoder, "raw_decode", counting)
    with pytest.raises(DecompositionError):
        parse_sub_questions(answer, 4)
    assert read <= 20 * len(answer)


def test_half_a_surrogate_pair_is_replaced_so_that_the_next_request_can_carry_it() -> None:
    [question] = parse_sub_questions(r'["What is \ud83d here?"]', 1)
    assert question == "What is ? here?"
    assert question.encode()


def test_questions_that_differ_in_a_sign_stay_apart() -> None:
    questions = ["What is C?", "What is C++?", "What is C#?"]
    assert parse_sub_questions(json.dumps(questions), 3) == questions


def same(question: str) -> str:
    return " ".join(question.split()).casefold().rstrip(" ?.!…")


words = st.text(st.characters(exclude_categories=["C"]), max_size=30)
question_lists = st.lists(words.filter(same), min_size=1, max_size=8, unique_by=same)
prose = st.text(st.characters(exclude_characters='[]{}"', exclude_categories=["C"]), max_size=40)


def objects(questions: list[str]) -> Any:
    return {"sub_questions": [{"id": str(n), "question": q} for n, q in enumerate(questions)]}


SHAPES: dict[str, Callable[[list[str]], Any]] = {
    "object": lambda questions: {"sub_questions": questions},
    "other key": lambda questions: {"topic": "t", "questions": questions},
    "list": lambda questions: questions,
    "nested": lambda questions: {"answer": {"sub_questions": questions, "note": "n"}},
    "objects": objects,
    "doubled": lambda questions: {"sub_questions": [*questions, *(f"{q} ?" for q in questions)]},
    "with blanks": lambda questions: {"sub_questions": ["", *questions, "...", None]},
}


@given(
    questions=question_lists,
    shape=st.sampled_from(sorted(SHAPES)),
    ascii_only=st.booleans(),
    indent=st.sampled_from([None, 2]),
    fence=st.sampled_from(["{}", "```json\n{}\n```", "```\n{}\n```", "```json\n{}"]),
    before=prose,
    after=prose,
)
def test_exactly_the_questions_come_back_through_any_noise(
    questions: list[str],
    shape: str,
    ascii_only: bool,
    indent: int | None,
    fence: str,
    before: str,
    after: str,
) -> None:
    text = json.dumps(SHAPES[shape](questions), ensure_ascii=ascii_only, indent=indent)
    answer = before + fence.replace("{}", text) + after
    asked = [" ".join(question.split()) for question in questions]
    assert parse_sub_questions(answer, len(questions)) == asked
    assert parse_sub_questions(answer, 1) == asked[:1]
    with pytest.raises(DecompositionError, match="distinct"):
        parse_sub_questions(answer, len(questions) + 1)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=14), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(
    answer=st.text() | json_values.map(json.dumps) | st.text(st.sampled_from('[]{}",:ab\\ ')),
    cut=st.integers(0, 200),
    count=st.integers(1, 5),
)
def test_any_text_gives_that_many_distinct_questions_or_an_error_in_one_line(
    answer: str, cut: int, count: int
) -> None:
    questions = parse_or_say(answer[:cut], count)
    if isinstance(questions, str):
        assert len(questions.splitlines()) == 1
    else:
        assert len(questions) == len({same(question) for question in questions}) == count
        assert all(same(question) for question in questions)
        assert all(question.encode() for question in questions)


def parse_or_say(answer: str, count: int) -> list[str] | str:
    try:
        return parse_sub_questions(answer, count)
    except DecompositionError as error:
        return str(error)
