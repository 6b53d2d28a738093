"""Log lines of a run, made from its records with standard logging; disabled by default.

While a trial is measured, only failed attempts are logged above the debug level; phases and
workflows follow with their own times. Lines have no topic, prompt, answer, key or server text.
"""

from __future__ import annotations

import json
import logging
import queue
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from logging.handlers import QueueHandler, QueueListener
from typing import Literal, TextIO

from harness.records import ids
from harness.records.clock import SECOND
from harness.records.failures import is_failure
from harness.records.schema import Attempt, Call, Record, Run, Workflow

LOGGER = logging.getLogger("harness.run")

Fields = dict[str, str | int | float]


class RunLog:
    """Logs the records of a run. `read_run` returns the run, after it has started."""

    def __init__(self, read_run: Callable[[], Run]) -> None:
        self._read_run = read_run

    @cached_property
    def _run(self) -> Run:
        return self._read_run()

    def record(self, record: Record) -> None:
        """Log an attempt or a call: a failed attempt as a warning, everything else as debug."""
        if isinstance(record, Attempt):
            level = logging.WARNING if is_failure(record.outcome) else logging.DEBUG
            if LOGGER.isEnabledFor(level):
                self._log(level, "attempt", record.done, _of_attempt(record, self._run))
        elif isinstance(record, Call) and LOGGER.isEnabledFor(logging.DEBUG):
            self._log(logging.DEBUG, "call", record.done, _of_call(record, self._run))

    def after_trial(self, workflows: Iterable[Workflow]) -> None:
        """Log the phases and workflows of a trial that has ended."""
        for workflow in workflows:
            key = _key(workflow, self._run)
            for phase in workflow.phases:
                level = logging.WARNING if phase.outcome == "failed" else logging.INFO
                took = (phase.end - phase.start) / SECOND
                said: Fields = {"phase": phase.name, "outcome": phase.outcome, "took_s": took}
                self._log(level, "phase", phase.end, key | said)
            level = logging.ERROR if workflow.outcome == "failed" else logging.INFO
            took = (workflow.done - workflow.ready) / SECOND
            branches = f"{workflow.branches.ok}/{workflow.branches.total}"
            said = {"outcome": workflow.outcome, "branches": branches, "took_s": took}
            self._log(level, "workflow", workflow.done, key | said)

    def _log(self, level: int, event: str, time: int, fields: Fields) -> None:
        unix = self._run.anchor.unix_ns + time
        LOGGER.log(level, event, extra={"unix_ns": unix, "fields": fields})


def _key(record: Workflow | Call | Attempt, run: Run) -> Fields:
    return {
        "cell": record.cell,
        "repeat": record.repeat,
        "workflow": record.workflow,
        "execution": record.execution,
        "trace_id": ids.workflow_trace(run.run_id, record),
        "simulated": run.simulated,
    }


def _of_call(call: Call | Attempt, run: Run) -> Fields:
    fields = _key(call, run) | {"phase": call.phase, "call": call.call, "outcome": call.outcome}
    if call.branch is not None:
        fields["branch"] = call.branch
    took = call.done - (call.permit_granted if isinstance(call, Attempt) else call.ready)
    return fields | {"took_s": took / SECOND}


def _of_attempt(attempt: Attempt, run: Run) -> Fields:
    fields = _of_call(attempt, run) | {
        "attempt": attempt.attempt,
        "span_id": ids.attempt_span(run.run_id, attempt),
    }
    if attempt.status is not None:
        fields["status"] = attempt.status
    decision = attempt.decision
    if decision is not None and decision.retry_in is not None:
        fields |= {"retry_in_s": decision.retry_in / SECOND, "source": decision.source or "policy"}
    elif decision is not None and decision.give_up is not None:
        fields["give_up"] = decision.give_up
    return fields


class _Formatter(logging.Formatter):
    """Formats a record as `time LEVEL event key=value …`, or as one JSON object."""

    def __init__(self, style: str) -> None:
        super().__init__()
        self._as_json = style == "json"

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(getattr(record, "unix_ns", 0) / SECOND, UTC)
        time = at.isoformat(timespec="microseconds").replace("+00:00", "Z")
        fields: Fields = getattr(record, "fields", {})
        if self._as_json:
            head = {"time": time, "level": record.levelname.lower(), "event": record.msg}
            return json.dumps(head | fields)
        said = " ".join(f"{name}={_plain(value)}" for name, value in fields.items())
        return f"{time} {record.levelname:<7} {record.msg} {said}"


def _plain(value: str | int | float) -> str:
    return f"{value:.6f}" if isinstance(value, float) else str(value)


class _Handler(QueueHandler):
    """Queues a record without formatting it: the thread that writes it formats it."""

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record


@contextmanager
def logging_to(
    stream: TextIO, level: str | None, style: Literal["text", "json"] = "text"
) -> Iterator[None]:
    """Return a context in which lines of `level` and above are written to `stream`; None: none."""
    if level is None:
        yield
        return
    writer = logging.StreamHandler(stream)
    writer.setFormatter(_Formatter(style))
    lines: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    handler, listener = _Handler(lines), QueueListener(lines, writer)
    before = LOGGER.level, LOGGER.propagate
    LOGGER.setLevel(level.upper())
    LOGGER.propagate = False
    LOGGER.addHandler(handler)
    listener.start()
    try:
        yield
    finally:
        listener.stop()
        LOGGER.removeHandler(handler)
        LOGGER.level, LOGGER.propagate = before
