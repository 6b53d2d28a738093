"""An interpreter whose clock, permits and replies are a script: programs run without waiting.

Branches of a fan-out run one after another, each from the moment of the fork; the clock then
stands at the latest of their ends. So programs meet the times that unlimited concurrency gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import Any, NamedTuple, TypeVar

from harness.engine import effects
from harness.engine.attempt import CallTerms, CallTimeouts
from harness.engine.effects import Effect, Finished, Grant, Program, Reply, Send, step
from harness.policies.exponential import ExponentialRule
from harness.policies.retry import Retry
from harness.policies.stack import Stack
from harness.records.failures import OK
from harness.records.keys import CallKey, WorkflowKey
from harness.records.schema import Attempt, Call, Record, Tokens, Transcript, Workflow

T = TypeVar("T")

WORKFLOW = WorkflowKey("async_2_full-jitter_attempt", 0, 3, 0)
CALL = CallKey(*WORKFLOW, "fan_out", 1, 1)
LIMITS = CallTimeouts(connect=5, first_token=500, idle=50, call=1000)
EVERY_TEN = ExponentialRule(attempts=4, base=10, cap=10, jitter="equal")


class Half(Random):
    """A random source that always draws the middle."""

    def random(self) -> float:
        return 0.5


def terms(policy: Retry = EVERY_TEN, *, hold: bool = False, transcripts: bool = False) -> CallTerms:
    """Return terms under which a backoff of `EVERY_TEN` lasts 7 (the middle of 5 to 10)."""
    return CallTerms(Stack([], policy), LIMITS, hold, lambda key: Half(), transcripts)


class Says(NamedTuple):
    """What the script answers to one attempt, and how long that takes."""

    outcome: str = OK
    takes: int = 100
    answer: str = "an answer"
    reasoning: str = "a thought"
    status: int | None = 200
    retry_after: int | None = None
    should_retry: bool | None = None
    tokens: Tokens = Tokens(input=10, output=20)
    detail: str = ""


RATE_LIMITED = Says("rate_limited", takes=1, status=429, tokens=Tokens(), detail="HTTP 429")
UNAUTHORIZED = Says("unauthorized", takes=1, status=401, tokens=Tokens(), detail="HTTP 401")
BLANK = Says("empty_answer", answer="", detail="no text at all")


def reply(says: Says, now: int) -> Reply:
    """Return the reply to an attempt that is sent one nanosecond after `now`."""
    done = now + says.takes
    good = says.outcome == OK
    return Reply(
        outcome=says.outcome,
        sent=min(now + 1, done),
        headers=min(now + 2, done),
        first_reasoning=done if good and says.reasoning else None,
        first_answer=done if good else None,
        last_token=done if good else None,
        done=done,
        status=says.status,
        retry_after=says.retry_after,
        should_retry=says.should_retry,
        request_id=f"request-{now}",
        finish_reason="stop" if good else None,
        tokens=says.tokens,
        chunks=3 if good else 0,
        gaps={40: 2} if good else {},
        reasoning=says.reasoning,
        answer=says.answer,
        detail=says.detail,
    )


Script = Callable[[Send], Says]
Waits = Callable[[], int | None]


def in_turn(*says: Says) -> Script:
    """Answer the first attempt with the first, and so on."""
    turns = iter(says)
    return lambda asked: next(turns)


def waits_of(*waits: int | None) -> Waits:
    """Let the permits come after so long, None for never; after that at once."""
    turns = iter(waits)
    return lambda: next(turns, 0)


class World:
    """The clock, the permits and what the programs did."""

    def __init__(self, script: Script, waits: Waits = lambda: 0, *, now: int = 0) -> None:
        self.script = script
        self.waits = waits
        self.now = now
        self.oversleep = 0
        self.sends: list[Send] = []
        self.records: list[Record] = []
        self.held_during_sleep: list[int] = []

    def run(self, program: Program[T]) -> T:
        """Run `program` to its end; it must hold no permit then, and send under one only."""
        held = 0
        result: Any = None
        while not isinstance(asked := step(program, result), Finished):
            match asked:
                case effects.Release():
                    assert held == 1, "a permit is given back that is not held"
                    held -= 1
                case effects.Acquire():
                    assert held == 0, "a call holds one permit at most"
                case effects.Send():
                    assert held == 1, "an attempt is sent under a permit"
                case effects.Sleep():
                    self.held_during_sleep.append(held)
                case effects.FanOut():
                    assert held == 0, "a program that waits for others holds nothing"
                case _:
                    pass
            result = self._perform(asked)
            if isinstance(result, Grant) and result.granted is not None:
                held += 1
        assert held == 0, "a permit was granted and never given back"
        value: T = asked.value
        return value

    def _perform(self, asked: Effect) -> Any:
        match asked:
            case effects.Now():
                return self.now
            case effects.Acquire():
                return self._grant(asked)
            case effects.Send():
                return self._reply(asked)
            case effects.Sleep():
                self.now = max(self.now, asked.until) + self.oversleep
                return self.now
            case effects.Emit():
                self.records.append(asked.record)
            case effects.FanOut():
                return list(self._branches(asked))
        return None

    def _grant(self, asked: effects.Acquire) -> Grant:
        requested, wait = self.now, self.waits()
        if wait is None or (asked.deadline is not None and requested + wait > asked.deadline):
            assert asked.deadline is not None, "this wait would never end"
            self.now = max(self.now, asked.deadline)
            return Grant(requested, None)
        self.now += wait
        return Grant(requested, self.now)

    def _reply(self, asked: Send) -> Reply:
        self.sends.append(asked)
        says, end = self.script(asked), asked.deadlines.end
        assert self.now < end, "an attempt that is sent has time left"
        if self.now + says.takes > end:
            says = Says(asked.deadlines.end_outcome, end - self.now, "", "", None, tokens=Tokens())
        said = reply(says, self.now)
        self.now = said.done
        return said

    def _branches(self, asked: effects.FanOut) -> Iterator[Any]:
        fork = latest = self.now
        for branch in asked.branches:
            self.now = fork
            yield self.run(branch)
            latest = max(latest, self.now)
        self.now = latest

    @property
    def attempts(self) -> list[Attempt]:
        return [record for record in self.records if isinstance(record, Attempt)]

    @property
    def calls(self) -> list[Call]:
        return [record for record in self.records if isinstance(record, Call)]

    @property
    def workflows(self) -> list[Workflow]:
        return [record for record in self.records if isinstance(record, Workflow)]

    @property
    def transcripts(self) -> list[Transcript]:
        return [record for record in self.records if isinstance(record, Transcript)]
