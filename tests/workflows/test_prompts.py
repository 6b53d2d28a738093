"""The words of the prompts: placeholders, and what is no placeholder."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.workflows.research import prompts
from harness.workflows.research.prompts import Prompts, prompt_objection

USUAL = Prompts()


@pytest.mark.parametrize("notes", [True, False])
@pytest.mark.parametrize("phase", Prompts._fields)
def test_nothing_is_wrong_with_the_usual_words(phase: str, notes: bool) -> None:
    assert prompt_objection(phase, getattr(USUAL, phase), notes) is None


def test_placeholders_stand_for_their_values_and_other_braces_for_themselves() -> None:
    words = Prompts(decompose='{count} about {topic} as JSON {"a": [{}, "{{topic}}"]}')
    [_, asked] = prompts.decompose_messages(words, "tides", 3, "")
    assert asked.content == '3 about tides as JSON {"a": [{}, "{topic}"]}'


@given(st.text(), st.text(), st.text())
def test_what_a_value_says_is_never_taken_for_a_placeholder(
    topic: str, question: str, reasoning: str
) -> None:
    words = Prompts(research="<{topic}|{question}|{notes}>")
    [_, asked] = prompts.research_messages(
        words, topic + "{question}", question + "{notes}", reasoning, ""
    )
    notes = f"\nNotes from planning:\n{reasoning}\n" if reasoning else ""
    assert asked.content == f"<{topic}{{question}}|{question}{{notes}}|{notes}>"


def test_findings_name_the_questions_that_have_none() -> None:
    words = Prompts(synthesize="{findings}")
    [_, asked] = prompts.synthesize_messages(words, "tides", [("a?", "yes"), ("b?", None)], "", "")
    assert "Sub-question: a?\nFinding: yes" in asked.content
    assert asked.content.endswith("- b?")


def test_a_nonce_stands_before_everything_whatever_the_words() -> None:
    [first, _] = prompts.decompose_messages(Prompts(decompose="{topic}{count}"), "tides", 3, "f00d")
    assert first.content.startswith("[f00d]")


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
    told = prompt_objection(phase, words, notes)
    assert told is not None
    assert said in told
    assert "\n" not in told


def test_words_may_leave_out_what_they_do_not_need() -> None:
    assert prompt_objection("research", "{question}", notes=False) is None
    assert prompt_objection("synthesize", "{findings}", notes=False) is None


def test_an_unknown_placeholder_can_be_written_with_doubled_braces() -> None:
    assert prompt_objection("research", "{question} {{answer}}", notes=False) is None
