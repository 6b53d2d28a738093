"""Reads Azure's table of LLM inference: arrivals and lengths, one call a workflow.

https://github.com/Azure/AzurePublicDataset
"""

from __future__ import annotations

import csv
import datetime
import io

from harness.imports.recorded import (
    RecordedCall,
    RecordedTrace,
    Recording,
    UnreadableRecordError,
)

AZURE_COLUMNS = ["TIMESTAMP", "ContextTokens", "GeneratedTokens"]


def recording_of_azure(text: str) -> Recording:
    """Return the calls of a table. Raises UnreadableRecordError."""
    rows = csv.reader(io.StringIO(text))
    next(rows)
    traces = []
    for row in rows:
        if not row:
            continue
        try:
            stamp, read, written = row
            at = _nanoseconds(stamp)
            call = RecordedCall(str(rows.line_num), at, at, int(read), int(written))
        except ValueError:
            raise UnreadableRecordError(
                f"line {rows.line_num}: must be a time and two numbers of tokens; correct it"
            ) from None
        traces.append(RecordedTrace(call.id, at, at, (call,)))
    if not traces:
        raise UnreadableRecordError("has no row; give a table with at least one")
    traces.sort(key=lambda trace: trace.arrival)
    return Recording("Azure LLM inference trace", tuple(traces), has_times=False)


def _nanoseconds(stamp: str) -> int:
    whole, _, fraction = stamp.strip().partition(".")
    digits = fraction.partition("+")[0].removesuffix("Z")
    moment = datetime.datetime.fromisoformat(whole.removesuffix("Z")).replace(tzinfo=datetime.UTC)
    return int(moment.timestamp()) * 10**9 + int(f"{digits:0<9}"[:9] or 0)
