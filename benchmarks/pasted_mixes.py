"""What `benchmarks.pasted` measures: the scenario, the mixes of faults, and the rules left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

PERMITS, IN_FLIGHT, CALLS = 8, 40, 120

SCENARIO = """
name = "pasted"
seed = 5
transcripts = true
[workflow]
kind = "agent"
topics = [{topics}]
steps = 1
[endpoint]
profile = "plain-chat"
stream = {stream}
faults = [{faults}]
[endpoint.override]
ttft = {{ median = "120ms", sigma = 0.3 }}
answer_tokens = {{ median = 24, sigma = 0.4 }}
tokens_per_chunk = 8
[load]
workflows = {calls}
in_flight = {in_flight}
[timeouts]
first_token = "{first_token}"
idle = "{idle}"
call = "{deadline}"
[sweep]
mode = "{mode}"
permits = {permits}
permit_scope = "{scope}"
retry = [{kinds}]
[retry.full]
kind = "exponential"
attempts = 4
base = "1s"
cap = "4s"
[retry.equal]
kind = "exponential"
jitter = "equal"
attempts = 4
base = "200ms"
[retry.decorrelated]
kind = "exponential"
jitter = "decorrelated"
attempts = 4
base = "100ms"
cap = "1s"
[retry.fixed]
kind = "fixed"
attempts = 3
delay = "200ms"
[retry.ten-percent]
kind = "retry-budget"
burst = 5
[retry.throttling]
kind = "grpc-throttling"
[retry.window]
kind = "finagle-budget"
per_second = 0.5
[retry.outage-breaker]
kind = "breaker"
pause = "200ms"
cap = "500ms"
[retry.late]
kind = "hedge"
after = "300ms"
ratio = 0.5
burst = 50
[retry.budget]
kind = "stack"
layers = ["ten-percent", "fixed"]
[retry.grpc]
kind = "stack"
layers = ["throttling", "fixed"]
[retry.finagle]
kind = "stack"
layers = ["window", "full"]
[retry.breaker]
kind = "stack"
layers = ["outage-breaker", "full"]
[retry.hedge]
kind = "stack"
layers = ["late", "full"]
[retry.both]
kind = "stack"
layers = ["outage-breaker", "ten-percent", "equal"]
"""
KINDS = (
    "none", "openai-sdk", "aws-standard", "full", "equal", "decorrelated", "fixed", "budget",
    "grpc", "finagle", "breaker", "hedge", "both",
)  # fmt: skip


class Mix(NamedTuple):
    """Faults: kind and other keys in TOML."""

    faults: Sequence[str]
    stream: bool = True


MIXES: Mapping[str, Mix] = {
    "no faults": Mix([]),
    "503": Mix(['kind = "unavailable", probability = 0.3']),
    "429 with Retry-After": Mix(['kind = "rate_limited", probability = 0.3, retry_after = "3s"']),
    "500 and 502": Mix(
        ['kind = "server_error", probability = 0.3', 'kind = "bad_gateway", probability = 0.3']
    ),
    "error in stream": Mix(['kind = "error_in_stream", probability = 0.3']),
    "no [DONE]": Mix(['kind = "missing_done", probability = 0.3']),
    "reset in body": Mix(['kind = "reset_in_body", probability = 0.3']),
    "reset before head": Mix(['kind = "reset_before_head", probability = 0.3']),
    "blank and HTML": Mix(
        ['kind = "blank_body", probability = 0.2', 'kind = "not_json", probability = 0.1']
    ),
    "silent": Mix(['kind = "silent", probability = 0.1']),
    "stall": Mix(['kind = "stall", probability = 0.1']),
    "cut chunk and no choice": Mix(
        ['kind = "malformed_chunk", probability = 0.2', 'kind = "empty_choices", probability = 0.1']
    ),
    "lasting": Mix(
        ['kind = "bad_request", probability = 0.1', 'kind = "truncated", probability = 0.1']
    ),
    "outage": Mix(['kind = "unavailable", outage = { start = "300ms", duration = "2s" }']),
    "503 without stream": Mix(['kind = "unavailable", probability = 0.3'], stream=False),
    "error in body": Mix(['kind = "error_in_body", probability = 0.3'], stream=False),
}


class Case(NamedTuple):
    """A mix of faults and the cells that meet it: kinds of policy in one mode and permit scope.

    `first_token`, `idle`, `deadline`: the timeouts of a call.
    """

    mix: str
    kinds: tuple[str, ...] = KINDS
    mode: str = "async"
    scope: str = "attempt"
    calls: int = CALLS
    first_token: str = "1s"
    idle: str = "500ms"
    deadline: str = "20s"

    @property
    def in_flight(self) -> int:
        """How many calls run or wait at once."""
        return 1 if self.mode == "sync" else IN_FLIGHT

    def scenario(self) -> str:
        """Return the scenario. Without streams and in sync there are no hedges."""
        mix = MIXES[self.mix]
        hedges = mix.stream and self.mode != "sync"
        return SCENARIO.format(
            topics=", ".join(f'"topic {number}"' for number in range(self.calls)),
            stream=str(mix.stream).lower(),
            faults=", ".join(f"{{ {fault} }}" for fault in mix.faults),
            calls=self.calls,
            in_flight=self.in_flight,
            first_token=self.first_token,
            idle=self.idle,
            deadline=self.deadline,
            mode=self.mode,
            scope=self.scope,
            permits=PERMITS,
            kinds=", ".join(f'"{kind}"' for kind in self.kinds if hedges or kind != "hedge"),
        )


CASES: Mapping[str, Case] = {
    # sync first: one call at a time takes longest
    "sync, 500 and 502": Case("500 and 502", ("openai-sdk", "fixed", "both"), "sync", calls=60),
    "sync, no [DONE]": Case("no [DONE]", ("decorrelated", "budget"), "sync", "call", 60),
    "sync, 503 without stream": Case(
        "503 without stream", ("none", "openai-sdk", "equal", "breaker"), "sync", calls=60
    ),
    **{mix: Case(mix) for mix in MIXES},
    "call, 503": Case("503", ("openai-sdk", "full", "breaker", "hedge"), scope="call"),
    "call, error in body": Case("error in body", ("fixed", "both", "grpc"), scope="call"),
    "call, 503 without stream": Case(
        "503 without stream", ("none", "openai-sdk", "aws-standard", "equal"), scope="call"
    ),
    # with this timeout, hedges are sent before the first attempt is given up
    "patient, silent": Case("silent", ("fixed", "hedge"), first_token="4s"),
    "deadline, 429": Case("429 with Retry-After", ("full", "fixed", "budget"), deadline="4s"),
    "threads, blank and HTML": Case("blank and HTML", ("full", "aws-standard", "grpc"), "threads"),
    "threads, silent": Case("silent", ("fixed", "hedge"), "threads"),
    "threads, outage": Case("outage", ("breaker", "both", "finagle"), "threads"),
    "threads, call, 503": Case("503", ("openai-sdk", "full", "hedge"), "threads", "call"),
    "threads, call, 503 without stream": Case(
        "503 without stream", ("none", "fixed", "decorrelated"), "threads", "call"
    ),
}


def unchanged(client: Any) -> None:
    """Change nothing in a client."""


class Mutant(NamedTuple):
    """Lines from which one rule is left out: by another text, or by a change of the client."""

    rule: str
    case: Case
    old: str = ""
    new: str = ""
    prelude: Callable[[Any], None] = unchanged

    def of(self, lines: Sequence[str]) -> list[str]:
        """Return the lines with the other text."""
        text = "\n".join(lines)
        assert self.old in text, f"{self.rule}: {self.old!r} is not in the lines"
        return text.replace(self.old, self.new).splitlines() if self.old else list(lines)


def _without_jitter(client: Any) -> None:
    client._client._transport._calls._random.random = lambda: 1.0


def _deaf(client: Any) -> None:
    """Let the policy see no Retry-After."""
    for policy in client._client._transport._calls._policies.values():
        real = policy.ended
        policy.ended = lambda ended, random, real=real: real(
            msgspec.structs.replace(ended, retry_after=None), random
        )


def _one(mix: str, kind: str, mode: str = "async", scope: str = "attempt") -> Case:
    return Case(mix, (kind,), mode, scope)


MUTANTS = (
    Mutant("Retry-After", _one("429 with Retry-After", "fixed"), prelude=_deaf),
    Mutant("jitter", _one("500 and 502", "full"), prelude=_without_jitter),
    Mutant("retries of broken streams", _one("error in stream", "fixed"),
           "whole_responses=True,", ""),
    Mutant("retries of hidden failures", _one("blank and HTML", "fixed"),
           "client = harness.AsyncOpenAI(", "import openai\nopenai_client = (lambda **_: "
           "openai.AsyncOpenAI(max_retries=2))\nclient = openai_client("),
    Mutant("the hedge", Case("silent", ("hedge",), first_token="4s"),
           "harness.policies.Hedge(", "*(lambda **_: ())("),
    Mutant("the budget", _one("503", "budget"),
           "harness.policies.RetryBudget(", "*(lambda **_: ())("),
    Mutant("the breaker", _one("outage", "breaker"),
           "harness.policies.Breaker(", "*(lambda **_: ())("),
    Mutant("the time to the first token", _one("silent", "fixed"),
           "first_token=1,", "first_token=4,"),
    Mutant("the deadline of a call", Case("429 with Retry-After", ("fixed",), deadline="4s"),
           "call=4)", "call=20)"),
    Mutant("the number of permits", _one("no faults", "none"), f"permits={PERMITS},", "permits=3,"),
    Mutant("the number of permits, threads", _one("no faults", "none", "threads"),
           f"permits={PERMITS},", "permits=3,"),
    Mutant("the permit scope", _one("500 and 502", "full", "async", "call"),
           'permit_scope="call"', 'permit_scope="attempt"'),
    Mutant("the number of attempts", _one("503", "fixed"), "attempts=3", "attempts=2"),
    Mutant("the number of attempts, sync", Case("500 and 502", ("fixed",), "sync", calls=60),
           "attempts=3", "attempts=2"),
)  # fmt: skip
