"""The questions that two runs, two cells or two repeats have in common, and how their texts differ.

A question is a workflow: its topic, counted where a topic occurs several times. Its calls are
compared in the same phase, branch and place. Texts are read for two trials at a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from harness.analysis.text_differences import TextDifference, compare_texts
from harness.records.keys import TrialKey, WorkflowKey, workflow_key
from harness.records.schema import Call, Run, Tokens, Transcript, Workflow
from harness.store.trial_reader import TrialReader

CallPlace = tuple[str, int | None, int]
"""Where a call is within its workflow: phase, branch, number."""
_Place = tuple[int, int, int]


class Side(NamedTuple):
    """What is compared: the run, or one cell of it, or one repeat (from 0) of the cell."""

    reader: TrialReader
    cell: str | None = None
    repeat: int | None = None

    @property
    def run(self) -> Run:
        """The run."""
        return self.reader.run


class AskedQuestion(NamedTuple):
    """What makes workflows of two sides the same question.

    `cell`: None if the sides have one cell each. `number`: of the workflows with this topic, from
    0.
    """

    cell: str | None
    topic: str
    number: int


class CallText(NamedTuple):
    """The texts of a call; `prompt`: a hash of its messages."""

    prompt: int
    reasoning: str
    answer: str


class CallDifference(NamedTuple):
    """How the texts of a call differ. `same_prompt`: whether both sides sent the same messages."""

    place: CallPlace
    same_prompt: bool
    reasoning: TextDifference
    answer: TextDifference

    @property
    def is_equal(self) -> bool:
        """Whether both texts are equal."""
        return self.reasoning.is_equal and self.answer.is_equal


class QuestionDifference(NamedTuple):
    """How the texts of a question differ.

    `parts_at`: the first call whose texts differ, None if all are equal. `reasoning`: the
    similarity of all reasoning; None without any. `answer`: that of the last answer; None without
    one. `only`: how many calls only the first and only the second side has.
    """

    first: Workflow
    second: Workflow
    parts_at: CallDifference | None
    reasoning: float | None
    answer: float | None
    only: tuple[int, int]

    @property
    def is_equal(self) -> bool:
        """Whether no call differs."""
        return self.parts_at is None and self.only == (0, 0)

    @property
    def rank(self) -> tuple[bool, bool, float, float]:
        """The place among all: first what differs after the same prompt, then the least similar."""
        same_prompt = self.parts_at is not None and self.parts_at.same_prompt
        reasoning, answer = (1.0 if one is None else one for one in (self.reasoning, self.answer))
        return self.is_equal, not same_prompt, reasoning, answer


class Pairs(NamedTuple):
    """The questions of both sides, and those that only one side has."""

    both: list[tuple[Workflow, Workflow]]
    only_first: list[Workflow]
    only_second: list[Workflow]


def pair_questions(first: Side, second: Side) -> Pairs:
    """Return which workflows ask the same question; of resumed ones, the last execution."""
    by_cell = not (_has_one_cell(first) and _has_one_cell(second))
    mine, others = _questions(first, by_cell), _questions(second, by_cell)
    return Pairs(
        [(one, others[question]) for question, one in mine.items() if question in others],
        [one for question, one in mine.items() if question not in others],
        [one for question, one in others.items() if question not in mine],
    )


def _has_one_cell(side: Side) -> bool:
    return side.cell is not None or len(side.run.cells) == 1


def _questions(side: Side, by_cell: bool) -> dict[AskedQuestion, Workflow]:
    found: dict[AskedQuestion, Workflow] = {}
    counts: Counter[tuple[str | None, str]] = Counter()
    for records in side.reader.workflows_by_trial():
        last: dict[tuple[int, int], Workflow] = {}
        for one in records.workflows:
            if side.cell not in (None, one.cell) or side.repeat not in (None, one.repeat):
                continue
            key = one.repeat, one.workflow
            if key not in last or last[key].execution < one.execution:
                last[key] = one
        for _, one in sorted(last.items()):
            asked = (one.cell if by_cell else None, one.topic)
            found[AskedQuestion(*asked, counts[asked])] = one
            counts[asked] += 1
    return found


def compare_questions(
    first: TrialReader, second: TrialReader, both: Sequence[tuple[Workflow, Workflow]]
) -> Iterator[QuestionDifference]:
    """Compare the texts of each pair; pairs without a transcript on one side are left out."""
    mine, others = _LastTrial(first), _LastTrial(second)
    for one, other in both:
        texts, other_texts = mine.of(one), others.of(other)
        if texts and other_texts:
            yield _compare(one, other, texts, other_texts)


def _compare(
    first: Workflow,
    second: Workflow,
    mine: Mapping[CallPlace, CallText],
    others: Mapping[CallPlace, CallText],
) -> QuestionDifference:
    when = _order_of_calls(first)
    parts_at: CallDifference | None = None
    answer: float | None = None
    alike, length = 0.0, 0
    for place in sorted(mine.keys() & others.keys(), key=when):
        one, other = mine[place], others[place]
        found = CallDifference(
            place,
            one.prompt == other.prompt,
            compare_texts(one.reasoning, other.reasoning),
            compare_texts(one.answer, other.answer),
        )
        size = sum(found.reasoning.lengths)
        alike, length = alike + size * found.reasoning.similarity, length + size
        if sum(found.answer.lengths):
            answer = found.answer.similarity
        if parts_at is None and not found.is_equal:
            parts_at = found
    return QuestionDifference(
        first, second, parts_at, alike / length if length else None, answer,
        (len(mine.keys() - others.keys()), len(others.keys() - mine.keys())),
    )  # fmt: skip


class _LastTrial:
    """The texts of the trial that was read last."""

    def __init__(self, reader: TrialReader) -> None:
        self._reader = reader
        self._trial: TrialKey | None = None
        self._texts: dict[tuple[int, int], dict[CallPlace, CallText]] = {}

    def of(self, workflow: Workflow) -> Mapping[CallPlace, CallText]:
        """Return the texts of the calls of a workflow; empty without transcripts."""
        trial = workflow.cell, workflow.repeat
        if trial != self._trial:
            self._trial, self._texts = trial, {}  # before the next texts are read
            for one in self._reader.each(Transcript, trial):
                texts = self._texts.setdefault((one.workflow, one.execution), {})
                texts[one.phase, one.branch, one.call] = text_of(one)
        return self._texts.get((workflow.workflow, workflow.execution), {})


def text_of(one: Transcript) -> CallText:
    """Return the texts of a transcript."""
    return CallText(hash(one.messages), one.reasoning, one.answer)


def transcripts_of(reader: TrialReader, workflow: Workflow) -> list[Transcript]:
    """Return the transcripts of a workflow in the order of its phases, branches and calls."""
    return transcripts_of_several(reader, [workflow])[workflow_key(workflow)]


def transcripts_of_several(
    reader: TrialReader, workflows: Iterable[Workflow]
) -> dict[WorkflowKey, list[Transcript]]:
    """Return the transcripts of workflows, each in the order of its phases, branches and calls."""
    when = {workflow_key(one): _order_of_calls(one) for one in workflows}
    found: dict[WorkflowKey, list[Transcript]] = {key: [] for key in when}
    for trial in dict.fromkeys((key.cell, key.repeat) for key in when):
        for one in reader.each(Transcript, trial):
            if (key := workflow_key(one)) in found:
                found[key].append(one)
    return {key: sorted(mine, key=partial(_place_of, when[key])) for key, mine in found.items()}


def _place_of(when: Callable[[CallPlace], _Place], one: Transcript) -> _Place:
    return when((one.phase, one.branch, one.call))


def tokens_of_calls(reader: TrialReader, workflow: Workflow) -> dict[CallPlace, Tokens]:
    """Return the tokens of the calls of a workflow whose tokens are known."""
    return {
        (one.phase, one.branch, one.call): one.tokens
        for one in reader.each(Call, (workflow.cell, workflow.repeat))
        if (one.workflow, one.execution) == (workflow.workflow, workflow.execution)
        and one.tokens is not None
    }


def _order_of_calls(workflow: Workflow) -> Callable[[CallPlace], _Place]:
    """Return the sort key of calls: by first phase of that name, branch and number."""
    order = {phase.name: at for at, phase in reversed([*enumerate(workflow.phases)])}

    def key(place: CallPlace) -> _Place:
        phase, branch, call = place
        return order.get(phase, len(order)), -1 if branch is None else branch, call

    return key
