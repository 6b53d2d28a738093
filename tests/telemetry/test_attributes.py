"""What the spans carry."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv.attributes import (
    error_attributes,
    http_attributes,
    server_attributes,
    service_attributes,
)
from opentelemetry.semconv.schemas import Schemas

from harness.records.schema import Tokens
from harness.store.run_directory import Records
from harness.telemetry import semconv
from harness.telemetry.attributes import Attributes
from harness.telemetry.span import Span
from harness.telemetry.spans import TraceMaker
from tests.analysis.builders import make_run
from tests.telemetry.conventions import INFERENCE, PROVIDERS
from tests.telemetry.example import CELL, example, example_run, live_run


def spans_named(name: str, run: Any = None) -> list[Span]:
    records = example(run)
    maker = TraceMaker(records.run)
    made = maker.of_workflows(records.workflows, records.calls, records.attempts)
    return [span for span in made if span.name.split()[0] == name]


def retried(name: str, run: Any = None) -> list[Attributes]:
    """Return the attributes of the spans of this name in the call that was tried twice."""
    spans = spans_named(name, run)
    return [span.attributes for span in spans if span.attributes.get(semconv.BRANCH) == 1]


def test_names_of_the_conventions_are_spelt_as_the_conventions_spell_them() -> None:
    known = {
        value
        for module in (
            gen_ai_attributes, error_attributes, http_attributes, server_attributes,
            service_attributes,
        )
        for value in vars(module).values()
        if isinstance(value, str)
    }  # fmt: skip
    ours = {
        value
        for value in vars(semconv).values()
        if isinstance(value, str)
        and value.startswith(("gen_ai.", "http.", "server.", "error.", "service."))
    }
    assert len(ours) > 20
    assert ours <= known | set(INFERENCE) | {semconv.CONTENT_EVENT}
    assert semconv.SCHEMA_URL in {schema.value for schema in Schemas}
    assert set(semconv.PROVIDERS.values()) <= PROVIDERS


def test_chat_carries_what_the_convention_asks_of_an_inference() -> None:
    (chat,) = retried("chat")
    assert {key: value for key, value in chat.items() if key.startswith("gen_ai")} == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "simulated",
        "gen_ai.request.model": "simulated-reasoner",
        "gen_ai.request.stream": True,
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.response.time_to_first_chunk": 5e-9,
        "gen_ai.usage.input_tokens": 20,
        "gen_ai.usage.output_tokens": 30,
        "gen_ai.usage.reasoning.output_tokens": 10,
        "gen_ai.usage.cache_read.input_tokens": 4,
    }
    assert chat["harness.wasted.input_tokens"] == 20
    assert "harness.wasted.output_tokens" not in chat, "it was not reported"


def test_usage_stands_on_chat_alone_so_that_sums_do_not_double() -> None:
    records = example()
    maker = TraceMaker(records.run)
    for span in maker.of_workflows(records.workflows, records.calls, records.attempts):
        usage = [key for key in span.attributes if "tokens" in key]
        assert not usage or span.name.startswith("chat ")


def test_a_workflow_carries_what_the_convention_asks_of_a_workflow() -> None:
    (root,) = spans_named("invoke_workflow")
    assert root.attributes["gen_ai.operation.name"] == "invoke_workflow"
    assert root.attributes["gen_ai.workflow.name"] == "research"
    assert root.attributes["harness.simulated"] is True
    assert root.attributes["harness.branches.total"] == 2


def test_attempts_carry_the_exchange_and_what_the_policy_said() -> None:
    refused, good = retried("attempt")
    common = {"harness.phase": "fan_out", "harness.branch": 1, "harness.call": 1}
    assert common.items() <= refused.items()
    expected: dict[str, Any] = {
        "harness.attempt": 1, "harness.outcome": "rate_limited", "error.type": "rate_limited",
        "http.request.method": "POST", "http.response.status_code": 429,
        "harness.retry_after_s": 3e-8, "harness.backoff.planned_s": 3e-8,
        "harness.backoff.source": "retry_after", "harness.client_wait_s": 2e-9,
    }  # fmt: skip
    assert expected.items() <= refused.items()
    assert "http.request.resend_count" not in refused
    expected = {
        "harness.attempt": 2, "harness.outcome": "ok", "http.request.resend_count": 1,
        "http.response.status_code": 200, "harness.ttft_s": 9e-9,
        "harness.time_to_first_answer_s": 1.9e-8, "harness.finish_reason": "stop",
    }  # fmt: skip
    assert expected.items() <= good.items()
    assert "error.type" not in good


def test_a_backoff_says_how_long_it_was_meant_to_be_and_who_said_so() -> None:
    (backoff,) = retried("backoff")
    assert backoff["harness.backoff.planned_s"] == 3e-8
    assert backoff["harness.backoff.source"] == "retry_after"
    assert backoff["harness.attempt"] == 1


def test_what_did_not_happen_is_not_said() -> None:
    records = example()
    for span in TraceMaker(records.run).of_workflows(
        records.workflows, records.calls, records.attempts
    ):
        assert None not in span.attributes.values()


def with_attempts(records: Records, **fields: Any) -> list[Attributes]:
    """Return the attributes of the chats of a run whose attempts have these fields."""
    attempts = [msgspec.structs.replace(one, **fields) for one in records.attempts]
    spans = TraceMaker(records.run).of_workflows(records.workflows, records.calls, attempts)
    return [span.attributes for span in spans if span.name.startswith("chat")]


@pytest.mark.parametrize(
    ("outcome", "received", "reported"),
    [
        ("ok", "stop", ("stop",)),
        ("ok", None, None),
        ("connection_lost", None, ("error",)),
        ("cancelled", None, ("error",)),
        ("rate_limited", None, ("error",)),
        ("truncated", "length", ("length",)),
        ("missing_done", "stop", ("stop",)),
    ],
)
def test_a_generation_that_broke_off_has_the_finish_reason_error(
    outcome: str, received: str | None, reported: tuple[str, ...] | None
) -> None:
    for chat in with_attempts(example(), outcome=outcome, finish_reason=received):
        assert chat.get("gen_ai.response.finish_reasons") == reported


def test_an_attempt_has_the_anomalies_of_its_response() -> None:
    records = example()
    odd = [msgspec.structs.replace(one, anomalies=("framing", "usage")) for one in records.attempts]
    for attempts, expected in ((records.attempts, None), (odd, ("framing", "usage"))):
        spans = TraceMaker(records.run).of_workflows(records.workflows, records.calls, attempts)
        found = [one.attributes.get("harness.anomalies") for one in spans if one.name == "attempt"]
        assert found == [expected] * len(attempts)


def test_top_k_is_a_whole_number() -> None:
    for sent, reported in ((40, 40), (40.5, None), (True, None)):
        (chat,) = retried("chat", live_run(extra_body={"top_k": sent}))
        assert chat.get("gen_ai.request.top_k") == reported


def test_a_response_that_was_not_streamed_has_no_first_chunk() -> None:
    run = example_run()
    endpoint = run.scenario["endpoint"] | {"stream": False}
    plain = msgspec.structs.replace(run, scenario=run.scenario | {"endpoint": endpoint})
    chat = with_attempts(example(plain), first_chunk=None)[0]
    assert "gen_ai.request.stream" not in chat
    assert "gen_ai.response.time_to_first_chunk" not in chat


def test_a_limit_of_tokens_stands_on_the_calls_that_had_it() -> None:
    run = make_run([CELL], extra_toml="[workflow.max_tokens]\nresearch = 4000")
    limits = {
        span.attributes["harness.phase"]: span.attributes.get("gen_ai.request.max_tokens")
        for span in spans_named("chat", run)
    }
    assert limits == {"decompose": None, "fan_out": 4000, "synthesize": None}


@pytest.mark.parametrize(
    ("base_url", "address", "port", "provider"),
    [
        ("https://api.deepseek.com", "api.deepseek.com", 443, "deepseek"),
        ("https://api.openai.com/v1", "api.openai.com", 443, "openai"),
        ("https://api.moonshot.ai/v1", "api.moonshot.ai", 443, "moonshot_ai"),
        (
            "https://mine.openai.azure.com/openai/v1",
            "mine.openai.azure.com",
            443,
            "azure.ai.openai",
        ),
        ("https://notopenai.com/v1", "notopenai.com", 443, "openai_compatible"),
        ("http://10.0.0.7:8000/v1", "10.0.0.7", 8000, "openai_compatible"),
        ("http://llm.example/v1", "llm.example", 80, "openai_compatible"),
    ],
)
def test_a_live_endpoint_is_named_by_its_address_and_by_whom_it_is_known(
    base_url: str, address: str, port: int, provider: str
) -> None:
    run = live_run(base_url=base_url, extra_body={"reasoning_effort": "high", "temperature": 0.5})
    (chat,) = retried("chat", run)
    assert (chat["server.address"], chat["server.port"]) == (address, port)
    assert chat["gen_ai.provider.name"] == provider
    assert chat["gen_ai.request.reasoning.level"] == "high"
    assert chat["gen_ai.request.temperature"] == 0.5
    for attempt in retried("attempt", run):
        assert (attempt["server.address"], attempt["server.port"]) == (address, port)
        assert attempt["harness.simulated"] is False


def test_what_a_phase_puts_into_its_requests_stands_on_its_calls() -> None:
    """The body of a phase wins over the body of all, and that over the scenario's own limit."""
    run = live_run(
        extra_body={"temperature": 1, "max_tokens": 50, "reasoning_effort": ["not", "a", "word"]},
        extra_body_by_phase={"research": {"temperature": 0, "max_tokens": 90}},
    )
    asked = {
        span.attributes["harness.phase"]: (
            span.attributes["gen_ai.request.temperature"],
            span.attributes["gen_ai.request.max_tokens"],
            span.attributes.get("gen_ai.request.reasoning.level"),
        )
        for span in spans_named("chat", run)
    }
    assert asked == {
        "decompose": (1.0, 50, None), "fan_out": (0.0, 90, None), "synthesize": (1.0, 50, None),
    }  # fmt: skip


def test_a_model_on_this_machine_needs_no_address() -> None:
    run = live_run()
    endpoint = {"kind": "local-llm", "model": "small", "stream": False, "extra_body": {}}
    local = msgspec.structs.replace(run, scenario=run.scenario | {"endpoint": endpoint})
    (chat,) = retried("chat", local)
    assert chat["gen_ai.request.model"] == "small"
    assert chat["gen_ai.provider.name"] == "openai_compatible"
    assert chat["harness.simulated"] is False
    assert "server.address" not in chat


def test_the_run_and_its_trials_say_what_they_were() -> None:
    records = example()
    run, cell, trial = TraceMaker(records.run).of_run(records.trials)
    assert run.attributes["harness.run.name"] == "synthetic"
    assert run.attributes["harness.simulated"] is True
    assert cell.attributes["harness.cell"] == CELL
    assert trial.attributes["harness.repeat"] == 1
    assert trial.attributes["harness.interrupted"] is False
    assert trial.attributes["harness.cpu_s"] == 0.1


def test_tokens_that_were_not_reported_are_not_made_up() -> None:
    records = example()
    calls = [msgspec.structs.replace(call, tokens=Tokens(input=5)) for call in records.calls]
    spans = TraceMaker(records.run).of_workflows(records.workflows, calls, records.attempts)
    for chat in (span.attributes for span in spans if span.name.startswith("chat")):
        assert chat["gen_ai.usage.input_tokens"] == 5
        assert "gen_ai.usage.output_tokens" not in chat
