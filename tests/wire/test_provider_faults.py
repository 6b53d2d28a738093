"""Every fault that the simulated provider can be asked for, as the project's own client sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.config.faults import KINDS
from harness.engine.effects import Reply
from harness.records.clock import SECOND
from harness.transports.async_transport import AsyncClient
from tests.transports.attempts import make_deadlines, make_send, make_target
from tests.wire.clients import now
from tests.wire.provider import Provider, serving

MS = SECOND // 1000
REASONING = {"reasoning_tokens": {"median": 40}, "answer_tokens.median": 40}
SOON = make_deadlines(first_token=500 * MS, idle=500 * MS)
"""Fault-free, a stream takes 10 ms at the scale of these tests."""


def faulty(kind: str, **more: Any) -> dict[str, object]:
    return {**REASONING, "faults": [{"kind": kind, "probability": 1, **more}]}


def requests() -> list[Any]:
    cases = [(name, stream) for name, kind in KINDS.items() if kind.place != "connection"
             for stream in ((True,) if kind.streams_only else (True, False))]  # fmt: skip
    return [
        pytest.param(*case, id=f"{case[0]}, {'stream' if case[1] else 'body'}") for case in cases
    ]


async def send(provider: Provider, stream: bool = True, soon: bool = False) -> Reply:
    (reply,) = await send_several(provider, 1, stream, soon)
    return reply


async def send_several(
    provider: Provider, count: int, stream: bool = True, soon: bool = False
) -> list[Reply]:
    async with AsyncClient(make_target(provider.url, stream=stream), now) as client:
        sends = [make_send(SOON if soon else None) for _ in range(count)]
        return [await client.send(one) for one in sends]


@pytest.mark.parametrize(("name", "stream"), requests())
async def test_a_fault_comes_to_its_class_and_the_log_says_which_it_was(
    tmp_path: Path, name: str, stream: bool
) -> None:
    kind = KINDS[name]
    async with serving(tmp_path, faulty(name)) as provider:
        reply = await send(provider, stream, soon=kind.holds)
        (served,) = await provider.logged(1)
    assert reply.outcome == kind.outcome, reply
    assert served.fault == name
    assert served.outcome == ("client_closed" if kind.holds else kind.outcome)
    assert reply.status == served.status or name == "reset_in_body"  # a reset may outrun the head
    assert reply.retry_after is None
    if kind.place == "text" and stream and name not in ("reset_in_body", "empty_answer"):
        # half of 40 tokens of reasoning and 40 of the answer, or half of the reasoning
        assert reply.chunks == served.chunks == (20 if name == "stall" else 40)
        assert reply.answer == ""
        assert reply.reasoning
    if kind.finish_reason is not None:
        assert reply.finish_reason == kind.finish_reason
        assert reply.tokens == served.tokens


@pytest.mark.parametrize("name", ["rate_limited", "unavailable"])
@pytest.mark.parametrize("after", [0, "1s"])
async def test_a_refusal_says_when_to_come_back_in_real_time(
    tmp_path: Path, name: str, after: object
) -> None:
    """Also when that is longer than any deadline, and also when the refusal takes a while."""
    faults = faulty(name, retry_after="2h", after=after)
    async with serving(tmp_path, faults) as provider:
        reply = await send(provider)
        (served,) = await provider.logged(1)
    assert (reply.outcome, reply.retry_after) == (name, 72 * SECOND)
    assert served.done - served.arrived >= (10 * MS if after else 0)


async def test_a_fault_may_strike_one_phase_alone(tmp_path: Path) -> None:
    faults = faulty("unavailable", phases=["synthesize"])
    async with serving(tmp_path, faults) as provider:
        for phase, status in (("research", 200), (None, 200), ("synthesize", 503)):
            headers = {"x-harness-phase": phase} if phase else {}
            async with provider.post(provider.ask(), headers) as response:
                assert response.status == status
                await response.read()


async def test_a_request_that_is_not_streamed_is_left_alone_by_faults_of_streams(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, faulty("missing_done")) as provider:
        assert (await send(provider, stream=False)).outcome == "ok"
        assert (await provider.logged(1))[0].fault is None


@pytest.mark.parametrize("name", ["connect_failed", "connect_timeout"])
async def test_an_outage_of_connections_keeps_clients_out_and_ends(
    tmp_path: Path, name: str
) -> None:
    """It begins with the first request here, which is broken off."""
    faults = {"faults": [{"kind": name, "outage": {"start": 0, "duration": "100s"}}]}
    async with serving(tmp_path, faults) as provider:
        deadlines = make_deadlines(connect=50 * MS if name == "connect_timeout" else 20 * SECOND)
        outcomes: list[str] = []
        async with AsyncClient(make_target(provider.url), now) as client, asyncio.timeout(20):
            while outcomes[-1:] != ["ok"]:
                outcomes.append((await client.send(make_send(deadlines))).outcome)
        broken, served = await provider.logged(2)
    assert outcomes[0] == "connection_lost"
    assert set(outcomes[1:-1]) == {name}
    assert (broken.outcome, broken.fault) == ("connection_lost", name)
    assert (served.outcome, served.fault) == ("ok", None)


async def test_an_outage_breaks_off_whoever_is_being_served(tmp_path: Path) -> None:
    faults: Mapping[str, object] = {
        "ttft.median": "1h",
        "faults": [{"kind": "connect_failed", "outage": {"start": "1s", "duration": "1h"}}],
    }
    async with serving(tmp_path, faults) as provider:
        assert [reply.outcome for reply in await send_several(provider, 2)] == [
            "connection_lost",
            "connect_failed",
        ]
        (served,) = await provider.logged(1)
    assert (served.outcome, served.fault) == ("connection_lost", "connect_failed")


async def test_the_next_trial_can_begin_while_an_outage_is_on(tmp_path: Path) -> None:
    """Over the connection that began the one before; and it begins without the outage."""
    faults = {"faults": [{"kind": "connect_failed", "outage": {"start": "1s", "duration": "1h"}}]}
    async with serving(tmp_path, {**faults, "ttft.median": "1h"}) as provider:
        control = provider.url.removesuffix("/v1") + "/simulator/trial"
        for repeat in range(2):
            async with provider.session.post(control, json={"cell": "c", "repeat": repeat}) as done:
                assert done.status == 200
            assert (await send(provider)).outcome == "connection_lost"
