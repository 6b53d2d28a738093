"""Reads spans in OTLP JSON: GenAI conventions, OpenLLMetry, OpenInference, and those of a run.

One document, or one in each line as the file exporter of the OpenTelemetry Collector writes them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.imports.recorded import (
    RecordedCall,
    RecordedTrace,
    Recording,
    UnreadableRecordError,
)

_INPUT = (
    "gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.token_count.prompt",
    "llm.usage.prompt_tokens",
)  # fmt: skip
_OUTPUT = (
    "gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "llm.token_count.completion",
    "llm.usage.completion_tokens",
)  # fmt: skip
_CACHED = (
    "gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_read_input_tokens",
    "llm.token_count.prompt_details.cache_read",
)  # fmt: skip
_REASONING = (
    "gen_ai.usage.reasoning.output_tokens", "gen_ai.usage.reasoning_tokens",
    "llm.token_count.completion_details.reasoning",
)  # fmt: skip
_PROMPT = ("gen_ai.input.messages", "gen_ai.prompt", "input.value", "llm.prompts")
_ANSWER = ("gen_ai.output.messages", "gen_ai.completion", "output.value", "llm.completions")
_CALLS = ("chat", "text_completion", "generate_content", "completion")
_TRIAL = ("harness.run.id", "harness.cell", "harness.repeat")


@dataclass(frozen=True)
class _OtlpSpan:
    trace: str
    id: str
    parent: str
    name: str
    start: int
    end: int
    ok: bool
    values: Mapping[str, Any]
    scale: float


def recording_of_otlp(documents: Iterable[Any]) -> Recording:
    """Return the calls in OTLP documents. Raises UnreadableRecordError."""
    by_trace: dict[str, dict[str, _OtlpSpan]] = defaultdict(dict)
    for document in documents:
        for span in _spans(document):
            by_trace[span.trace][span.id] = span
    left = Counter[str]()
    found: list[tuple[tuple[str, ...], RecordedTrace]] = []
    for spans in by_trace.values():
        if one := _trace(spans, left):
            found.append(one)
    if not found:
        raise UnreadableRecordError(
            "has no span of a call to a model (gen_ai.*, llm.token_count.* or "
            "openinference.span.kind = LLM); export the spans of the model calls too"
        )
    found.sort(key=lambda pair: (pair[0], pair[1].arrival))
    first = found[0][0]
    traces = [trace for trial, trace in found if trial == first]
    others = [trace for trial, trace in found if trial != first]
    if others:
        left["workflows of other trials than the first, which show the structure alone"] = len(
            others
        )
    traces.sort(key=lambda trace: trace.arrival)
    return Recording("OTLP JSON", tuple(traces), tuple(others), left)


def _spans(document: Any) -> Iterator[_OtlpSpan]:
    try:
        for of_resource in document["resourceSpans"]:
            resource = _values(of_resource.get("resource", {}).get("attributes", ()))
            scale = float(resource.get("harness.time_scale") or 1.0)
            for of_scope in of_resource.get("scopeSpans", ()):
                for span in of_scope.get("spans", ()):
                    status = span.get("status", {}).get("code")
                    yield _OtlpSpan(
                        span["traceId"], span["spanId"], span.get("parentSpanId") or "",
                        str(span.get("name", "")),
                        _scaled(span["startTimeUnixNano"], scale),
                        _scaled(span["endTimeUnixNano"], scale),
                        status not in (2, "STATUS_CODE_ERROR"),
                        _values(span.get("attributes", ())), scale,
                    )  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"a field is missing or wrong: {error!r}"
        raise UnreadableRecordError(f"is no valid OTLP JSON ({what}); export it again") from None


def _scaled(nanoseconds: str, scale: float) -> int:
    """Return a time in scenario time."""
    return int(nanoseconds) if scale == 1 else round(int(nanoseconds) / scale)


def _values(attributes: Sequence[Any]) -> dict[str, Any]:
    return {one["key"]: _value(one.get("value", {})) for one in attributes}


def _value(value: Mapping[str, Any]) -> Any:
    for kind, inner in value.items():
        if kind == "intValue":
            return int(inner)
        if kind in ("stringValue", "boolValue", "doubleValue"):
            return inner
        return str(inner)
    return None


def _is_call(span: _OtlpSpan) -> bool:
    values = span.values
    kind = values.get("openinference.span.kind")
    if kind is not None:
        return bool(kind == "LLM")
    operation = values.get("gen_ai.operation.name") or values.get("llm.request.type")
    if operation is not None:
        return operation in _CALLS
    return any(key in values for key in (*_INPUT, *_OUTPUT)) and (
        "gen_ai.request.model" in values or "gen_ai.response.model" in values
    )


def _tokens(values: Mapping[str, Any], names: Iterable[str]) -> int | None:
    for name in names:
        value = values.get(name)
        if value is not None and str(value).isdigit():
            return int(value)
    return None


def _text(values: Mapping[str, Any], names: Iterable[str]) -> str:
    parts = [str(values[name]) for name in names if name in values]
    for name in names:
        parts += [
            str(values[key])
            for key in values
            if key.startswith(f"{name}.") and key.endswith(".content")
        ]
    return "\n".join(parts)


def _ancestors(span: _OtlpSpan, spans: Mapping[str, _OtlpSpan]) -> list[_OtlpSpan]:
    """Return the spans around one, outermost first."""
    found: list[_OtlpSpan] = []
    seen = {span.id}
    while (parent := spans.get(span.parent)) is not None and parent.id not in seen:
        seen.add(parent.id)
        found.append(parent)
        span = parent
    return found[::-1]


def _trace(
    spans: Mapping[str, _OtlpSpan], left: Counter[str]
) -> tuple[tuple[str, ...], RecordedTrace] | None:
    roots = [span for span in spans.values() if span.parent not in spans]
    if any(span.name == "invoke_workflow warm-up" for span in roots):
        left["calls before a trial"] += 1
        return None
    calls: list[RecordedCall] = []
    trial: tuple[str, ...] = ()
    for span in spans.values():
        if not _is_call(span):
            continue
        around = _ancestors(span, spans)
        if any(_is_call(one) for one in around):
            left["spans of calls within a call"] += 1
            continue
        trial = tuple(str(span.values.get(key, "")) for key in _TRIAL)
        timed = span
        if around and around[-1].name == "call" and "harness.run.id" in around[-1].values:
            timed = around.pop()  # from when the call was ready, permit wait included
        groups = [one for one in around if one.parent in spans]
        name = span.values.get("harness.phase") or span.values.get("gen_ai.agent.name") or span.name
        calls.append(
            RecordedCall(
                id=span.id, start=timed.start, end=timed.end,
                input=_tokens(span.values, _INPUT), output=_tokens(span.values, _OUTPUT),
                cached=_tokens(span.values, _CACHED), reasoning=_tokens(span.values, _REASONING),
                label=str(name), groups=tuple(one.id for one in groups),
                group_names=tuple(one.name for one in groups), ok=span.ok,
                prompt=_text(span.values, _PROMPT), answer=_text(span.values, _ANSWER),
            )
        )  # fmt: skip
    if not calls:
        return None
    calls.sort(key=lambda call: (call.start, call.end, call.id))
    first = calls[0].start
    arrival = min([first, *(root.start for root in roots)])
    queued = [span.end for span in spans.values() if span.name == "queue" and span.parent]
    begin = min(first, max([arrival, *queued]))
    return trial, RecordedTrace(next(iter(spans.values())).trace, arrival, begin, tuple(calls))
