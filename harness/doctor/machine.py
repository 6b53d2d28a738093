"""Checks of this machine: open files, timers, disk, collector."""

from __future__ import annotations

import asyncio
import shutil
import socket
from pathlib import Path

import uvloop

from harness.bench import preflight
from harness.bench.estimate import estimate
from harness.doctor.findings import NO_PROBE, Examined, Found, Level, ok, skipped
from harness.engine.loop_lag import LoopProbe
from harness.records.clock import SECOND, monotonic_since, take_anchor
from harness.records.errors import HarnessError, PreflightError
from harness.records.histogram import quantile
from harness.records.timer_lag import corrected
from harness.report.wording import counted
from harness.telemetry.otlp_target import open_target
from harness.transports.reading import Reading

_CHUNK = b'data: {"choices": [{"index": 0, "delta": {"content": " word"}}]}\n\n'
_CHUNKS_A_SECOND = 40
"""Of one stream, as large reasoning models send them."""
_MEASURED_SECONDS = 1.0
LATEST = 0.05
"""Seconds by which timers and reads of the client may be late at the 99th percentile."""
_BYTES_A_CALL = 12_000
"""Records and spans of a call on disk, with a reserve."""
_BYTES_A_TOKEN = 5
_CONNECT_SECONDS = 2.0
_VIRTUAL = "virtual time does not depend on the machine"


def check_open_files(examined: Examined) -> Found:
    """Find a limit of open files that is too low for the permits."""
    if examined.scenario.is_virtual:
        return skipped(_VIRTUAL)
    try:
        preflight.open_files(examined.scenario)
    except PreflightError as error:
        return Found("failure", str(error), "ulimit -n NUMBER")
    return ok(f"enough for {counted(max(examined.scenario.permit_counts), 'permit')}")


def check_timers(examined: Examined) -> Found:
    """Find out how late this machine reads as many streams as the scenario has permits."""
    if examined.scenario.is_virtual:
        return skipped(_VIRTUAL)
    if "async" not in examined.scenario.sweep.mode:
        return skipped("only for async")
    streams = min(max(examined.scenario.permit_counts), preflight.most_ready(examined.scenario))
    late = lateness(streams)
    said = f"p99 of the client's delay: {late * 1000:.1f} ms with {counted(streams, 'stream')}"
    if late <= LATEST:
        return ok(said)
    return Found(
        "warning",
        f"{said}; times to the first token are measured too long by that",
        "use fewer permits in a process, a faster machine, or one that does nothing else",
    )


def lateness(streams: int, seconds: float = _MEASURED_SECONDS) -> float:
    """Return the p99, in seconds, of the delay of a loop that reads so many streams."""

    end, now = 0.0, monotonic_since(take_anchor())

    async def read_stream(number: int) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + number / streams / _CHUNKS_A_SECOND
        reading = Reading(True, "text/event-stream")
        while due < end:
            await asyncio.sleep(due - loop.time())
            reading.feed(_CHUNK, now())
            due += 1 / _CHUNKS_A_SECOND

    async def whole() -> float:
        nonlocal end
        end = asyncio.get_running_loop().time() + seconds
        with LoopProbe(now) as probe:
            await asyncio.gather(*map(read_stream, range(streams)))
            return (quantile(corrected(probe.lag().loop_lag), 0.99) or 0.0) / SECOND

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(whole())


def check_disk(examined: Examined) -> Found:
    """Find a disk that the records of the run would fill."""
    expected = estimate(examined.scenario, examined.scenario.endpoint.facts.call_seconds)
    needed = expected.calls * _BYTES_A_CALL
    if examined.scenario.transcripts:
        needed += (expected.output_tokens or 0) * _BYTES_A_TOKEN
    folder = Path("results") if Path("results").is_dir() else examined.folder
    free = shutil.disk_usage(folder).free
    said = f"about {_size(needed)} of records, {_size(free)} free"
    if needed < free / 2:
        return ok(said)
    level: Level = "failure" if needed > free else "warning"
    return Found(level, said, "free the disk, name another with --out, or run fewer workflows")


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def check_span_collector(examined: Examined) -> Found:
    """Find a collector of spans that cannot be used or reached."""
    try:
        target = open_target(None, examined.environment)
    except HarnessError as error:
        return Found("failure", str(error), "correct the variable, or unset it")
    if target is None:
        return skipped("no collector is named (OTEL_EXPORTER_OTLP_ENDPOINT)")
    is_near = target.host in ("localhost", "127.0.0.1", "::1")
    if not is_near and examined.probed is None:
        return skipped(NO_PROBE)
    try:
        socket.create_connection((target.host, target.port), _CONNECT_SECONDS).close()
    except OSError as error:
        return Found(
            "warning", f"{target} cannot be reached ({error.strerror or error})",
            "start it, correct OTEL_EXPORTER_OTLP_ENDPOINT, or unset it; the spans are kept in the "
            "run, and `harness trace export` sends them later",
        )  # fmt: skip
    return ok(f"{target} can be reached")
