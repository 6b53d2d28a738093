"""`kind = "research"`: decompose a topic, research its parts in parallel, synthesize a report."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from harness.config.tables import SettingError
from harness.engine.call import Completion
from harness.engine.effects import Program
from harness.records.failures import OK
from harness.records.schema import PhaseInfo
from harness.workflows.context import WorkflowContext, WorkflowFailedError, failure_text
from harness.workflows.layout import InParallel, InSequence, Layout, PlannedCall, tokens_of
from harness.workflows.partial_failure import SYNTHESIZE_WITH_GAPS, Partial, fail_fast, quorum
from harness.workflows.prompts import (
    Prompts,
    PromptTemplate,
    carried_reasoning,
    fill_fields,
    notes,
)
from harness.workflows.protocol import WorkflowKind
from harness.workflows.research.decomposition import DecompositionError, parse_sub_questions
from harness.workflows.research.prompts import TEMPLATES, findings_text, repair_messages
from harness.workflows.section import WorkflowSection

_ANSWERED = (OK, "empty_answer")
"""Outcomes of a call after which another prompt may help."""


def _a_number(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("must be a number of branches, or a fraction of them such as 0.8")
    return value


Quorum = Annotated[int | float, BeforeValidator(_a_number)]


_MOST_BRANCHES = 1000


def _number_or_questions(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | list | tuple):
        raise ValueError(
            'must be a number of branches, or a list of texts such as ["What causes {topic}?"]'
        )
    count = value if isinstance(value, int) else len(value)
    if not 1 <= count <= _MOST_BRANCHES:
        raise ValueError(f"must be 1 to {_MOST_BRANCHES} branches")
    if isinstance(value, int):
        return value
    for place, question in enumerate(value):
        if not isinstance(question, str) or not question.strip():
            raise SettingError("must be a text that is not blank", place, value=question)
        if problem := _QUESTION.objection(question, carry_reasoning=False):
            raise SettingError(problem, place, value=question)
    return tuple(value)


_QUESTION = PromptTemplate("", optional=("topic",))

SubQuestions = Annotated[
    Annotated[int, Field(ge=1, le=_MOST_BRANCHES)]
    | Annotated[tuple[str, ...], Field(min_length=1, max_length=_MOST_BRANCHES)],
    BeforeValidator(_number_or_questions),
]


class ResearchSection(WorkflowSection):
    """Decompose a topic, research its parts in parallel, and write a report.

    Example::

        [workflow]
        kind = "research"
        topics = ["ocean tides", "river deltas"]
        sub_questions = 4
        max_tokens = { decompose = 3000, research = 3000, synthesize = 4000 }
    """

    kind: Literal["research"] = "research"
    """The kind of workflow."""
    sub_questions: SubQuestions = 4
    """The branches of each workflow: calls that can run in parallel. Instead of their number, a
    list of texts, which can contain `{topic}`: the questions themselves. The call of `decompose` is
    still made and timed, but its text is not read.
    """
    on_branch_failure: Literal["synthesize-with-gaps", "fail-fast", "quorum"] = (
        "synthesize-with-gaps"
    )
    """`synthesize-with-gaps`: the report has gaps, and the workflow is degraded. `fail-fast`: the
    workflow fails. `quorum`: it ends as soon as enough branches are done.
    """
    quorum: Quorum | None = None
    """With `on_branch_failure = "quorum"`: the branches that are enough, as a number or as a
    fraction of `sub_questions`.
    """

    @model_validator(mode="after")
    def _quorum_is_possible(self) -> ResearchSection:
        wanted, had = self.quorum, self.branches
        problem = None
        if wanted is None:
            if self.on_branch_failure == "quorum":
                raise SettingError(
                    "requires workflow.quorum; add it, for example quorum = 0.8",
                    "on_branch_failure",
                    value="quorum",
                )
        elif self.on_branch_failure != "quorum":
            problem = 'has no effect; set workflow.on_branch_failure = "quorum"'
        elif isinstance(wanted, float) and not 0 < wanted <= 1:
            problem = (
                "a fraction must be greater than 0 and at most 1.0; for a number of branches, "
                "write a whole number"
            )
        elif isinstance(wanted, int) and not 1 <= wanted <= had:
            problem = (
                f"there are {had} branches (workflow.sub_questions); "
                f"write 1 to {had}, or a fraction such as 0.8"
            )
        if problem:
            raise SettingError(problem, "quorum", value=wanted)
        return self

    @property
    def branches(self) -> int:
        """The number of branches of each workflow."""
        given = self.sub_questions
        return given if isinstance(given, int) else len(given)

    def given_questions(self, topic: str) -> list[str] | None:
        """Return the sub-questions of the scenario about `topic`; None if the model has to ask."""
        given = self.sub_questions
        return None if isinstance(given, int) else [fill_fields(one, topic=topic) for one in given]

    @property
    def partial(self) -> Partial:
        """What to do when branches fail."""
        if self.quorum is not None:
            return quorum(self.branches, self.quorum)
        if self.on_branch_failure == "fail-fast":
            return fail_fast(self.branches)
        return SYNTHESIZE_WITH_GAPS


class ResearchKind:
    """The research workflow."""

    section = ResearchSection
    templates: Mapping[str, PromptTemplate] = TEMPLATES

    def phases(self, section: ResearchSection) -> tuple[PhaseInfo, ...]:
        """Return the three phases; the fan-out has the setting `research`."""
        is_read = isinstance(section.sub_questions, int)
        return (
            PhaseInfo(name="decompose", setting="decompose", json=is_read, operation="plan"),
            PhaseInfo(name="fan_out", setting="research", branch_span="sub_question"),
            PhaseInfo(name="synthesize", setting="synthesize"),
        )

    def layout(
        self, section: ResearchSection, prompts: Prompts, topic: str, most: Mapping[str, int]
    ) -> Layout:
        """Return the calls of a workflow.

        The output of the decomposition is read again: its questions once by all branches together
        and once by the report, its reasoning by each branch if it is carried. Of given questions,
        only the reasoning can be read.
        """
        count, planned, given = section.branches, most["decompose"], section.given_questions(topic)
        carried = section.carried(planned)
        asked = prompts.messages("decompose", topic=topic, count=str(count))
        repair = tokens_of(repair_messages(asked, "", "", count)) + planned
        questions = given or [""] * count
        read = [
            tokens_of(prompts.messages("research", topic=topic, question=question, notes=""))
            + (carried if given or branch else planned)
            for branch, question in enumerate(questions)
        ]
        findings = findings_text(tuple((question, "") for question in questions))
        report = tokens_of(prompts.messages("synthesize", topic=topic, findings=findings, notes=""))
        report += (carried if given else planned) + count * most["fan_out"]
        repairs = () if given else (PlannedCall("decompose", repair, repair=True),)
        parts = (
            PlannedCall("decompose", tokens_of(asked)),
            *repairs,
            InParallel(tuple(PlannedCall("fan_out", tokens) for tokens in read)),
            PlannedCall("synthesize", report),
        )
        return InSequence(parts)

    def program(self, context: WorkflowContext[ResearchSection]) -> Program[str]:
        """Run one workflow and return its report."""
        section, prompts, topic = context.section, context.prompts, context.topic
        questions, reasoning = yield from _decompose(context)
        carried = notes(carried_reasoning(reasoning, section.carry_tokens))
        found = yield from context.fan_out(
            "fan_out",
            [
                prompts.messages("research", topic=topic, question=question, notes=carried)
                for question in questions
            ],
            section.partial,
        )
        answers = [one.answer if one.outcome == OK else None for one in found]
        findings = findings_text(tuple(zip(questions, answers, strict=True)))
        written = yield from context.call(
            "synthesize",
            prompts.messages("synthesize", topic=topic, findings=findings, notes=carried),
        )
        return written.answer


RESEARCH: WorkflowKind[ResearchSection] = ResearchKind()


def _decompose(context: WorkflowContext[ResearchSection]) -> Program[tuple[list[str], str]]:
    """Return the sub-questions and the reasoning; ask for one repair of an unusable answer.

    Given questions are returned as they are: whatever the answer says, it is not read.
    """
    count, given = context.section.branches, context.section.given_questions(context.topic)
    asked = context.prompts.messages("decompose", topic=context.topic, count=str(count))
    reply = yield from context.ask("decompose", asked, context.at)
    if given is not None and reply.outcome in _ANSWERED:
        yield from context.ended("decompose", "ok")
        return given, reply.reasoning
    error, questions = _read(reply, count)
    if error is not None and reply.outcome in _ANSWERED:
        asked = repair_messages(asked, reply.answer, error, count)
        reply = yield from context.ask("decompose", asked, reply.done)
        error, questions = _read(reply, count)
        if error is not None and reply.outcome in _ANSWERED:
            error = f"decompose: after one repair {error}"
    yield from context.ended("decompose", "failed" if error else "ok")
    if error is not None:
        raise WorkflowFailedError(error)
    return questions, reply.reasoning


@lru_cache(maxsize=256)
def _questions(answer: str, count: int) -> tuple[str, ...]:
    # In virtual time the same answers come in each cell: the cache saves 3 us a call.
    return tuple(parse_sub_questions(answer, count))


def _read(completion: Completion, count: int) -> tuple[str | None, list[str]]:
    """Return the error in an answer or None, and its sub-questions."""
    if completion.outcome == "empty_answer":
        return "the answer was blank", []
    if completion.outcome != OK:
        return failure_text("decompose", completion), []
    try:
        return None, list(_questions(completion.answer, count))
    except DecompositionError as error:
        return str(error), []
