"""The lines to paste run, and do what the recommended cell did."""

from __future__ import annotations

import asyncio
import itertools
import time
import types
from typing import Any

import httpx2
import msgspec
import openai
import pytest

import harness
from harness.analysis.code_snippet import FailuresMet, lines_to_paste
from harness.records.schema import Run
from tests.analysis.builders import cell_info, make_run

POLICIES = """
[retry.equal]
kind = "exponential"
jitter = "equal"
base = "250ms"
cap = "3s"
attempts = 3
[retry.decorrelated]
kind = "exponential"
jitter = "decorrelated"
attempts = 4
[retry.fixed]
kind = "fixed"
delay = "2s"
attempts = 3
[retry.breaker]
kind = "breaker"
scope = "phase"
[retry.finagle]
kind = "finagle-budget"
[retry.grpc]
kind = "grpc-throttling"
[retry.late]
kind = "hedge"
after = "3s"
[retry.deep]
kind = "stack"
layers = ["breaker", "finagle", "grpc", "late", "equal"]
[retry.budget]
kind = "retry-budget"
ratio = 0.2
[retry.wrapped]
kind = "stack"
layers = ["budget", "fixed"]
"""
ATTEMPTS = {"none": 1, "full-jitter": 5, "equal": 3, "decorrelated": 4, "fixed": 3}


SOME_REFUSED = FailuresMet(frozenset({"ok", "rate_limited"}), retry_after=False, deadline=False)


def with_stream_off(run: Run) -> Run:
    endpoint = {**run.scenario["endpoint"], "stream": False}
    return msgspec.structs.replace(run, scenario={**run.scenario, "endpoint": endpoint})


def pasted(
    mode: str,
    permits: int,
    retry: str,
    scope: str = "attempt",
    *,
    stream: bool = True,
    met: FailuresMet | None = None,
) -> list[str]:
    cell = f"{mode}_{permits}_{retry}_{scope}"
    run = make_run([cell], extra_toml=POLICIES)
    return list(lines_to_paste(run if stream else with_stream_off(run), cell_info(cell), met))


def plain(mode: str, permits: int, retry: str, scope: str = "attempt") -> list[str]:
    """The lines of a cell without streams in which some calls were refused."""
    lines = pasted(mode, permits, retry, scope, stream=False, met=SOME_REFUSED)
    assert "import openai" in lines
    return lines


def limited(after: str | None) -> openai.RateLimitError:
    headers = {} if after is None else {"retry-after": after}
    response = httpx2.Response(429, headers=headers, request=httpx2.Request("POST", "http://x"))
    return openai.RateLimitError("no", response=response, body=None)


class World:
    """Refuses so often, then answers; sees the sleeps, and how many ask at once."""

    def __init__(self, refusals: int, after: str | None = None) -> None:
        self.refusals = refusals
        self.after = after
        self.asked = 0
        self.sleeps: list[float] = []
        self.inside = 0
        self.most = 0

    def answer(self) -> str:
        self.asked += 1
        if self.asked <= self.refusals:
            raise limited(self.after)
        return "answer"

    async def create(self, **request: Any) -> str:
        self.inside += 1
        self.most = max(self.most, self.inside)
        await asyncio.sleep(0)
        self.inside -= 1
        return self.answer()

    def run(self, mode: str, lines: list[str], monkeypatch: pytest.MonkeyPatch) -> Any:
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        space: dict[str, Any] = {}
        exec("\n".join(lines), space)
        if mode == "async":
            completions: Any = types.SimpleNamespace(create=self.create)
        else:
            completions = types.SimpleNamespace(create=lambda **request: self.answer())
        space["client"] = types.SimpleNamespace(chat=types.SimpleNamespace(completions=completions))
        real = asyncio.sleep

        async def slept(seconds: float) -> None:
            if seconds:
                self.sleeps.append(seconds)
            await real(0)

        monkeypatch.setattr(asyncio, "sleep", slept)
        monkeypatch.setattr(time, "sleep", self.sleeps.append)
        if mode == "async":
            return asyncio.run(space["ask"](model="m"))
        return space["ask"](model="m")


@pytest.mark.parametrize(("mode", "retry"), list(itertools.product(("sync", "async"), ATTEMPTS)))
def test_so_many_attempts_are_made_and_not_one_more(
    mode: str, retry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = ATTEMPTS[retry]
    for scope in ("attempt", "call"):
        lines = plain(mode, 1 if mode == "sync" else 8, retry, scope)
        assert max(map(len, lines)) <= 76, "with four blanks before it, it fits a terminal"
        world = World(refusals=most - 1)
        assert world.run(mode, lines, monkeypatch) == "answer"
        assert (world.asked, len(world.sleeps)) == (most, most - 1)
        never = World(refusals=99)
        with pytest.raises(openai.RateLimitError):
            never.run(mode, lines, monkeypatch)
        assert never.asked == most


def test_the_pauses_are_those_of_the_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(refusals=2)
    world.run("async", plain("async", 8, "equal"), monkeypatch)
    first, second = world.sleeps
    assert 0.125 <= first <= 0.25
    assert 0.25 <= second <= 0.5


def test_retry_after_takes_the_place_of_the_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(refusals=1, after="7")
    world.run("async", plain("async", 8, "full-jitter"), monkeypatch)
    assert world.sleeps == [7.0]
    dated = World(refusals=1, after="Wed, 21 Oct 2026 07:28:00 GMT")
    dated.run("async", plain("async", 8, "full-jitter"), monkeypatch)
    assert 0 <= dated.sleeps[0] <= 20, "a date is left to the policy"
    passed = World(refusals=1, after="0")
    passed.run("async", plain("async", 8, "equal"), monkeypatch)
    assert 0.125 <= passed.sleeps[0] <= 0.25, "nor does a moment that is over say anything"


def test_there_are_as_many_permits_as_the_cell_had(monkeypatch: pytest.MonkeyPatch) -> None:
    space: dict[str, Any] = {}
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    exec("\n".join(plain("async", 8, "none")), space)
    assert space["permits"]._value == 8


def test_the_package_s_own_retries_are_its_own_setting_where_the_permit_is_held() -> None:
    client = "client = openai.AsyncOpenAI(max_retries=2)"
    assert client in plain("async", 8, "openai-sdk", "call")
    assert "client = openai.OpenAI(max_retries=2)" in plain("sync", 1, "openai-sdk")
    released = pasted("async", 8, "openai-sdk", stream=False, met=SOME_REFUSED)
    assert "    retry=harness.policies.OpenAISdk(max_retries=2)," in released
    none_failed = SOME_REFUSED._replace(outcomes=frozenset({"ok"}))
    assert client in pasted("async", 8, "openai-sdk", stream=False, met=none_failed)


@pytest.mark.parametrize(
    ("retry", "changed"),
    [
        ("equal", {"outcomes": frozenset({"ok", "blank_body"})}),
        ("none", {"outcomes": frozenset({"ok", "error_in_body"})}),
        ("equal", {"outcomes": frozenset({"ok", "first_token_timeout"})}),
        ("equal", {"outcomes": frozenset({"ok", "request_timeout"})}),
        ("equal", {"retry_after": True}),
        ("equal", {"deadline": True}),
        ("aws-standard", {}),
        ("wrapped", {}),
    ],
)
def test_plain_code_that_would_not_do_what_was_measured_is_not_pasted(
    retry: str, changed: dict[str, Any]
) -> None:
    met = SOME_REFUSED._replace(**changed)
    assert "import harness" in pasted("async", 8, retry, stream=False, met=met)


@pytest.mark.parametrize("retry", ["none", "equal"])
def test_threads_have_permits_that_are_given_in_order(retry: str) -> None:
    lines = pasted("threads", 3, retry, "call", stream=False, met=SOME_REFUSED)
    assert "import harness" in lines, "a threading.Semaphore lets some threads wait far longer"
    assert "    permits=3," in lines


def test_plain_code_does_not_hold_the_permit_of_a_stream() -> None:
    fine = FailuresMet(frozenset({"ok"}), retry_after=False, deadline=False)
    assert "import harness" in pasted("async", 8, "none", met=fine)
    assert "import openai" in pasted("sync", 1, "none", met=fine)
    assert "import harness" in pasted("sync", 1, "equal", met=fine), "the stream may break"


EVERY_KIND = {
    "none": harness.policies.NoRetry(),
    "openai-sdk": harness.policies.OpenAISdk(),
    "aws-standard": harness.policies.AwsStandard(),
    "full-jitter": harness.policies.Exponential(),
    "fixed": harness.policies.Fixed(attempts=3, delay=2),
    "wrapped": [
        harness.policies.RetryBudget(ratio=0.2),
        harness.policies.Fixed(attempts=3, delay=2),
    ],
    "deep": [
        harness.policies.Breaker(scope="phase"),
        harness.policies.FinagleBudget(),
        harness.policies.GrpcThrottling(),
        harness.policies.Hedge(after=3),
        harness.policies.Exponential(jitter="equal", attempts=3, base=0.25, cap=3),
    ],
}


@pytest.mark.parametrize(("mode", "cls"), [("async", "AsyncOpenAI"), ("threads", "OpenAI")])
@pytest.mark.parametrize("retry", EVERY_KIND)
def test_the_client_is_made_with_what_the_cell_had(
    retry: str, mode: str, cls: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = pasted(mode, 8, retry, "call")
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 76, "with four blanks before it, it fits a terminal"
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    space: dict[str, Any] = {}
    exec("\n".join(lines), space)
    client = space["client"]
    assert type(client) is getattr(harness, cls)
    settings = client._settings
    assert settings.retry == EVERY_KIND[retry]
    assert (settings.permits, settings.permit_scope) == (8, "call")
    assert settings.timeouts == harness.Timeouts(connect=5, first_token=600, idle=60, call=600)
    assert settings.whole_responses
    named = any("x-harness-policy-phase" in line for line in lines)
    assert named == (retry == "deep"), "phases are named where layers have a state for each"
    if mode == "threads":
        client.close()


def test_without_streams_the_client_has_nothing_to_say_about_them() -> None:
    lines = "\n".join(pasted("async", 8, "aws-standard", stream=False))
    assert "stream" not in lines


LIVE = {
    "kind": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "deepseek-reasoner",
    "api_key_env": "MY_KEY",
}  # fmt: skip


@pytest.mark.parametrize("streamed", [True, False])
def test_the_requests_of_a_program_say_whether_it_streams(streamed: bool) -> None:
    cell = "async_4_full-jitter_attempt"
    run = make_run([cell], extra_toml=POLICIES)
    scenario = {**run.scenario, "workflow": {"program": "mine.py:main"}}
    met = SOME_REFUSED._replace(streamed=streamed)
    run = msgspec.structs.replace(run, scenario=scenario)
    lines = lines_to_paste(run, cell_info(cell), met)
    assert ("    # measured with stream=True" in lines) is streamed


def with_endpoint(run: Run, **values: Any) -> Run:
    endpoint = {**run.scenario["endpoint"], **values}
    return msgspec.structs.replace(run, scenario={**run.scenario, "endpoint": endpoint})


def live(mode: str, met: FailuresMet | None, **values: Any) -> list[str]:
    cell = f"{mode}_8_none_attempt"
    run = with_endpoint(make_run([cell], extra_toml=POLICIES), **{**LIVE, **values})
    return list(lines_to_paste(run, cell_info(cell), met))


@pytest.mark.parametrize("met", [None, SOME_REFUSED], ids=["harness", "openai"])
@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("key", ["MY_KEY", None])
def test_the_lines_reach_the_endpoint_that_was_measured(
    mode: str, met: FailuresMet | None, key: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setenv("MY_KEY", "secret")
    lines = live(mode, met, api_key_env=key, stream=False)
    assert ("import openai" in lines) == (met is not None)
    assert "secret" not in "".join(lines)
    assert '    # measured with model="deepseek-reasoner"' in lines
    space: dict[str, Any] = {}
    exec("\n".join(lines), space)
    assert str(space["client"].base_url) == "http://127.0.0.1:9/v1/"
    assert space["client"].api_key == ("secret" if key else "none")


def test_what_the_package_uses_anyway_is_left_out() -> None:
    usual = {"base_url": "https://api.openai.com/v1", "api_key_env": "OPENAI_API_KEY"}
    text = "\n".join(live("async", None, **usual))
    assert "base_url" not in text
    assert "import os" not in text
    assert '# measured with model="deepseek-reasoner", stream=True' in text
    assert "base_url" not in "\n".join(pasted("async", 8, "none"))
