"""Reasoning and answers of a run on a terminal, and how those of two sides differ."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from rich.console import Console
from rich.text import Text

from harness.analysis.model import PhaseReasoning
from harness.analysis.question_pairs import CallPlace, Pairs, QuestionDifference
from harness.analysis.text_differences import TextDifference
from harness.records.keys import display_key
from harness.records.schema import Tokens, Transcript
from harness.report.console import printable, say, table_blocks
from harness.report.line_wrap import wrapped
from harness.report.tables import Column
from harness.report.wording import counted, percent, whole_percent

LISTED = 15
"""The most questions that a comparison lists."""

_QUESTION = 160
"""The most characters of a question that are shown above its answer."""

_SHOWN = 300
"""The most characters of a sentence or topic that are shown."""


def show_phases(phases: Sequence[PhaseReasoning], console: Console) -> None:
    """Write the share of reasoning in each phase."""
    if not phases:
        say(console, "No response had reasoning.")
        return
    columns = [
        Column("responses", "", [str(one.responses) for one in phases]),
        Column("of output\ntokens %", "", [_share(one.share_of_tokens) for one in phases]),
        Column("of response\ntime %", "", [_share(one.share_of_seconds) for one in phases]),
        Column("cut within\nreasoning", "", [str(one.truncated) for one in phases]),
        Column("max_tokens\nfor 99 %", "", [sufficient(one) for one in phases]),
    ]
    name = Column("phase", "", [one.phase for one in phases], left=True)
    say(
        console,
        "Reasoning, by phase:",
        *(line for b in table_blocks([name], [columns]) for line in b),
    )


def sufficient(phase: PhaseReasoning) -> str:
    """Return the `max_tokens` that would have been enough, in words."""
    return "not known" if phase.sufficient_tokens is None else str(phase.sufficient_tokens)


def _share(value: float | None) -> str:
    return "-" if value is None else whole_percent(value)


def show_texts(
    texts: Iterable[Transcript], tokens: Mapping[CallPlace, Tokens], console: Console
) -> None:
    """Write the question, the reasoning, dimmed, and the answer of each call.

    `tokens`: of the last attempt of each call, as far as they are known.
    """
    for one in texts:
        place = (one.phase, one.branch, one.call)
        used = _used(tokens.get(place, Tokens()))
        title = f"Phase {place_name(place)}: {one.outcome}{used}"
        say(console, "", *(Text(line, style="bold") for line in wrapped(title)))
        if one.messages:
            say(console, *wrapped(f"Question: {_short(one.messages[-1].content, _QUESTION)}"))
        for name, text, style in (("Reasoning", one.reasoning, "dim"), ("Answer", one.answer, "")):
            lines = list(_lines(text))
            if lines:
                say(console, f"{name}:", *(Text(line, style=style) for line in lines))


def _used(tokens: Tokens) -> str:
    """Write the tokens of a call as far as they are known."""
    known = [
        f"{count} {what}"
        for count, what in (
            (tokens.input, "read"),
            (tokens.output, "written"),
            (tokens.reasoning, "reasoning"),
        )
        if count is not None
    ]
    return f"; tokens: {', '.join(known)}" if known else ""


def _lines(text: str) -> Iterator[str]:
    """Yield the lines of a text, with several empty ones as one."""
    for line in re.split(r"\n+", text.strip()):
        if shown := printable(line):
            yield shown


def place_name(place: CallPlace) -> str:
    """Return the name of a call within its workflow; branches count from 1."""
    phase, branch, call = place
    name = phase if branch is None else f"{phase}, branch {branch + 1}"
    return name if call == 1 else f"{name}, call {call}"


def show_differences(
    found: Sequence[QuestionDifference],
    pairs: Pairs,
    names: tuple[str, str],
    console: Console,
) -> None:
    """Write which questions differ, those that parted after the same prompt first.

    `found`: in the order of their rank. `names`: of both sides.
    """
    parted = [one for one in found if not one.is_equal]
    answers = sum(one.answer is not None and one.answer < 1 for one in parted)
    said = (
        f"{len(parted)} of {counted(len(found), 'question')} differ, {answers} in the last answer"
    )
    say(console, *wrapped(f"{said}."))
    for name, missing in zip(names, (pairs.only_first, pairs.only_second), strict=True):
        if missing:
            topics = "; ".join(_short(one.topic, 60) for one in missing[:3])
            more = f"; and {len(missing) - 3} more" if len(missing) > 3 else ""
            say(console, *wrapped(f"Only in {name}: {topics}{more}"))
    without = len(pairs.both) - len(found)
    if without:
        say(console, *wrapped(f"{counted(without, 'question')} without transcripts left out."))
    if not parted:
        return
    listed = parted[:LISTED]
    say(console, "", *_table(listed))
    if len(parted) > LISTED:
        say(console, f"… and {len(parted) - LISTED} more (--json lists all)")
    say(console, "")
    show_divergence(listed[0], names, console)


def _table(listed: Sequence[QuestionDifference]) -> Iterator[str]:
    columns = [
        Column("reasoning\nsimilar %", "", [_share(one.reasoning) for one in listed]),
        Column("answer\nsimilar %", "", [_share(one.answer) for one in listed]),
        Column("same\nprompt", "", [_same_prompt(one) for one in listed]),
        Column("first difference", "", [_where(one) for one in listed], left=True),
    ]
    name = Column("question", "", [display_key(one.first) for one in listed], left=True)
    for block in table_blocks([name], [columns]):
        yield from block


def _same_prompt(one: QuestionDifference) -> str:
    return "-" if one.parts_at is None else "yes" if one.parts_at.same_prompt else "no"


def _where(one: QuestionDifference) -> str:
    if one.parts_at is None:
        return "other calls"
    part, text = parted_text(one)
    return f"{place_name(one.parts_at.place)}: {part}, sentence {text.equal + 1}"


def parted_text(one: QuestionDifference) -> tuple[str, TextDifference]:
    """Return which text of the first different call differs first, and how."""
    assert one.parts_at is not None, "only of a question whose texts differ"
    if not one.parts_at.reasoning.is_equal:
        return "reasoning", one.parts_at.reasoning
    return "answer", one.parts_at.answer


def show_divergence(one: QuestionDifference, names: tuple[str, str], console: Console) -> None:
    """Write the first sentences that differ of a question."""
    say(console, *wrapped(f"{display_key(one.first)}: {_short(one.first.topic)}"))
    if one.parts_at is None:
        mine, others = one.only
        say(
            console,
            *wrapped(
                f"{names[0]} has {mine} calls that {names[1]} lacks, which has {others} others."
            ),
        )
        return
    part, text = parted_text(one)
    asked = "the same prompt" if one.parts_at.same_prompt else "different prompts"
    say(
        console,
        *wrapped(
            f"After {asked}, the {part} of {place_name(one.parts_at.place)} has "
            f"{counted(text.equal, 'equal sentence')} and is {percent(text.similarity)} similar "
            f"({text.lengths[0]} and {text.lengths[1]} characters). Then:"
        ),
    )
    for name, said in zip(names, (text.first, text.second), strict=True):
        say(console, *wrapped("(the end)" if said is None else _short(said), f"  {name}: "))


def _short(text: str, most: int = _SHOWN) -> str:
    line = printable(text[: 4 * most])
    return line if len(line) <= most else f"{line[: most - 1]}…"
