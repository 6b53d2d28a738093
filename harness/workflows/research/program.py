"""The workflow: decompose a topic, research its parts side by side, synthesize a report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from harness.engine.attempt import CallTerms
from harness.engine.call import Completion, complete
from harness.engine.effects import Message, Program, Request, emit, fan_out, now
from harness.records.failures import CANCELLED, OK
from harness.records.keys import CallKey, WorkflowKey
from harness.records.schema import Branches, Phase, Workflow, WorkflowOutcome
from harness.workflows.partial_failure import SYNTHESIZE_WITH_GAPS, Partial
from harness.workflows.research import prompts
from harness.workflows.research.decomposition import DecompositionError, parse_sub_questions
from harness.workflows.research.prompts import Prompts

_ANSWERED = (OK, "empty_answer")
"""The model did answer, so another prompt may help where the answer cannot be used."""


class ResearchPlan(NamedTuple):
    """What the workflow does, the same for every workflow of a run.

    `max_*`: token limits of a call, None for none. `timeout`: nanoseconds for the whole workflow.
    `partial`: what to do when branches fail.
    """

    sub_questions: int
    carry_reasoning: bool
    max_decompose: int | None
    max_research: int | None
    max_synthesize: int | None
    json_mode: bool
    timeout: int | None
    prompts: Prompts = Prompts()
    partial: Partial = SYNTHESIZE_WITH_GAPS


class Report(NamedTuple):
    """What a workflow came to; `text` is empty unless a report could be written."""

    outcome: WorkflowOutcome
    text: str


class _Decomposed(NamedTuple):
    questions: list[str]
    reasoning: str
    error: str | None


class _Scope(NamedTuple):
    """What the phases of one workflow share."""

    terms: CallTerms
    plan: ResearchPlan
    key: WorkflowKey
    topic: str
    nonce: str
    end: int | None

    def ask(
        self, phase: str, branch: int | None, call: int, ready: int, request: Request
    ) -> Program[Completion]:
        key = CallKey(*self.key, phase, branch, call)
        return complete(self.terms, key, request, ready, self.end)


def research(
    terms: CallTerms, plan: ResearchPlan, key: WorkflowKey, topic: str, ready: int, nonce: str = ""
) -> Program[Report]:
    """Run one workflow and emit its record. Never raises: a failure is an outcome."""
    started = yield from now()
    end = None if plan.timeout is None else ready + plan.timeout
    scope = _Scope(terms, plan, key, topic, nonce, end)
    phases: list[Phase] = []
    branches = Branches(total=0, ok=0)
    text = ""

    decomposed = yield from _decompose(scope, started)
    at = yield from now()
    phases.append(_phase("decompose", started, at, "failed" if decomposed.error else "ok"))
    error = decomposed.error
    if error is None:
        reasoning = decomposed.reasoning if plan.carry_reasoning else ""
        findings = yield from _fan_out(scope, decomposed.questions, reasoning, at)
        after = yield from now()
        good = [finding for finding in findings if finding.outcome == OK]
        branches = Branches(total=len(findings), ok=len(good))
        phases.append(_phase("fan_out", at, after, _fan_out_outcome(branches, plan.partial)))
        if not plan.partial.suffices(branches.ok):
            error = _too_few(branches, plan.partial, findings)
        else:
            written = yield from _synthesize(
                scope, decomposed.questions, findings, reasoning, after
            )
            at = yield from now()
            succeeded = written.outcome == OK
            phases.append(_phase("synthesize", after, at, "ok" if succeeded else "failed"))
            text = written.answer
            error = None if succeeded else _failed("synthesize", written)

    outcome: WorkflowOutcome = "failed" if error else phases[1].outcome
    yield from emit(
        Workflow(
            **key._asdict(),
            topic=topic,
            ready=ready,
            started=started,
            done=phases[-1].end,
            outcome=outcome,
            phases=tuple(phases),
            branches=branches,
            error=error,
        )
    )
    return Report(outcome, text)


def _decompose(scope: _Scope, ready: int) -> Program[_Decomposed]:
    """Ask for sub-questions; when the answer cannot be used, once more with its error."""
    plan = scope.plan
    asked = prompts.decompose_messages(plan.prompts, scope.topic, plan.sub_questions, scope.nonce)
    first = yield from scope.ask("decompose", None, 1, ready, _json_request(asked, plan))
    error, questions = _read(first, plan.sub_questions)
    if questions or first.outcome not in _ANSWERED:
        return _Decomposed(questions, first.reasoning, error)
    assert error is not None, "no questions and no error"
    asked = prompts.repair_messages(asked, first.answer, error, plan.sub_questions)
    second = yield from scope.ask("decompose", None, 2, first.done, _json_request(asked, plan))
    error, questions = _read(second, plan.sub_questions)
    if error is not None and second.outcome in _ANSWERED:
        error = f"decompose: after one repair {error}"
    return _Decomposed(questions, second.reasoning, error)


def _json_request(messages: tuple[Message, ...], plan: ResearchPlan) -> Request:
    return Request(messages, plan.max_decompose, plan.json_mode)


def _read(completion: Completion, count: int) -> tuple[str | None, list[str]]:
    if completion.outcome == "empty_answer":
        return "the answer was blank", []
    if completion.outcome != OK:
        return _failed("decompose", completion), []
    try:
        return None, parse_sub_questions(completion.answer, count)
    except DecompositionError as error:
        return str(error), []


def _fan_out(
    scope: _Scope, questions: list[str], reasoning: str, ready: int
) -> Program[list[Completion]]:
    """Research every sub-question; a branch that failed, or was cancelled, leaves a gap."""
    plan = scope.plan
    calls = []
    for branch, question in enumerate(questions):
        asked = prompts.research_messages(
            plan.prompts, scope.topic, question, reasoning, scope.nonce
        )
        request = Request(asked, plan.max_research)
        calls.append(scope.ask("fan_out", branch, 1, ready, request))

    def enough(findings: Sequence[Completion | None]) -> bool:
        return plan.partial.is_enough([found and found.outcome == OK for found in findings])

    return (yield from fan_out(calls, enough))


def _synthesize(
    scope: _Scope,
    questions: list[str],
    findings: list[Completion],
    reasoning: str,
    ready: int,
) -> Program[Completion]:
    answers = [finding.answer if finding.outcome == OK else None for finding in findings]
    found = list(zip(questions, answers, strict=True))
    words = scope.plan.prompts
    asked = prompts.synthesize_messages(words, scope.topic, found, reasoning, scope.nonce)
    request = Request(asked, scope.plan.max_synthesize)
    return (yield from scope.ask("synthesize", None, 1, ready, request))


def _fan_out_outcome(branches: Branches, partial: Partial) -> WorkflowOutcome:
    if branches.ok == branches.total:
        return "ok"
    return "degraded" if partial.suffices(branches.ok) else "failed"


def _too_few(branches: Branches, partial: Partial, findings: list[Completion]) -> str:
    """Say why there can be no report: what the first branch to fail came to, and the quorum."""
    failed = [found for found in findings if found.outcome not in (OK, CANCELLED)]
    first = _failed("fan_out", min(failed, key=lambda found: found.done))
    if not partial.stops or partial.needed == branches.total:
        return first
    return f"{first}; {len(failed)} of {branches.total} failed, {partial.needed} had to succeed"


def _phase(name: str, start: int, end: int, outcome: WorkflowOutcome) -> Phase:
    return Phase(name=name, start=start, end=end, outcome=outcome)


def _failed(phase: str, completion: Completion) -> str:
    return f"{phase}: {completion.outcome}" + (
        f" ({completion.detail})" if completion.detail else ""
    )
