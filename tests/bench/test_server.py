"""What answers a run: one kind of server for each kind of endpoint, and what requests carry."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from harness.bench.endpoint_rest import EndpointRest
from harness.bench.running_endpoints import target_of
from harness.bench.scenario import Scenario
from harness.bench.scenario_file import parse_scenario
from harness.config.request_settings import Secrets
from harness.endpoints import simulated
from harness.endpoints.section import EndpointServer
from harness.engine.effects import Deadlines, Message, Request, Send
from harness.records.clock import SECOND, Anchor
from harness.records.keys import CallKey
from harness.transports.exchange import attempt_headers, post_arguments
from harness.transports.target import Target

LIVE = 'kind = "openai"\nbase_url = "http://127.0.0.1:1/v1"\nmodel = "m"\n'


def scenario(endpoint: str) -> Scenario:
    text = f'name = "s"\nworkflow.topics = "tides"\n[endpoint]\n{endpoint}'
    return parse_scenario(text, "test")


def attempt(endpoint: str, phase: str) -> tuple[Target, Send]:
    """Return one attempt of `phase` in a run against `endpoint`."""
    read = scenario(endpoint)
    server = EndpointServer("http://127.0.0.1:1/v1", "key")
    target = target_of(read, "r", Anchor(unix_ns=0, monotonic_ns=0), server, Secrets("key"))
    key = CallKey("cell", 0, 0, 0, phase, None, 1)
    request = Request((Message("user", "why?"),), None, phase == "decompose")
    return target, Send(key, 1, request, Deadlines(1, 1, 1, SECOND, ""))


def test_a_live_endpoint_gets_the_callers_key(tmp_path: Path) -> None:
    with scenario(LIVE).endpoint.server("a key", 0, tmp_path) as server:
        assert (server.base_url, server.api_key) == ("http://127.0.0.1:1/v1", "a key")


def test_a_simulated_endpoint_gets_a_simulator_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[object, ...]] = []

    def unstarted(*arguments: object) -> AbstractContextManager[None]:
        started.append(arguments)
        return nullcontext()

    monkeypatch.setattr(simulated, "start_simulator", unstarted)
    read = scenario("override.slots = 2\ntime_scale = 0.5")
    read.endpoint.server("a key", 7, tmp_path / "log")
    assert started == [("deepseek-reasoner", {"slots": 2}, 7, 0.5, tmp_path / "log")]


def test_a_live_endpoint_rests_between_trials_and_not_before_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    with scenario(f"{LIVE}settle = 2.5").endpoint.server("key", 0, tmp_path) as server:
        for repeat in range(3):
            server.begin_trial("cell", repeat)
    assert slept == [0.0, 2.5, 2.5]


@pytest.mark.parametrize(
    ("phase", "section"),
    [("decompose", "decompose"), ("fan_out", "research"), ("synthesize", "synthesize")],
)
def test_a_phases_own_body_goes_into_that_phase_alone(phase: str, section: str) -> None:
    endpoint = f'{LIVE}extra_body_by_phase.{section} = {{ grammar = "g" }}'
    assert post_arguments(*attempt(endpoint, phase))["body"]["grammar"] == "g"
    for other in {"decompose", "fan_out", "synthesize"} - {phase}:
        assert "grammar" not in post_arguments(*attempt(endpoint, other))["body"]


def test_a_phases_own_body_goes_before_what_is_sent_otherwise() -> None:
    endpoint = (
        f"{LIVE}extra_body = {{ temperature = 1, top_k = 2 }}\n"
        "extra_body_by_phase.decompose = { temperature = 0, response_format = { type = 'text' } }"
    )
    body = post_arguments(*attempt(endpoint, "decompose"))["body"]
    assert (body["temperature"], body["top_k"]) == (0, 2)
    assert body["response_format"] == {"type": "text"}
    assert post_arguments(*attempt(endpoint, "fan_out"))["body"]["temperature"] == 1


@pytest.mark.parametrize(
    ("endpoint", "obeyed"), [(LIVE, True), ('kind = "local-llm"', False), ("", False)]
)
def test_proxies_of_the_environment_are_for_servers_elsewhere(endpoint: str, obeyed: bool) -> None:
    assert attempt(endpoint, "fan_out")[0].trust_env is obeyed


@pytest.mark.parametrize(
    ("endpoint", "header"),
    [
        (LIVE, None),
        (f"{LIVE}reuse_connections = false", "close"),
        ('kind = "local-llm"', "close"),
        ("", None),
    ],
)
def test_a_connection_is_closed_after_each_request_where_the_scenario_says_so(
    endpoint: str, header: str | None
) -> None:
    assert attempt_headers(*attempt(endpoint, "fan_out")).get("connection") == header


def test_a_rest_begins_when_a_trial_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    EndpointRest().wait(60)
    rest = EndpointRest(ended=90.0)
    rest.wait(60)
    rest.wait(5)
    rest.wait(0)
    assert slept == [50.0, 0.0]
