"""An attempt that is no longer wanted is broken off at once, alone, whatever it waits for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import pytest

from harness.config.network import tls_context
from harness.engine.branches import Branch
from harness.engine.effects import Message, Reply, Request, Send
from harness.records.failures import CANCELLED, OK
from harness.records.ids import attempt_span, traceparent, workflow_trace
from harness.records.keys import AttemptKey
from harness.transports.async_transport import AsyncClient
from harness.transports.exchange import Exchange
from harness.transports.sync_transport import SyncClient
from harness.transports.target import Target
from tests.transports.attempts import KEY, make_send, make_target
from tests.transports.bodies import EVENT_STREAM, chunk
from tests.wire.clients import now, with_client
from tests.wire.fault_server import (
    END,
    PATIENCE,
    Drip,
    FaultServer,
    Hold,
    Seen,
    Step,
    Until,
    Write,
    framed,
    head,
)
from tests.wire.faults import GOOD
from tests.wire.test_client_deadlines import Address, deaf, full

HEAD = Write(head(200, ("content-type", EVENT_STREAM)))
ANSWER: Sequence[Step] = [HEAD, Write(framed(b"".join(GOOD))), Write(END)]
TEXT = Write(framed(chunk(reasoning_content="hm") + chunk(content="hi")))

Cancelling = Callable[..., Reply]
"""(target, send, event or None) -> the reply; it is cancelled at the event, None before it begins.

The client then sends a second attempt to `then`, which must go well, if that is given."""


def cancel_sync(
    target: Target, effect: Send, event: threading.Event | None, then: bool = False
) -> Reply:
    branch = branch_of(event)

    def cancel() -> None:
        assert event is None or event.wait(PATIENCE)
        branch.cancel()

    watcher = threading.Thread(target=cancel)
    with SyncClient(target, now) as client:
        watcher.start()
        if event is None:
            watcher.join()
        first = client.send(effect, branch)
        watcher.join()
        if then:
            assert client.send(make_send(attempt=2)).outcome == OK
    return first


def cancel_async(
    target: Target, effect: Send, event: threading.Event | None, then: bool = False
) -> Reply:
    async def whole(client: AsyncClient) -> Reply:
        branch = branch_of(event)

        async def cancel() -> None:
            assert event is None or await asyncio.to_thread(event.wait, PATIENCE)
            branch.cancel()

        async with asyncio.TaskGroup() as group:
            watcher = group.create_task(cancel())
            if event is None:
                await watcher
            first = await client.send(effect, branch)
        if then:
            assert (await client.send(make_send(attempt=2))).outcome == OK
        async with asyncio.timeout(PATIENCE):
            while asyncio.all_tasks() != {asyncio.current_task()}:  # noqa: ASYNC110 - no event
                await asyncio.sleep(0)
        return first

    return with_client(target, whole)


class AtText(threading.Event):
    """Comes with the first text of the attempt."""


def branch_of(event: threading.Event | None) -> Branch:
    return Branch(event.set) if isinstance(event, AtText) else Branch()


BOTH = pytest.mark.parametrize("cancelling", [cancel_sync, cancel_async], ids=["sync", "async"])


def at(step: str, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Return an event that comes when the client notes that step."""
    event, note = threading.Event(), getattr(Exchange, step)

    def noting(exchange: Exchange, *args: object) -> None:
        note(exchange, *args)
        event.set()

    monkeypatch.setattr(Exchange, step, noting)
    return event


def first_only(steps: Sequence[Step]) -> Callable[[Seen], Sequence[Step]]:
    """Answer the attempt that is to be cancelled so, and the next one well."""
    first = traceparent(workflow_trace("run", KEY), attempt_span("run", AttemptKey(*KEY, 1)))
    return lambda seen: steps if seen.header("traceparent") == first else ANSWER


@BOTH
@pytest.mark.parametrize(
    ("steps", "status", "chunks"),
    [
        ([HEAD, TEXT, Hold()], 200, 2),
        ([HEAD, TEXT, Drip(framed(b": ping\n\n"), 0.01)], 200, 2),
    ],
    ids=["silence", "keep-alives"],
)
def test_what_had_come_by_then_is_kept_and_its_connection_closed(
    steps: Sequence[Step], status: int | None, chunks: int, cancelling: Cancelling
) -> None:
    with FaultServer(first_only(steps)) as server:
        reply = cancelling(make_target(server.base_url), make_send(), AtText(), then=True)
        assert server.settled(lambda: server.open == 0)
        assert server.connections == 2  # the first was of no more use
    assert reply.outcome == CANCELLED
    assert (reply.status, reply.chunks) == (status, chunks)
    assert (reply.reasoning, reply.answer) == ("hm", "hi")
    stamps = [reply.sent, reply.headers, reply.first_reasoning, reply.last_token, reply.done]
    assert stamps == sorted(stamp for stamp in stamps if stamp is not None)


@BOTH
@pytest.mark.parametrize(
    ("steps", "step"),
    [([Hold()], "note_sent"), ([HEAD, Hold()], "note_response")],
    ids=["no answer", "no body"],
)
def test_it_need_not_have_been_answered(
    steps: Sequence[Step], step: str, cancelling: Cancelling, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = at(step, monkeypatch)
    with FaultServer(first_only(steps)) as server:
        reply = cancelling(make_target(server.base_url), make_send(), event, then=True)
        assert server.settled(lambda: server.open == 0)
    assert (reply.outcome, reply.chunks) == (CANCELLED, 0)
    assert reply.sent is not None


@BOTH
def test_one_that_is_not_wanted_any_more_before_it_begins_is_not_sent(
    cancelling: Cancelling,
) -> None:
    with FaultServer(lambda _: ANSWER) as server:
        reply = cancelling(make_target(server.base_url), make_send(), None)
        assert (reply.outcome, reply.sent, server.seen) == (CANCELLED, None, [])


@BOTH
@pytest.mark.parametrize(
    ("place", "scheme"), [(full, "http"), (deaf, "https")], ids=["no connection", "no handshake"]
)
def test_it_need_not_be_connected(
    place: Callable[[], AbstractContextManager[Address]],
    scheme: str,
    cancelling: Cancelling,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It would take as long as its deadline says: here for ever."""
    tls_context(False)
    event = at("note_connecting", monkeypatch)
    with place() as (host, port):
        reply = cancelling(make_target(f"{scheme}://{host}:{port}/v1"), make_send(), event)
    assert (reply.outcome, reply.sent) == (CANCELLED, None)


@BOTH
@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
def test_its_request_need_not_have_been_read(
    cancelling: Cancelling, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = Request((Message("user", "word " * 4_000_000),))
    event = at("note_sent", monkeypatch)
    with deaf() as (host, port):
        target = make_target(f"http://{host}:{port}/v1")
        assert cancelling(target, make_send(request=book), event).outcome == CANCELLED


def test_a_connection_that_went_back_is_left_alone_by_a_late_cancellation() -> None:
    """Another attempt may use it by now."""
    branch = Branch()
    with FaultServer(lambda _: ANSWER) as server:
        with SyncClient(make_target(server.base_url), now) as client:
            assert client.send(make_send(), branch).outcome == OK
            branch.cancel()
            assert client.send(make_send(attempt=2)).outcome == OK
        assert server.connections == 1


def test_only_the_cancelled_one_of_many_threads_loses_its_connection() -> None:
    many = 8
    branches = [Branch() for _ in range(many)]
    replies: dict[int, Reply] = {}

    def answer(seen: Seen) -> Sequence[Step]:
        return [HEAD, TEXT, Hold()] if b"number 3" in seen.body else [HEAD, *rest]

    def one_has_left() -> bool:
        return server.most_in_service == many and server.in_service < many

    rest: list[Step] = [Until(one_has_left), *ANSWER[1:]]
    with FaultServer(answer) as server, SyncClient(make_target(server.base_url), now) as client:

        def send(number: int) -> None:
            asked = Request((Message("user", f"number {number}"),))
            replies[number] = client.send(make_send(request=asked), branches[number])

        threads = [threading.Thread(target=send, args=(number,)) for number in range(many)]
        for thread in threads:
            thread.start()
        assert server.settled(lambda: server.in_service == many)
        branches[3].cancel()
        for thread in threads:
            thread.join(PATIENCE)
    assert [replies[number].outcome for number in range(many)] == [
        CANCELLED if number == 3 else OK for number in range(many)
    ]
