"""All metrics that the harness exports: names, units and bucket boundaries, in one place.

The `gen_ai.*` metrics are those of https://github.com/open-telemetry/semantic-conventions-genai
(status: Development) at commit 004902b8cb70 of June 2026, with its boundaries. Later texts rename
them: `gen_ai.invoke_workflow.duration` (pull request 341), `gen_ai.client.inference.*` for the
duration, the chunks and the tokens (521 and 374). Units are UCUM's.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

_CLIENT = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_WORKFLOW = (1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0)
_TOKENS = tuple(4.0**power for power in range(14))
_WAIT = (0.001, 0.01, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class Instrument(NamedTuple):
    """One metric. `bounds`: the upper boundaries of a histogram's buckets."""

    name: str
    kind: Literal["histogram", "counter", "gauge"]
    unit: str
    description: str
    bounds: tuple[float, ...] = ()


OPERATION_DURATION = Instrument(
    "gen_ai.client.operation.duration", "histogram", "s",
    "Duration of a call, from its first permit to its result, all attempts included.", _CLIENT,
)  # fmt: skip
TOKEN_USAGE = Instrument(
    "gen_ai.client.token.usage", "histogram", "{token}",
    "Tokens of a call, as the provider reported them.", _TOKENS,
)  # fmt: skip
TIME_TO_FIRST_CHUNK = Instrument(
    "gen_ai.client.operation.time_to_first_chunk", "histogram", "s",
    "Time from sending the decisive request of a streamed call to its first chunk.", _CLIENT,
)  # fmt: skip
TIME_PER_OUTPUT_CHUNK = Instrument(
    "gen_ai.client.operation.time_per_output_chunk", "histogram", "s",
    "Time between two text chunks of a streamed call.", _CLIENT,
)  # fmt: skip
WORKFLOW_DURATION = Instrument(
    "gen_ai.workflow.duration", "histogram", "s",
    "Duration of a workflow, from ready to its result.", _WORKFLOW,
)  # fmt: skip
PERMIT_WAIT = Instrument(
    "harness.permit_wait.duration", "histogram", "s", "Wait of an attempt for a permit.", _WAIT,
)  # fmt: skip
BACKOFF = Instrument(
    "harness.backoff.duration", "histogram", "s", "Wait before an attempt.", _WAIT,
)  # fmt: skip
ATTEMPTS_ENDED = Instrument(
    "harness.attempts.ended", "counter", "{attempt}", "Attempts, by outcome and HTTP status.",
)  # fmt: skip
ATTEMPTS_IN_FLIGHT = Instrument(
    "harness.attempts.in_flight", "gauge", "{attempt}",
    "The most attempts in flight at once since the previous point, within one trial.",
)  # fmt: skip
TRIAL_DURATION = Instrument(
    "harness.trial.duration", "counter", "s",
    "Total duration of the trials, to divide counts by.",
)  # fmt: skip
SERVER_RUNNING = Instrument(
    "harness.server.requests.running", "gauge", "{request}",
    "Requests that the model's server processes, by its own metrics.",
)  # fmt: skip
SERVER_WAITING = Instrument(
    "harness.server.requests.waiting", "gauge", "{request}",
    "Requests that wait in the model's server, by its own metrics.",
)  # fmt: skip
SERVER_KV_CACHE = Instrument(
    "harness.server.kv_cache.usage", "gauge", "1",
    "Used share of the KV cache of the model's server, by its own metrics.",
)  # fmt: skip

INSTRUMENTS = (
    OPERATION_DURATION, TOKEN_USAGE, TIME_TO_FIRST_CHUNK, TIME_PER_OUTPUT_CHUNK, WORKFLOW_DURATION,
    PERMIT_WAIT, BACKOFF, ATTEMPTS_ENDED, ATTEMPTS_IN_FLIGHT, TRIAL_DURATION, SERVER_RUNNING,
    SERVER_WAITING, SERVER_KV_CACHE,
)  # fmt: skip
