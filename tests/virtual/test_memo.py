from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from harness.engine.effects import Message, Reply, Request, Send
from harness.records.clock import SECOND
from harness.simulator import memo
from harness.simulator.memo import Memo, PromptMemory
from harness.simulator.virtual.provider import Flight, VirtualProvider
from tests.virtual.single import attempt, trial

SPREAD: Mapping[str, Any] = {
    "ttft.sigma": 0.5,
    "itl_b": "10ms",
    "reasoning_tokens.sigma": 0.5,
    "answer_tokens.sigma": 0.5,
    "faults": [
        {"kind": "missing_done", "probability": 0.2},
        {"kind": "unavailable", "probability": 0.2},
    ],
}
PROMPTS = ("Topic: tides\nWhy?", "Topic: tides\nWhen?", "Give exactly 3 sub-questions as JSON")
LOADS = st.lists(
    st.tuples(st.integers(0, 3 * SECOND), st.sampled_from(PROMPTS), st.booleans()), max_size=12
)


def asking(prompt: str, idle: int) -> Send:
    request = Request((Message("user", prompt),), json_mode="JSON" in prompt)
    return replace(attempt(idle=idle), request=request)


def replies(
    load: list[tuple[int, str, bool]],
    stream: bool,
    memory: PromptMemory | None = None,
    cell: str = "cell",
    **overrides: Any,
) -> list[Reply | None]:
    of = trial(stream=stream, permits=9, **{**SPREAD, **overrides})
    provider = VirtualProvider(of._replace(memory=memory, cell=cell))
    flights: list[Flight] = []
    now = 0

    def advance(until: int) -> None:
        while (at := provider.next_at()) is not None and at <= until:
            provider.advance(max(at, now))

    for pause, prompt, is_watched in load:
        advance(now + pause)
        now += pause
        provider.advance(now)
        flights.append(
            provider.begin(now, asking(prompt, SECOND // 7 if is_watched else 60 * SECOND))
        )
    advance(10_000 * SECOND)
    return [flight.reply for flight in flights]


@given(LOADS, st.booleans())
def test_what_is_kept_of_a_prompt_changes_no_reply(
    load: list[tuple[int, str, bool]], stream: bool
) -> None:
    kept = replies(load, stream)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Memo, "get", lambda *_: None)
        assert replies(load, stream) == kept
    assert None not in kept


@given(LOADS, st.booleans())
def test_a_memory_that_trials_share_changes_no_reply(
    load: list[tuple[int, str, bool]], stream: bool
) -> None:
    memory = PromptMemory()
    replies(load, stream, memory, "one")
    assert replies(load, stream, memory, "two") == replies(load, stream, None, "two")
    longer: Any = {"answer_tokens.median": 50}
    assert replies(load, stream, memory, **longer) == replies(load, stream, **longer)


def test_a_memory_is_shared_by_the_trials_of_one_provider_alone() -> None:
    memory = PromptMemory()
    load = [(0, PROMPTS[0], False)]
    replies(load, True, memory, "one")
    known = dict(memory.requests)
    replies(load, True, memory, "two")
    assert dict(memory.requests) == known != {}
    replies([], True, memory, itl_b="20ms")
    assert not memory.requests


def test_a_memo_drops_its_values_when_they_weigh_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memo, "_MOST", 3000)
    values: Memo[str, int] = Memo()
    assert [values.keep(name, 1, 900) for name in "abc"] == [1, 1, 1]
    assert list(values) == ["c"]
    values.keep("d", 1, 900)
    assert list(values) == ["c", "d"]


def test_an_attempt_that_has_ended_does_not_stay_until_its_deadline() -> None:
    """With a deadline of 24 hours it would stay in memory for the whole trial."""
    provider = VirtualProvider(trial(permits=1))
    for number in range(5000):
        now = number * 10 * SECOND
        provider.advance(now)
        provider.begin(now, attempt(first_token=10**17, end=10**17))
    assert len(provider._limits) < 2000
