"""From records to spans: pure, the same spans each time.

One trace for each workflow:

    invoke_workflow research                      link to the trial's span in the run trace
      phase decompose > call
      phase fan_out > sub_question > call
      phase synthesize > call
    call > permit_wait, chat {model}
    chat {model} > attempt, backoff, permit_wait, attempt ...

and one small run trace: harness.run > harness.cell > harness.trial. A span's times are the
record's times. Parents stand before their children in every list. The spans of a wait exist also
when the wait was near zero; a call that holds its permit through backoff waits for it once only,
so its later attempts have none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec

from harness import ids
from harness.failures import OK
from harness.records import (
    Attempt,
    Call,
    CallKey,
    CellInfo,
    Phase,
    Run,
    Transcript,
    Trial,
    Workflow,
    WorkflowKey,
)
from harness.views.traces import attributes, semconv
from harness.views.traces.attributes import Attributes
from harness.views.traces.content import Capture, messages

Kind = Literal["internal", "client"]


NOTHING: Attributes = {}


class Event(NamedTuple):
    """A moment within a span: `time` in nanoseconds since the Unix epoch."""

    name: str
    time: int
    attributes: Attributes = NOTHING


class Link(NamedTuple):
    """A span of another trace, by its hexadecimal ids."""

    trace_id: str
    span_id: str


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """One span. Ids are hexadecimal, times nanoseconds since the Unix epoch.

    `error`: why the span's status is ERROR, None when it is not.
    """

    name: str
    trace_id: str
    span_id: str
    parent_id: str | None
    start: int
    end: int
    attributes: Attributes
    kind: Kind = "internal"
    events: tuple[Event, ...] = ()
    links: tuple[Link, ...] = ()
    error: str | None = None


class TraceMaker:
    """Makes the spans of one run; `content` says where prompts and answers go, None for nowhere."""

    def __init__(self, run: Run, content: Capture | None = None) -> None:
        self.run = run
        self.content = content
        self.cells = {cell.id: cell for cell in run.cells}
        self.run_trace = ids.trace_id(run.run_id, "run")
        self.endpoint = attributes.endpoint(run)

    def of_run(self, trials: Iterable[Trial]) -> list[Span]:
        """Return the run trace: the run, each cell and each trial that has ended."""
        by_cell: dict[str, list[Trial]] = defaultdict(list)
        for trial in trials:
            by_cell[trial.cell].append(trial)
        if not by_cell:
            return []
        every = [trial for cell_trials in by_cell.values() for trial in cell_trials]
        root = self._run_span(semconv.RUN_SPAN, None, every, attributes.run(self.run))
        spans = [root]
        for name, cell_trials in by_cell.items():
            shared = attributes.cell(self.run, self.cells[name])
            cell = self._run_span(semconv.CELL_SPAN, root, cell_trials, shared, name)
            spans.append(cell)
            for trial in cell_trials:
                key = (name, trial.repeat, trial.execution)
                carried = shared | attributes.trial(trial)
                spans.append(self._run_span(semconv.TRIAL_SPAN, cell, [trial], carried, *key))
        return spans

    def _run_span(
        self, name: str, parent: Span | None, trials: list[Trial], carried: Attributes, *key: object
    ) -> Span:
        return Span(
            name=name,
            trace_id=self.run_trace,
            span_id=ids.span_id(self.run.run_id, name, *key),
            parent_id=parent.span_id if parent else None,
            start=self.unix(min(trial.start for trial in trials)),
            end=self.unix(max(trial.end for trial in trials)),
            attributes=carried,
        )

    def of_workflows(
        self,
        workflows: Iterable[Workflow],
        calls: Iterable[Call],
        attempts: Iterable[Attempt],
        transcripts: Iterable[Transcript] = (),
    ) -> list[Span]:
        """Return the traces of `workflows`; records of other workflows are left out."""
        said = {call_key(transcript): transcript for transcript in transcripts}
        calls_of: dict[WorkflowKey, list[Call]] = defaultdict(list)
        for call in calls:
            calls_of[workflow_key(call)].append(call)
        attempts_of: dict[CallKey, list[Attempt]] = defaultdict(list)
        for attempt in attempts:
            attempts_of[attempt.call_key].append(attempt)
        spans: list[Span] = []
        for workflow in workflows:
            trace = _WorkflowTrace(self, workflow, said)
            trace.add_workflow(calls_of[workflow_key(workflow)], attempts_of)
            spans += trace.spans
        return spans

    def unix(self, time: int) -> int:
        """Return a record's time in nanoseconds since the Unix epoch."""
        return self.run.anchor.unix_ns + time


class _WorkflowTrace:
    """Gathers the spans of one workflow."""

    def __init__(
        self, maker: TraceMaker, workflow: Workflow, said: Mapping[CallKey, Transcript]
    ) -> None:
        self.maker = maker
        self.said = said
        self.run_id = maker.run.run_id
        self.workflow = workflow
        self.cell: CellInfo = maker.cells[workflow.cell]
        self.trace_id = ids.workflow_trace(self.run_id, workflow)
        self.spans: list[Span] = []
        self.shared = attributes.workflow_key(maker.run, self.cell, workflow)

    def add_workflow(self, calls: Sequence[Call], attempts: dict[CallKey, list[Attempt]]) -> None:
        record = self.workflow
        trial = ids.span_id(
            self.run_id, semconv.TRIAL_SPAN, record.cell, record.repeat, record.execution
        )
        root = self._add(
            semconv.workflow_span(attributes.workflow_name(self.maker.run)),
            None,
            (record.ready, record.done),
            attributes.workflow(self.maker.run, record),
            ("workflow",),
            links=(Link(self.maker.run_trace, trial),),
            error=_error(record.outcome, record.error),
        )
        phases = {phase.name: self._add_phase(root, phase) for phase in record.phases}
        branches: dict[tuple[str, int | None], list[Call]] = defaultdict(list)
        for call in calls:
            branches[call.phase, call.branch].append(call)
        for (phase, branch), made in branches.items():
            parent = phases.get(phase, root)
            if branch is not None:
                parent = self._add_sub_question(parent, made)
            for call in made:
                tried = sorted(attempts[call.call_key], key=lambda attempt: attempt.attempt)
                self._add_call(parent, call, tried)

    def _add_phase(self, root: Span, phase: Phase) -> Span:
        return self._add(
            semconv.phase_span(phase.name),
            root,
            (phase.start, phase.end),
            {semconv.PHASE: phase.name} | attributes.outcome(phase.outcome),
            ("phase", phase.name),
            error=_error(phase.outcome),
        )

    def _add_sub_question(self, parent: Span, calls: Sequence[Call]) -> Span:
        """A branch lasts from its first call to its last, whose outcome is its own."""
        last = max(calls, key=lambda call: call.call)
        return self._add(
            semconv.SUB_QUESTION_SPAN,
            parent,
            (min(call.ready for call in calls), max(call.done for call in calls)),
            attributes.branch(last) | attributes.outcome(last.outcome),
            ("sub_question", last.phase, last.branch),
            error=_error(last.outcome),
        )

    def _add_call(self, parent: Span, call: Call, tried: Sequence[Attempt]) -> None:
        key = attributes.call_key(call)
        error = _error(call.outcome)
        span = self._add(
            semconv.CALL_SPAN,
            parent,
            (call.ready, call.done),
            key | attributes.outcome(call.outcome) | {semconv.ATTEMPTS: call.attempts},
            ("call", *call.call_key[4:]),
            error=error,
        )
        if not tried:
            self._add_permit_wait(span, call, 1, (call.ready, call.done), call.outcome)
            return
        first = tried[0]
        self._add_permit_wait(span, call, 1, (first.permit_requested, first.permit_granted))
        on_span, on_event = self._content(call, tried[-1])
        chat = self._add(
            semconv.chat_span(attributes.model(self.maker.run)),
            span,
            (first.permit_granted, call.done),
            key
            | self.maker.endpoint.chat[call.phase]
            | attributes.chat(call, tried[-1], self.maker.endpoint.streamed)
            | on_span,
            ("chat", *call.call_key[4:]),
            kind="client",
            events=on_event,
            error=error,
        )
        self._add_attempts(chat, call, tried)

    def _content(self, call: Call, last: Attempt) -> tuple[Attributes, tuple[Event, ...]]:
        """Return what was said in a call as attributes of its span and as an event at its end."""
        wanted, said = self.maker.content, self.said.get(call.call_key)
        if wanted is None or said is None:
            return NOTHING, ()
        content = messages(said, last.finish_reason, wanted.limit)
        event = Event(semconv.CONTENT_EVENT, self.maker.unix(call.done), content)
        return content if wanted.on_span else NOTHING, (event,) if wanted.on_event else ()

    def _add_attempts(self, chat: Span, call: Call, tried: Sequence[Attempt]) -> None:
        holds = self.cell.permit_scope == "call"
        for number, attempt in enumerate(tried, 1):
            if number > 1 and not holds:
                wait = (attempt.permit_requested, attempt.permit_granted)
                self._add_permit_wait(chat, call, number, wait)
            self._add_attempt(chat, attempt)
            if number <= len(call.backoffs):
                self._add_backoff(chat, call, number)
        slept_last = len(call.backoffs) == len(tried)
        if slept_last and call.done > call.backoffs[-1].end:
            wait = (call.backoffs[-1].end, call.done)
            self._add_permit_wait(chat, call, len(tried) + 1, wait, call.outcome)

    def _add_permit_wait(
        self, parent: Span, call: Call, number: int, times: tuple[int, int], gave_up: str = OK
    ) -> None:
        """`gave_up` is the deadline that ended the wait before a permit came."""
        carried = attributes.call_key(call) | {semconv.ATTEMPT: number}
        self._add(
            semconv.PERMIT_WAIT_SPAN,
            parent,
            times,
            carried | attributes.error(gave_up),
            ("permit_wait", *call.call_key[4:], number),
            error=_error(gave_up),
        )

    def _add_backoff(self, chat: Span, call: Call, number: int) -> None:
        backoff = call.backoffs[number - 1]
        self._add(
            semconv.BACKOFF_SPAN,
            chat,
            (backoff.start, backoff.end),
            attributes.call_key(call) | {semconv.ATTEMPT: number} | attributes.backoff(backoff),
            ("backoff", *call.call_key[4:], number),
        )

    def _add_attempt(self, chat: Span, attempt: Attempt) -> None:
        self.spans.append(
            Span(
                name=semconv.ATTEMPT_SPAN,
                trace_id=self.trace_id,
                span_id=ids.attempt_span(self.run_id, attempt),
                parent_id=chat.span_id,
                start=self.maker.unix(attempt.permit_granted),
                end=self.maker.unix(attempt.done),
                attributes=self.shared
                | self.maker.endpoint.server
                | self.maker.endpoint.exchange
                | attributes.call_key(attempt)
                | attributes.attempt(attempt),
                kind="client",
                events=tuple(
                    Event(name, self.maker.unix(time))
                    for name, time in (
                        (semconv.FIRST_REASONING_EVENT, attempt.first_reasoning),
                        (semconv.FIRST_ANSWER_EVENT, attempt.first_answer),
                    )
                    if time is not None
                ),
                error=_error(attempt.outcome),
            )
        )

    def _add(
        self,
        name: str,
        parent: Span | None,
        times: tuple[int, int],
        carried: Attributes,
        key: tuple[object, ...],
        kind: Kind = "internal",
        events: tuple[Event, ...] = (),
        links: tuple[Link, ...] = (),
        error: str | None = None,
    ) -> Span:
        start, end = times
        span = Span(
            name=name,
            trace_id=self.trace_id,
            span_id=ids.span_id(self.run_id, key[0], *workflow_key(self.workflow), *key[1:]),
            parent_id=parent.span_id if parent else None,
            start=self.maker.unix(start),
            end=self.maker.unix(end),
            attributes=self.shared | carried,
            kind=kind,
            events=events,
            links=links,
            error=error,
        )
        self.spans.append(span)
        return span


def root_span(run_id: str, record: Workflow) -> str:
    """Return the id of a workflow's own span."""
    return ids.span_id(run_id, "workflow", *workflow_key(record))


def workflow_key(record: Workflow | Call | Attempt) -> WorkflowKey:
    """Return the execution of the workflow that a record belongs to."""
    return WorkflowKey(record.cell, record.repeat, record.workflow, record.execution)


def call_key(record: Transcript) -> CallKey:
    """Return the call that a transcript is of."""
    return CallKey(
        record.cell, record.repeat, record.workflow, record.execution,
        record.phase, record.branch, record.call,
    )  # fmt: skip


def _error(outcome: str, detail: str | None = None) -> str | None:
    """A degraded workflow has a report, so it is no error; its attributes say that it has gaps."""
    return None if outcome in (OK, "degraded") else detail or outcome
