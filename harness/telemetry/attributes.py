"""The attributes of each span, as pure functions of the records.

Every span of a workflow's trace has the run, the cell and its settings, because a search filter
matches single spans. Only `chat` spans have token usage, so that a sum counts each token once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from harness.records.clock import SECOND
from harness.records.failures import OK, is_failure
from harness.records.schema import (
    Attempt,
    Backoff,
    Call,
    CellInfo,
    Decision,
    PhaseInfo,
    Run,
    Tokens,
    Trial,
    Workflow,
)
from harness.records.settings import value_text
from harness.telemetry import semconv

StructuredValue = tuple[dict[str, Any], ...]
"""A list of objects, such as messages; only events have such values."""

AttributeValue = str | bool | int | float | tuple[str, ...] | StructuredValue
Attributes = dict[str, AttributeValue]


class EndpointAttributes(NamedTuple):
    """`server`: the endpoint's address. `exchange`: further attributes of an HTTP request.

    `chat`: request parameters of phases with settings. `any_chat`: those of all other phases.
    """

    server: Attributes
    exchange: Attributes
    chat: dict[str, Attributes]
    any_chat: Attributes
    streamed: bool

    def chat_in(self, phase: str) -> Attributes:
        """Return the request parameters of the calls of `phase`."""
        return self.chat.get(phase, self.any_chat)


def endpoint_attributes(run: Run, cell: CellInfo) -> EndpointAttributes:
    """Return the attributes of the endpoint and the requests of a cell."""
    scenario = run.cell_scenario(cell)
    settings: Mapping[str, Any] = scenario["endpoint"]
    server, exchange = _server(settings.get("base_url"))
    provider = _provider(str(server.get(semconv.SERVER_ADDRESS)))
    shared = server | {
        semconv.OPERATION_NAME: semconv.CHAT,
        semconv.PROVIDER_NAME: semconv.SIMULATED_PROVIDER if run.simulated else provider,
        semconv.REQUEST_MODEL: model(run, cell),
    }
    if settings["stream"]:  # the convention sets it only if true
        shared[semconv.REQUEST_STREAM] = True
    limits: Mapping[str, int | None] = scenario["workflow"].get("max_tokens") or {}
    common: Mapping[str, Any] = settings.get("extra_body", {})
    by_setting: Mapping[str, Any] = settings.get("extra_body_by_phase", {})
    # Runs of earlier versions have no phases; their settings have the names of their phases.
    phases = run.phases or [PhaseInfo(name=name, setting=name) for name in limits]
    chat = {}
    for phase in phases:
        own = by_setting.get(phase.setting, {})
        body = {"max_tokens": limits.get(phase.setting, phase.max_tokens), **common, **own}
        is_json = phase.json and settings.get("json_mode", True)
        said = {semconv.OUTPUT_TYPE: "json"} if is_json else {}
        chat[phase.name] = shared | said | _asked_for(body)
    return EndpointAttributes(
        server, exchange, chat, shared | _asked_for(common), settings["stream"]
    )


_ASKED = (
    (semconv.REQUEST_MAX_TOKENS, "max_tokens", (int,)),
    (semconv.REQUEST_TEMPERATURE, "temperature", (int, float)),
    (semconv.REQUEST_REASONING_LEVEL, "reasoning_effort", (str,)),
    (semconv.REQUEST_TOP_P, "top_p", (int, float)),
    (semconv.REQUEST_TOP_K, "top_k", (int,)),
    (semconv.REQUEST_FREQUENCY_PENALTY, "frequency_penalty", (int, float)),
    (semconv.REQUEST_PRESENCE_PENALTY, "presence_penalty", (int, float)),
    (semconv.REQUEST_SEED, "seed", (int,)),
    (semconv.REQUEST_CHOICE_COUNT, "n", (int,)),
)
"""Attribute, the key of the request body that it reports, and the accepted types of the value."""


def _asked_for(body: Mapping[str, Any]) -> Attributes:
    """Return the parameters in the body of a request that have the convention's type."""
    found: Attributes = {}
    for name, key, kinds in _ASKED:
        value = body.get(key)
        if isinstance(value, kinds) and not isinstance(value, bool):
            found[name] = float(value) if float in kinds else value
    if found.get(semconv.REQUEST_CHOICE_COUNT) == 1:  # the convention sets it only if not 1
        del found[semconv.REQUEST_CHOICE_COUNT]
    stop = body.get("stop")
    listed = [stop] if isinstance(stop, str) else stop
    if isinstance(listed, list) and listed and all(isinstance(one, str) for one in listed):
        found[semconv.REQUEST_STOP_SEQUENCES] = tuple(listed)
    return found


def _provider(host: str) -> str:
    """Return the convention's name of a provider, by the domain of its API."""
    known = (
        name
        for domain, name in semconv.PROVIDERS.items()
        if host == domain or host.endswith(f".{domain}")
    )
    return next(known, semconv.OTHER_PROVIDER)


def _server(base_url: str | None) -> tuple[Attributes, Attributes]:
    """Return the address of a live endpoint, and the URL of its requests without secret parts."""
    if base_url is None:
        return {}, {}
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    name = f"[{host}]" if ":" in host else host
    port = "" if parts.port is None else f":{parts.port}"
    url = f"{parts.scheme}://{name}{port}{parts.path.rstrip('/')}/chat/completions"
    number = parts.port or (443 if parts.scheme == "https" else 80)
    return {semconv.SERVER_ADDRESS: host, semconv.SERVER_PORT: number}, {semconv.URL_FULL: url}


def model(run: Run, cell: CellInfo) -> str:
    """Return the requested model."""
    return str(run.cell_scenario(cell)["endpoint"]["model"])


def workflow_name(run: Run) -> str:
    """Return the kind of workflow."""
    return str(run.scenario["workflow"]["kind"])


def branch_name(run: Run, phase: str | None) -> str:
    """Return the name of the spans of a phase's branches."""
    if not run.phases:
        return semconv.OLD_BRANCH_SPAN
    named = {info.name: info.branch_span for info in run.phases}
    return semconv.BRANCH_SPAN if phase is None else named.get(phase, semconv.BRANCH_SPAN)


def title_attributes(title: str, outcome: str | None) -> Attributes:
    """Return what tells a span from others of its name, with an outcome that is not success."""
    if not title:
        return {}
    return {semconv.TITLE: title if outcome in (None, OK) else f"{title}: {outcome}"}


def call_title(record: Call | Attempt) -> str:
    """Return the phase, the branch and the number of a call, where people count from 1."""
    branch = "" if record.branch is None else f", branch {record.branch + 1}"
    return f"{record.phase}{branch}" + (f", call {record.call}" if record.call > 1 else "")


def run_attributes(the_run: Run) -> Attributes:
    """Return the attributes of the run's own span, including those of every span of the run."""
    return {
        semconv.TITLE: the_run.name,
        semconv.RUN_ID: the_run.run_id,
        semconv.SIMULATED: the_run.simulated,
        semconv.RUN_NAME: the_run.name,
        semconv.RUN_STATUS: the_run.status,
        semconv.SEED: the_run.seed,
    }


def cell_attributes(the_run: Run, info: CellInfo) -> Attributes:
    """Return the attributes for the run, the cell and its settings."""
    return {
        semconv.RUN_ID: the_run.run_id,
        semconv.SIMULATED: the_run.simulated,
        semconv.CELL: info.id,
        semconv.MODE: info.mode,
        semconv.PERMITS: info.permits,
        **({semconv.LIMITER: info.limiter} if info.limiter else {}),
        semconv.RETRY: info.retry,
        semconv.PERMIT_SCOPE: info.permit_scope,
        **{f"{semconv.SETTING}{key}": _attribute(value) for key, value in info.settings.items()},
    }


def _attribute(value: Any) -> AttributeValue:
    return value if isinstance(value, bool | int | float) else value_text(value)


def trial_attributes(record: Trial) -> Attributes:
    """Return the attributes that a trial's span has in addition to its cell's."""
    return {
        semconv.TITLE: f"{record.cell}, repeat {record.repeat + 1}",
        semconv.REPEAT: record.repeat,
        semconv.EXECUTION: record.execution,
        semconv.TRIAL_INTERRUPTED: record.interrupted,
        semconv.CPU: record.cpu / SECOND,
    }


def workflow_key_attributes(the_run: Run, info: CellInfo, record: Workflow) -> Attributes:
    """Return the attributes of every span of a workflow's trace."""
    return {
        **cell_attributes(the_run, info),
        semconv.REPEAT: record.repeat,
        semconv.WORKFLOW: record.workflow,
        semconv.EXECUTION: record.execution,
    }


def workflow_attributes(run_id: str, record: Workflow, name: str) -> Attributes:
    """Return the further attributes of a workflow's own span; `name`: of its kind.

    The workflows of a cell are one session.
    """
    return _reached(
        {
            semconv.OPERATION_NAME: semconv.INVOKE_WORKFLOW,
            semconv.WORKFLOW_NAME: name,
            semconv.SESSION_ID: f"{run_id}/{record.cell}",
            semconv.BRANCHES_TOTAL: record.branches.total,
            semconv.BRANCHES_OK: record.branches.ok,
            semconv.EXIT_CODE: record.exit_code,
        }
    )


def phase_attributes(the_run: Run, phase: str) -> Attributes:
    """Return which phase a span is, and its GenAI operation if it is one."""
    operations = {info.name: info.operation for info in the_run.phases}
    return _reached({semconv.PHASE: phase, semconv.OPERATION_NAME: operations.get(phase)})


def branch_attributes(phase: str | None, branch: int) -> Attributes:
    """Return which branch of which phase a span is; `phase` is None outside every phase."""
    return _reached({semconv.PHASE: phase, semconv.BRANCH: branch})


def call_key_attributes(record: Call | Attempt) -> Attributes:
    """Return the phase, branch and number of a call."""
    return _reached(
        {semconv.PHASE: record.phase, semconv.BRANCH: record.branch, semconv.CALL: record.call}
    )


def chat_attributes(call: Call, last: Attempt) -> Attributes:
    """Return the result of a call; `last` is the attempt that decided it."""
    used, wasted = call.tokens or Tokens(), call.wasted_tokens or Tokens()
    reason = last.finish_reason or (None if last.outcome == OK else semconv.FINISH_ERROR)
    return _reached(
        {
            semconv.RESPONSE_ID: last.response_id,
            semconv.RESPONSE_MODEL: last.response_model,
            semconv.RESPONSE_FINISH_REASONS: None if reason is None else (reason,),
            semconv.RESPONSE_TIME_TO_FIRST_CHUNK: _seconds(last.time_to_first_chunk),
            semconv.USAGE_INPUT: used.input,
            semconv.USAGE_OUTPUT: used.output,
            semconv.USAGE_REASONING: used.reasoning,
            semconv.USAGE_CACHE_READ: used.cached,
            semconv.WASTED_INPUT: wasted.input,
            semconv.WASTED_OUTPUT: wasted.output,
        }
    )


def attempt_attributes(record: Attempt) -> Attributes:
    """Return the result of one HTTP request and the decision of the policy about it."""
    decision = record.decision or Decision()
    sent, answer = record.sent, record.first_answer
    return _reached(
        {
            semconv.ATTEMPT: record.attempt,
            semconv.HEDGE: record.hedge or None,  # only on a hedge
            semconv.REQUEST_METHOD: "POST",
            semconv.RESEND_COUNT: record.attempt - 1 or None,  # only on a resent request
            semconv.STATUS_CODE: record.status,
            semconv.REQUEST_ID: record.request_id,
            semconv.FINISH_REASON: record.finish_reason,
            semconv.CHUNKS: record.chunks,
            semconv.RESPONSE_ANOMALIES: record.anomalies or None,  # only if there are any
            semconv.CLIENT_WAIT: _seconds(record.client_wait),
            semconv.TTFT: _seconds(record.ttft),
            semconv.TIME_TO_FIRST_ANSWER: _seconds(
                None if sent is None or answer is None else answer - sent
            ),
            semconv.RETRY_AFTER: _seconds(record.retry_after),
            semconv.BACKOFF_PLANNED: _seconds(decision.retry_in),
            semconv.BACKOFF_SOURCE: decision.source,
            semconv.GIVE_UP: decision.give_up,
        }
    )


def backoff_attributes(record: Backoff) -> Attributes:
    """Return the planned duration of a backoff and what determined it."""
    return {
        semconv.BACKOFF_PLANNED: record.planned / SECOND,
        semconv.BACKOFF_SOURCE: record.source,
    }


def outcome_attributes(name: str) -> Attributes:
    """Return an outcome, also as the error type if it is an error."""
    return {semconv.OUTCOME: name} | error_attributes(name)


def is_error(outcome: str) -> bool:
    """Return whether an outcome is an error in a trace. A degraded workflow is not."""
    return outcome != "degraded" and is_failure(outcome)


def error_attributes(name: str) -> Attributes:
    """Return the error type for an outcome that is an error; no attributes for any other."""
    return {semconv.ERROR_TYPE: name} if is_error(name) else {}


def _seconds(time: int | None) -> float | None:
    return None if time is None else time / SECOND


def _reached(values: Mapping[str, AttributeValue | None]) -> Attributes:
    """Drop attributes without a value, such as times of moments that were not reached."""
    return {name: value for name, value in values.items() if value is not None}
