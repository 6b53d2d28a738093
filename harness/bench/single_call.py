"""One call outside a run: sent at once, without retries, and its text passed on as it arrives."""

from __future__ import annotations

import queue
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from harness.bench.running_endpoints import target_of
from harness.bench.scenario import Scenario
from harness.config.request_settings import Secrets
from harness.engine.attempt import CallTimeouts
from harness.engine.branches import Branch
from harness.engine.deadlines import CALL_TIMEOUT
from harness.engine.effects import Deadlines, Message, Reply, Request, Send
from harness.records.clock import Anchor, ReadClock, monotonic_since, take_anchor
from harness.records.ids import new_run_id
from harness.records.keys import CallKey
from harness.records.redaction import Redactor
from harness.transports.reading import Reading
from harness.transports.sync_transport import SyncClient
from harness.transports.target import Target

_KEY = CallKey("ask", 0, 0, 1, "question", None, 1)
_UNFINISHED = "\N{REPLACEMENT CHARACTER}"


class TextPart(NamedTuple):
    """A part of the reasoning or of the answer."""

    is_reasoning: bool
    text: str


class Answered(NamedTuple):
    """The reply to a request. `base_url`: of the server; `anchor`: the zero of the reply's times.

    `sent`: what was sent.
    """

    reply: Reply
    base_url: str
    anchor: Anchor
    sent: Send


class _TextParts:
    """Makes the new parts of the texts of a reading, without secrets."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._taken = {True: 0, False: 0}

    def take(self, reasoning: str, answer: str, *, is_end: bool = False) -> list[TextPart]:
        """Return what is new; what may be the beginning of a secret waits for more text.

        `reasoning`, `answer`: the texts so far. An answer that turns out to be reasoning, because
        its opening mark was missing, is not returned again.
        """
        if self._taken[False] > len(answer):
            self._taken = {True: self._taken[False], False: 0}
        parts = []
        # The reasoning is over when the answer begins.
        for is_reasoning, text, is_over in (
            (True, reasoning, is_end or bool(answer)), (False, answer, is_end),
        ):  # fmt: skip
            new = text[self._taken[is_reasoning] :]
            if not is_over:
                new = new[: self._redactor.held_from(new)].rstrip(_UNFINISHED)
            if new:
                self._taken[is_reasoning] += len(new)
                parts.append(TextPart(is_reasoning, self._redactor.text(new)))
        return parts


def question_request(scenario: Scenario, question: str) -> Request:
    """Return a request with a question; its answer may be as long as any of the scenario's."""
    most = [limit for limit in scenario.workflow.max_tokens.values() if limit is not None]
    return Request((Message("user", question),), max(most, default=None))


def send_one(
    scenario: Scenario, secrets: Secrets, request: Request, show: Callable[[TextPart], None]
) -> Answered:
    """Send a request to the scenario's endpoint, and return the reply, also a failed one.

    `show` is called with each part of the texts in the calling thread. KeyboardInterrupt there
    closes the stream: the reply has the outcome `cancelled` and what had arrived. Raises
    PreflightError if the server of the endpoint cannot be started.
    """
    anchor = take_anchor()
    now = monotonic_since(anchor)
    connect_floor = scenario.endpoint.facts.connect_floor
    limits = CallTimeouts.of(scenario.timeouts, scenario.time_scale, connect_floor)

    def begin() -> Send:
        end = now() + limits.call
        within = Deadlines(limits.connect, limits.first_token, limits.idle, end, CALL_TIMEOUT)
        return Send(_KEY, 1, request, within)

    with (
        tempfile.TemporaryDirectory(prefix="harness-") as folder,
        scenario.endpoint.server(
            secrets.api_key, scenario.seed, Path(folder) / "provider.jsonl"
        ) as server,
    ):
        target = target_of(scenario, new_run_id(), anchor, server, secrets)
        sent, reply = _send_in_thread(target, now, begin, show)
        return Answered(reply, server.base_url, anchor, sent)


def _send_in_thread(
    target: Target, now: ReadClock, begin: Callable[[], Send], show: Callable[[TextPart], None]
) -> tuple[Send, Reply]:
    """Send what `begin` returns in another thread, so that an interruption can close the stream."""
    branch, parts = Branch(), _TextParts(Redactor(target.secrets))
    # What the other thread has received; None at the end.
    arrived: queue.SimpleQueue[TextPart | None] = queue.SimpleQueue()
    results: list[tuple[Send, Reply] | BaseException] = []
    seen: list[Reading] = []

    def watch(reading: Reading) -> None:
        seen[:] = [reading]
        for part in parts.take(reading.reasoning, reading.answer):
            arrived.put(part)

    def work() -> None:
        try:
            with SyncClient(target, now, watch=watch) as client:
                sent = begin()
                results.append((sent, client.send(sent, branch)))
            for reading in seen:
                for part in parts.take(reading.reasoning, reading.answer, is_end=True):
                    arrived.put(part)
        except BaseException as error:  # raised again in the calling thread
            results[:] = [error]
        finally:
            arrived.put(None)

    sending = threading.Thread(target=work, name="question")
    sending.start()
    try:
        _pass_on(arrived, show, branch)
    finally:
        branch.cancel()
        sending.join()
    (result,) = results
    if isinstance(result, BaseException):
        raise result
    return result


def _pass_on(
    arrived: queue.SimpleQueue[TextPart | None], show: Callable[[TextPart], None], branch: Branch
) -> None:
    """Show each part until the end; the first interruption cancels the call."""
    while True:
        try:
            while (part := arrived.get()) is not None:
                show(part)
        except KeyboardInterrupt:
            if branch.cancelled:
                raise
            branch.cancel()
        else:
            return
