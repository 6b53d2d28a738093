"""What the conventions ask of the spans that the harness makes, in our own words.

GenAI (status Development): https://github.com/open-telemetry/semantic-conventions-genai, read on
27 November 2026. Inference and its event: docs/gen-ai/client-inference.md at commit
024a4f944a1291fcb627c9c47da69e79868dd15e. Workflow and plan: docs/gen-ai/gen-ai-agent-spans.md at
commit 002c8a6ea1c8a42b14a4527db83b3cabcded610a. HTTP client: semantic conventions 1.41.1,
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
    "gen_ai.prompt.name": Asked("if any", str, "a prompt has no name that identifies its text"),
    "gen_ai.prompt.version": Asked("if any", str, "prompts have no versions"),
    "gen_ai.request.choice.count": Asked("if asked", int, "one choice is asked for"),
    "gen_ai.request.model": Asked("if any", str),
    "gen_ai.request.seed": Asked("if asked", int),
    "gen_ai.request.stream": Asked("if true", bool),
    "gen_ai.request.top_k": Asked("if asked", int),
    "server.port": Asked("if server.address", int),
    "gen_ai.conversation.compacted": Asked("if any", bool, "there is no conversation"),
    "gen_ai.request.frequency_penalty": Asked("recommended", float),
    "gen_ai.request.max_tokens": Asked("recommended", int),
    "gen_ai.request.presence_penalty": Asked("recommended", float),
    "gen_ai.request.previous_response.id": Asked("if any", str, "no request names another one"),
    "gen_ai.request.reasoning.level": Asked("if asked", str),
    "gen_ai.request.stop_sequences": Asked("recommended", STRINGS),
    "gen_ai.request.temperature": Asked("recommended", float),
    "gen_ai.request.top_p": Asked("recommended", float),
    "gen_ai.response.finish_reasons": Asked("recommended", STRINGS),
    "gen_ai.response.id": Asked("recommended", str),
    "gen_ai.response.model": Asked("recommended", str),
    "gen_ai.response.time_to_first_chunk": Asked("if streamed", float),
    "gen_ai.usage.cache_read.input_tokens": Asked("if any", int),
    "gen_ai.usage.cache_write.input_tokens": Asked(
        "if any", int, "no OpenAI-compatible endpoint reports it"
    ),
    "gen_ai.usage.input_tokens": Asked("recommended", int),
    "gen_ai.usage.output_tokens": Asked("recommended", int),
    "gen_ai.usage.reasoning.output_tokens": Asked("if any", int),
    "server.address": Asked("recommended", str),
    **{
        f"gen_ai.usage.{kind}.{what}": Asked("if any", int, "all prompts and answers are text")
        for kind in ("audio", "image", "text")
        for what in ("cache_read.input_tokens", "input_tokens", "output_tokens")
    },
}
"""Span kind CLIENT, name `{gen_ai.operation.name} {gen_ai.request.model}`."""

CONTENT = {
    "gen_ai.input.messages": Asked("opt-in", list),
    "gen_ai.output.messages": Asked("opt-in", list),
}
"""Objects in the event `gen_ai.client.inference.operation.details`, which also has INFERENCE. A
span can have JSON instead."""

MESSAGE = {"role", "parts"}
"""The keys of a message. `finish_reason` is deprecated: `gen_ai.response.finish_reasons` has it."""

WORKFLOW = {
    "gen_ai.operation.name": Asked("required", str),
    "gen_ai.workflow.name": Asked("if any", str),
    "error.type": Asked("if failed", str),
}
"""Span kind INTERNAL, name `invoke_workflow {gen_ai.workflow.name}`."""

PLAN = {
    "gen_ai.operation.name": Asked("required", str),
    "error.type": Asked("if failed", str),
    "gen_ai.agent.id": Asked("if any", str, "a workflow is no agent"),
    "gen_ai.agent.name": Asked("if any", str, "a workflow is no agent"),
}
"""Span kind INTERNAL. The recommended name is `plan`; ours has the name of its phase."""

PROVIDERS = {
    "anthropic", "aws.bedrock", "azure.ai.inference", "azure.ai.openai", "cohere", "deepseek",
    "gcp.gemini", "gcp.gen_ai", "gcp.vertex_ai", "groq", "ibm.watsonx.ai", "mistral_ai",
    "moonshot_ai", "openai", "perplexity", "x_ai",
}  # fmt: skip
"""The well-known values of `gen_ai.provider.name`."""

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
