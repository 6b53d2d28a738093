"""What the conventions ask of the spans that the harness makes, as their tables say it.

Inference and workflow: semantic-conventions-genai, docs/gen-ai/gen-ai-spans.md and
gen-ai-agent-spans.md (status Development). HTTP client: semantic conventions 1.41.1,
docs/http/http-spans.md (Stable).
"""

from __future__ import annotations

from typing import NamedTuple

STRINGS = list
"""An array of strings, as the test's reader of protobuf gives it."""


class Asked(NamedTuple):
    """One row: the requirement level and the type of the value; why it is absent, where it is."""

    level: str
    kind: type
    absent: str = ""


INFERENCE = {
    "gen_ai.operation.name": Asked("required", str),
    "gen_ai.provider.name": Asked("required", str),
    "error.type": Asked("if failed", str),
    "gen_ai.conversation.id": Asked("if any", str, "the calls of a workflow are no conversation"),
    "gen_ai.output.type": Asked("if asked", str),
    "gen_ai.request.choice.count": Asked("if asked", int, "one choice is asked for"),
    "gen_ai.request.model": Asked("if any", str),
    "gen_ai.request.seed": Asked("if asked", int),
    "gen_ai.request.stream": Asked("if true", bool),
    "gen_ai.request.top_k": Asked("if asked", float),
    "server.port": Asked("if server.address", int),
    "gen_ai.request.frequency_penalty": Asked("recommended", float),
    "gen_ai.request.max_tokens": Asked("recommended", int),
    "gen_ai.request.presence_penalty": Asked("recommended", float),
    "gen_ai.request.stop_sequences": Asked("recommended", STRINGS),
    "gen_ai.request.temperature": Asked("recommended", float),
    "gen_ai.request.top_p": Asked("recommended", float),
    "gen_ai.response.finish_reasons": Asked("recommended", STRINGS),
    "gen_ai.response.id": Asked("recommended", str),
    "gen_ai.response.model": Asked("recommended", str),
    "gen_ai.response.time_to_first_chunk": Asked("recommended", float),
    "gen_ai.usage.cache_creation.input_tokens": Asked(
        "recommended", int, "no OpenAI-compatible endpoint reports it"
    ),
    "gen_ai.usage.cache_read.input_tokens": Asked("recommended", int),
    "gen_ai.usage.input_tokens": Asked("recommended", int),
    "gen_ai.usage.output_tokens": Asked("recommended", int),
    "gen_ai.usage.reasoning.output_tokens": Asked("recommended", int),
    "server.address": Asked("recommended", str),
}
"""Span kind CLIENT, name `{gen_ai.operation.name} {gen_ai.request.model}`."""

WORKFLOW = {
    "gen_ai.operation.name": Asked("required", str),
    "gen_ai.workflow.name": Asked("if any", str),
    "error.type": Asked("if failed", str),
}
"""Span kind INTERNAL, name `invoke_workflow {gen_ai.workflow.name}`."""

HTTP_CLIENT = {
    "http.request.method": Asked("required", str),
    "server.address": Asked("required", str),
    "server.port": Asked("required", int),
    "url.full": Asked("required", str),
    "error.type": Asked("if failed", str),
    "http.response.status_code": Asked("if any", int),
    "http.request.resend_count": Asked("recommended", int),
}
"""Span kind CLIENT. Ours is called `attempt` and not by its method, because people look for it."""
