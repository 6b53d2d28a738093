"""All names used in spans, in one place, because the conventions still change.

The `gen_ai.*` names are those of the GenAI conventions (status: Development), since 1.41.0 in a
repository of their own, https://github.com/open-telemetry/semantic-conventions-genai. The names of
`http`, `server`, `error`, `service`, `host` and `os` are those of 1.41.0. Names without a
convention start with `harness.`; names that end in `_s` hold seconds as they were measured (see
`TIME_SCALE`).
"""

from __future__ import annotations

SCHEMA_URL = "https://opentelemetry.io/schemas/1.41.0"
SCOPE = "harness"

# Names of spans and events: few and fixed, because Jaeger groups by them.
RUN_SPAN = "harness.run"
CELL_SPAN = "harness.cell"
TRIAL_SPAN = "harness.trial"
QUEUE_SPAN = "queue"
BRANCH_SPAN = "branch"
OLD_BRANCH_SPAN = "sub_question"
"""A branch in runs of earlier versions, which say nothing of their phases."""

CALL_SPAN = "call"
PERMIT_WAIT_SPAN = "permit_wait"
ATTEMPT_SPAN = "attempt"
BACKOFF_SPAN = "backoff"
FIRST_REASONING_EVENT = "first_reasoning"
FIRST_ANSWER_EVENT = "first_answer"

# GenAI
OPERATION_NAME = "gen_ai.operation.name"
INVOKE_WORKFLOW = "invoke_workflow"
CHAT = "chat"
PROVIDER_NAME = "gen_ai.provider.name"
WORKFLOW_NAME = "gen_ai.workflow.name"
REQUEST_MODEL = "gen_ai.request.model"
REQUEST_STREAM = "gen_ai.request.stream"
REQUEST_MAX_TOKENS = "gen_ai.request.max_tokens"
REQUEST_TEMPERATURE = "gen_ai.request.temperature"
REQUEST_REASONING_LEVEL = "gen_ai.request.reasoning.level"
REQUEST_TOP_P = "gen_ai.request.top_p"
REQUEST_TOP_K = "gen_ai.request.top_k"
REQUEST_FREQUENCY_PENALTY = "gen_ai.request.frequency_penalty"
REQUEST_PRESENCE_PENALTY = "gen_ai.request.presence_penalty"
REQUEST_STOP_SEQUENCES = "gen_ai.request.stop_sequences"
REQUEST_SEED = "gen_ai.request.seed"
REQUEST_CHOICE_COUNT = "gen_ai.request.choice.count"
OUTPUT_TYPE = "gen_ai.output.type"
RESPONSE_ID = "gen_ai.response.id"
RESPONSE_MODEL = "gen_ai.response.model"
RESPONSE_FINISH_REASONS = "gen_ai.response.finish_reasons"
RESPONSE_TIME_TO_FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
USAGE_INPUT = "gen_ai.usage.input_tokens"
USAGE_OUTPUT = "gen_ai.usage.output_tokens"
USAGE_REASONING = "gen_ai.usage.reasoning.output_tokens"
USAGE_CACHE_READ = "gen_ai.usage.cache_read.input_tokens"
TOKEN_TYPE = "gen_ai.token.type"  # noqa: S105 - tokens of a model
INPUT_MESSAGES = "gen_ai.input.messages"
OUTPUT_MESSAGES = "gen_ai.output.messages"
CONTENT_EVENT = "gen_ai.client.inference.operation.details"

FINISH_ERROR = "error"
"""The finish reason of a generation that failed before its own arrived."""

PROVIDERS = {
    "aiplatform.googleapis.com": "gcp.vertex_ai",
    "anthropic.com": "anthropic",
    "cohere.ai": "cohere",
    "cohere.com": "cohere",
    "deepseek.com": "deepseek",
    "generativelanguage.googleapis.com": "gcp.gemini",
    "googleapis.com": "gcp.gen_ai",
    "groq.com": "groq",
    "mistral.ai": "mistral_ai",
    "moonshot.ai": "moonshot_ai",
    "moonshot.cn": "moonshot_ai",
    "openai.azure.com": "azure.ai.openai",
    "openai.com": "openai",
    "perplexity.ai": "perplexity",
    "x.ai": "x_ai",
}
"""Domain of an endpoint -> the convention's well-known value of `gen_ai.provider.name`."""
OTHER_PROVIDER = "openai_compatible"
SIMULATED_PROVIDER = "simulated"

# OpenInference, for Phoenix: https://arize-ai.github.io/openinference/spec
OPENINFERENCE_KIND = "openinference.span.kind"
OPENINFERENCE_KINDS = {"workflow": "AGENT", CHAT: "LLM"}
"""Kind of a span -> that of OpenInference; any other is a CHAIN."""
SESSION_ID = "session.id"

# HTTP, servers, errors
REQUEST_METHOD = "http.request.method"
RESEND_COUNT = "http.request.resend_count"
STATUS_CODE = "http.response.status_code"
URL_FULL = "url.full"
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
ERROR_TYPE = "error.type"

# The resource
SERVICE_NAME = "service.name"
SERVICE_VERSION = "service.version"
SDK_NAME = "telemetry.sdk.name"
SDK_LANGUAGE = "telemetry.sdk.language"
SDK_VERSION = "telemetry.sdk.version"
HOST_ID = "host.id"
HOST_ARCH = "host.arch"
OS_TYPE = "os.type"
OS_VERSION = "os.version"
TIME_SCALE = "harness.time_scale"
"""Real seconds per scenario second; divide by it to get scenario seconds."""

VIRTUAL_TIME = "harness.virtual"
"""Present, and true, if the run used virtual time: all its trials started at the same moment."""

# Run, cell, trial and call
TITLE = "harness.title"
"""What tells a span from others of its name, for people."""

RUN_ID = "harness.run.id"
RUN_NAME = "harness.run.name"
RUN_STATUS = "harness.run.status"
SEED = "harness.seed"
SIMULATED = "harness.simulated"
CELL = "harness.cell"
MODE = "harness.mode"
PERMITS = "harness.permits"
LIMITER = "harness.limiter"
"""The limit that adapts, whose highest value is `harness.permits`."""
RETRY = "harness.retry"
PERMIT_SCOPE = "harness.permit_scope"
SETTING = "harness.setting."
"""Prefix of the attribute of every other swept key, such as `harness.setting.endpoint.model`."""

REPEAT = "harness.repeat"
EXECUTION = "harness.execution"
WORKFLOW = "harness.workflow"
PHASE = "harness.phase"
BRANCH = "harness.branch"
CALL = "harness.call"
ATTEMPT = "harness.attempt"
HEDGE = "harness.hedge"

# Results
OUTCOME = "harness.outcome"
TRIAL_INTERRUPTED = "harness.interrupted"
CPU = "harness.cpu_s"
EXIT_CODE = "process.exit.code"
BRANCHES_TOTAL = "harness.branches.total"
BRANCHES_OK = "harness.branches.ok"
CALL_ATTEMPTS = "harness.attempts"
WASTED_INPUT = "harness.wasted.input_tokens"
WASTED_OUTPUT = "harness.wasted.output_tokens"
TOKENS_WASTED = "harness.tokens.wasted"
REQUEST_ID = "harness.request_id"
FINISH_REASON = "harness.finish_reason"
CHUNKS = "harness.chunks"
RESPONSE_ANOMALIES = "harness.anomalies"
CLIENT_WAIT = "harness.client_wait_s"
TTFT = "harness.ttft_s"
TIME_TO_FIRST_ANSWER = "harness.time_to_first_answer_s"
RETRY_AFTER = "harness.retry_after_s"
GIVE_UP = "harness.give_up"
BACKOFF_PLANNED = "harness.backoff.planned_s"
BACKOFF_SOURCE = "harness.backoff.source"
