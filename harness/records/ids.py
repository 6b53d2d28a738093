"""Trace and span ids, computed from the keys of records, so that each export gives the same ids.

An id is the leading bytes of SHA-256 over the run id and the logical key
(16 for a trace, 8 for a span: W3C Trace Context, https://www.w3.org/TR/trace-context/).
"""

from __future__ import annotations

import hashlib
import re
import uuid

from harness.records.keys import AttemptKey, NamesWorkflow
from harness.records.schema import Attempt

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}\Z")


def new_run_id() -> str:
    """Return a new unique run id: 32 hexadecimal digits."""
    return uuid.uuid4().hex


def trace_id(run_id: str, *key: object) -> str:
    """Return the trace id (32 hexadecimal digits) for `key`."""
    return _digest(run_id, "trace", key)[:32]


def span_id(run_id: str, *key: object) -> str:
    """Return the span id (16 hexadecimal digits) for `key`."""
    return _digest(run_id, "span", key)[:16]


def workflow_trace(run_id: str, record: NamesWorkflow) -> str:
    """Return the id of the trace of the workflow that `record` belongs to."""
    return trace_id(
        run_id, "workflow", record.cell, record.repeat, record.workflow, record.execution
    )


def attempt_span(run_id: str, record: AttemptKey | Attempt) -> str:
    """Return the span id of one attempt, which its `traceparent` header contains."""
    return span_id(
        run_id, "attempt", record.cell, record.repeat, record.workflow, record.execution,
        record.phase, record.branch, record.call, record.attempt,
    )  # fmt: skip


def traceparent(trace: str, span: str) -> str:
    """Return the W3C `traceparent` header of a sampled span."""
    return f"00-{trace}-{span}-01"


def ids_in(header: str) -> tuple[str, str] | None:
    """Return trace and span id of a W3C `traceparent` header; None for any other text."""
    match = _TRACEPARENT.match(header)
    return (match[1], match[2]) if match else None


def _digest(run_id: str, kind: str, key: tuple[object, ...]) -> str:
    text = "\x1f".join([run_id, kind, *["" if part is None else str(part) for part in key]])
    return hashlib.sha256(text.encode()).hexdigest()
