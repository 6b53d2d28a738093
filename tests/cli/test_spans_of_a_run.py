"""What an OTLP receiver gets of a run with faults, held against the conventions' own lists."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest

from harness.cli.main import main
from tests.cli.answering import scenario, working
from tests.telemetry.conventions import (
    CONTENT,
    HTTP_CLIENT,
    INFERENCE,
    MESSAGE,
    PLAN,
    WORKFLOW,
    Asked,
)
from tests.telemetry.otlp import Receiver, Seen, receiving, resource_in, spans_in

ASKED_FOR = {
    "temperature": 0.7, "top_p": 0.9, "top_k": 40, "frequency_penalty": 0.1, "seed": 11,
    "presence_penalty": 0.2, "stop": ["END"], "reasoning_effort": "high", "n": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def received(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    """One run against an endpoint that refuses some, with prompts and answers on the spans."""
    folder = tmp_path_factory.mktemp("run")
    with (
        pytest.MonkeyPatch.context() as patch,
        working(folder, concurrency_cap=2) as base_url,
        receiving(Receiver()) as receiver,
    ):
        patch.setenv("OWN_KEY", "sk-planted")
        patch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "span_and_event")
        patch.setenv("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "60")
        patch.setenv("OTEL_SERVICE_NAME", "of-my-own")
        patch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
        endpoint = {
            "kind": "openai", "base_url": base_url, "model": "m", "api_key_env": "OWN_KEY",
            "extra_body": ASKED_FOR,
        }  # fmt: skip
        file = scenario(
            folder, base_url, endpoint=endpoint, transcripts=True,
            sweep={"mode": ["async"], "permits": [4], "retry": ["none", "openai-sdk"]},
        )  # fmt: skip
        command = ["run", str(file), "--out", str(folder / "out"), "--quiet", "--yes"]
        assert main([*command, "--otlp", receiver.url, "--otlp-wait"]) in (0, 1)
        yield receiver


@pytest.fixture(scope="module")
def spans(received: Receiver) -> dict[str, list[Seen]]:
    """Return the spans by the first word of their name."""
    found: dict[str, list[Seen]] = defaultdict(list)
    for one in received.got:
        for span in spans_in(one.message):
            found[span["name"].split()[0]].append(span)
    return found


def check(spans: list[Seen], asked: dict[str, Asked], missing: set[str]) -> None:
    """Hold spans against a table; `missing`: what none of them may carry, each for its reason."""
    assert spans
    for span in spans:
        carried = span["attributes"]
        for name, row in asked.items():
            if row.level == "required":
                assert name in carried, (name, span["name"])
            if name in carried:
                assert type(carried[name]) is row.kind, (name, carried[name])
        failed = span["status"][0] == "STATUS_CODE_ERROR"
        assert ("error.type" in carried) == failed
        assert ("server.port" in carried) == ("server.address" in carried)
    ever = {name for span in spans for name in span["attributes"]}
    assert set(asked) - ever == missing, "of all that is recommended"


def test_chat_has_what_an_inference_is_asked_for(spans: dict[str, list[Seen]]) -> None:
    absent = {name for name, row in INFERENCE.items() if row.absent}
    check(spans["chat"], INFERENCE, absent)
    for span in spans["chat"]:
        assert span["kind"] == "SPAN_KIND_CLIENT"
        assert span["name"] == "chat m"
        carried = span["attributes"]
        assert carried["gen_ai.request.stream"] is True
        assert carried["gen_ai.request.reasoning.level"] == "high"
        assert carried.get("gen_ai.output.type") == (
            "json" if carried["harness.phase"] == "decompose" else None
        )


def test_durations_are_in_seconds_and_tokens_in_tokens(spans: dict[str, list[Seen]]) -> None:
    for span in spans["chat"]:
        carried = span["attributes"]
        if carried["harness.outcome"] == "ok":
            start, end = span["times"]
            assert 0 < carried["gen_ai.response.time_to_first_chunk"] < (end - start) / 1e9
            output = carried["gen_ai.usage.output_tokens"]
            assert 0 < carried["gen_ai.usage.reasoning.output_tokens"] < output
            assert (
                carried["gen_ai.usage.cache_read.input_tokens"]
                <= (carried["gen_ai.usage.input_tokens"])
            )
            assert (
                carried["gen_ai.response.id"].startswith("chatcmpl-")
                or carried["gen_ai.response.id"]
            )
            assert carried["gen_ai.response.finish_reasons"] == ["stop"]


def test_a_workflow_has_what_it_is_asked_for(spans: dict[str, list[Seen]]) -> None:
    missing = {"error.type"} if all(
        span["status"][0] == "STATUS_CODE_UNSET" for span in spans["invoke_workflow"]
    ) else set()  # fmt: skip
    check(spans["invoke_workflow"], WORKFLOW, missing)
    for span in spans["invoke_workflow"]:
        assert span["kind"] == "SPAN_KIND_INTERNAL"
        assert span["name"] == "invoke_workflow research"
        assert len(span["links"]) == 1


def test_a_decomposition_is_a_plan_and_no_other_phase_is(spans: dict[str, list[Seen]]) -> None:
    by_phase: dict[str, list[Seen]] = defaultdict(list)
    for span in spans["phase"]:
        by_phase[span["attributes"]["harness.phase"]].append(span)
    plans = by_phase.pop("decompose")
    ever = {name for span in plans for name in span["attributes"]}
    absent = {name for name, row in PLAN.items() if row.absent}
    check(plans, PLAN, absent | ({"error.type"} - ever))
    assert {span["attributes"]["gen_ai.operation.name"] for span in plans} == {"plan"}
    for other in (span for every in by_phase.values() for span in every):
        assert "gen_ai.operation.name" not in other["attributes"]


def test_phoenix_knows_the_kind_of_each_span_and_the_session_of_each_trace(
    spans: dict[str, list[Seen]],
) -> None:
    kinds = {
        name: {span["attributes"]["openinference.span.kind"] for span in every}
        for name, every in spans.items()
    }
    assert kinds.pop("invoke_workflow") == {"AGENT"}
    assert kinds.pop("chat") == {"LLM"}
    assert all(kind == {"CHAIN"} for kind in kinds.values())
    for span in spans["invoke_workflow"]:
        carried = span["attributes"]
        session = f"{carried['harness.run.id']}/{carried['harness.cell']}"
        assert carried["session.id"] == session


def test_an_attempt_has_what_an_http_client_is_asked_for(
    spans: dict[str, list[Seen]], received: Receiver
) -> None:
    check(spans["attempt"], HTTP_CLIENT, set())
    refused = [span for span in spans["attempt"] if span["status"][0] == "STATUS_CODE_ERROR"]
    assert {span["attributes"]["http.response.status_code"] for span in refused} == {429}
    for span in spans["attempt"]:
        assert span["kind"] == "SPAN_KIND_CLIENT"
        assert span["attributes"]["http.request.method"] == "POST"
        assert span["attributes"]["url.full"].endswith("/v1/chat/completions")
        assert not [name for name in span["attributes"] if name.startswith("gen_ai.")]
        assert span["attributes"].get("http.request.resend_count", 0) == (
            span["attributes"]["harness.attempt"] - 1
        )


def test_every_other_span_is_internal(spans: dict[str, list[Seen]]) -> None:
    others = set(spans) - {"chat", "attempt"}
    assert others == {
        "harness.run", "harness.cell", "harness.trial", "invoke_workflow", "phase", "sub_question",
        "call", "permit_wait", "backoff",
    }  # fmt: skip
    assert {one["kind"] for name in others for one in spans[name]} == {"SPAN_KIND_INTERNAL"}


def test_the_resource_says_who_and_the_variables_win(received: Receiver) -> None:
    for one in received.got:
        resource = resource_in(one.message)
        assert resource["service.name"] == "of-my-own"
        assert resource["deployment.environment.name"] == "test"
        assert resource["harness.simulated"] is True  # the endpoint marks its answers
        assert {"service.version", "host.id", "harness.run.id"} <= set(resource)
        assert resource["telemetry.sdk.name"] == "harness.telemetry"
        assert resource["telemetry.sdk.language"] == "python"
        assert resource["telemetry.sdk.version"] == resource["service.version"]


def test_prompts_and_answers_are_the_conventions_json_cut_to_the_limit(
    spans: dict[str, list[Seen]],
) -> None:
    seen: set[str] = set()
    for span in spans["chat"]:
        carried = span["attributes"]
        asked = json.loads(carried["gen_ai.input.messages"])
        assert {one["role"] for one in asked} <= {"system", "user", "assistant"}
        (answered,) = json.loads(carried["gen_ai.output.messages"])
        assert set(answered) == MESSAGE
        parts: list[dict[str, Any]] = [part for one in asked for part in one["parts"]]
        for part in (*parts, *answered["parts"]):
            seen.add(part["type"])
            assert len(part["content"]) < 60 + len("… (100000 characters more)")
        (event,) = span["events"]
        assert event[0] == "gen_ai.client.inference.operation.details"
        (details,) = span["event_attributes"]
        assert details["gen_ai.input.messages"] == asked
        assert details["gen_ai.output.messages"] == [answered]
        for name, row in (INFERENCE | CONTENT).items():
            assert (name in details) == (name in carried)
            assert name not in details or type(details[name]) is row.kind
    assert seen == {"text", "reasoning"}


def test_no_other_span_carries_any_content_and_none_the_key(
    spans: dict[str, list[Seen]], received: Receiver
) -> None:
    for name, every in spans.items():
        for span in every:
            assert name == "chat" or not [
                key for key in span["attributes"] if key.endswith("messages")
            ]
    assert not any(b"sk-planted" in one.message.SerializeToString() for one in received.got)
