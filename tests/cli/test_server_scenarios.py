"""The scenarios for servers of one's own run against servers that behave as these do."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.store.run_directory import read_records
from tests.cli.answering import KEY
from tests.cli.picky import Answer, Asked, picky, refused, whole_or_stream

pytestmark = pytest.mark.usefixtures("elsewhere")


def _azure(asked: Asked, _: int) -> Answer:
    if asked.headers.get("api-key") != KEY or "authorization" in asked.headers:
        return refused(401, "Access denied due to invalid subscription key")
    if "api-version" not in asked.query:
        return refused(404, "Resource not found")
    if "max_tokens" in asked.body:
        return refused(400, "Use 'max_completion_tokens' instead")
    return Answer()


def _plain(asked: Asked, _: int) -> Answer:
    return Answer()


def _starting(asked: Asked, number: int) -> Answer:
    return refused(503, "Loading model") if asked.method == "GET" and number == 0 else Answer()


def _closing(asked: Asked, number: int) -> Answer:
    if asked.headers.get("connection") != "close":
        return refused(500, "this connection would be closed")
    return Answer()


def _tgi(asked: Asked, _: int) -> Answer:
    """Refuse a format without a schema, and end streams without [DONE]."""
    if "response_format" in asked.body:
        return refused(422, "Failed to deserialize: missing field `value`")
    kind, body = whole_or_stream(asked, {})
    return Answer(200, {"content-type": kind}, body.replace(b"data: [DONE]\n\n", b""))


def _gateway(asked: Asked, number: int) -> Answer:
    """Shed a request now and then, and redirect each to a path with a slash."""
    if asked.method == "POST" and number % 5 == 3:
        return Answer(429, {"x-ratelimit-reset-requests": "1ms"}, b"")
    if asked.method == "POST" and not asked.path.endswith("/"):
        return Answer(307, {"location": f"{asked.path}/"}, b"")
    return Answer()


SERVERS = {
    "azure": _azure, "vllm": _plain, "sglang": _starting, "llama-cpp": _closing,
    "ollama": _plain, "tgi": _tgi, "llm-d": _gateway, "openrouter": _plain,
}  # fmt: skip


@pytest.mark.parametrize("name", SERVERS)
def test_a_scenario_for_a_server_runs_with_an_endpoint_of_one_s_own(
    name: str, elsewhere: Path
) -> None:
    numbers = itertools.count()
    key = ["--api-key-env", "OWN_KEY"] if name in ("azure", "openrouter") else []
    small = [
        "workflow.sub_questions=3",
        "load.workflows=1",
        "load.warmup_calls=1",
        "sweep.permits=2",
    ]
    settings = [f"--set={one}" for one in small]
    with picky(lambda asked: SERVERS[name](asked, next(numbers))) as server:
        own = ["--endpoint", server.base_url, "--model", "m", *key]
        command = ["run", name, *own, *settings, "--out", "out", "--yes", "--quiet"]
        assert main(command) == 0
        assert {json.dumps(asked.body.get("model")) for asked in server.asked} <= {'"m"', "null"}
    outcomes = {attempt.outcome for attempt in read_records(elsewhere / "out").attempts}
    assert outcomes <= {"ok", *(["rate_limited"] if name == "llm-d" else [])}
