"""Rewrites a run in schema 1, whose lines have every field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from harness.records.schema import Attempt, Call, Tokens, Trial, Workflow
from harness.store.run_directory import RUN_FILE, read_run, write_whole

FILES: dict[str, type[msgspec.Struct]] = {
    "attempts.jsonl": Attempt, "calls.jsonl": Call, "workflows.jsonl": Workflow,
    "trials.jsonl": Trial,
}  # fmt: skip


def write_in_schema_1(directory: Path) -> None:
    """Rewrite all records in `directory` with every field, and say so in run.json."""
    run = msgspec.structs.replace(read_run(directory), schema=1)
    write_whole(directory / RUN_FILE, run)
    for name, kind in FILES.items():
        path = directory / name
        records = msgspec.json.Decoder(kind).decode_lines(path.read_bytes())
        path.write_bytes(msgspec.json.Encoder().encode_lines(map(_whole, records)))


def _whole(record: msgspec.Struct) -> dict[str, Any]:
    fields = msgspec.structs.asdict(record)
    counts = {name: msgspec.structs.asdict(value) for name, value in fields.items()
              if isinstance(value, Tokens)}  # fmt: skip
    return fields | counts
