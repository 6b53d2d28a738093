"""Records made by hand, for tests of whatever reads records.

Each function gives one record with every field at a plain value that keywords override. For whole
runs with consistent times see `tests.analysis.played`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from harness.analysis.model import Figure
from harness.analysis.selection import CellRecords, Dataset
from harness.bench.scenario_file import parse_scenario
from harness.records.clock import SECOND, Anchor
from harness.records.histogram import bucket
from harness.records.schema import (
    SCHEMA,
    Attempt,
    Branches,
    Call,
    CellInfo,
    Phase,
    Run,
    Tokens,
    Trial,
    Workflow,
)
from harness.store.run_directory import Records

RUN_ID = "0123456789abcdef0123456789abcdef"
MS = SECOND // 1000

_KEY: dict[str, Any] = {"cell": "async_2_none_attempt", "repeat": 0, "workflow": 0, "execution": 0}


def cell_info(cell: str) -> CellInfo:
    """Return the cell that an id such as `async_8_full-jitter_attempt` stands for."""
    mode, permits, retry, scope = cell.split("_")
    return CellInfo(id=cell, mode=mode, permits=int(permits), retry=retry, permit_scope=scope)


def by_cell(records: Records) -> list[CellRecords]:
    """Return the records of each cell, in the order of run.json."""
    return list(Dataset.of(records).cells.values())


def make_attempt(**fields: Any) -> Attempt:
    """Return an attempt that went well in one second; `fields` override."""
    plain: dict[str, Any] = {
        **_KEY, "phase": "decompose", "branch": None, "call": 1, "attempt": 1,
        "ready": 0, "permit_requested": 0, "permit_granted": 0, "sent": 0, "headers": 100 * MS,
        "first_reasoning": 200 * MS, "first_answer": 600 * MS, "last_token": 990 * MS,
        "done": 1000 * MS, "outcome": "ok", "status": 200, "retry_after": None, "request_id": None,
        "finish_reason": "stop", "chunks": 3, "gaps": {bucket(395 * MS): 2}, "decision": None,
        "tokens": Tokens(input=20, cached=0, output=30, reasoning=10),
    }  # fmt: skip
    return Attempt(**(plain | fields))


def make_call(**fields: Any) -> Call:
    """Return a call that went well in one second with one attempt; `fields` override."""
    plain: dict[str, Any] = {
        **_KEY, "phase": "decompose", "branch": None, "call": 1, "ready": 0, "done": 1000 * MS,
        "outcome": "ok", "attempts": 1, "backoffs": (),
        "tokens": Tokens(input=20, cached=0, output=30, reasoning=10), "wasted_tokens": None,
    }  # fmt: skip
    return Call(**(plain | fields))


def make_workflow(**fields: Any) -> Workflow:
    """Return a workflow of three phases of one second each; `fields` override."""
    names = ("decompose", "fan_out", "synthesize")
    plain: dict[str, Any] = {
        **_KEY, "topic": "tides", "ready": 0, "started": 0, "done": 3 * SECOND, "outcome": "ok",
        "phases": tuple(
            Phase(name=name, start=at * SECOND, end=(at + 1) * SECOND, outcome="ok")
            for at, name in enumerate(names)
        ),
        "branches": Branches(total=2, ok=2), "error": None,
    }  # fmt: skip
    return Workflow(**(plain | fields))


def make_trial(**fields: Any) -> Trial:
    """Return a trial of three seconds with an idle client; `fields` override."""
    plain: dict[str, Any] = {
        "cell": _KEY["cell"], "repeat": 0, "execution": 0, "start": 0, "end": 3 * SECOND,
        "cpu": SECOND // 10, "loop_lag": {bucket(MS): 100},
    }  # fmt: skip
    return Trial(**(plain | fields))


def make_run(
    cells: Iterable[str] = ("async_2_none_attempt",),
    repeats: int = 1,
    *,
    workflows: int = 1,
    in_flight: int = 1,
    branches: int = 2,
    simulated: bool = True,
    time_scale: float = 1.0,
    extra_toml: str = "",
    **fields: Any,
) -> Run:
    """Return run.json's content; `extra_toml` adds tables such as `[slo]` to the scenario."""
    infos = tuple(cell_info(cell) for cell in cells)
    names = tuple(info.id for info in infos)
    endpoint = (
        f"[endpoint]\ntime_scale = {time_scale}"
        if simulated
        else '[endpoint]\nkind = "openai"\nbase_url = "http://localhost:9"\nmodel = "m"'
    )
    toml = f"""
        name = "synthetic"
        seed = 7
        [workflow]
        topics = ["tides", "batteries"]
        sub_questions = {branches}
        {endpoint}
        [load]
        workflows = {workflows}
        in_flight = {in_flight}
        [sweep]
        mode = {sorted({info.mode for info in infos})}
        permits = {sorted({info.permits for info in infos})}
        retry = {sorted({info.retry for info in infos})}
        permit_scope = {sorted({info.permit_scope for info in infos})}
        repeats = {repeats}
        [retry.full-jitter]
        kind = "exponential"
        {extra_toml}
    """
    scenario = parse_scenario(toml, "synthetic")
    plain: dict[str, Any] = {
        "schema": SCHEMA, "run_id": RUN_ID, "name": "synthetic", "status": "complete",
        "anchor": Anchor(unix_ns=1_760_000_000 * SECOND, monotonic_ns=5 * SECOND), "seed": 7,
        "simulated": simulated, "time_scale": time_scale, "cells": infos, "repeats": repeats,
        "order": (names,) * repeats, "scenario": scenario.as_dict(),
        "code": {info.id: scenario.policy(info.retry).code() for info in infos},
        "profile": {"name": "synthetic"} if simulated else None,
        "versions": {"harness": "0.1.0"}, "host": {"cpus": 2},
        "phases": scenario.plan.phases,
    }  # fmt: skip
    return Run(**(plain | fields))


def known(figure: Figure | None) -> tuple[float, float, float]:
    """Return low, value and high of a figure that has all three."""
    assert figure is not None
    assert figure.low is not None
    assert figure.high is not None
    return figure.low, figure.value, figure.high
