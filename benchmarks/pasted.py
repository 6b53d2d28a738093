"""The code that the recommendation shows against the cells that it comes from, simulated.

    python -m benchmarks.pasted [--calls 120] [--only MIX] [--mutants]

For each retry policy and each mix of faults, a cell is measured twice in real time. Then the lines
for that cell run as a program against `harness serve`, with the same prompts, faults and draws.
Success, attempts a call, and the 95th percentile of the calls' latency must be equal: tests of the
differences of each call, at 1 % over all tests (Holm). A difference counts as far as it is larger
than that of the two measurements, which is the noise of the machine (for the percentile: the
largest of all cells of the mix). With `--mutants`, one rule of
the lines is left out each time, and a test has to notice. Ends with 1 if a test fails.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import os
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import uvloop
from numpy.typing import NDArray
from scipy import stats

from harness.analysis.code_snippet import failures_met, lines_to_paste
from harness.bench.scenario import parse_scenario
from harness.cli.main import main as harness
from harness.records.clock import SECOND
from harness.records.provider_log import Served
from harness.records.schema import CellInfo
from harness.store.column_values import Words
from harness.store.columns import AttemptTable
from harness.store.run_directory import Records, read_records, read_transcripts

LEVEL = 0.01
PERMITS, IN_FLIGHT = 16, 32

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
{faults}
[endpoint.override]
ttft = {{ median = "40ms", sigma = 0.5 }}
answer_tokens = {{ median = 24, sigma = 0.4 }}
tokens_per_chunk = 4
[load]
workflows = {calls}
in_flight = {in_flight}
[timeouts]
first_token = "1s"
idle = "500ms"
call = "20s"
[sweep]
mode = "async"
permits = {permits}
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
after = "200ms"
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
        ['kind = "bad_request", probability = 0.1', 'kind = "length", probability = 0.1']
    ),
    "outage": Mix(['kind = "unavailable", outage = { start = "300ms", duration = "2s" }']),
    "503 without stream": Mix(['kind = "unavailable", probability = 0.3'], stream=False),
    "error in body": Mix(['kind = "error_in_body", probability = 0.3'], stream=False),
}


class Outcomes(NamedTuple):
    """What happened to each call, in the order of the prompts."""

    success: NDArray[np.bool_]
    attempts: NDArray[np.int64]
    latency: NDArray[np.float64]


class Tested(NamedTuple):
    """A test: what was compared, both values, and the probability of the difference."""

    cell: str
    figure: str
    measured: float
    pasted: float
    probability: float


Prompt = tuple[tuple[str, str], ...]


class Measured(NamedTuple):
    """A measured mix: its records, and the outcomes of each cell."""

    records: Records
    prompts: list[Prompt]
    outcomes: dict[str, Outcomes]


def scenario_of(mix: Mix, calls: int, kinds: Sequence[str]) -> str:
    """Return the scenario of a mix; without streams there are no hedges."""
    kept = [kind for kind in kinds if mix.stream or kind != "hedge"]
    return SCENARIO.format(
        topics=", ".join(f'"topic {number}"' for number in range(calls)),
        stream=str(mix.stream).lower(),
        faults=f"faults = [{', '.join(f'{{ {fault} }}' for fault in mix.faults)}]",
        calls=calls,
        in_flight=IN_FLIGHT,
        permits=PERMITS,
        kinds=", ".join(f'"{kind}"' for kind in kept),
    )


def measure(toml: str, out: Path) -> Measured:
    """Run the scenario and return the outcomes of its cells."""
    path = out.with_suffix(".toml")
    path.write_text(toml)
    with contextlib.redirect_stdout(io.StringIO()):
        code = harness(["run", str(path), "--quiet", "--out", str(out)])
    assert code in (0, 1), f"exit code {code}"
    records = read_records(out)
    prompts: dict[int, Prompt] = {}
    for one in read_transcripts(out)[0]:
        prompts[one.workflow] = tuple((said.role, said.content) for said in one.messages)
    outcomes = {}
    for cell in records.run.cells:
        calls = sorted((c for c in records.calls if c.cell == cell.id), key=lambda c: c.workflow)
        outcomes[cell.id] = Outcomes(
            np.array([call.outcome == "ok" for call in calls]),
            np.array([call.attempts for call in calls]),
            np.array([(call.done - call.ready) / SECOND for call in calls]),
        )
    return Measured(records, [prompts[number] for number in sorted(prompts)], outcomes)


def lines_of(records: Records, cell: CellInfo) -> list[str]:
    """Return the lines for a cell."""
    attempts = [one for one in records.attempts if one.cell == cell.id]
    met = failures_met(AttemptTable.of(attempts, Words()))
    return list(lines_to_paste(records.run, cell, met))


async def _answer(ask: Callable[..., Any], request: dict[str, Any]) -> bool:
    """Ask as a program does; return whether there was a complete answer."""
    try:
        reply = await ask(**request)
        if not request["stream"]:
            choice = reply.choices[0]
            return bool(choice.message.content) and choice.finish_reason == "stop"
        text, reason = "", None
        async for chunk in reply:
            for choice in chunk.choices:
                text += choice.delta.content or ""
                reason = choice.finish_reason or reason
        return bool(text) and reason == "stop"
    except Exception:
        return False


async def _program(
    lines: Sequence[str], requests: Sequence[dict[str, Any]], prelude: Callable[[Any], None]
) -> list[tuple[bool, float]]:
    space: dict[str, Any] = {}
    exec("\n".join(lines), space)
    prelude(space["client"])
    results: list[tuple[bool, float]] = [(False, 0.0)] * len(requests)
    waiting = deque(enumerate(requests))

    async def work() -> None:
        while waiting:
            number, request = waiting.popleft()
            began = time.perf_counter()
            succeeded = await _answer(space["ask"], request)
            results[number] = succeeded, time.perf_counter() - began

    await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
    await space["client"].close()
    return results


def _nothing(client: Any) -> None:
    """Change nothing in a client."""


class Server:
    """`harness serve` with the faults of a mix, and its log."""

    def __init__(self, toml: str, log: Path) -> None:
        self.scenario = parse_scenario(toml, "pasted")
        self._log = log
        self._trials = 0
        self._results: dict[str, list[tuple[bool, float]]] = {}

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Start the server, and name it in the environment of the programs."""
        with self.scenario.endpoint.server("", self.scenario.seed, self._log) as self._server:
            os.environ["OPENAI_BASE_URL"] = self._server.base_url
            os.environ["OPENAI_API_KEY"] = "none"
            yield

    def run(
        self,
        lines: Sequence[str],
        prompts: Sequence[Prompt],
        prelude: Callable[[Any], None] = _nothing,
    ) -> str:
        """Run the lines as a program with all prompts; return the name of the trial."""
        self._trials += 1
        trial = f"{self._trials:04x}"
        self._server.begin_trial(trial, 0)
        stream = self.scenario.endpoint.stream
        requests = []
        for number, prompt in enumerate(prompts):
            context = f"00-{self._trials:016x}{number + 1:016x}-{1:016x}-01"
            headers = {"x-harness-repeat": "0", "x-harness-phase": "step", "traceparent": context}
            request: dict[str, Any] = {
                "model": self.scenario.endpoint.model,
                "messages": [{"role": role, "content": content} for role, content in prompt],
                "stream": stream,
                "extra_headers": headers,
            }
            if stream:
                request["stream_options"] = {"include_usage": True}
            requests.append(request)
        self._results[trial] = uvloop.run(_program(lines, requests, prelude))
        return trial

    def outcomes(self, trial: str) -> Outcomes:
        """Return what happened in a trial, after the server has ended."""
        arrivals: Counter[int] = Counter()
        for line in self._log.read_bytes().splitlines()[1:]:
            served = msgspec.json.decode(line, type=Served)
            if served.cell == trial and served.trace_id is not None:
                arrivals[int(served.trace_id[16:], 16) - 1] += 1
        results = self._results[trial]
        return Outcomes(
            np.array([succeeded for succeeded, _ in results]),
            np.array([arrivals[number] for number in range(len(results))]),
            np.array([latency for _, latency in results]),
        )


SMALLEST_NOISE = 0.05
"""Differences of the 95th percentile below this share are never counted."""


def noise_of(first: Measured, second: Measured) -> float:
    """Return the largest difference of p95 of a cell between two measurements, of its logarithm."""
    found = [
        np.log(np.quantile(first.outcomes[cell].latency, 0.95))
        - np.log(np.quantile(second.outcomes[cell].latency, 0.95))
        for cell in first.outcomes
    ]
    return float(max(SMALLEST_NOISE, *map(abs, found)))


def compare(
    cell: str, first: Outcomes, second: Outcomes, pasted: Outcomes, noise_of_p95: float
) -> Iterator[Tested]:
    """Test whether a program did what was measured, first and second."""
    for figure in ("success", "attempts"):
        a, b, c = (getattr(one, figure).astype(float) for one in (first, second, pasted))
        change = c - a
        noise = abs(float(np.mean(b - a)))
        spread = max(float(np.std(change, ddof=1)), 1 / len(change)) / np.sqrt(len(change))
        excess = max(0.0, abs(float(change.mean())) - noise)
        yield Tested(cell, figure, a.mean(), c.mean(), 2 * float(stats.norm.sf(excess / spread)))
    rows = np.random.default_rng(1).integers(0, len(first.latency), (500, len(first.latency)))

    def p95(one: Outcomes) -> tuple[float, NDArray[np.float64]]:
        latency = np.log(one.latency)
        return float(np.quantile(latency, 0.95)), np.quantile(latency[rows], 0.95, axis=1)

    (a95, many_a), (b95, many_b), (c95, many_c) = map(p95, (first, second, pasted))
    spread = max(float(np.std(many_c - many_a)), float(np.std(many_b - many_a)), 0.02)
    excess = max(0.0, abs(c95 - (a95 + b95) / 2) - noise_of_p95)
    p = 2 * float(stats.norm.sf(excess / spread))
    yield Tested(cell, "p95", float(np.exp(a95)), float(np.exp(c95)), p)


def rejected(tests: Sequence[Tested]) -> list[Tested]:
    """Return the tests that fail at `LEVEL` over all of them (Holm)."""
    ranked = sorted(tests, key=lambda one: one.probability)
    for rank, one in enumerate(ranked):
        if one.probability > LEVEL / (len(ranked) - rank):
            return ranked[:rank]
    return ranked


def try_mix(
    mix: Mix, calls: int, kinds: Sequence[str], folder: Path
) -> tuple[list[Tested], dict[str, str]]:
    """Measure a mix of faults twice and run the lines of its cells.

    Return the tests, and the package whose client each cell's lines create.
    """
    toml = scenario_of(mix, calls, kinds)
    first, second = (measure(toml, folder / f"measured-{number}") for number in (1, 2))
    server = Server(toml, folder / "provider.jsonl")
    trials: dict[str, str] = {}
    clients: dict[str, str] = {}
    with server.running():
        for cell in first.records.run.cells:
            lines = lines_of(first.records, cell)
            trials[cell.id] = server.run(lines, first.prompts)
            clients[cell.id] = "harness" if "import harness" in lines else "openai"
    tests: list[Tested] = []
    for name, trial in trials.items():
        both = first.outcomes[name], second.outcomes[name]
        tests += compare(name, *both, server.outcomes(trial), noise_of(first, second))
    return tests, clients


class Mutant(NamedTuple):
    """Lines from which one rule is left out: by another text, or by a change of the client."""

    rule: str
    mix: str
    kind: str
    old: str = ""
    new: str = ""
    prelude: Callable[[Any], None] = _nothing


def _without_jitter(client: Any) -> None:
    client._client._transport._calls._random.random = lambda: 1.0


def _deaf(client: Any) -> None:
    """Let the policy see no Retry-After."""
    for policy in client._client._transport._calls._policies.values():
        real = policy.ended
        policy.ended = lambda ended, random, real=real: real(
            msgspec.structs.replace(ended, retry_after=None), random
        )


MUTANTS = (
    Mutant("Retry-After", "429 with Retry-After", "fixed", prelude=_deaf),
    Mutant("jitter", "500 and 502", "full", prelude=_without_jitter),
    Mutant("retries of broken streams", "error in stream", "fixed", "whole_responses=True,", ""),
    Mutant("retries of hidden failures", "blank and HTML", "fixed",
           "client = harness.AsyncOpenAI(", "import openai\nopenai_client = (lambda **_: "
           "openai.AsyncOpenAI(max_retries=2))\nclient = openai_client("),
    Mutant("the hedge", "silent", "hedge", "harness.policies.Hedge(", "*(lambda **_: ())("),
    Mutant("the budget", "503", "budget", "harness.policies.RetryBudget(", "*(lambda **_: ())("),
    Mutant("the breaker", "outage", "breaker", "harness.policies.Breaker(", "*(lambda **_: ())("),
    Mutant("the time to the first token", "silent", "fixed", "first_token=1,", "first_token=4,"),
    Mutant("the number of permits", "no faults", "none", f"permits={PERMITS},", "permits=3,"),
    Mutant("the number of attempts", "503", "fixed", "attempts=3", "attempts=2"),
)  # fmt: skip


def try_mutant(mutant: Mutant, calls: int, folder: Path) -> list[Tested]:
    """Return the tests of lines without one rule."""
    toml = scenario_of(MIXES[mutant.mix], calls, [mutant.kind])
    first, second = (measure(toml, folder / f"measured-{number}") for number in (1, 2))
    [cell] = first.records.run.cells
    text = "\n".join(lines_of(first.records, cell))
    assert mutant.old in text, f"{mutant.rule}: {mutant.old!r} is not in the lines"
    server = Server(toml, folder / "provider.jsonl")
    with server.running():
        changed = text.replace(mutant.old, mutant.new) if mutant.old else text
        trial = server.run(changed.splitlines(), first.prompts, mutant.prelude)
    both = first.outcomes[cell.id], second.outcomes[cell.id]
    return list(compare(cell.id, *both, server.outcomes(trial), noise_of(first, second)))


def _show(one: Tested, where: str) -> str:
    return (
        f"{where:<28} {one.cell:<34} {one.figure:<9} {one.measured:8.3f} {one.pasted:8.3f}"
        f" {one.probability:9.2g}"
    )


def main() -> int:
    """Print what differs and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--calls", type=int, default=120)
    parser.add_argument("--only", choices=sorted(MIXES))
    parser.add_argument("--mutants", action="store_true")
    options = parser.parse_args()
    if options.mutants:
        return _try_mutants(options.calls)
    tests: list[Tested] = []
    where: dict[int, str] = {}
    for name in [options.only] if options.only else MIXES:
        with tempfile.TemporaryDirectory() as folder:
            found, clients = try_mix(MIXES[name], options.calls, KINDS, Path(folder))
        where |= {id(one): name for one in found}
        tests += found
        worst = min(found, key=lambda one: one.probability)
        print(_show(worst, name), f"  {Counter(clients.values())}", flush=True)
    failed = rejected(tests)
    print(f"\n{len(tests)} tests, {len(failed)} differ at {LEVEL:.0%} (Holm)")
    for one in failed:
        print(_show(one, where[id(one)]))
    return 1 if failed else 0


def _try_mutants(calls: int) -> int:
    missed = 0
    for mutant in MUTANTS:
        with tempfile.TemporaryDirectory() as folder:
            tests = try_mutant(mutant, calls, Path(folder))
        noticed = rejected(tests)
        missed += not noticed
        worst = min(tests, key=lambda one: one.probability)
        print(_show(worst, mutant.rule), "" if noticed else "  NOT NOTICED", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
