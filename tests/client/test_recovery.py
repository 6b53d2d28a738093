"""A failure that the policy retries is invisible to the program; another one is raised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httpx2
import openai
import pytest

import harness
from benchmarks.sdk_faults import CASES, Case
from harness.records.failures import is_retryable
from tests.client.talking import (
    PIECES,
    SOON,
    ask,
    body_of,
    calls,
    in_turn,
    outcomes,
    refused,
    stream_of,
)
from tests.transports.bodies import DONE, chunk, event, whole
from tests.wire.fault_server import Cut, FaultServer, Hold, Step, Write

MODES = pytest.mark.parametrize("mode", ["async", "sync"])
PATIENT = harness.Timeouts(first_token=0.4, idle=0.4, call=30)
PASSED_ON = {"truncated", "content_filter", "unknown_finish"}
"""Complete responses, as the package returns them."""


FAULTS = [
    pytest.param(case, stream, id=f"{case.fault}-{'stream' if stream else 'body'}")
    for case in CASES
    for stream in (True, False)
    if not case.drips and (case.stream if stream else case.body) is not None
]
"""Each fault, in a stream and in a body if it can occur there."""


@MODES
@pytest.mark.parametrize(("case", "stream"), FAULTS)
def test_every_fault_is_retried_or_raised(case: Case, stream: bool, mode: str) -> None:
    script = case.stream if stream else case.body
    assert script is not None, "FAULTS has no other"
    records: list[Any] = []
    keywords = {"on_record": records.append, "timeouts": PATIENT, "whole_responses": True}
    outcome = case.outcome
    if outcome == "idle_timeout" and not stream:
        outcome = "first_token_timeout"
    with FaultServer(in_turn(script(lambda: True))) as server:
        if "Retry-After" in case.fault:
            keywords["timeouts"] = PATIENT.model_copy(update={"call": 1.0})
            with pytest.raises(openai.RateLimitError, match="overloaded"):
                ask(server, mode, stream=stream, **keywords)
            assert len(server.seen) == 1
        elif is_retryable(outcome):
            assert ask(server, mode, stream=stream, **keywords) == "Because"
            assert outcomes(records) == [outcome, "ok"]
        elif outcome in PASSED_ON:
            assert ask(server, mode, stream=stream, **keywords) == "hi"
            assert outcomes(records) == [outcome]
        else:
            with pytest.raises(openai.APIStatusError):
                ask(server, mode, stream=stream, **keywords)
            assert outcomes(records) == [outcome]
    assert [call.outcome for call in calls(records)] == [outcomes(records)[-1]]


@MODES
def test_a_hidden_failure_is_raised_when_the_policy_gives_up(mode: str) -> None:
    blank = [stream_of(event({"error": {"message": "no"}})) for _ in range(3)]
    with (
        FaultServer(in_turn(*blank)) as server,
        pytest.raises(harness.FailedResponseError, match="error_in_stream") as raised,
    ):
        ask(server, mode, stream=True)
    assert raised.value.outcome == "error_in_stream"
    assert isinstance(raised.value, openai.APIError)
    assert len(server.seen) == 3


@MODES
def test_before_the_first_text_a_stream_is_retried_and_after_it_never(mode: str) -> None:
    early = stream_of(chunk(role="assistant"), b"not the protocol\n\n")
    late = [*stream_of(chunk(content="Be"))[:1], Cut()]
    with FaultServer(in_turn(early)) as server:
        assert ask(server, mode, stream=True) == "Because"
    records: list[Any] = []
    with FaultServer(in_turn(late)) as server, pytest.raises(openai.APIConnectionError):
        ask(server, mode, stream=True, on_record=records.append)
    assert outcomes(records) == ["connection_lost"]
    with FaultServer(in_turn(late)) as server:
        assert ask(server, mode, stream=True, whole_responses=True) == "Because"


@MODES
def test_a_stream_that_ends_early_is_an_error_after_its_last_text(mode: str) -> None:
    with (
        FaultServer(in_turn(stream_of(*PIECES[:2]))) as server,
        pytest.raises(harness.FailedResponseError, match="missing_done"),
    ):
        ask(server, mode, stream=True)


@MODES
def test_a_deadline_between_two_texts_is_a_timeout(mode: str) -> None:
    stalled = [*stream_of(chunk(content="Be"))[:1], Hold()]
    with FaultServer(in_turn(stalled)) as server, pytest.raises(openai.APITimeoutError):
        ask(server, mode, stream=True, timeouts=harness.Timeouts(idle=0.2))


@MODES
def test_tool_calls_are_an_answer(mode: str) -> None:
    called = [{"index": 0, "id": "1", "type": "function", "function": {"name": "f"}}]
    pieces = [chunk(role="assistant", tool_calls=called), chunk("tool_calls"), DONE]
    with FaultServer(
        in_turn(stream_of(*pieces), body_of(whole("tool_calls", content=None, tool_calls=called)))
    ) as server:
        assert ask(server, mode, stream=True) == ""
        assert ask(server, mode, stream=False) == ""
        assert len(server.seen) == 2


@MODES
def test_the_deadline_of_a_call_ends_its_retries(mode: str) -> None:
    slow = harness.policies.Fixed(attempts=9, delay=5.0)
    with (
        FaultServer(in_turn(*[refused()] * 9)) as server,
        pytest.raises(openai.InternalServerError, match="overloaded"),
    ):
        ask(server, mode, stream=False, retry=slow, timeouts=harness.Timeouts(call=1.0))
    assert len(server.seen) == 1


@MODES
def test_a_refused_connection_is_the_package_s_own_error(mode: str) -> None:
    with FaultServer(in_turn()) as server:
        url = server.base_url
    with pytest.raises(openai.APIConnectionError) as raised:
        ask(server, mode, stream=False, base_url=url)
    assert isinstance(raised.value.__cause__, httpx2.ConnectError)


@MODES
def test_a_hedge_answers_when_the_first_request_stalls(mode: str) -> None:
    stalled: Sequence[Step] = [
        Write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"),
        Hold(),
    ]
    hedge = [harness.policies.Hedge(after=0.05), harness.policies.NoRetry()]
    for whole_responses in (True, False):
        records: list[Any] = []
        with FaultServer(in_turn(stalled)) as server:
            keywords = {"retry": hedge, "whole_responses": whole_responses}
            text = ask(server, mode, stream=True, on_record=records.append, **keywords)
        assert text == "Because"
        assert sorted(outcomes(records)) == ["cancelled", "ok"]


@MODES
def test_a_breaker_that_parks_loses_no_call(mode: str) -> None:
    policy = [harness.policies.Breaker(failures=2, pause=0.01, cap=0.05), SOON]
    with FaultServer(in_turn(*[refused()] * 6)) as server:
        assert ask(server, mode, stream=False, retry=policy) == "Because"
        assert len(server.seen) == 7


@MODES
def test_a_retry_budget_refuses_retries(mode: str) -> None:
    policy = [harness.policies.RetryBudget(ratio=0.1, burst=1), SOON]
    with (
        FaultServer(in_turn(*[refused()] * 6)) as server,
        pytest.raises(openai.InternalServerError),
    ):
        ask(server, mode, stream=False, retry=policy)
    assert len(server.seen) == 2
