"""What recording costs while one measures, and what spans cost afterwards.

    python -m benchmarks.traces

Recording: processor time to make and write an attempt's records, its share of the call's and the
workflow's among them; the floor is writing the same bytes. Spans: made from records and written to
a file, and sent over OTLP/HTTP to a process of its own, by the second of processor time; the floor
is the same bytes once more. Time to first token with recording and without it, in trials that take
turns against the simulated provider, whose own log is taken off: equivalent when the 90 % interval
of the median difference lies within half a millisecond (two one-sided tests at 5 %). Ends with 1
when a bound is not kept.
"""

from __future__ import annotations

import gc
import http.server
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec
from scipy import stats

from harness.bench.cells import expand
from harness.bench.runner import Hooks, ReadTrial, run
from harness.bench.scenario_file import load_scenario
from harness.config import shipped_scenarios
from harness.config.request_settings import Secrets
from harness.endpoints.simulated import SimulatedEndpoint
from harness.records.ids import attempt_span
from harness.records.schema import Attempt, Run
from harness.simulator.profiles import load_profile
from harness.store.run_directory import Records, Writer, read_records
from harness.telemetry.collector_reply import connect
from harness.telemetry.otlp_file import append_spans
from harness.telemetry.otlp_protobuf import batches
from harness.telemetry.otlp_target import OtlpTarget
from harness.telemetry.outbox import Outbox
from harness.telemetry.resource import make_resource
from harness.telemetry.spans import TraceMaker
from tests.analysis.played import Shape, make_records

MOST_MICROSECONDS = 50.0
LEAST_TO_FILE = 15_000.0
LEAST_SENT = 6_000.0
EQUIVALENT_MS = 0.5
PAIRS = 30
ROUNDS = 3


def records() -> Records:
    """Return the records of 300 workflows, a tenth of whose attempts failed."""
    shape = Shape(failure_rate=0.1)
    return make_records(
        ["async_8_full-jitter_attempt"], 1, workflows=300, in_flight=8, branches=8, shape=shape
    )


def cpu(work: Callable[[], object]) -> float:
    """Return the processor time of one piece of work in seconds: the least of a few rounds."""
    gc.collect()
    taken = []
    for _ in range(ROUNDS):
        began = time.process_time()
        work()
        taken.append(time.process_time() - began)
    return min(taken)


def recording(made: Records, folder: Path) -> tuple[float, float]:
    """Return microseconds an attempt: making and writing its records, and only writing bytes."""
    every: list[Any] = [*made.attempts, *made.calls, *made.workflows]
    fields = [msgspec.structs.asdict(record) for record in every]

    def whole() -> None:
        with Writer(folder) as writer:
            for record, named in zip(every, fields, strict=True):
                writer.append(type(record)(**named))

    lines = [msgspec.json.encode(record) + b"\n" for record in every]

    def floor() -> None:
        with (folder / "floor").open("ab", buffering=0) as file:
            for line in lines:
                file.write(line)

    return tuple(cpu(work) / len(made.attempts) * 1e6 for work in (whole, floor))  # type: ignore[return-value]


def to_file(made: Records, folder: Path) -> tuple[float, float]:
    """Return spans a second of processor time: made and written, and only the bytes."""
    resource = make_resource(made.run, {})
    maker = TraceMaker(made.run)
    count = len(maker.of_workflows(made.workflows, made.calls, made.attempts))

    def whole() -> None:
        spans = maker.of_workflows(made.workflows, made.calls, made.attempts)
        (folder / "spans").unlink(missing_ok=True)
        append_spans(folder / "spans", spans, resource)

    seconds = cpu(whole)
    written = (folder / "spans").read_bytes()
    return count / seconds, count / max(cpu(lambda: (folder / "floor").write_bytes(written)), 1e-6)


class _Sink(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Take everything."""
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def _serve(told: Connection) -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Sink)
    told.send(server.server_port)
    server.serve_forever()


@contextmanager
def collector() -> Iterator[OtlpTarget]:
    """Run a collector that takes everything, in a process of its own."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs,))
    process.start()
    try:
        yield OtlpTarget("http", "127.0.0.1", ours.recv(), "/v1/traces")
    finally:
        process.terminate()
        process.join()


def sent(made: Records) -> tuple[float, float]:
    """Return spans a second of processor time: made and delivered, and only the bytes."""
    resource = make_resource(made.run, {})
    maker = TraceMaker(made.run)
    spans = maker.of_workflows(made.workflows, made.calls, made.attempts)
    bodies = [batch.body for batch in batches(spans, resource)]
    with collector() as target:

        def whole() -> None:
            outbox = Outbox(target, lambda *_: None)
            again = maker.of_workflows(made.workflows, made.calls, made.attempts)
            outbox.put(batches(again, resource), len(again))
            assert outbox.send(60).delivered == len(spans)
            outbox.close()

        def floor() -> None:
            exchange = connect(target)
            for body in bodies:
                assert exchange.post(body, 10).verdict == "taken"
            exchange.close()

        return len(spans) / cpu(whole), len(spans) / cpu(floor)


def first_tokens(folder: Path) -> tuple[list[float], float]:
    """Return, by pair of trials, by how much recording delays the first token, in milliseconds.

    With it comes what recording took in those trials: microseconds an attempt, the median of them.

    What the provider's own log says of each is taken off, so that its lateness is no noise: what
    is left is the client's part of the time to first token. A trial counts with its median.
    """
    settings = [
        "workflow.sub_questions=16", "sweep.permits=[16]", f"sweep.repeats={2 * PAIRS}",
        "endpoint.override={answer_tokens = {median = 20}}",
    ]  # fmt: skip
    scenario = load_scenario(shipped_scenarios.find("streaming"), settings)
    assert isinstance(scenario.endpoint, SimulatedEndpoint)
    profile = load_profile(scenario.endpoint.profile, scenario.endpoint.overrides)
    trials: dict[int, list[Attempt]] = {}
    recorded: list[float] = []
    append = Writer.append
    now = {"repeat": 0}

    def with_recording(repeat: int) -> bool:  # on off, off on, on off …
        return repeat % 4 in (0, 3)

    def maybe(writer: Writer, record: Any) -> None:
        if not isinstance(record, Attempt) or with_recording(now["repeat"]):
            append(writer, record)

    def before(_: object, repeat: int, left: object) -> None:
        now["repeat"] = repeat

    def after(_: Run, read: ReadTrial) -> None:
        trial = read()
        trials[now["repeat"]] = trial.attempts
        if with_recording(now["repeat"]):
            recorded.append(trial.trial.recording / len(trial.attempts) / 1e3)

    profiles = {cell.id: profile.as_dict() for cell in expand(scenario)}
    hooks = Hooks(before, after, lambda _: None, lambda _: None, lambda _: None)
    with patch.object(Writer, "append", maybe):
        run_id = run(
            scenario, profiles, dict.fromkeys(profiles, Secrets("none")), folder, hooks
        ).run_id
    provider = read_records(folder).provider
    assert provider is not None, "the provider is simulated"
    served = {one.span_id: one for one in provider[1]}
    own = {
        repeat: statistics.median(
            (one.ttft - (theirs.first_written - theirs.arrived)) / 1e6
            for one in attempts
            if (theirs := served[attempt_span(run_id, one)]).first_written and one.ttft
        )
        for repeat, attempts in trials.items()
    }
    pairs = [(2 * pair, 2 * pair + 1) for pair in range(PAIRS)]
    less = [(1 if with_recording(one) else -1) * (own[one] - own[two]) for one, two in pairs]
    return less, statistics.median(recorded)


def interval_of_median(values: list[float]) -> tuple[float, float]:
    """Return a 90 % interval of the median by order statistics: one hiccup is one value."""
    ranked = sorted(values)
    below = int(stats.binom.ppf(0.05, len(ranked), 0.5))
    return ranked[max(below - 1, 0)], ranked[min(len(ranked) - below, len(ranked) - 1)]


def main() -> int:
    """Print every figure with its bound and return the exit code."""
    made = records()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "run").mkdir()
        each, bytes_each = recording(made, folder)
        filed, filed_floor = to_file(made, folder)
        delivered, delivered_floor = sent(made)
        differences, inside = first_tokens(folder / "run")
    middle, interval = statistics.median(differences), interval_of_median(differences)
    print(f"recording: {each:.1f} us of CPU an attempt (bytes alone {bytes_each:.1f}); "
          f"bound {MOST_MICROSECONDS:.0f}")  # fmt: skip
    print(f"the same within real trials, by their own account: {inside:.1f} us; "
          f"bound {MOST_MICROSECONDS:.0f}")  # fmt: skip
    print(f"spans to a file: {filed:,.0f} a CPU-second (bytes alone {filed_floor:,.0f}); "
          f"bound {LEAST_TO_FILE:,.0f}")  # fmt: skip
    print(f"spans over OTLP/HTTP: {delivered:,.0f} a CPU-second (bytes alone "
          f"{delivered_floor:,.0f}); bound {LEAST_SENT:,.0f}")  # fmt: skip
    print(f"first token with recording less without (simulated): {middle:+.3f} ms, 90 % interval "
          f"{interval[0]:+.3f} to {interval[1]:+.3f}; bound ±{EQUIVALENT_MS}")  # fmt: skip
    kept = (
        max(each, inside) <= MOST_MICROSECONDS
        and filed >= LEAST_TO_FILE
        and delivered >= LEAST_SENT
    )
    return 0 if kept and max(map(abs, interval)) <= EQUIVALENT_MS else 1


if __name__ == "__main__":
    sys.exit(main())
