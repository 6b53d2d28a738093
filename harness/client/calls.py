"""The calls of a client: what is sent, what has been received, and what the program gets.

Both clients use this module. Nothing in it waits.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import random
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any, Protocol

import httpx2
import msgspec
import openai

from harness.client.ended_attempts import CLOSED, EndedAttempt, response_of
from harness.client.settings import ClientSettings, with_timeout
from harness.engine.attempt import CallTerms, CallTimeouts
from harness.engine.branches import Branch
from harness.engine.call import Completion, complete
from harness.engine.deadlines import UNWANTED
from harness.engine.effects import Program, Reply, Request, Send
from harness.policies.protocol import Admission, Asking, Ended, Go, Policy, RandomOf, RetryVerdict
from harness.records.clock import monotonic_since, take_anchor
from harness.records.failures import CANCELLED, OK, of_status
from harness.records.keys import CallKey
from harness.records.redaction import Redactor
from harness.records.schema import Record
from harness.transports.exchange import Exchange, ReceivedTexts, is_timeout
from harness.transports.other_apis import has_text, is_read

POLICY_PHASE_HEADER = "x-harness-policy-phase"
"""Names the phase of a request, for layers with the scope `phase`. It is not sent."""


class _ChatBody(msgspec.Struct):
    stream: Any = None


class CallMaker:
    """Makes the calls of one client, which share its policy."""

    def __init__(self, settings: ClientSettings) -> None:
        self.anchor = take_anchor()
        self.now = monotonic_since(self.anchor)
        self._settings = settings
        self._numbers = itertools.count()
        self._random = random.Random()  # noqa: S311 - jitter
        parts, limits = settings.policy(), CallTimeouts.of(settings.timeouts, 1.0)
        streamed = parts.build(1.0, streamed=True)
        whole = dataclasses.replace(streamed, retry=parts.retry(1.0, streamed=False))
        self._terms = CallTerms(
            streamed, limits, settings.permit_scope == "call", lambda _: self._random
        )
        self._policies: Mapping[bool, Policy] = {True: streamed, False: whole}

    def emit(self, record: Record) -> None:
        """Pass on a record to the program, if it wants them."""
        if self._settings.on_record is not None:
            self._settings.on_record(record)

    def call(self, request: httpx2.Request) -> ClientCall:
        """Return the call for a request of the program."""
        path = request.url.path
        classified = request.method == "POST" and is_read(path)
        try:
            content = request.content
        except httpx2.RequestNotRead:
            content = None
        streams = classified and content is not None and _asks_for_stream(content)
        passes_on = not classified or (streams and not self._settings.whole_responses)
        phase = request.headers.get(POLICY_PHASE_HEADER, "call")
        key = CallKey("", 0, next(self._numbers), 0, phase, None, 1)
        terms = self._terms._replace(policy=self._policies[streams])
        limits = terms.limits
        if not classified or not has_text(path):
            limits = limits._replace(first_token=limits.call)
        limits = with_timeout(limits, request.extensions.get("timeout", {}))
        terms = terms._replace(limits=limits)
        return ClientCall(
            request,
            content,
            key,
            terms,
            classified=classified,
            streams=streams,
            passes_on=passes_on,
        )

    def begin(self, call: ClientCall, effect: Send, branch: Branch) -> ReceivedResponse:
        """Return the state of an attempt that is about to be sent."""
        headers = call.request.headers
        texts = _received_texts(*(headers.get(name, "") for name in _KEY_HEADERS))
        exchange = Exchange(call.streams, effect.deadlines, self.now, self.anchor, texts=texts)
        exchange.handed = self.now()
        return ReceivedResponse(call, exchange, branch)


_KEY_HEADERS = ("authorization", "api-key", "x-api-key")
"""Headers in which programs send their keys."""


@functools.lru_cache(maxsize=64)
def _received_texts(*headers: str) -> ReceivedTexts:
    """Return how texts are recorded of responses to requests with these values of headers."""
    return ReceivedTexts(Redactor(headers))


def _asks_for_stream(content: bytes) -> bool:
    try:
        return msgspec.json.decode(content, type=_ChatBody).stream is True
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


class Outlet(Protocol):
    """A queue of what a program reads: bytes, an exception, and None at the end.

    `on_room`: what it calls when it is no longer full.
    """

    on_room: Callable[[], None]

    @property
    def is_full(self) -> bool:
        """Whether so much waits for the program that no more should be received."""
        ...

    def put_nowait(self, item: bytes | Exception | None, /) -> None:
        """Add an item, also if the queue is full."""


class PassedResponse:
    """A response that the program reads while it arrives.

    `abandoned`: the program has dropped it without closing it. A finalizer can run while any lock
    is held, so it sets only this flag; the attempt ends with the next bytes.
    """

    def __init__(self, queue: Outlet, received: ReceivedResponse) -> None:
        self.queue = queue
        self.abandoned = False
        self._received = received

    def close(self) -> None:
        """Cancel the attempt, unless its response is complete."""
        reading = self._received.exchange.reading
        if reading is None or reading.ended is None:
            self._received.branch.cancel()


class ClientCall:
    """One request of the program and its attempts.

    `content`: its body; None if it can be sent only once. `classified`: the outcome depends on the
    body of the response. `streams`: it asks for a stream. `passes_on`: the program gets the
    response when it begins, not when it is complete. `hand_over` then takes the response and
    returns the queue for its bytes. `asked`: what the records say of the request. `workflow_end`:
    the deadline of its workflow. `shows_causes`: whether errors have the exceptions of the HTTP
    client as their causes, which refer to the request that was sent, with its key. `keeps_model`:
    whether the model is requested that the program names.
    """

    hand_over: Callable[[ReceivedResponse], PassedResponse]

    def __init__(
        self,
        request: httpx2.Request,
        content: bytes | None,
        key: CallKey,
        terms: CallTerms,
        *,
        classified: bool,
        streams: bool,
        passes_on: bool,
        asked: Request = Request(()),  # noqa: B008 - immutable
        workflow_end: int | None = None,
        shows_causes: bool = True,
        keeps_model: bool = True,
    ) -> None:
        self.request = request
        self.classified = classified
        self.streams = streams
        self.passes_on = passes_on
        self.passed: PassedResponse | None = None
        self.ended: list[EndedAttempt] = []
        self.shows_causes = shows_causes
        self.keeps_model = keeps_model
        self._content = content
        self.key = key
        self._asked = asked
        self._workflow_end = workflow_end
        self.policy = CallPolicy(terms.policy, self)
        self._terms = terms._replace(policy=self.policy)

    @property
    def path(self) -> str:
        """The path of the request; it ends with that of the API."""
        return self._asked.path or self.request.url.path

    @property
    def is_settled(self) -> bool:
        """Whether no further attempt can be sent."""
        return self.passed is not None or self._content is None

    def program(self, ready: int) -> Program[Completion]:
        """Return the program of the call."""
        return complete(self._terms, self.key, self._asked, ready, self._workflow_end)

    def request_to_send(self) -> httpx2.Request:
        """Return the request of one attempt."""
        if self._content is None:
            self.request.headers.pop(POLICY_PHASE_HEADER, None)
            return self.request
        headers = self.request.headers.copy()
        headers.pop(POLICY_PHASE_HEADER, None)
        return httpx2.Request(
            self.request.method,
            self.request.url,
            headers=headers,
            content=self._content,
            extensions=dict(self.request.extensions),
        )

    def note_whole(
        self, reply: Reply, status: int, headers: Mapping[str, str], body: bytes
    ) -> None:
        """Note an attempt that has ended, and its response, which was received whole."""
        self.ended.append(EndedAttempt(reply, httpx2.Response(status, headers=headers), body))

    def note_without_response(self, reply: Reply) -> None:
        """Note an attempt that has ended without a response."""
        self.ended.append(EndedAttempt(reply, None, b""))

    def result(self, completion: Completion) -> httpx2.Response:
        """Return the response of the attempt that ended the call, or raise its error."""
        for ended in reversed(self.ended):
            if ended.reply.outcome == completion.outcome:
                if error := ended.error(self.request):
                    raise error from ended.cause
                return ended.response()
        if completion.outcome == CANCELLED:
            raise openai.APIConnectionError(message=CLOSED, request=self.request)
        last = self.ended[-1].error(self.request) if self.ended else None
        raise openai.APITimeoutError(request=self.request) from last


class ReceivedResponse:
    """The response of one attempt, as far as it has arrived. `cause`: what ended it early.

    `passed`: the response that the program reads while it arrives, if it has begun. `_is_left`: it
    is not read to its end, because what has arrived is a failure.
    """

    cause: Exception | None = None

    def __init__(self, call: ClientCall, exchange: Exchange, branch: Branch) -> None:
        self.exchange = exchange
        self.branch = branch
        self._call = call
        self._head: httpx2.Response | None = None
        self._pieces: list[bytes] = []
        self.passed: PassedResponse | None = None
        self._is_left = False

    @property
    def is_head(self) -> bool:
        """Whether it is the response to a HEAD request, which has no body."""
        return self._call.request.method == "HEAD"

    def begin(self, head: httpx2.Response) -> None:
        """Note status and headers."""
        self._head = head
        if self.exchange.status is None:  # otherwise the transport has noted it
            self.exchange.note_response(head.status_code, head.headers)
        if self._call.classified and of_status(head.status_code) == OK:
            self.exchange.begin_reading(self._call.path)

    def received(self, data: bytes, at: int, *, is_last: bool = False) -> bool:
        """Process bytes of the body that arrived at `at`; return whether to continue reading."""
        passed, exchange = self.passed, self.exchange
        if passed is not None:  # before it is read, which takes longer
            passed.queue.put_nowait(data)
        goes_on = exchange.reading is None or exchange.received(data, at, is_last=is_last)
        self._is_left = not goes_on
        if passed is not None:
            if passed.abandoned and self._is_open():
                exchange.expired = CANCELLED
                return False
            return goes_on
        self._pieces.append(data)
        if self._call.passes_on and self._can_be_passed_on():
            self._call.passed = self.passed = self._call.hand_over(self)
            for piece in self._pieces:
                self.passed.queue.put_nowait(piece)
            self._pieces.clear()
        return goes_on

    def waits_for_room(self, resume: Callable[[], None]) -> bool:
        """Return whether so much waits for the program that no more should be received.

        `resume` is called when there is room. Not if the program has dropped the response.
        """
        passed = self.passed
        if passed is None or not passed.queue.is_full or passed.abandoned:
            return False
        passed.queue.on_room = resume
        return True

    def _is_open(self) -> bool:
        return self.exchange.reading is None or self.exchange.reading.ended is None

    def _can_be_passed_on(self) -> bool:
        """Return whether a successful response has begun, and no other attempt was faster."""
        status, reading = self.exchange.status, self.exchange.reading
        begun = reading is None or (reading.last_token is not None and reading.ended is None)
        return (
            begun and status is not None and of_status(status) == OK and not self.branch.cancelled
        )

    def finish(self) -> Reply:
        """Return the reply for a body that is complete or is not read further."""
        reading = self.exchange.reading
        is_ok = self.exchange.expired is None and (reading is None or reading.outcome == OK)
        if self.passed is not None and is_ok:  # before the reply is made, which takes longer
            self.passed.queue.put_nowait(None)
        if self.exchange.expired == CANCELLED and self._is_open():
            return self.exchange.reply(CANCELLED, UNWANTED)
        if self.exchange.reading is not None:
            return self.exchange.finish()
        status = self.exchange.status
        assert status is not None, "begin() comes first"
        if of_status(status) != OK:
            return self.exchange.refused(b"".join(self._pieces))
        return self.exchange.reply(OK, f"HTTP {status}")

    def fail(self, error: Exception) -> None:
        """Note an exception. A timeout of the HTTP client itself counts as one of ours."""
        self.cause = error
        exchange = self.exchange
        if exchange.expired is None and not exchange.overdue() and is_timeout(error):
            if exchange.sent is None:
                exchange.expired = "connect_timeout"
            elif exchange.reading is None or exchange.reading.last_token is None:
                exchange.expired = "first_token_timeout"
            else:
                exchange.expired = "idle_timeout"

    def end(self, reply: Reply) -> None:
        """Note the end of the attempt; end the response that the program reads."""
        cause = self.cause if self._call.shows_causes else None
        is_whole = self.cause is None and not self._is_left
        ended = EndedAttempt(reply, self._head, b"".join(self._pieces), cause, is_whole)
        self._call.ended.append(ended)
        if self.passed is not None:
            error = ended.error(self._call.request)
            if error is not None:
                error.__cause__ = cause
            self.passed.queue.put_nowait(error)
            self.passed.queue.put_nowait(None)

    def arriving(self, body: httpx2.SyncByteStream | httpx2.AsyncByteStream) -> httpx2.Response:
        """Return the response with a body that is arriving."""
        assert self._head is not None, "it has begun"
        return response_of(self._head, body)


class CallPolicy:
    """The policy of one call: that of the client, without retries of a response passed on.

    A second attempt as a hedge is sent only for requests whose responses are classified.
    """

    def __init__(self, policy: Policy, call: ClientCall) -> None:
        self.hedge = policy.hedge if call.classified and not call.is_settled else None
        self._policy = policy
        self._call = call
        self._open: dict[int, Asking] = {}

    def admit(self, asking: Asking) -> Admission:
        """Return whether an attempt may be sent now."""
        admission = self._policy.admit(asking)
        if isinstance(admission, Go):
            self._open[asking.attempt] = asking
        return admission

    def ended(self, ended: Ended, random: RandomOf) -> RetryVerdict:
        """Record the end of an attempt, and return what happens next in its call."""
        self._open.pop(ended.attempt, None)
        if self._call.is_settled:
            ended = msgspec.structs.replace(ended, final=False)
        return self._policy.ended(ended, random)

    def abandon(self, now: int) -> Iterator[Hashable]:
        """Report attempts that an exception has ended as cancelled; yield the bells to ring."""
        for asking in self._open.values():
            verdict = self._policy.ended(
                Ended(
                    phase=asking.phase, attempt=asking.attempt, outcome=CANCELLED, status=None,
                    retry_after=None, should_retry=None, admitted=asking.now, sent=None, now=now,
                    deadline=now, final=False,
                ),
                random.Random,
            )  # fmt: skip
            if verdict.ring is not None:
                yield verdict.ring
        self._open.clear()
