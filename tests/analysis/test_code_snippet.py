"""The lines to paste run, and do what the recommended cell did."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
import types
from collections.abc import Callable
from typing import Any

import httpx2
import openai
import pytest

from harness.analysis.code_snippet import lines_to_paste
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
[retry.budget]
kind = "retry-budget"
ratio = 0.2
[retry.wrapped]
kind = "stack"
layers = ["budget", "fixed"]
"""
ATTEMPTS = {
    "none": 1, "openai-sdk": 1, "full-jitter": 5, "equal": 3, "decorrelated": 4, "fixed": 3,
    "aws-standard": 3, "wrapped": 3,
}  # fmt: skip


def pasted(mode: str, permits: int, retry: str, scope: str = "attempt") -> list[str]:
    cell = f"{mode}_{permits}_{retry}_{scope}"
    return list(lines_to_paste(make_run([cell], extra_toml=POLICIES), cell_info(cell)))


def limited(after: str | None) -> openai.RateLimitError:
    headers = {} if after is None else {"retry-after": after}
    response = httpx2.Response(429, headers=headers, request=httpx2.Request("POST", "http://x"))
    return openai.RateLimitError("no", response=response, body=None)


def broken(after: str | None) -> openai.InternalServerError:
    response = httpx2.Response(503, request=httpx2.Request("POST", "http://x"))
    return openai.InternalServerError("no", response=response, body=None)


class World:
    """Refuses so often, then answers; sees the sleeps, and how many ask at once."""

    def __init__(
        self,
        refusals: int,
        after: str | None = None,
        error: Callable[[str | None], Exception] = limited,
    ) -> None:
        self.refusals = refusals
        self.after = after
        self.error = error
        self.asked = 0
        self.sleeps: list[float] = []
        self.inside = 0
        self.most = 0

    def answer(self) -> str:
        self.asked += 1
        if self.asked <= self.refusals:
            raise self.error(self.after)
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


@pytest.mark.parametrize(
    ("mode", "retry"), list(itertools.product(("sync", "threads", "async"), ATTEMPTS))
)
def test_so_many_attempts_are_made_and_not_one_more(
    mode: str, retry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = ATTEMPTS[retry]
    for scope in ("attempt", "call"):
        lines = pasted(mode, 1 if mode == "sync" else 8, retry, scope)
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
    world.run("async", pasted("async", 8, "equal"), monkeypatch)
    first, second = world.sleeps
    assert 0.125 <= first <= 0.25
    assert 0.25 <= second <= 0.5


def test_retry_after_takes_the_place_of_the_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(refusals=1, after="7")
    world.run("async", pasted("async", 8, "full-jitter"), monkeypatch)
    assert world.sleeps == [7.0]
    dated = World(refusals=1, after="Wed, 21 Oct 2026 07:28:00 GMT")
    dated.run("async", pasted("async", 8, "full-jitter"), monkeypatch)
    assert 0 <= dated.sleeps[0] <= 20, "a date is left to the policy"
    passed = World(refusals=1, after="0")
    passed.run("async", pasted("async", 8, "equal"), monkeypatch)
    assert 0.125 <= passed.sleeps[0] <= 0.25, "nor does a moment that is over say anything"


def test_the_rule_of_aws_waits_less_after_other_failures_and_trusts_a_hint_for_five_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = pasted("async", 8, "aws-standard")
    assert any(line.startswith("# measured, not included: a quota of 500") for line in lines)
    other = World(refusals=2, error=broken)
    other.run("async", lines, monkeypatch)
    assert other.sleeps[0] <= 0.05
    assert other.sleeps[1] <= 0.1
    hinted = World(refusals=1, after="60")
    hinted.run("async", lines, monkeypatch)
    assert 5 <= hinted.sleeps[0] <= 6


def test_there_are_as_many_permits_as_the_cell_had(monkeypatch: pytest.MonkeyPatch) -> None:
    space: dict[str, Any] = {}
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    exec("\n".join(pasted("async", 8, "none")), space)
    assert space["permits"]._value == 8
    exec("\n".join(pasted("threads", 3, "none")), space)
    assert isinstance(space["permits"], threading.Semaphore)


def test_the_package_s_own_retries_are_its_own_setting_and_others_are_described() -> None:
    assert "client = openai.AsyncOpenAI(max_retries=2)" in pasted("async", 8, "openai-sdk")
    held = [line for line in pasted("async", 8, "openai-sdk") if "here they are held" in line]
    assert len(held) == 1
    assert max(map(len, pasted("async", 8, "openai-sdk"))) <= 76
    for lines in (pasted("async", 8, "openai-sdk", "call"), pasted("sync", 1, "openai-sdk")):
        assert not any(line.startswith("#") for line in lines)
    assert "client = openai.OpenAI(max_retries=0)" in pasted("threads", 8, "none")
    (note,) = [line for line in pasted("async", 8, "wrapped") if line.startswith("#")]
    assert note.endswith("retries for 20% of the calls, 10 at once")
