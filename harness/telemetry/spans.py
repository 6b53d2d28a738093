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
from collections.abc import Iterable

from harness.records import ids
from harness.records.keys import CallKey, WorkflowKey, workflow_key
from harness.records.schema import Attempt, Call, Run, Transcript, Trial, Workflow
from harness.telemetry import attributes, semconv
from harness.telemetry.attributes import Attributes
from harness.telemetry.content import Capture
from harness.telemetry.span import Span
from harness.telemetry.workflow_trace import WorkflowTrace


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
            trace = WorkflowTrace(self, workflow, said)
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
