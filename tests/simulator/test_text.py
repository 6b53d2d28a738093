from __future__ import annotations

import json
import random
from collections.abc import Iterator
from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from harness.simulator import text
from harness.simulator.request_parser import MOST_ITEMS

SUBJECTS = st.text(min_size=1, max_size=40).filter(lambda subject: bool(subject.split()))


@given(SUBJECTS, st.integers(0, MOST_ITEMS), st.integers())
def test_a_decomposition_is_json_with_as_many_distinct_questions_as_asked(
    subject: str, count: int, seed: int
) -> None:
    questions = json.loads(text.json_list("parts", subject, count, random.Random(seed)))["parts"]
    assert len(questions) == count
    assert len({question.casefold().rstrip(" ?.!") for question in questions}) == count
    assert all(subject in question for question in questions)


@given(st.text(min_size=1), st.none() | st.integers(1, 300))
def test_pieces_join_to_the_text_and_none_is_empty(whole: str, count: int | None) -> None:
    cut = text.cut(whole, count)
    pieces = cut.tokens()
    assert len(pieces) == cut.number
    assert "".join(pieces) == whole
    for told in (0, len(pieces) // 2, len(pieces)):
        assert cut.first(told) == "".join(pieces[:told])
    assert all(pieces)
    if count is None:
        assert max(map(len, pieces)) <= 4
    else:
        assert len(pieces) == min(count, len(whole))


def choices(seed: int) -> Iterator[int]:
    chance = random.Random(seed)
    while True:
        yield chance.randrange(256)


@given(SUBJECTS, st.integers(1, 400), st.integers(0, 9))
def test_prose_at_once_is_what_its_tokens_join_to(subject: str, count: int, seed: int) -> None:
    for kind in ("reasoning", "answer"):
        tokens = islice(text.prose(kind, subject, choices(seed)), count)
        assert text.prose_at_once(kind, subject, choices(seed), count) == "".join(tokens)


def test_prose_names_its_subject_and_the_same_chance_gives_the_same_prose() -> None:
    def prose(seed: int) -> str:
        return "".join(islice(text.prose("answer", "ocean tides", choices(seed)), 400))

    assert "ocean tides" in prose(1)
    assert prose(1) == prose(1) != prose(2)
    assert prose(1)[0].isupper()
    assert "\n\n" in prose(1)
    assert "{" not in prose(1)


def test_thoughts_and_statements_are_different_prose() -> None:
    thoughts = "".join(islice(text.prose("reasoning", "tides", choices(1)), 50))
    assert thoughts != "".join(islice(text.prose("answer", "tides", choices(1)), 50))


def test_any_decomposition_fills_a_hundred_pieces() -> None:
    """The `streams` profile promises exactly 100 chunks, for one short question as well."""
    wrapping = len('{"sub_questions":[""]}')
    questions = json.loads(text.json_list("sub_questions", "x", MOST_ITEMS, random.Random(1)))
    shortest = min(map(len, questions["sub_questions"]))
    assert shortest + wrapping >= 100
