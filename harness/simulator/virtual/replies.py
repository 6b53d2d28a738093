"""Makes the reply of an attempt from the simulated response and the times of its text.

Outcomes, time stamps and tokens follow the rules of `harness.transports`. Nothing is sent or read,
so a request is sent as soon as it has a connection: the client wait is the time of connecting.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import NamedTuple

import msgspec

from harness.engine.deadlines import Limit, next_limit
from harness.engine.effects import Deadlines, Reply, ToolCall
from harness.records.failures import FAILURES, OK
from harness.records.schema import NO_TOKENS, Tokens
from harness.simulator import wire
from harness.simulator.apis import response_id_of
from harness.simulator.rates import Rates
from harness.simulator.simulation import Refused, ServedCompletion, Simulation
from harness.simulator.virtual.gaps import gaps_of


class ResponseProgress(NamedTuple):
    """The progress of a response: `tokens` in `chunks` chunks, the last of them at `last`."""

    tokens: int
    chunks: int
    last: int | None


NO_PROGRESS = ResponseProgress(0, 0, None)


def without_text(
    outcome: str,
    *,
    sent: int | None,
    done: int,
    status: int | None = None,
    headers: int | None = None,
    name: str = "",
    retry_after: int | None = None,
    detail: str = "",
) -> Reply:
    """Return a reply without text; `name`: the simulation's name of the request."""
    return Reply(
        outcome=outcome,
        sent=sent,
        headers=headers,
        first_reasoning=None,
        first_answer=None,
        last_token=None,
        done=done,
        status=status,
        retry_after=retry_after,
        should_retry=None,
        request_id=None if headers is None else _request_id(name),
        finish_reason=None,
        tokens=NO_TOKENS,
        chunks=0,
        gaps={},
        reasoning="",
        answer="",
        detail=detail or FAILURES[outcome].seen,
    )


def _request_id(name: str) -> str | None:
    """Return the id of a request; None if the records do not keep ids."""
    return wire.request_id(name) if name else None


def bad_request(message: str, now: int) -> Reply:
    """Return the reply to a request that the provider cannot read."""
    reply = without_text(
        "bad_request", sent=now, done=now, status=400, headers=now, detail="HTTP 400"
    )
    body = wire.error_body(message, "invalid_request_error").decode()
    return msgspec.structs.replace(reply, error_body=body)


def not_completed(
    answer: Refused | ServedCompletion, retry_after: int | None, sent: int, done: int
) -> Reply:
    """Return the reply to a request that was refused, or got a failure instead of a completion."""
    status = answer.status
    return without_text(
        answer.outcome,
        sent=sent,
        done=done,
        status=status,
        headers=None if status is None else done,
        name=answer.name,
        retry_after=retry_after,
        detail=f"HTTP {status}" if status is not None and status >= 300 else "",
    )


class IncomingResponse(msgspec.Struct, eq=False):
    """A response that is being received. `moments`: the times of `script.ends` so far.

    `watched`: whether each chunk has its own time. If not, the idle deadline cannot pass between
    two chunks, so after the first text only the end of the call limits it, unless it stalls.
    `thoughts`: whether the reasoning and the text of broken responses are needed.
    """

    completion: ServedCompletion
    sent: int
    simulation: Simulation
    rates: Rates
    thoughts: bool
    watched: bool
    moments: list[int] = msgspec.field(default_factory=list)

    @property
    def has_stalled(self) -> bool:
        """Whether its last text has come but its end never will."""
        fault = self.completion.fault
        if fault is None or not fault.kind.holds or not self.moments:
            return False
        return len(self.moments) == len(self.completion.script.ends)

    def limit(self, deadlines: Deadlines) -> Limit:
        """Return the next deadline."""
        if not self.moments:
            return next_limit(deadlines, None, self.sent, None)
        if self.watched or self.has_stalled:
            return next_limit(deadlines, None, self.sent, self.moments[-1])
        return Limit(deadlines.end, deadlines.end_outcome)

    def ended(self) -> Reply:
        """Return the reply of a response that the provider has ended, with or without a fault."""
        completion, script, fault = self.completion, self.completion.script, self.completion.fault
        done = self.moments[-1]
        if fault is not None and fault.kind.place == "instead":
            return not_completed(completion, fault.retry_after, self.sent, done)
        if fault is not None and fault.kind.finish_reason is None:
            return self._cut_off(completion.outcome, done)
        finish, outcome, detail = script.finish_reason, completion.outcome, ""
        if finish == "length":
            outcome = "truncated"
        if outcome != OK:
            detail = f"finish_reason {finish}"
        request = completion.request
        chunks = script.chunks if request.stream else 1
        reports_usage = request.include_usage or not request.stream
        made = script.ends[-1]
        progress = ResponseProgress(made, chunks, done) if made else NO_PROGRESS
        tokens = completion.tokens if reports_usage else NO_TOKENS
        return self._reply(outcome, detail, done, progress, finish, tokens)

    def _cut_off(self, outcome: str, done: int) -> Reply:
        script, progress = self.completion.script, NO_PROGRESS
        if self.completion.request.stream and script.ends[-1]:
            progress = ResponseProgress(script.ends[-1], script.chunks, done)
        reply = self._reply(outcome, FAILURES[outcome].seen, done, progress)
        if reply.headers is not None:
            return reply
        # A body that is not streamed comes together with its headers.
        return msgspec.structs.replace(
            reply, headers=done, status=200, request_id=_request_id(self.completion.name)
        )

    def aborted(self, outcome: str, detail: str, done: int, made: int) -> Reply:
        """Return the reply of a response that the client aborts after `made` tokens."""
        return self._reply(outcome, detail, done, self._progress(made, done))

    def _progress(self, made: int, until: int) -> ResponseProgress:
        """Return the progress by `until`, when `made` tokens had been made."""
        if not self.moments or not self.completion.request.stream:
            return NO_PROGRESS
        script = self.completion.script
        seen = script.ends[len(self.moments) - 1]
        layout, job = script.layout(), self.completion.job
        chunks = layout.chunks(max(made, seen))
        while True:
            tokens = layout.end(chunks)
            if tokens <= seen:
                return ResponseProgress(seen, layout.chunks(seen), self.moments[-1])
            last = self.rates.moment(job.origin + tokens - script.first)
            if last <= until:
                return ResponseProgress(tokens, chunks, last)
            chunks -= 1  # an incomplete token was counted

    def _reply(
        self,
        outcome: str,
        detail: str,
        done: int,
        progress: ResponseProgress,
        finish_reason: str | None = None,
        tokens: Tokens = NO_TOKENS,
    ) -> Reply:
        completion = self.completion
        stream, ended = completion.request.stream, finish_reason is not None
        headers = self._headers(done, ended)
        first_reasoning, first_answer = self._firsts(progress.tokens)
        reasoning, answer = self._texts(progress.tokens, ended)
        status = request_id = name = model = None
        if headers is not None:
            status, request_id = 200, _request_id(completion.name)
            if stream or ended:
                if completion.name:
                    name = response_id_of(completion.request, completion.name)
                model = completion.request.model
        gaps: Mapping[int, int] = {}
        if stream and progress.last is not None:
            job = completion.job
            gaps = gaps_of(
                completion.script.layout(), progress.chunks, job.origin,
                self.moments[0], progress.last, self.rates, job.place,
            )  # fmt: skip
        # The first chunk has the role, and comes with the headers.
        # By position: 20 keywords take 1.4 us more.
        reply = Reply(
            outcome, self.sent, headers, first_reasoning, first_answer, progress.last, done,
            status, None, None, request_id, finish_reason, tokens, progress.chunks, gaps,
            reasoning, answer, detail, name, model, first_chunk=headers if stream else None,
        )  # fmt: skip
        tool = completion.script.tool
        if tool is None:
            return reply
        begun = progress.tokens > completion.script.reasoning
        called = (ToolCall(tool.id, tool.name, answer),) if begun else ()
        return msgspec.structs.replace(reply, answer="", tool_calls=called)

    def _texts(self, made: int, ended: bool) -> tuple[str, str]:
        """Return the reasoning and answer in the first `made` tokens, if they are needed."""
        script, thoughts = self.completion.script, self.thoughts
        if ended:
            reasoning = script.text_at_once("reasoning") if thoughts else ""
            return reasoning, script.text_at_once("answer")
        if not thoughts:
            return "", ""
        answered = max(made - script.reasoning, 0)
        reasoning = "".join(islice(script.text_tokens("reasoning"), min(made, script.reasoning)))
        return reasoning, "".join(islice(script.text_tokens("answer"), answered))

    def _headers(self, done: int, ended: bool) -> int | None:
        """Return when status and headers came; None if they had not come by `done`."""
        fault, patience = self.completion.fault, self.simulation.keep_alive
        if fault is None and self.completion.request.stream:
            return self.sent
        if fault is not None and (fault.kind.place == "instead" or fault.kind.name == "silent"):
            return None  # with "instead": it was aborted before
        if fault is not None and fault.kind.place == "silence":
            patience = self.simulation.drip
        if self.completion.request.stream:
            return self.sent
        if patience is not None and self.sent + patience <= done:
            return self.sent + patience
        return done if ended else None

    def _firsts(self, made: int) -> tuple[int | None, int | None]:
        """Return the times of the first reasoning and the first answer in `made` tokens."""
        script, moments = self.completion.script, self.moments
        if made == 0:
            return None, None
        thought = moments[0] if script.reasoning else None
        if made <= script.reasoning or not script.answer:
            return thought, None
        came = script.first_answer < len(moments)
        return thought, moments[script.first_answer] if came else None
