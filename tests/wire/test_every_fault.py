"""Every fault alone, in every mode: its class, what is decided, and what is left of it: nothing."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import uvloop

from harness.bench.modes import MODES
from harness.config.faults import KINDS, FaultKind
from harness.engine.attempt import CallTimeouts
from harness.engine.call import Completion, complete
from harness.engine.effects import Message, Program, Request, fan_out
from harness.policies.exponential import ExponentialRule
from harness.policies.no_retry import NoRetryRule
from harness.policies.retry import Retry
from harness.records.clock import SECOND
from harness.records.failures import FAILURES, OK
from harness.records.keys import CallKey
from harness.records.schema import Attempt, Call, Record
from harness.records.settings import one_at_a_time
from tests.bench.test_modes import open_gate, ours
from tests.engine.scripted import WORKFLOW, terms
from tests.transports.attempts import make_target
from tests.wire.clients import now
from tests.wire.provider import serving

MS = SECOND // 1000
CALLS = 2
SOON = CallTimeouts(connect=300 * MS, first_token=300 * MS, idle=300 * MS, call=20 * SECOND)
"""Where nothing goes wrong a call takes 12 ms."""
UNHURRIED = SOON._replace(connect=10 * SECOND, first_token=10 * SECOND, idle=10 * SECOND)
"""For faults that no clock of the client's has to notice: a slow machine is none of them."""
PATIENT = ExponentialRule(attempts=40, base=10 * MS, cap=50 * MS, jitter="equal")
PROFILE = {"reasoning_tokens": {"median": 40}, "answer_tokens.median": 40}


class Serving(NamedTuple):
    """A provider in a thread of its own. `connections` counts those that are open."""

    url: str
    connections: Any


@contextmanager
def provider(folder: Path, fault: Mapping[str, object]) -> Iterator[Serving]:
    began, stop = threading.Event(), threading.Event()
    made: list[Serving] = []

    async def serve() -> None:
        async with serving(folder, {**PROFILE, "faults": [fault]}) as one:
            made.append(Serving(one.url, one.connections))
            began.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=lambda: uvloop.run(serve()))  # as `harness serve` does
    thread.start()
    try:
        assert began.wait(20)
        yield made[0]
    finally:
        stop.set()
        thread.join()


def faulty(kind: FaultKind, lasting: bool) -> dict[str, object]:
    """Strike each call's first attempt, or all of them."""
    if kind.place != "connection":
        when = {"probability" if lasting else "arrivals": 1}
        return {"kind": kind.name, "phases": ["research"], **when}
    return {"kind": kind.name, "outage": {"start": 0, "duration": "1h" if lasting else "10s"}}


def limits(kind: FaultKind) -> CallTimeouts:
    """Return how patient a client is: no more than it takes where its own clock sees the fault."""
    return SOON if kind.status is None and kind.outcome.endswith("_timeout") else UNHURRIED


def run(
    mode: str, serving: Serving, kind: FaultKind, retry: Retry
) -> tuple[list[Attempt], list[Call]]:
    """Return what is recorded of the calls that may be struck.

    A run whose very first answer is a wrong key or the like ends there, so one that is not struck
    goes before them; but where nobody can connect there is no such answer.
    """
    records: list[Record] = []
    made = terms(retry)._replace(limits=limits(kind))

    def call(branch: int | None, question: str) -> Program[Completion]:
        key = CallKey(*WORKFLOW, "decompose" if branch is None else "fan_out", branch, 1)
        return complete(made, key, Request((Message("user", question),)), now())

    def calls() -> Program[None]:
        if kind.place != "connection":
            yield from call(None, "Write a report.")
        yield from fan_out([call(branch, f"Why {branch} tides?") for branch in range(CALLS)])

    permits = 1 if one_at_a_time(mode) else CALLS
    target = make_target(serving.url, settings={"fan_out": "research"})
    MODES[mode](calls(), target, permits, now, records.append, open_gate())
    attempts = [record for record in records if isinstance(record, Attempt)]
    ended = [record for record in records if isinstance(record, Call)]
    return (
        [attempt for attempt in attempts if attempt.branch is not None],
        [call for call in ended if call.branch is not None],
    )


def nothing_is_left(serving: Serving) -> bool:
    """Wait for the provider to notice that the client has gone."""
    give_up = now() + 20 * SECOND
    while (ours() or serving.connections()) and now() < give_up:
        time.sleep(0)
    return not ours() and not serving.connections()


def first_of(attempts: list[Attempt]) -> list[Attempt]:
    return [attempt for attempt in attempts if attempt.attempt == 1]


def is_on_time(attempt: Attempt, kind: FaultKind) -> bool:
    """Whether nothing hung for more than a second past the deadline that it had."""
    had = limits(kind)
    patience = had.connect + had.first_token + had.idle
    return attempt.done - attempt.permit_granted <= patience + SECOND


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", KINDS)
def test_a_retry_recovers_what_a_retry_can_and_nothing_else(
    tmp_path: Path, mode: str, name: str
) -> None:
    """The fault strikes each call once; a connection's outage is over after a while."""
    kind = KINDS[name]
    with provider(tmp_path, faulty(kind, lasting=False)) as serving:
        attempts, calls = run(mode, serving, kind, PATIENT)
        assert nothing_is_left(serving)
    assert len(calls) == CALLS
    retryable = FAILURES[kind.outcome].retryable
    assert {call.outcome for call in calls} == {OK if retryable else kind.outcome}
    struck = first_of(attempts)
    if kind.place == "connection":  # the first request of all begins the outage, and is cut
        struck = [attempt for attempt in attempts if attempt.outcome == kind.outcome]
        assert struck or mode == "sync"
    assert {attempt.outcome for attempt in struck} <= {kind.outcome}
    for attempt in struck:
        assert is_on_time(attempt, kind)
        assert attempt.decision is not None
        assert (attempt.decision.retry_in is not None) == retryable
        assert retryable or attempt.decision.give_up == "not_retryable"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", KINDS)
def test_a_fault_that_lasts_fails_its_calls_cleanly_and_on_time(
    tmp_path: Path, mode: str, name: str
) -> None:
    kind = KINDS[name]
    with provider(tmp_path, faulty(kind, lasting=True)) as serving:
        attempts, calls = run(mode, serving, kind, NoRetryRule())
        assert nothing_is_left(serving)
    seen = {kind.outcome}
    if kind.place == "connection":
        # The first request shuts the door. It is inside; others may be on their way, and a reset
        # that comes before their first byte is a failure to connect.
        seen |= {"connection_lost", "connect_failed"}
    assert len(calls) == len(attempts) == CALLS
    assert {call.outcome for call in calls} <= seen
    if one_at_a_time(mode):  # the second one comes when the door is shut
        assert calls[-1].outcome == kind.outcome
    for attempt in attempts:
        assert attempt.outcome in seen
        assert is_on_time(attempt, kind)
        assert attempt.decision is not None
        assert attempt.decision.give_up == "policy"
