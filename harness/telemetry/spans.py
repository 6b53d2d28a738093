"""Makes spans from records. The same records always give the same spans.

One trace for each workflow:

    invoke_workflow {kind}                        link to the trial's span in the run trace
      phase > call
      phase of a fan-out > branch > call
    call > permit_wait, chat {model}
    chat {model} > attempt, backoff, permit_wait, attempt ...

and one small run trace: harness.run > harness.cell > harness.trial. Spans have the times of their
records. In every list, parents come before their children. A wait has a span even if it was close
to zero. A call that holds its permit during backoff waits for it only once, so its later attempts
have no permit wait; a hedge has one, because it needs a second permit. A call that is parked by a
breaker has a backoff span for it, before `chat` if nothing has been sent yet.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from operator import itemgetter

from harness.analysis.call_segments import CallSegment, of_pauses
from harness.analysis.phase_tree import Lane, PhaseNode, tree_of
from harness.records import ids
from harness.records.failures import OK
from harness.records.groups import WorkflowGroups, WorkflowRecords, decisive_attempt
from harness.records.keys import WARM_UP, CallKey, display_key, workflow_key
from harness.records.schema import (
    Attempt,
    Branches,
    Call,
    Phase,
    Run,
    Transcript,
    Trial,
    Workflow,
    WorkflowOutcome,
)
from harness.telemetry import attributes, semconv
from harness.telemetry.attributes import Attributes
from harness.telemetry.content import Capture, as_text, messages
from harness.telemetry.span import NO_ATTRIBUTES, Event, Span, SpanLink, SpanRole


class TraceMaker:
    """Makes the spans of one run. `content`: where prompts and answers go, None for nowhere."""

    def __init__(self, run: Run, content: Capture | None = None) -> None:
        self.run = run
        self.content = content
        self.cells = {cell.id: cell for cell in run.cells}
        self.run_trace = ids.trace_id(run.run_id, "run")
        self.endpoints = {cell.id: attributes.endpoint_attributes(run, cell) for cell in run.cells}

    def of_run(self, trials: Iterable[Trial]) -> list[Span]:
        """Return the run trace: the run, its cells and the trials that have ended."""
        by_cell: dict[str, list[Trial]] = defaultdict(list)
        for trial in trials:
            by_cell[trial.cell].append(trial)
        if not by_cell:
            return []
        every = [trial for cell_trials in by_cell.values() for trial in cell_trials]
        root = self._run_span(semconv.RUN_SPAN, None, every, attributes.run_attributes(self.run))
        spans = [root]
        for name, cell_trials in by_cell.items():
            shared = attributes.cell_attributes(self.run, self.cells[name])
            titled = shared | {semconv.TITLE: name}
            cell = self._run_span(semconv.CELL_SPAN, root, cell_trials, titled, name)
            spans.append(cell)
            for trial in cell_trials:
                key = (name, trial.repeat, trial.execution)
                carried = shared | attributes.trial_attributes(trial)
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
            attributes=carried | {semconv.OPENINFERENCE_KIND: "CHAIN"},
        )

    def of_workflows(
        self,
        workflows: Iterable[Workflow],
        calls: Iterable[Call],
        attempts: Iterable[Attempt],
        transcripts: Iterable[Transcript] = (),
    ) -> list[Span]:
        """Return the traces of `workflows` and of warm-ups; other records are ignored."""
        return list(chain.from_iterable(self.traces(workflows, calls, attempts, transcripts)))

    def traces(
        self,
        workflows: Iterable[Workflow],
        calls: Iterable[Call],
        attempts: Iterable[Attempt],
        transcripts: Iterable[Transcript] = (),
    ) -> Iterator[list[Span]]:
        """Yield the trace of each of `workflows` and of each warm-up, made when it is wanted."""
        said = {
            CallKey(*workflow_key(one), one.phase, one.branch, one.call): one for one in transcripts
        }
        groups = WorkflowGroups(calls, attempts)
        for workflow in chain(workflows, _warm_ups(groups)):
            trace = _WorkflowTrace(self, workflow, groups.of(workflow), said)
            trace.add_workflow()
            yield trace.spans

    def unix(self, time: int) -> int:
        """Return a record's time in nanoseconds since the Unix epoch."""
        return self.run.anchor.unix_ns + time


def _warm_ups(groups: WorkflowGroups) -> Iterator[Workflow]:
    """Yield a workflow for the calls before each trial, which have no record of one."""
    for key, its in list(groups.items()):
        calls = [call for call in its.calls if call.phase == WARM_UP]
        if not calls:
            continue
        ready, done = min(call.ready for call in calls), max(call.done for call in calls)
        good = sum(call.outcome == OK for call in calls)
        outcome: WorkflowOutcome = "ok" if good == len(calls) else "degraded" if good else "failed"
        yield Workflow(
            **key._asdict(), topic="", ready=ready, started=ready, done=done, outcome=outcome,
            phases=(Phase(name=WARM_UP, start=ready, end=done, outcome=outcome),),
            branches=Branches(total=0, ok=0),
        )  # fmt: skip


class _WorkflowTrace:
    """Collects the spans of one workflow. `said`: also the transcripts of other workflows."""

    def __init__(
        self,
        maker: TraceMaker,
        workflow: Workflow,
        its: WorkflowRecords,
        said: Mapping[CallKey, Transcript],
    ) -> None:
        self.maker = maker
        self.calls = its.calls
        self.tried = {call.call_key: attempts for call, attempts in its.tried()}
        self.said = said
        self.run = maker.run
        self.workflow = workflow
        self.cell = maker.cells[workflow.cell]
        self.endpoint = maker.endpoints[workflow.cell]
        self.trace_id = ids.workflow_trace(self.run.run_id, workflow)
        self.spans: list[Span] = []
        self.shared = attributes.workflow_key_attributes(self.run, self.cell, workflow)

    def add_workflow(self) -> None:
        record = self.workflow
        trial = ids.span_id(
            self.run.run_id, semconv.TRIAL_SPAN, record.cell, record.repeat, record.execution
        )
        is_warm_up = any(phase.name == WARM_UP for phase in record.phases)
        name = WARM_UP if is_warm_up else attributes.workflow_name(self.run)
        root = self._add(
            f"{semconv.INVOKE_WORKFLOW} {name}",
            None,
            (record.ready, record.done),
            ("workflow",),
            attributes.workflow_attributes(self.run.run_id, record, name),
            outcome=record.outcome,
            error=_error(record.outcome, record.error),
            links=(SpanLink(self.maker.run_trace, trial),),
            title=display_key(record),
        )
        if self.run.is_open_loop(self.cell):  # a closed loop has no queue
            self._add(semconv.QUEUE_SPAN, root, (record.ready, record.started), ("queue",))
        self._add_inside(root, tree_of(record, self.calls))

    def _add_inside(self, parent: Span, node: PhaseNode) -> None:
        # Calls of a phase in a branch may carry the number of that branch.
        around = None if node.phase is None else node.phase.branch
        outside: list[Lane] = []
        of_branch: dict[int, list[Lane]] = {}
        for lane in chain.from_iterable(node.stages):
            if lane.branch is None or lane.branch == around:
                outside.append(lane)
            else:
                of_branch.setdefault(lane.branch, []).append(lane)
        self._add_lanes(parent, outside)
        for branch, lanes in sorted(of_branch.items()):
            span = self._add(
                attributes.branch_name(self.run, node.name),
                parent,
                (min(lane.start for lane in lanes), max(lane.end for lane in lanes)),
                ("sub_question", node.name, branch, *_if_repeated(node.number)),
                attributes.branch_attributes(node.name, branch),
                outcome=lanes[-1].outcome,
                title=f"branch {branch + 1}",
            )
            self._add_lanes(span, lanes)

    def _add_lanes(self, parent: Span, lanes: Sequence[Lane]) -> None:
        for item in (item for lane in lanes for item in lane.items):
            if isinstance(item, Call):
                self._add_call(parent, item)
            elif item.phase is not None:
                span = self._add(
                    f"phase {item.phase.name}",
                    parent,
                    (item.phase.start, item.phase.end),
                    ("phase", item.phase.name, *_if_repeated(item.number)),
                    attributes.phase_attributes(self.run, item.phase.name),
                    outcome=item.phase.outcome,
                    title=f"{item.phase.name} {item.number}",
                )
                self._add_inside(span, item)

    def _add_call(self, parent: Span, call: Call) -> None:
        tried = self.tried[call.call_key]
        pauses = list(enumerate(of_pauses(call, tried), 1))
        begin = tried[0].permit_granted if tried else call.done
        span = self._add(
            semconv.CALL_SPAN, parent, (call.ready, call.done), ("call",),
            {semconv.CALL_ATTEMPTS: call.attempts}, call=call, outcome=call.outcome,
            links=_link_to(call.traceparent),
        )  # fmt: skip
        for number, pause in pauses:
            if pause.start < begin:
                self._add_pause(span, call, number, pause)
        if not tried:
            return
        self._add_permit_wait(span, tried[0], 1)
        decisive = decisive_attempt(call, tried)
        about = self.endpoint.chat_in(call.phase) | attributes.chat_attributes(call, decisive)
        on_span, on_event = self._content(call, about | attributes.error_attributes(call.outcome))
        chat = self._add(
            f"{semconv.CHAT} {attributes.model(self.run, self.cell)}",
            span,
            (begin, call.done),
            ("chat",),
            about | on_span,
            call=call,
            outcome=call.outcome,
            kind="client",
            events=on_event,
        )
        steps: list[tuple[int, Attempt | tuple[int, CallSegment]]] = [
            *((attempt.permit_requested, attempt) for attempt in tried),
            *((pause.start, (number, pause)) for number, pause in pauses if pause.start >= begin),
        ]
        for _, step in sorted(steps, key=itemgetter(0)):
            if isinstance(step, Attempt):
                has_wait = step.hedge or self.cell.permit_scope != "call"
                if has_wait and step is not tried[0]:
                    self._add_permit_wait(chat, step, step.attempt)
                self._add_attempt(chat, step)
            else:
                self._add_pause(chat, call, *step)

    def _content(self, call: Call, about: Attributes) -> tuple[Attributes, tuple[Event, ...]]:
        """Return the prompt and answer of a call as span attributes and as an event at its end.

        `about`: what the event says of the call beside its content.
        """
        wanted, said = self.maker.content, self.said.get(call.call_key)
        if wanted is None or said is None:
            return NO_ATTRIBUTES, ()
        content = messages(said, wanted.limit)
        shared = {key: value for key, value in about.items() if not key.startswith("harness.")}
        event = Event(semconv.CONTENT_EVENT, self.maker.unix(call.done), shared | content)
        on_span = as_text(content) if wanted.on_span else NO_ATTRIBUTES
        return on_span, (event,) if wanted.on_event else ()

    def _add_permit_wait(self, parent: Span, attempt: Attempt, number: int) -> None:
        self._add(
            semconv.PERMIT_WAIT_SPAN,
            parent,
            (attempt.permit_requested, attempt.permit_granted),
            ("permit_wait", number),
            {semconv.ATTEMPT: number},
            call=attempt,
            title=f"before attempt {number}",
        )

    def _add_pause(self, parent: Span, call: Call, number: int, pause: CallSegment) -> None:
        """Add a backoff, or a wait for a permit without an attempt."""
        times = (pause.start, pause.end)
        carried: Attributes = {}
        title = "before attempt 1"
        if pause.attempt is not None:
            carried[semconv.ATTEMPT] = pause.attempt
            title = f"after attempt {pause.attempt}"
        if pause.part == "backoff":
            record = next(one for one in call.backoffs if (one.start, one.end) == times)
            carried |= attributes.backoff_attributes(record)
            key = ("backoff", number)
            self._add(semconv.BACKOFF_SPAN, parent, times, key, carried, call=call, title=title)
            return
        gave_up = call.outcome if pause.end == call.done else OK
        self._add(
            semconv.PERMIT_WAIT_SPAN,
            parent,
            times,
            ("permit_wait", "in vain", number),
            carried | attributes.error_attributes(gave_up),
            call=call,
            title=title,
            error=_error(gave_up),
        )

    def _add_attempt(self, chat: Span, attempt: Attempt) -> None:
        moments = (
            (semconv.FIRST_REASONING_EVENT, attempt.first_reasoning),
            (semconv.FIRST_ANSWER_EVENT, attempt.first_answer),
        )
        self._add(
            semconv.ATTEMPT_SPAN,
            chat,
            (attempt.permit_granted, attempt.done),
            ("attempt", attempt.attempt),
            self.endpoint.server | self.endpoint.exchange | attributes.attempt_attributes(attempt),
            call=attempt,
            outcome=attempt.outcome,
            kind="client",
            title=f"attempt {attempt.attempt}",
            events=tuple(
                Event(name, self.maker.unix(time)) for name, time in moments if time is not None
            ),
        )

    def _add(
        self,
        name: str,
        parent: Span | None,
        times: tuple[int, int],
        key: tuple[object, ...],
        carried: Attributes = NO_ATTRIBUTES,
        *,
        call: Call | Attempt | None = None,
        outcome: str | None = None,
        error: str | None = None,
        kind: SpanRole = "internal",
        events: tuple[Event, ...] = (),
        links: tuple[SpanLink, ...] = (),
        title: str = "",
    ) -> Span:
        """Add one span. `key`: its kind, and its key within the workflow or the call.

        `title`: what tells it from spans of the same name; that of `call` comes before it.
        """
        own = self.shared
        if call is not None:
            own = own | attributes.call_key_attributes(call)
            key = (key[0], *call.call_key[4:], *key[1:])
            title = ", ".join(filter(None, (attributes.call_title(call), title)))
        if outcome is not None:
            own = own | attributes.outcome_attributes(outcome)
            error = error or _error(outcome)
        span = Span(
            name=name,
            trace_id=self.trace_id,
            span_id=ids.span_id(self.run.run_id, key[0], *workflow_key(self.workflow), *key[1:]),
            parent_id=parent.span_id if parent else None,
            start=self.maker.unix(times[0]),
            end=self.maker.unix(times[1]),
            attributes=own
            | {semconv.OPENINFERENCE_KIND: semconv.OPENINFERENCE_KINDS.get(str(key[0]), "CHAIN")}
            | attributes.title_attributes(title, outcome)
            | carried,
            kind=kind,
            events=events,
            links=links,
            error=error,
        )
        self.spans.append(span)
        return span


def _if_repeated(number: int) -> tuple[int, ...]:
    """Return what tells the spans of a later occurrence of a phase from those of the first."""
    return (number,) if number > 1 else ()


def _link_to(traceparent: str | None) -> tuple[SpanLink, ...]:
    """Return the link to the span of the program that has sent a request."""
    found = None if traceparent is None else ids.ids_in(traceparent)
    return () if found is None else (SpanLink(*found),)


def root_span(run_id: str, record: Workflow) -> str:
    """Return the span id of a workflow's own span."""
    return ids.span_id(run_id, "workflow", *workflow_key(record))


def _error(outcome: str, detail: str | None = None) -> str | None:
    """Return the message of a span's ERROR status, or None; see `attributes.is_error`."""
    return (detail or outcome) if attributes.is_error(outcome) else None
