"""One attempt in virtual time, and both ways of waiting for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from harness.engine.budget_gate import Gate
from harness.engine.effects import Deadlines, Message, Program, Reply, Request, Send, fan_out
from harness.engine.ledger import BudgetLimits
from harness.engine.permits import Turnstile
from harness.records.clock import SECOND
from harness.records.keys import CallKey
from harness.simulator.profiles import load_profile
from harness.simulator.virtual.clients import BlockingVirtualClient
from harness.simulator.virtual.clock import VirtualClock
from harness.simulator.virtual.provider import VirtualProvider, VirtualTarget, VirtualTrial
from harness.simulator.virtual.scheduler import Scheduler

LONG = 10_000 * SECOND

STEADY: Mapping[str, Any] = {
    "ttft": {"median": "2s", "sigma": 0.0, "per_1k_input_tokens": 0.0},
    "itl_a": "100ms", "itl_b": 0.0, "itl_c": 0.0,
    "reasoning_tokens": {"median": 10, "sigma": 0.0},
    "answer_tokens": {"median": 20, "sigma": 0.0},
    "keep_alive_every": "1s",
}  # fmt: skip
"""10 tokens of thought and 20 of an answer, the first after 2 s, then one every 0.1 s: 4.9 s."""

Waiting = Callable[[VirtualTrial, Send], Reply]


def trial(stream: bool = True, permits: int = 1, **overrides: Any) -> VirtualTrial:
    profile = load_profile("deepseek-reasoner", {**STEADY, **overrides})
    target = VirtualTarget(profile, 1, 1.0, "m", stream, thoughts=True)
    return VirtualTrial(target, "cell", 0, permits)


def attempt(
    *, first_token: int = LONG, idle: int = LONG, end: int = LONG, name: str = "call_timeout"
) -> Send:
    return Send(
        CallKey("cell", 0, 0, 0, "fan_out", 0, 1),
        1,
        Request((Message("user", "What makes the tides?"),)),
        Deadlines(SECOND, first_token, idle, end, name),
    )


def blocking(of: VirtualTrial, to_send: Send) -> Reply:
    clock = VirtualClock()
    return BlockingVirtualClient(VirtualProvider(of), clock).send(to_send)


def tasks(of: VirtualTrial, to_send: Send) -> Reply:
    clock = VirtualClock()
    gate = Gate(BudgetLimits(), None, clock.now)
    permits = Turnstile(of.permits, clock.now)
    scheduler = Scheduler(clock, VirtualProvider(of), permits, gate, lambda _: None)

    def sends() -> Program[Reply]:
        reply: Reply = yield to_send
        return reply

    # A task of its own branch, as a call has.
    return scheduler.run(fan_out([sends()]))[0]
