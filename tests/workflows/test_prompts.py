"""Prompts: their fields, and what is no field."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.workflows.prompts import Prompts
from harness.workflows.prompts import notes as notes_text
from harness.workflows.research.prompts import TEMPLATES, findings_text


def filled(key: str, text: str, nonce: str = "", **values: str) -> list[str]:
    """Return the contents of the messages of a prompt of research whose text is `text`."""
    prompts = Prompts({key: TEMPLATES[key]._replace(text=text)}, nonce)
    return [message.content for message in prompts.messages(key, **values)]


@pytest.mark.parametrize("notes", [True, False])
@pytest.mark.parametrize("phase", TEMPLATES)
def test_nothing_is_wrong_with_the_usual_words(phase: str, notes: bool) -> None:
    assert TEMPLATES[phase].objection(TEMPLATES[phase].text, notes) is None


def test_placeholders_stand_for_their_values_and_other_braces_for_themselves() -> None:
    words = '{count} about {topic} as JSON {"a": [{}, "{{topic}}"]}'
    [_, asked] = filled("decompose", words, topic="tides", count="3")
    assert asked == '3 about tides as JSON {"a": [{}, "{topic}"]}'


@given(st.text(), st.text(), st.text())
def test_what_a_value_says_is_never_taken_for_a_placeholder(
    topic: str, question: str, reasoning: str
) -> None:
    [_, asked] = filled(
        "research",
        "<{topic}|{question}|{notes}>",
        topic=topic + "{question}",
        question=question + "{notes}",
        notes=notes_text(reasoning),
    )
    carried = f"\nNotes from planning:\n{reasoning}\n" if reasoning else ""
    assert asked == f"<{topic}{{question}}|{question}{{notes}}|{carried}>"


def test_findings_name_the_questions_that_have_none() -> None:
    text = findings_text((("a?", "yes"), ("b?", None)))
    assert "Sub-question: a?\nFinding: yes" in text
    assert text.endswith("- b?")


def test_a_nonce_stands_before_everything_whatever_the_words() -> None:
    [first, _] = filled("decompose", "{topic}{count}", "f00d", topic="tides", count="3")
    assert first.startswith("[f00d]")


@pytest.mark.parametrize(
    ("phase", "words", "notes", "said"),
    [
        ("decompose", "{topic}", False, "has no {count}"),
        ("decompose", "all of it", False, "has no {topic} and no {count}"),
        ("decompose", "{topic} {count} {question}", False, "unknown placeholder {question}"),
        ("research", "{topic}", False, "has no {question}"),
        ("research", "{question}", True, "has no {notes}"),
        ("research", "{queston}", False, "did you mean {question}?"),
        ("synthesize", "{{findings}}", False, "has no {findings}"),
        ("synthesize", "{findings} {Topic}", False, "did you mean {topic}?"),
    ],
)
def test_words_that_cannot_be_filled_in_are_told_apart(
    phase: str, words: str, notes: bool, said: str
) -> None:
    told = TEMPLATES[phase].objection(words, notes)
    assert told is not None
    assert said in told
    assert "\n" not in told


def test_words_may_leave_out_what_they_do_not_need() -> None:
    assert TEMPLATES["research"].objection("{question}", False) is None
    assert TEMPLATES["synthesize"].objection("{findings}", False) is None


def test_an_unknown_placeholder_can_be_written_with_doubled_braces() -> None:
    assert TEMPLATES["research"].objection("{question} {{answer}}", False) is None
