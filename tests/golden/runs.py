"""The golden runs: what is run, what is kept of it, and where it is stored.

The program is driven by its command line alone, so that these tests survive any move of modules.
"""

from __future__ import annotations

import gzip
import json
import os
import tomllib
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from harness.cli.main import main
from tests.golden.comparison import PRESENT, Row, flatten, in_old_names, in_order, is_below
from tests.golden.renames import DEFAULTS

ROOT = Path(__file__).parents[2]
DATA = Path(__file__).parent / "data"
TABLES = ("attempts", "calls", "workflows", "trials")
NO_SUCCESS = 1

RANDOM = frozenset({"attempts.request_id", "attempts.response_id"})
"""Made from the run's random id: only whether there is one is kept."""
OF_THE_MACHINE = frozenset(
    {"trials.cpu", "trials.loop_lag", "trials.late_timers", "trials.recording", "summary.run_id"}
)  # fmt: skip
"""Left out of every golden run."""
TEXTS = frozenset(
    {"summary.recommendation.because", "summary.recommendation.code", "summary.verdict.because"}
)
"""Kept in a file of their own, because wording changes on its own."""

TIMES = frozenset(
    {
        *(f"attempts.{name}" for name in (
            "ready", "permit_requested", "permit_granted", "sent", "headers", "first_reasoning",
            "first_answer", "last_token", "done",
        )),
        "calls.ready", "calls.done", "calls.backoffs[].start", "calls.backoffs[].end",
        "workflows.ready", "workflows.started", "workflows.done", "workflows.phases[].start",
        "workflows.phases[].end", "trials.start", "trials.end",
    }
)  # fmt: skip
"""Over HTTP only whether there is such a time is kept."""
TIMED = frozenset({"attempts.gaps", "summary.verdict", "summary.recommendation"})
"""Left out of golden runs over HTTP: the clock decides them."""
COUNTED = (
    *("schema", "scenario", "status", "simulated", "virtual", "time_scale"),
    *("oracle.attempts", "oracle.unmatched"),
    *("oracle.outcome_mismatches", "oracle.token_mismatches"),
    *(f"cells[].{name}" for name in (
        "id", "mode", "permits", "retry", "permit_scope", "repeats", "workflows", "warm_up",
        "calls", "calls_lost", "attempts", "success_rate", "tokens", "cost_usd", "wasted_usd",
        "cost_per_successful_workflow_usd",
    )),
    *(f"cells[].{name}.n" for name in (
        "workflow_latency_s", "call_latency_s", "ttft_s", "time_to_first_answer_s",
        "inter_token_s", "permit_wait_s", "client_wait_s", "backoff_s",
    )),
    *(f"cells[].phases.{phase}.{name}" for phase in ("decompose", "fan_out", "synthesize")
      for name in ("latency_s.n", "failed")),
)  # fmt: skip
"""Fields of the summary that the clock does not decide."""
COUNTED_PATHS = frozenset(f"summary.{name}" for name in COUNTED)
OUTCOMES = frozenset(
    f"summary.{name}" for name in (
        "schema", "scenario", "status", "simulated", "virtual", "time_scale", "cells[].id",
        "cells[].mode", "cells[].permits", "cells[].retry", "cells[].permit_scope",
        "cells[].repeats", "cells[].workflows", "cells[].calls", "cells[].attempts.total",
        "cells[].attempts.failed", "cells[].attempts.by_outcome",
    )
)  # fmt: skip
"""What is kept of a summary when timing decides how a few attempts end: counts by class."""


class Golden(NamedTuple):
    """One run. `settings` cut the scenario to at most 500 attempts.

    `may_differ`: the share of a table's records that may differ, because timing decides how a few
    attempts end.
    """

    name: str
    scenario: str
    settings: tuple[str, ...]
    is_virtual: bool = True
    may_differ: float = 0.0


def _virtual(name: str, *settings: str, scenario: str | None = None) -> Golden:
    return Golden(name, scenario or name, ("endpoint.time=virtual", *settings))


def _without_bursts() -> str:
    """Return the faults of the scenario `faults` that do not depend on the time of a request."""
    with (ROOT / "scenarios" / "faults.toml").open("rb") as file:
        faults = tomllib.load(file)["endpoint"]["faults"]
    kept = ["{" + ", ".join(f"{key} = {json.dumps(value)}" for key, value in fault.items()) + "}"
            for fault in faults if "burst" not in fault]  # fmt: skip
    assert len(kept) == len(faults) - 2
    return f"endpoint.faults=[{', '.join(kept)}]"


_FAULTS = (
    "endpoint.override={tokens_per_chunk = 20}", "endpoint.time_scale=0.01", "sweep.permits=[12]",
)  # fmt: skip
"""The pace with which the scenario `faults` was recorded."""

GOLDEN = (
    _virtual(
        "quickstart", "load.workflows=4", "sweep.repeats=2", "endpoint.time_scale=0.0018"
    ),
    _virtual(
        "agent", 'sweep.mode=["sync", "async"]', "sweep.permits=[6]", "load.workflows=4",
        "sweep.repeats=2", "slo.success_rate=0.99", "endpoint.time_scale=0.002",
    ),
    _virtual("carry-reasoning", "load.workflows=4", "sweep.repeats=2"),
    _virtual("hedge", "load.workflows=8", "sweep.repeats=2"),
    _virtual(
        "faults", *_FAULTS, "load.workflows=3", "sweep.repeats=2", 'sweep.mode=["sync", "async"]'
    ),
    _virtual("objectives", "load.workflows=12", "sweep.repeats=1"),
    _virtual(
        "open-loop", "load.workflows=12", "sweep.repeats=2", "endpoint.time_scale=0.002"
    ),
    _virtual(
        "outage", "load.workflows=2", "sweep.permits=[8]", "sweep.repeats=1",
        'endpoint.faults=[{kind = "unavailable", outage = {start = "30s", duration = "30s"}}]',
    ),
    _virtual(
        "compare-providers", "load.workflows=3", "sweep.repeats=2", "endpoint.time_scale=0.01"
    ),
    _virtual("own-program", "load.workflows=4", "sweep.repeats=2"),
    _virtual("permit-scope", "load.workflows=3", "sweep.repeats=4"),
    _virtual("rate-limited", "load.workflows=2", "sweep.repeats=1"),
    _virtual("retry-storm", "load.workflows=2", "sweep.repeats=2"),
    _virtual(
        "semaphore-sweep", "load.workflows=4", "sweep.permits=[1, 4, 16]", "sweep.repeats=3",
        "endpoint.time_scale=0.1",
    ),
    _virtual(
        "until-settled", "load.workflows=8", "sweep.permits=[2, 16]", 'sweep.retry=["none"]',
        "sweep.max_repeats=5", "slo.success_rate=0.9",
    ),
    _virtual(
        "stepping-cap", "load.workflows=4", "sweep.repeats=1", 'sweep.permits=["aimd", "elastic"]',
        'endpoint.override={concurrency_cap = 12, cap_steps = [{at = "30s", cap = 4}]}',
    ),
    _virtual(
        "long-retry-after", "load.workflows=4", "sweep.repeats=1",
        'sweep.permits=["inspect-ai", "elastic"]',
    ),
    _virtual(
        "shared-account", "load.workflows=4", "sweep.repeats=1",
        'sweep.permits=["gradient2", "elastic"]',
        'endpoint.override={concurrency_cap = 8, cap_steps = [{at = "20s", cap = 6}]}',
    ),
    _virtual("streaming", "workflow.sub_questions=32", "sweep.repeats=3"),
    _virtual(  # in virtual time without its sweep, as the wire client is there only in real time
        "sdk-cost", 'sweep."endpoint.client"=', "load.workflows=2", "sweep.repeats=1"
    ),
    # What no shipped scenario uses: the other policies, and the other ways to lose a branch.
    _virtual(
        "other-policies", "load.workflows=2", "sweep.repeats=2",
        'retry.equal={kind = "exponential", jitter = "equal", attempts = 8, base = "1s"}',
        'retry.grpc={kind = "grpc-throttling"}', 'retry.finagle={kind = "finagle-budget"}',
        'retry.throttled={kind = "stack", layers = ["grpc", "equal"]}',
        'retry.reserve={kind = "stack", layers = ["finagle", "equal"]}',
        'sweep.retry=["equal", "throttled", "reserve"]', "sweep.permits=[16]",
        scenario="retry-storm",
    ),
    _virtual(
        "quorum", *_FAULTS, "load.workflows=4", "sweep.repeats=2", 'sweep.mode=["sync", "async"]',
        'sweep.retry=["openai-sdk"]', "workflow.on_branch_failure=quorum", "workflow.quorum=6",
        "workflow.carry_reasoning=true", "endpoint.price={input = 1.0, output = 2.0}",
        scenario="faults",
    ),
    _virtual(
        "fail-fast", "load.workflows=4", "sweep.repeats=2", 'sweep.mode=["sync", "async"]',
        'sweep.retry=["none"]', "workflow.on_branch_failure=fail-fast", "endpoint.stream=false",
        'endpoint.faults=[{kind = "unavailable", probability = 0.02}]', scenario="permit-scope",
    ),
    Golden(
        "streaming-http", "streaming",
        ("workflow.sub_questions=32", "sweep.repeats=1", "endpoint.time_scale=0.1"),
        is_virtual=False,
    ),
    # Requests that arrive at the same time may change places, and with them their faults: two quiet
    # runs of the whole scenario differed in 2 of 728 attempts, and a busy machine does worse.
    # Tokens come ten times as fast as in the scenario, so that the tests do not wait for them. The
    # timeouts are five times as long, as 0.6 s of real time can pass on a busy machine.
    Golden(
        "faults-http", "faults",
        ("sweep.repeats=1", 'sweep.retry=["none", "patient"]',
         'timeouts={first_token = "300s", idle = "150s", call = "50m"}',
         *_FAULTS, "endpoint.override={tokens_per_chunk = 20, itl_a = 0.005}", _without_bursts()),
        is_virtual=False, may_differ=0.1,
    ),
)  # fmt: skip


class Kept(NamedTuple):
    """What is kept of a run: rows by table, the summary's row, and the summary's sentences."""

    tables: dict[str, list[Row]]
    summary: Row
    texts: Row


def run(golden: Golden, directory: Path) -> Kept:
    """Run a scenario into `directory` and return what is kept of it."""
    scenario = ROOT / "scenarios" / f"{golden.scenario}.toml"
    settings = [part for setting in golden.settings for part in ("--set", setting)]
    command = ["run", str(scenario), "--quiet", "--jobs", "1", "--out", str(directory), *settings]
    assert call(command) in (0, NO_SUCCESS)
    tables = {table: _rows(directory, table, golden) for table in TABLES}
    summary, texts = summary_of(directory)
    if not golden.is_virtual:
        kept = OUTCOMES if golden.may_differ else COUNTED_PATHS
        summary, texts = {path: summary[path] for path in summary if is_below(path, kept)}, {}
    return Kept(tables, summary, texts)


def call(command: list[str]) -> int:
    """Run a command without the caller's settings of telemetry, and without rendering plots.

    What plots look like is tested elsewhere; rendering them takes longer than all the runs.
    """
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OTEL_", "HARNESS_"))
    }
    with (
        patch.dict(os.environ, environment, clear=True),
        patch.object(Figure, "savefig"),
        patch.object(FigureCanvasAgg, "print_png"),
        patch.object(FigureCanvasSVG, "print_svg"),
    ):
        return main(command)


def _rows(directory: Path, table: str, golden: Golden) -> list[Row]:
    lines = (directory / f"{table}.jsonl").read_text().splitlines()
    rows = [in_old_names(flatten(_whole(json.loads(line), table), table)) for line in lines]
    return in_order((_normal(row, is_virtual=golden.is_virtual) for row in rows), table)


def _whole(record: Row, table: str) -> Row:
    """Return a record with the fields that its line leaves out because they have their default."""
    record = {**DEFAULTS[table], **record}
    counts = {name: record[name] for name in ("tokens", "wasted_tokens") if record.get(name)
              is not None}  # fmt: skip
    return record | {name: {**DEFAULTS["tokens"], **count} for name, count in counts.items()}


def _normal(row: Row, *, is_virtual: bool) -> Row:
    """Leave out what is random, of the machine and, over HTTP, decided by the clock."""
    hidden = RANDOM if is_virtual else RANDOM | TIMES
    left_out = OF_THE_MACHINE if is_virtual else OF_THE_MACHINE | TIMED
    return {
        path: PRESENT if value is not None and is_below(path, hidden) else value
        for path, value in row.items()
        if not is_below(path, left_out)
    }


SCHEMA_1 = Path(__file__).parent / "gpu-low"
"""Records of a real model server, 2 workflows a trial and 300 attempts, written by schema 1."""


def unpack(directory: Path) -> None:
    """Write the run of `SCHEMA_1` into `directory`."""
    directory.mkdir()
    for file in SCHEMA_1.iterdir():
        content = file.read_bytes()
        if file.suffix == ".gz":
            content = gzip.decompress(content)
        (directory / file.name.removesuffix(".gz")).write_bytes(content)


def summary_of(directory: Path) -> tuple[Row, Row]:
    """Return the summary of a run, and apart from it its sentences."""
    written = json.loads((directory / "summary.json").read_text())
    row = _normal(in_old_names(flatten(written, "summary")), is_virtual=True)
    texts = {path: value for path, value in row.items() if is_below(path, TEXTS)}
    return {path: value for path, value in row.items() if path not in texts}, texts


def save(name: str, kept: Kept) -> None:
    """Store a golden run; the bytes are the same whenever the run is."""
    DATA.mkdir(exist_ok=True)
    if kept.tables:
        rows = [row for table in TABLES for row in kept.tables[table]]
        _write(DATA / f"{name}.records.jsonl.gz", rows)
    _write(DATA / f"{name}.summary.jsonl.gz", [kept.summary])
    if kept.texts:
        text = json.dumps(kept.texts, indent=1, ensure_ascii=False)
        (DATA / f"{name}.texts.json").write_text(f"{text}\n", encoding="utf-8")


def load(name: str) -> Kept:
    """Return a stored golden run."""
    records, texts = DATA / f"{name}.records.jsonl.gz", DATA / f"{name}.texts.json"
    tables: dict[str, list[Row]] = {table: [] for table in TABLES}
    for row in _read(records) if records.exists() else []:
        tables[next(iter(row)).partition(".")[0]].append(row)
    (summary,) = _read(DATA / f"{name}.summary.jsonl.gz")
    said = json.loads(texts.read_text(encoding="utf-8")) if texts.exists() else {}
    return Kept(tables, summary, said)


def _write(path: Path, rows: list[Row]) -> None:
    text = "".join(f"{json.dumps(row, separators=(',', ':'))}\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


def _read(path: Path) -> list[Row]:
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
