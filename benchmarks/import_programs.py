"""What `harness import` finds of programs as people write them, from flat spans. Simulated.

    python -m benchmarks.import_programs --programs 50 --seed 0 [--kinds flat/much] [--worst 3]

`benchmarks.drawn_programs` draws the programs and says what it takes for realistic. Each program
runs twenty times in virtual time, one run after another, each with a topic and a document of its
own. The spans of the first ten runs are written as OTLP JSON. What gives the structure away is
left out: a trace is a root and `chat` spans in the order of their ends, with model, tokens and
times. One program in four uses a reasoning model, whose reasoning counts as output and is not
passed on. No call fails, waits for a permit, or is retried.

`harness import` reads the file, and its data file is compared with the program. A pair is a call
and one that it waits for directly. Precision and recall are over the pairs of all runs of all
programs. `exact`: the share of programs without a wrong pair in any run. Makespan: with the times
of the other ten runs, each call begins, as in that run, some program time after the last call that
it waits for; the share of programs whose makespan with the found pairs is at most 5 % from that
with the true ones, as a mean over the ten runs and the ten found graphs. `naive` is the floor: each
run by itself, and a call waits for all that ended before it began, without what follows from
other pairs. `s`: processor seconds a program, of recording and of the import.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from benchmarks.drawn_programs import (
    KINDS,
    Kind,
    Variation,
    asks_of,
    direct_dependencies,
    draw_program,
    tree_line,
)
from benchmarks.programs.drawn import DrawnProgram, PlannedAsk, phase_of
from benchmarks.virtual import run_of
from harness.bench import cells
from harness.bench.resume import RunProgress
from harness.bench.scenario import Scenario
from harness.bench.scenario_file import parse_scenario
from harness.bench.virtual import Task, opening, play
from harness.cli.main import main as harness
from harness.records.clock import SECOND, Anchor
from harness.simulator.profiles import Profile, load_profile
from harness.telemetry import semconv
from harness.telemetry.export_times import with_export_times
from harness.telemetry.otlp_file import append_spans
from harness.telemetry.span import Span
from harness.telemetry.spans import TraceMaker

RECORDED, NEW = 10, 10
"""Runs that are written to the file, and runs for new times."""
WITHIN = 0.05
ENDED = (129, 130, 143)
"""Exit codes of a command that a signal has ended."""
REASONING_SHARE = 0.25
MOST_TOKENS = 1_000_000
BEGIN = 1_760_000_000 * SECOND
KEPT = (
    semconv.OPERATION_NAME, semconv.PROVIDER_NAME, semconv.REQUEST_MODEL, semconv.RESPONSE_MODEL,
    semconv.RESPONSE_FINISH_REASONS, semconv.USAGE_INPUT, semconv.USAGE_OUTPUT,
)  # fmt: skip
SPREADS: dict[Variation, dict[str, float]] = {
    "little": {"sigma": 0.1, "topic_sigma": 0.05},
    "much": {"sigma": 0.5, "topic_sigma": 0.25},
}
TTFT_SIGMA: dict[Variation, float] = {"little": 0.1, "much": 0.4}
WORDS = (
    "tides", "trains", "deltas", "seed banks", "glaciers", "bridges", "vaccines", "batteries",
    "orchards", "harbours",
)  # fmt: skip
SCENARIO = """
name = "drawn"
seed = {seed}
[workflow]
program = "benchmarks.programs.drawn:run_drawn"
arguments = {{ program = {program} }}
topics = {topics}
calls = {{ {calls} }}
[endpoint]
profile = "{profile}"
model = "model-large"
time = "virtual"
[timeouts]
call = "24h"
idle = "24h"
first_token = "24h"
[load]
workflows = {runs}
in_flight = 1
[sweep]
permits = [256]
retry = ["none"]
"""


@dataclass(frozen=True)
class RecordedCall:
    """One chat span of a run. `number`: of its ask; times in nanoseconds."""

    number: int
    start: int
    end: int


class RecordedRun(NamedTuple):
    """The calls of one run in the order of their starts. `begin`: the start of its root span."""

    begin: int
    calls: Sequence[RecordedCall]


Graph = Mapping[int, frozenset[int]]
"""For each ask, by number, those that it waits for."""


class Outcome(NamedTuple):
    """What was found of one program, and with the naive rule.

    `graphs`: for each recorded run. `error`: mean relative error of the makespan. `seconds`: of
    recording, and of the import. `failure`: what the import printed if it failed.
    """

    kind: Kind
    program: DrawnProgram
    truth: Graph
    graphs: Sequence[Graph]
    naive: Sequence[Graph]
    error: float
    seconds: tuple[float, float]
    failure: str

    def pairs(self, graphs: Sequence[Graph]) -> tuple[int, int, int]:
        """Return how many pairs are found and true, found, and true, over all recorded runs."""
        hits = sum(len(graph[b] & self.truth[b]) for graph in graphs for b in self.truth)
        found = sum(len(graph[b]) for graph in graphs for b in self.truth)
        return hits, found, len(graphs) * sum(map(len, self.truth.values()))

    @property
    def score(self) -> float:
        """The F1 of the pairs."""
        hits, found, true = self.pairs(self.graphs)
        return 2 * hits / (found + true) if found + true else 1.0


def record(
    kind: Kind, program: DrawnProgram, seed: int, file: Path
) -> tuple[Sequence[RecordedRun], Sequence[RecordedRun]]:
    """Run a program, write the stripped spans, and return the recorded and the further runs."""
    read, profile = scenario_of(kind, program, seed)
    run = msgspec.structs.replace(
        run_of(read, profile.as_dict()), anchor=Anchor(unix_ns=BEGIN, monotonic_ns=0)
    )
    (cell,) = cells.expand(read)
    begun = RunProgress(read, run)
    played = play(begun, Task(0, cell, 0), opening(begun), lambda _: None)
    records = played.records()
    made = with_export_times(
        list(TraceMaker(run).of_workflows(records.workflows, records.calls, records.attempts))
    )
    traces: dict[str, list[Span]] = {}
    for span in made:
        if span.parent_id is None or span.name.startswith(semconv.CHAT):
            traces.setdefault(span.trace_id, []).append(span)
    runs = sorted(map(_run_of_trace, traces.values()))
    assert len(runs) == RECORDED + NEW, "every run has a trace"
    assert all(len(one.calls) == len([*asks_of(program.steps)]) for one in runs), "no call failed"
    ordered = sorted(traces.values(), key=lambda spans: min(one.start for one in spans))
    stripped = [span for spans in ordered[:RECORDED] for span in _stripped(spans)]
    append_spans(file, stripped, {semconv.SERVICE_NAME: "app"})
    return runs[:RECORDED], runs[RECORDED:]


def scenario_of(kind: Kind, program: DrawnProgram, seed: int) -> tuple[Scenario, Profile]:
    """Return the scenario that runs a program, and its provider."""
    chance = random.Random(program.seed)
    name = "deepseek-flash" if chance.random() < REASONING_SHARE else "plain-chat"
    asks = [*asks_of(program.steps)]
    spread = SPREADS[kind.variation]
    shipped = load_profile(name)
    values = shipped.as_dict()
    values["max_output_tokens"] = MOST_TOKENS  # no answer is cut
    values["ttft"] = {**values["ttft"], "sigma": TTFT_SIGMA[kind.variation]}
    if shipped.reasoning_tokens is not None:
        values["reasoning_tokens"] = {"median": shipped.reasoning_tokens.median, **spread}
    if kind.variation == "much":
        values["wander"] = {"sigma": 0.15, "over": "1m"}
    values["phases"] = {
        phase_of(one.number): {"answer_tokens": {"median": one.answer, **spread}} for one in asks
    }
    numbers = chance.sample(range(1000), RECORDED + NEW)
    text = SCENARIO.format(
        seed=seed,
        program=json.dumps(msgspec.json.encode(program).decode()),
        topics=json.dumps([f"{WORDS[one % 10]}, part {one}" for one in numbers]),
        calls=", ".join(f"{phase_of(one.number)} = 1" for one in asks),
        profile=name,
        runs=RECORDED + NEW,
    )
    return parse_scenario(text, "drawn"), Profile.model_validate(values)


def _run_of_trace(spans: Iterable[Span]) -> RecordedRun:
    calls, begin = [], 0
    for span in spans:
        if span.parent_id is None:
            begin = span.start
            continue
        phase = str(span.attributes[semconv.PHASE])
        calls.append(RecordedCall(int(phase.removeprefix("c")), span.start, span.end))
    return RecordedRun(begin, sorted(calls, key=lambda one: (one.start, one.end)))


def _stripped(spans: Sequence[Span]) -> list[Span]:
    """Return what a user has of a trace: a root and flat chats, in the order of their ends."""
    (root,) = (span for span in spans if span.parent_id is None)
    flat = [
        Span(
            name=f"{semconv.CHAT} {span.attributes[semconv.REQUEST_MODEL]}",
            trace_id=span.trace_id,
            span_id=span.span_id,
            parent_id=root.span_id,
            start=span.start,
            end=span.end,
            attributes={name: span.attributes[name] for name in KEPT},
            kind="client",
        )
        for span in sorted(spans, key=lambda one: one.end)
        if span is not root
    ]
    bare = Span(
        name="run",
        trace_id=root.trace_id,
        span_id=root.span_id,
        parent_id=None,
        start=root.start,
        end=root.end,
        attributes={},
    )
    return [*flat, bare]


def import_file(file: Path, runs: Sequence[RecordedRun]) -> tuple[list[Graph], str]:
    """Import a file; return the graph of each run, without pairs if the import fails, and why."""
    out, said = file.with_name("imported.toml"), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = harness(["import", str(file), "-o", str(out)])
    if code in ENDED:
        raise SystemExit(code)
    if code:
        return [{one.number: frozenset() for one in run.calls} for run in runs], said.getvalue()
    lines = out.with_suffix(".replay.jsonl").read_text(encoding="utf-8").splitlines()[1:]
    workflows = sorted(map(json.loads, lines), key=lambda one: float(one["at"]))
    if len(workflows) != len(runs):
        raise SystemExit(f"{file}: {len(workflows)} workflows for {len(runs)} traces")
    return [_found(one["calls"], run) for one, run in zip(workflows, runs, strict=True)], ""


def _found(calls: Sequence[Mapping[str, Any]], run: RecordedRun) -> Graph:
    if len(calls) != len(run.calls):
        raise SystemExit(f"{len(calls)} calls were imported of {len(run.calls)}")
    numbers = [one.number for one in run.calls]
    return {
        number: frozenset(numbers[before] for before in call.get("after", ()))
        for number, call in zip(numbers, calls, strict=True)
    }


def naive_graph(run: RecordedRun) -> Graph:
    """Return the rule of the floor: see the text of the module."""
    found = {}
    for one in run.calls:
        ended = [other for other in run.calls if other.end <= one.start]
        found[one.number] = frozenset(
            other.number
            for other in ended
            if not any(other.end <= between.start for between in ended)
        )
    return found


def makespan_error(truth: Graph, graphs: Iterable[Graph], runs: Sequence[RecordedRun]) -> float:
    """Return the mean relative error of the makespan over the runs and the graphs."""
    counted = Counter(frozenset(graph.items()) for graph in graphs)
    errors = []
    for run in runs:
        ends = {one.number: one.end for one in run.calls}
        own = {
            one.number: one.start - max((ends[a] for a in truth[one.number]), default=run.begin)
            for one in run.calls
        }
        lasts = {one.number: one.end - one.start + own[one.number] for one in run.calls}
        true = _makespan(truth, lasts)
        errors += [
            times * abs(_makespan(dict(graph), lasts) / true - 1)
            for graph, times in counted.items()
        ]
    return sum(errors) / (len(runs) * counted.total())


def _makespan(graph: Graph, lasts: Mapping[int, int]) -> int:
    """Return the longest path, where each ask lasts so long with the program time before it."""
    ends: dict[int, int] = {}

    def end_of(number: int) -> int:
        if number not in ends:
            ends[number] = lasts[number] + max(map(end_of, graph[number]), default=0)
        return ends[number]

    return max(map(end_of, lasts))


def measure(kind: Kind, index: int, seed: int, folder: Path) -> Outcome:
    """Draw, record and import one program."""
    began = time.process_time()
    program = draw_program(kind, f"{seed}/{index}")
    file = folder / "traces.otlp.jsonl"
    file.unlink(missing_ok=True)
    runs, further = record(kind, program, seed, file)
    recorded = time.process_time()
    graphs, failure = import_file(file, runs)
    imported = time.process_time()
    truth = direct_dependencies(program.steps)
    return Outcome(
        kind=kind,
        program=program,
        truth=truth,
        graphs=graphs,
        naive=[naive_graph(run) for run in runs],
        error=makespan_error(truth, graphs, further),
        seconds=(recorded - began, imported - recorded),
        failure=failure,
    )


def keep_truth(outcome: Outcome, folder: Path) -> None:
    """Write the program, its tree and its pairs beside its traces."""
    truth = {
        "kind": str(outcome.kind),
        "tree": tree_line(outcome.program.steps),
        "after": {number: sorted(before) for number, before in outcome.truth.items()},
        "program": msgspec.to_builtins(outcome.program),
    }
    (folder / "truth.json").write_text(json.dumps(truth, indent=1), encoding="utf-8")


HEADER = (
    f"{'kind':<22} programs calls precision recall exact makespan   naive precision recall"
    "   s record import"
)


def row(name: str, outcomes: Sequence[Outcome]) -> str:
    """Return a row of the table."""
    count = len(outcomes)
    found, naive = (
        [sum(column) for column in zip(*pairs, strict=True)]
        for pairs in (
            [one.pairs(one.graphs) for one in outcomes],
            [one.pairs(one.naive) for one in outcomes],
        )
    )
    calls = sum(len(one.truth) for one in outcomes) / count
    exact = sum(all(graph == one.truth for graph in one.graphs) for one in outcomes) / count
    within = sum(one.error <= WITHIN for one in outcomes) / count
    recording, importing = (
        sum(seconds) / count for seconds in zip(*(one.seconds for one in outcomes), strict=True)
    )
    return (
        f"{name:<22} {count:8} {calls:5.1f} {_precision_recall(found)} {exact:5.2f} {within:8.2f}"
        f"         {_precision_recall(naive)}   {recording:8.2f} {importing:6.2f}"
    )


def _precision_recall(pairs: Sequence[int]) -> str:
    hits, found, true = pairs
    return f"{hits / found if found else 1.0:9.3f} {hits / true if true else 1.0:6.3f}"


def describe(outcome: Outcome) -> Iterator[str]:
    """Yield the lines that show a program beside what was found."""
    error = f"makespan error {outcome.error:.3f}"
    yield f"{outcome.program.seed}: F1 {outcome.score:.3f}, {error}"
    yield f"  true:  {tree_line(outcome.program.steps)}"
    if outcome.failure:
        yield f"  failed: {outcome.failure.strip()}"
    graphs = Counter(frozenset(graph.items()) for graph in outcome.graphs)
    for graph, times in graphs.most_common(3):
        found = dict(graph)
        wrong = [
            f"{b}: {_listed(found[b])} (true: {_listed(outcome.truth[b])})"
            for b in sorted(outcome.truth)
            if found[b] != outcome.truth[b]
        ]
        yield f"  found in {times} of {len(outcome.graphs)} runs: {'; '.join(wrong) or 'the truth'}"
    for one in asks_of(outcome.program.steps):
        yield f"    {_ask_line(one)}"


def _listed(numbers: Iterable[int]) -> str:
    return " ".join(map(str, sorted(numbers))) or "-"


def _ask_line(one: PlannedAsk) -> str:
    reads = ", ".join(f"{it.number} {it.part}" for it in one.reads) or "no answer"
    own = f", waits {one.own_seconds:.1f} s" if one.own_seconds else ""
    return f"{one.number} {one.role}: answer {one.answer}, reads {one.input} and {reads}{own}"


def main() -> int:
    """Print the table; return 1 if an import failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", type=int, default=50, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--kinds", nargs="+", default=[""], help="parts of names, as in nested/much"
    )
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the files of each program")
    parser.add_argument("--worst", type=int, default=0, metavar="N", help="show the worst programs")
    options = parser.parse_args()
    kinds = [kind for kind in KINDS if any(part in str(kind) for part in options.kinds)]
    if not kinds:
        parser.error("--kinds: no such kind; there are " + ", ".join(map(str, KINDS)))
    print("simulated, in virtual time")
    print(HEADER)
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as scratch:
        for kind in kinds:
            of_kind = []
            for index in range(options.programs):
                folder = Path(scratch)
                if options.keep:
                    folder = options.keep / str(kind).replace("/", "-") / str(index)
                    folder.mkdir(parents=True, exist_ok=True)
                of_kind.append(measure(kind, index, options.seed, folder))
                if options.keep:
                    keep_truth(of_kind[-1], folder)
            print(row(str(kind), of_kind), flush=True)
            outcomes += of_kind
    print(row("all", outcomes))
    for outcome in sorted(outcomes, key=lambda one: one.score)[: options.worst]:
        print(*describe(outcome), sep="\n")
    return 1 if any(outcome.failure for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
