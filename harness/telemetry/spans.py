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
from collections.abc import Iterable, Mapping, Sequence

from harness.analysis.call_segments import CallSegment, of_pauses
from harness.analysis.phase_tree import Lane, PhaseNode, tree_of
from harness.analysis.selection import is_open_loop
from harness.records import ids
from harness.records.failures import OK
from harness.records.keys import CallKey, WorkflowKey, workflow_key
from harness.records.schema import Attempt, Call, CellInfo, Phase, Run, Transcript, Trial, Workflow
from harness.telemetry import attributes, semconv
from harness.telemetry.attributes import Attributes
from harness.telemetry.content import Capture, messages
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
            cell = self._run_span(semconv.CELL_SPAN, root, cell_trials, shared, name)
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
            attributes=carried,
        )

    def of_workflows(
        self,
        workflows: Iterable[Workflow],
        calls: Iterable[Call],
        attempts: Iterable[Attempt],
        transcripts: Iterable[Transcript] = (),
    ) -> list[Span]:
        """Return the traces of `workflows`; records of other workflows are ignored."""
        said = {call_key_of(transcript): transcript for transcript in transcripts}
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


def call_key_of(record: Transcript) -> CallKey:
    """Return the key of a transcript's call."""
    return CallKey(
        record.cell, record.repeat, record.workflow, record.execution,
        record.phase, record.branch, record.call,
    )  # fmt: skip


class _WorkflowTrace:
    """Collects the spans of one workflow."""

    def __init__(
        self, maker: TraceMaker, workflow: Workflow, said: Mapping[CallKey, Transcript]
    ) -> None:
        self.maker = maker
        self.said = said
        self.run_id = maker.run.run_id
        self.workflow = workflow
        self.cell: CellInfo = maker.cells[workflow.cell]
        self.endpoint = maker.endpoints[workflow.cell]
        self.trace_id = ids.workflow_trace(self.run_id, workflow)
        self.spans: list[Span] = []
        self.shared = attributes.workflow_key_attributes(maker.run, self.cell, workflow)

    def add_workflow(self, calls: Sequence[Call], attempts: dict[CallKey, list[Attempt]]) -> None:
        """Add every span. `attempts`: by call, also those of other workflows."""
        record = self.workflow
        trial = ids.span_id(
            self.run_id, semconv.TRIAL_SPAN, record.cell, record.repeat, record.execution
        )
        root = self._add(
            semconv.workflow_span(attributes.workflow_name(self.maker.run)),
            None,
            (record.ready, record.done),
            attributes.workflow_attributes(self.maker.run, record),
            ("workflow",),
            links=(SpanLink(self.maker.run_trace, trial),),
            error=_error(record.outcome, record.error),
        )
        if is_open_loop(self.maker.run, self.cell):  # a closed loop has no queue
            self._add(semconv.QUEUE_SPAN, root, (record.ready, record.started), {}, ("queue",))
        self._add_inside(root, tree_of(record, calls), attempts)

    def _add_inside(
        self, parent: Span, node: PhaseNode, attempts: dict[CallKey, list[Attempt]]
    ) -> None:
        """Add what ran within a phase or the workflow."""
        lanes = [lane for stage in node.stages for lane in stage]
        # Calls of a phase in a branch can have the number of that branch.
        around = None if node.phase is None else node.phase.branch
        phases = [
            (item, self._add_phase(parent, item.phase, item.number))
            for lane in lanes
            if lane.branch in (None, around)
            for item in lane.items
            if isinstance(item, PhaseNode) and item.phase is not None
        ]
        of_branch: dict[int, list[Lane]] = {}
        for lane in lanes:
            if lane.branch is not None and lane.branch != around:
                of_branch.setdefault(lane.branch, []).append(lane)
            else:
                self._add_calls(parent, lane, attempts)
        for branch, mine in sorted(of_branch.items()):
            span = self._add_branch(parent, node, branch, mine)
            for lane in mine:
                phases += [
                    (item, self._add_phase(span, item.phase, item.number))
                    for item in lane.items
                    if isinstance(item, PhaseNode) and item.phase is not None
                ]
                self._add_calls(span, lane, attempts)
        for item, span in phases:
            self._add_inside(span, item, attempts)

    def _add_calls(self, parent: Span, lane: Lane, attempts: dict[CallKey, list[Attempt]]) -> None:
        for item in lane.items:
            if isinstance(item, Call):
                tried = sorted(attempts[item.call_key], key=lambda attempt: attempt.attempt)
                self._add_call(parent, item, tried)

    def _add_phase(self, parent: Span, phase: Phase, number: int) -> Span:
        return self._add(
            semconv.phase_span(phase.name),
            parent,
            (phase.start, phase.end),
            {semconv.PHASE: phase.name} | attributes.outcome_attributes(phase.outcome),
            ("phase", phase.name, *_if_repeated(number)),
            error=_error(phase.outcome),
        )

    def _add_branch(
        self, parent: Span, node: PhaseNode, branch: int, lanes: Sequence[Lane]
    ) -> Span:
        """Add a branch: from its first call or phase to its last, with the outcome of the last."""
        outcome = lanes[-1].outcome
        return self._add(
            attributes.branch_name(self.maker.run, node.name),
            parent,
            (min(lane.start for lane in lanes), max(lane.end for lane in lanes)),
            attributes.branch_attributes(node.name, branch)
            | attributes.outcome_attributes(outcome),
            ("sub_question", node.name, branch, *_if_repeated(node.number)),
            error=_error(outcome),
        )

    def _add_call(self, parent: Span, call: Call, tried: Sequence[Attempt]) -> None:
        key = attributes.call_key_attributes(call)
        error = _error(call.outcome)
        span = self._add(
            semconv.CALL_SPAN,
            parent,
            (call.ready, call.done),
            key
            | attributes.outcome_attributes(call.outcome)
            | {semconv.CALL_ATTEMPTS: call.attempts},
            ("call", *call.call_key[4:]),
            error=error,
        )
        pauses = list(of_pauses(call, tried))
        begin = tried[0].permit_granted if tried else call.done
        for number, pause in enumerate(pauses, 1):
            if pause.start < begin:
                self._add_pause(span, call, number, pause)
        if not tried:
            return
        first = tried[0]
        self._add_permit_wait(span, call, 1, (first.permit_requested, first.permit_granted))
        decisive = _decisive(call, tried)
        on_span, on_event = self._content(call, decisive)
        chat = self._add(
            semconv.chat_span(attributes.model(self.maker.run, self.cell)),
            span,
            (begin, call.done),
            key
            | self.endpoint.chat_in(call.phase)
            | attributes.chat_attributes(call, decisive, self.endpoint.streamed)
            | on_span,
            ("chat", *call.call_key[4:]),
            kind="client",
            events=on_event,
            error=error,
        )
        steps: list[tuple[int, Attempt | tuple[int, CallSegment]]] = [
            (attempt.permit_requested, attempt) for attempt in tried
        ]
        steps += [(pause.start, (at, pause)) for at, pause in enumerate(pauses, 1)]
        for start, step in sorted(steps, key=lambda step: step[0]):
            if isinstance(step, Attempt):
                self._add_tried(chat, call, step, is_first=step is first)
            elif start >= begin:
                self._add_pause(chat, call, *step)

    def _add_tried(self, chat: Span, call: Call, attempt: Attempt, is_first: bool) -> None:
        if not is_first and (attempt.hedge or self.cell.permit_scope != "call"):
            wait = (attempt.permit_requested, attempt.permit_granted)
            self._add_permit_wait(chat, call, attempt.attempt, wait)
        self._add_attempt(chat, attempt)

    def _content(self, call: Call, last: Attempt) -> tuple[Attributes, tuple[Event, ...]]:
        """Return the prompt and answer of a call as span attributes and as an event at its end."""
        wanted, said = self.maker.content, self.said.get(call.call_key)
        if wanted is None or said is None:
            return NO_ATTRIBUTES, ()
        content = messages(said, last.finish_reason, wanted.limit)
        event = Event(semconv.CONTENT_EVENT, self.maker.unix(call.done), content)
        return content if wanted.on_span else NO_ATTRIBUTES, (event,) if wanted.on_event else ()

    def _add_permit_wait(
        self, parent: Span, call: Call, number: int, times: tuple[int, int]
    ) -> None:
        """Add the wait of attempt `number` for its permit."""
        self._add(
            semconv.PERMIT_WAIT_SPAN,
            parent,
            times,
            attributes.call_key_attributes(call) | {semconv.ATTEMPT: number},
            ("permit_wait", *call.call_key[4:], number),
        )

    def _add_pause(self, parent: Span, call: Call, number: int, pause: CallSegment) -> None:
        """Add a backoff, or a wait for a permit without an attempt."""
        carried = attributes.call_key_attributes(call)
        if pause.attempt is not None:
            carried |= {semconv.ATTEMPT: pause.attempt}
        if pause.part == "backoff":
            record = next(
                one for one in call.backoffs if (one.start, one.end) == (pause.start, pause.end)
            )
            carried |= attributes.backoff_attributes(record)
            self._add(
                semconv.BACKOFF_SPAN, parent, (pause.start, pause.end), carried,
                ("backoff", *call.call_key[4:], number),
            )  # fmt: skip
            return
        gave_up = call.outcome if pause.end == call.done else OK
        self._add(
            semconv.PERMIT_WAIT_SPAN,
            parent,
            (pause.start, pause.end),
            carried | attributes.error_attributes(gave_up),
            ("permit_wait", *call.call_key[4:], "in vain", number),
            error=_error(gave_up),
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
                | self.endpoint.server
                | self.endpoint.exchange
                | attributes.call_key_attributes(attempt)
                | attributes.attempt_attributes(attempt),
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
        kind: SpanRole = "internal",
        events: tuple[Event, ...] = (),
        links: tuple[SpanLink, ...] = (),
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


def _if_repeated(number: int) -> tuple[int, ...]:
    """Return a suffix of the span key, empty for the first occurrence of a phase."""
    return (number,) if number > 1 else ()


def _decisive(call: Call, tried: Sequence[Attempt]) -> Attempt:
    """Return the attempt that decided a call; of a hedged pair, this is not always the last."""
    ended = [attempt for attempt in tried if attempt.outcome == call.outcome]
    return max(ended or tried, key=lambda attempt: attempt.done)


def root_span(run_id: str, record: Workflow) -> str:
    """Return the span id of a workflow's own span."""
    return ids.span_id(run_id, "workflow", *workflow_key(record))


def _error(outcome: str, detail: str | None = None) -> str | None:
    """Return the message of a span's ERROR status, or None; see `attributes.is_error`."""
    return (detail or outcome) if attributes.is_error(outcome) else None
