"""Reads exports of Langfuse: observations, alone or within traces, as JSON or JSON lines."""

from __future__ import annotations

import datetime
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.imports.recorded import (
    RecordedCall,
    RecordedTrace,
    Recording,
    UnreadableRecordError,
)


def observations_in(documents: Sequence[Any]) -> list[Mapping[str, Any]]:
    """Return the observations in JSON documents; empty if these are no export of Langfuse."""
    return [one for document in documents for one in _observations(document, None)]


def _observations(value: Any, trace: str | None) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, list):
        for one in value:
            yield from _observations(one, trace)
    elif isinstance(value, Mapping):
        if isinstance(value.get("observations"), list):
            inner = value.get("trace")
            around = inner if isinstance(inner, Mapping) else value
            yield from _observations(value["observations"], str(around.get("id", trace)))
        elif isinstance(value.get("data"), list):
            yield from _observations(value["data"], trace)
        elif "type" in value and ("startTime" in value or "start_time" in value):
            yield value if trace is None else {"traceId": trace, **value}


def recording_of_langfuse(observations: Sequence[Mapping[str, Any]]) -> Recording:
    """Return the calls among observations. Raises UnreadableRecordError."""
    left = Counter[str]()
    by_trace: dict[str, dict[str, Mapping[str, Any]]] = defaultdict(dict)
    for one in observations:
        trace = _field(one, "traceId", "trace_id")
        if trace is None or one.get("id") is None:
            raise UnreadableRecordError("an observation has no id or no trace id; export it again")
        by_trace[str(trace)][str(one["id"])] = one
    traces = []
    for name, mine in by_trace.items():
        calls = []
        for one in mine.values():
            if str(one["type"]).upper() != "GENERATION":
                continue
            if _field(one, "endTime", "end_time") is None:
                left["calls without an end"] += 1
                continue
            groups = _around(one, mine)
            read, written, cached, reasoning = _usage(one)
            calls.append(
                RecordedCall(
                    id=str(one["id"]), start=_time(one, "startTime", "start_time"),
                    end=_time(one, "endTime", "end_time"), input=read, output=written,
                    cached=cached, reasoning=reasoning, label=str(one.get("name") or ""),
                    groups=tuple(str(each["id"]) for each in groups),
                    group_names=tuple(str(each.get("name") or "") for each in groups),
                    ok=one.get("level") != "ERROR",
                    prompt=_as_text(one.get("input")), answer=_as_text(one.get("output")),
                )
            )  # fmt: skip
        if not calls:
            continue
        calls.sort(key=lambda call: (call.start, call.end, call.id))
        begin = min(_time(one, "startTime", "start_time") for one in mine.values())
        begin = min(begin, calls[0].start)
        traces.append(RecordedTrace(name, begin, begin, tuple(calls)))
    if not traces:
        raise UnreadableRecordError(
            "has no observation of type GENERATION with an end; export the observations too"
        )
    traces.sort(key=lambda trace: trace.arrival)
    return Recording("Langfuse export", tuple(traces), (), left)


def _around(
    one: Mapping[str, Any], mine: Mapping[str, Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = []
    while True:
        parent = mine.get(str(_field(one, "parentObservationId", "parent_observation_id")))
        if parent is None or parent in found:
            return [each for each in found[::-1] if _has_parent(each, mine)]
        found.append(parent)
        one = parent


def _has_parent(one: Mapping[str, Any], mine: Mapping[str, Mapping[str, Any]]) -> bool:
    return str(_field(one, "parentObservationId", "parent_observation_id")) in mine


def _field(one: Mapping[str, Any], *names: str) -> Any:
    return next((one[name] for name in names if one.get(name) is not None), None)


def _time(one: Mapping[str, Any], *names: str) -> int:
    text = _field(one, *names)
    try:
        moment = datetime.datetime.fromisoformat(str(text).replace(" ", "T"))
    except ValueError:
        raise UnreadableRecordError(f"{names[0]} = {str(text)[:40]!r} is no time") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    since = moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    return (since.days * 86400 + since.seconds) * 10**9 + since.microseconds * 1000


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)


def _usage(one: Mapping[str, Any]) -> tuple[int | None, int | None, int | None, int | None]:
    """Return the tokens of input, output, cache and reasoning.

    The kinds of usage do not overlap, unless the total shows that they do.
    """
    details = _field(one, "usageDetails", "usage_details", "usage") or {}
    if isinstance(details, str):
        details = json.loads(details)
    known = {str(k): int(v) for k, v in details.items() if isinstance(v, int | float) and v >= 0}
    if "promptTokens" in known or "promptTokens" in one:
        read = known.get("promptTokens", one.get("promptTokens"))
        return read, known.get("completionTokens", one.get("completionTokens")), None, None

    def total(word: str) -> int | None:
        values = [
            value
            for key, value in known.items()
            if word in key.lower() and "cost" not in key.lower()
        ]
        return sum(values) if values else None

    cached = sum(
        v for k, v in known.items() if "cache" in k and "creation" not in k and "write" not in k
    )
    reasoning = sum(v for k, v in known.items() if "reasoning" in k)
    read, written = total("input"), total("output")
    plain = known.get("input", 0) + known.get("output", 0)
    if known.get("total") == plain and "input" in known and "output" in known:
        read, written = known["input"], known["output"]
    return read, written, cached or None, reasoning or None
