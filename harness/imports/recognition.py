"""Recognises the format of a recorded file from its content."""

from __future__ import annotations

from typing import Any

import msgspec

from harness.imports.azure_csv import AZURE_COLUMNS, recording_of_azure
from harness.imports.langfuse_json import observations_in, recording_of_langfuse
from harness.imports.otlp_json import recording_of_otlp
from harness.imports.recorded import Recording, UnreadableRecordError

_UNKNOWN = (
    "is no file that can be imported; give OTLP JSON with spans of model calls, an export of "
    "Langfuse (JSON) or the Azure LLM inference trace (CSV)"
)


def recording_of(data: bytes) -> Recording:
    """Return the calls in the content of a file. Raises UnreadableRecordError."""
    try:
        text = data.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise UnreadableRecordError(f"{_UNKNOWN} (it is not UTF-8 text)") from None
    if not text:
        raise UnreadableRecordError("is empty; give a file with recorded calls")
    if [part.strip() for part in text.partition("\n")[0].split(",")] == AZURE_COLUMNS:
        return recording_of_azure(text)
    if text[0] not in "{[":
        raise UnreadableRecordError(_UNKNOWN)
    documents = _documents(text)
    spans = [one for one in documents if isinstance(one, dict) and "resourceSpans" in one]
    if spans:
        return recording_of_otlp(spans)
    observations = observations_in(documents)
    if observations:
        return recording_of_langfuse(observations)
    raise UnreadableRecordError(_UNKNOWN)


def _documents(text: str) -> list[Any]:
    try:
        return [msgspec.json.decode(text)]
    except (msgspec.DecodeError, RecursionError):
        pass
    documents = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            documents.append(msgspec.json.decode(line))
        except (msgspec.DecodeError, RecursionError):
            raise UnreadableRecordError(
                f"line {number}: is not valid JSON; give one document, or one in each line"
            ) from None
    return documents
