"""A run of one workflow, written down by hand: two branches, one of them with a retry."""

from __future__ import annotations

from typing import Any

import msgspec

from harness.records.schema import (
    Attempt,
    Backoff,
    Branches,
    Call,
    Phase,
    Run,
    Tokens,
    Trial,
    Workflow,
    give_up,
    retry_in,
)
from harness.store.run_directory import Records
from tests.analysis.builders import make_attempt, make_call, make_run, make_trial, make_workflow

CELL = "async_2_full-jitter_attempt"
KEY: dict[str, Any] = {"cell": CELL, "repeat": 1, "workflow": 3, "execution": 0}
USED = Tokens(input=20, cached=4, output=30, reasoning=10)


def example_run(cell: str = CELL, **fields: Any) -> Run:
    """Return the run of `example`; `fields` override."""
    return make_run([cell], repeats=2, **fields)


def live_run(**endpoint: Any) -> Run:
    """Return a run against a live endpoint with these settings."""
    run = make_run([CELL], simulated=False)
    settings = run.scenario | {"endpoint": run.scenario["endpoint"] | endpoint}
    return msgspec.structs.replace(run, scenario=settings)


def first_try(phase: str, branch: int | None, start: int, end: int) -> tuple[Attempt, Call]:
    """Return a call that went well at once: a permit after 1 ns, sent 1 ns later."""
    attempt = make_attempt(
        **KEY, phase=phase, branch=branch, ready=start, permit_requested=start,
        permit_granted=start + 1, sent=start + 2, headers=start + 3, first_chunk=start + 3,
        first_reasoning=start + 4, first_answer=start + 5, last_token=end - 1, done=end,
        tokens=USED, request_id="r-1",
    )  # fmt: skip
    call = make_call(**KEY, phase=phase, branch=branch, ready=start, done=end, tokens=USED)
    return attempt, call


def retried() -> tuple[list[Attempt], Call]:
    """Return branch 1 of the fan-out: refused with 429, backed off, waited, succeeded."""
    key = {**KEY, "phase": "fan_out", "branch": 1}
    refused = make_attempt(
        **key, attempt=1, ready=100, permit_requested=101, permit_granted=110, sent=112,
        headers=120, first_reasoning=None, first_answer=None, last_token=None, done=125,
        outcome="rate_limited", status=429, retry_after=30, finish_reason=None, chunks=0, gaps={},
        tokens=Tokens(), decision=retry_in(30, "retry_after"),
    )  # fmt: skip
    good = make_attempt(
        **key, attempt=2, ready=155, permit_requested=156, permit_granted=160, sent=161,
        headers=165, first_chunk=166, first_reasoning=170, first_answer=180,
        last_token=189, done=190, tokens=USED,
    )  # fmt: skip
    backoff = Backoff(start=125, end=155, planned=30, source="retry_after")
    call = make_call(
        **key, ready=100, done=190, attempts=2, backoffs=(backoff,), tokens=USED,
        wasted_tokens=Tokens(input=20),
    )  # fmt: skip
    return [refused, good], call


def example(run: Run | None = None) -> Records:
    """Return the whole run."""
    decomposed = first_try("decompose", None, 2, 100)
    plain = first_try("fan_out", 0, 100, 150)
    attempts, call = retried()
    synthesized = first_try("synthesize", None, 190, 300)
    phases = (("decompose", 2, 100), ("fan_out", 100, 190), ("synthesize", 190, 300))
    workflow = make_workflow(
        **KEY, ready=1, started=2, done=300,
        phases=tuple(Phase(name=name, start=a, end=b, outcome="ok") for name, a, b in phases),
    )  # fmt: skip
    trial: Trial = make_trial(cell=CELL, repeat=1, execution=0, start=1, end=300)
    return Records(
        run=run or example_run(),
        attempts=[decomposed[0], plain[0], *attempts, synthesized[0]],
        calls=[decomposed[1], plain[1], call, synthesized[1]],
        workflows=[workflow],
        trials=[trial],
        provider=None,
    )


def failed_workflow(call: Call) -> Workflow:
    """Return a workflow whose decomposition was `call`, which failed."""
    phase = Phase(name="decompose", start=call.ready, end=call.done, outcome="failed")
    return make_workflow(
        **KEY, ready=call.ready, started=call.ready, done=call.done, outcome="failed",
        phases=(phase,), branches=Branches(total=0, ok=0), error=f"decompose: {call.outcome}",
    )  # fmt: skip


def gave_up(**fields: Any) -> Attempt:
    """Return an attempt that failed for good."""
    plain: dict[str, Any] = {
        **KEY, "ready": 0, "permit_requested": 0, "permit_granted": 10, "sent": None,
        "headers": None, "first_reasoning": None, "first_answer": None, "last_token": None,
        "done": 20, "outcome": "connect_failed", "status": None, "finish_reason": None,
        "chunks": 0, "gaps": {}, "tokens": Tokens(), "decision": give_up("attempts"),
    }  # fmt: skip
    return make_attempt(**(plain | fields))
