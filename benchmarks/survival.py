"""Whole runs in virtual time with faults at every seam at once, from seeds. Simulated.

    python -m benchmarks.survival [--seeds 2000] [--first 0]

Each seed draws a scenario, and what goes wrong: the disk is full, a write fails, is cut short or is
torn by a kill, the process is killed before or after any write, Ctrl-C comes at any attempt, the
system's clock steps and restarts, a budget ends the run, and the provider has faults. The run is
resumed until it is complete, with new faults each time. After each session must hold:

- what had ended is in the records, once, with all its calls and attempts;
- what the budget has booked is what the provider has counted, and never more than the limit;
- at the end, the same workflows have ended as in a run without interruption; and where no trial was
  cut and the policy draws no jitter, the summary is the same.

Prints the seeds that fail, each with the command that repeats it, and ends with 1 if there are any.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from benchmarks.survival_checks import check, check_end, lines_of
from benchmarks.survival_world import Disk, Killed, Provider, faults_at_every_seam, ignore
from harness.bench import runner
from harness.bench.cells import expand
from harness.bench.resume import RunProgress, progress_of, with_budget
from harness.bench.runner import Hooks
from harness.bench.scenario import Scenario, parse_scenario
from harness.config.toml_text import toml_document
from harness.endpoints.simulated import SimulatedEndpoint
from harness.records.clock import SECOND
from harness.records.errors import StorageError
from harness.records.schema import Run, Spent
from harness.simulator.profiles import load_profile
from harness.store import run_directory
from harness.store.run_directory import RUN_FILE

MOST_SESSIONS = 12
CALM_FROM = 6
"""From this session on nothing goes wrong but the budget and the provider."""
FAULTS = (
    "server_error", "unavailable", "rate_limited", "reset_in_body", "stall", "malformed_json",
    "empty_answer", "blank_body",
)  # fmt: skip
MOST = {"attempts": 10**9, "tokens": 10**12, "usd": 10**6, "seconds": 86_400}
STREAMS_ONLY = ("missing_done",)


class Plan(NamedTuple):
    """A scenario, and whether its policy draws no jitter."""

    scenario: Scenario
    is_plain: bool


def drawn(random: Random) -> Plan:
    """Draw a scenario."""
    retry = random.choice(("none", "fixed", "jitter", "hedged"))
    modes = ["async"] if retry == "hedged" else random.choice((["async"], ["sync", "async"]))
    stream = retry == "hedged" or random.random() < 0.7
    kinds = FAULTS + (STREAMS_ONLY if stream else ())
    faults = [
        {"kind": kind, "probability": round(random.uniform(0.02, 0.3), 3)}
        for kind in random.sample(kinds, random.randrange(3))
        if stream or kind != "stall"
    ]
    limits: dict[str, Any] = {}
    if random.random() < 0.6:
        name = random.choice(("attempts", "tokens", "usd", "seconds"))
        low, high = {
            "attempts": (3, 60), "tokens": (8_000, 60_000), "usd": (1, 30), "seconds": (20, 400)
        }[name]  # fmt: skip
        amount = random.randint(low, high)
        limits[name] = amount / 1000 if name == "usd" else amount
    values = {
        "name": "survival",
        "seed": random.randrange(1000),
        "transcripts": False,
        "records": random.choice(("full", "full", "summary")),
        "workflow": {
            "topics": ["tides", "seed banks", "tram depots"],
            "sub_questions": random.randint(1, 4),
            "max_tokens": {"decompose": 400, "research": 600, "synthesize": 600},
        },
        "endpoint": {
            "profile": random.choice(("deepseek-reasoner", "plain-chat")),
            "time": "virtual", "stream": stream, "faults": faults,
            "price": {"input": 0.3, "output": 1.2},
        },
        "load": {"workflows": random.randint(1, 5), "in_flight": random.randint(1, 4)},
        "sweep": {
            "mode": modes, "permits": sorted(random.sample((1, 2, 5, 256), random.randint(1, 2))),
            "retry": [retry], "repeats": random.randint(1, 2),
            "permit_scope": [random.choice(("attempt", "call"))],
        },
        "retry": {
            "fixed": {"kind": "fixed", "attempts": 4, "delay": "3s"},
            "jitter": {"kind": "exponential", "attempts": 4, "base": "1s", "cap": "9s"},
            "late": {"kind": "hedge", "after": "2s", "ratio": 1.0},
            "hedged": {"kind": "stack", "layers": ["late", "none"]},
        },
        "budget": limits,
    }  # fmt: skip
    return Plan(parse_scenario(toml_document(values), "survival"), retry in ("none", "fixed"))


HOOKS = Hooks(*[ignore] * len(Hooks._fields))


def play(scenario: Scenario, run: Path, progress: RunProgress | None = None) -> Run:
    """Play a session of a run."""
    endpoint = scenario.endpoint
    assert isinstance(endpoint, SimulatedEndpoint)
    profile = load_profile(endpoint.profile, endpoint.overrides).as_dict()
    profiles = {cell.id: profile for cell in expand(scenario)}
    return runner.run(scenario, profiles, {}, run, HOOKS, 1, progress)


class Survived(NamedTuple):
    """The number of sessions of a run, and whether its summary was compared."""

    sessions: int
    is_compared: bool


def survive(seed: int, folder: Path) -> Survived:
    """Play the run of one seed until it is complete.

    Raises AssertionError if something does not hold.
    """
    random = Random(seed)
    plan, run = drawn(random), folder / "run"
    unix_ns = 1_790_000_000 * SECOND
    for session in range(MOST_SESSIONS):
        is_calm = session >= CALM_FROM
        interrupt = None if is_calm or random.random() < 0.6 else random.randint(1, 60)
        provider, disk = Provider(interrupt), Disk(random, is_calm=is_calm)
        unix_ns += random.randint(-5000, 5000) * SECOND
        before = lines_of(run)
        finished = None
        with (
            faults_at_every_seam(random, provider, disk, unix_ns),
            suppress(Killed, StorageError, KeyboardInterrupt),
        ):
            finished = play_next(plan.scenario, run, provider, random, must_end=is_calm)
        if (run / RUN_FILE).exists():
            check(run, plan.scenario, before)
        if finished is not None and finished.status == "complete":
            return Survived(session + 1, compare_with_whole(run, plan, folder))
    raise AssertionError(f"not complete after {MOST_SESSIONS} sessions")


def compare_with_whole(run: Path, plan: Plan, folder: Path) -> bool:
    """Play the same run without interruption, and compare; return whether by its summary."""
    whole = folder / "whole"
    whole.mkdir()
    values = plan.scenario.as_dict()
    reference = Scenario.model_validate({**values, "budget": {}})
    play(reference, whole)
    return check_end(run, whole, is_plain=plan.is_plain)


def play_next(
    scenario: Scenario, run: Path, provider: Provider, random: Random, *, must_end: bool
) -> Run:
    """Begin the run or go on with it; a budget that stopped it is raised, in the end removed."""
    if not (run / RUN_FILE).exists():
        run.mkdir(exist_ok=True)
        return play(scenario, run)
    progress = progress_of(run)
    amount = progress.spent
    provider.booked = Spent(**amount._asdict())
    stopped = run_directory.read_run(run).stopped
    if must_end or (stopped is not None and stopped.by == "budget"):
        raised = []
        for name, limit in progress.scenario.budget.model_dump().items():
            if limit is not None:
                more = 1000 if must_end else random.choice((1, 2, 5))
                raised.append(f"budget.{name}={min(limit * more, MOST[name])}")
        progress = with_budget(progress, raised)
    return play(progress.scenario, run, progress)


def main() -> int:
    """Play the seeds and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.survival")
    parser.add_argument("--seeds", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    failed, survived, began = 0, list[Survived](), time.monotonic()
    for seed in range(options.first, options.first + options.seeds):
        with tempfile.TemporaryDirectory() as folder:
            try:
                survived.append(survive(seed, Path(folder)))
            except Exception as error:
                failed += 1
                reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
                print(f"seed {seed}: {reason}")
                print(f"    python -m benchmarks.survival --first {seed} --seeds 1", flush=True)
    seconds = time.monotonic() - began
    print(
        f"simulated: {options.seeds} runs, {sum(one.sessions for one in survived)} sessions, "
        f"{sum(one.is_compared for one in survived)} summaries compared, {failed} failed, "
        f"{seconds / options.seeds * 1000:.0f} ms a run"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
