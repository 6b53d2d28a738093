"""Whole runs with faults at every seam at once, from seeds, on clocks that jump. Simulated.

    python -m benchmarks.survival [--seeds 2000] [--first 0]

Each seed draws a scenario, in virtual time or in real time without HTTP, and what goes wrong: the
disk is full, a write or a rename fails, is cut short or is torn by a kill, the process is killed
before or after any write, the power fails, Ctrl-C comes at any attempt, the system's clock steps
and restarts, a budget ends the run, the provider has faults, and the collector of spans refuses
some, is down, or asks to wait. The run is resumed until it is complete, with new faults each time.
After each session must hold:

- what had ended is in the records, once, with all its calls and attempts, and all readers agree on
  what a complete line is;
- what the budget has booked is what the provider has counted, and never more than the limit;
  nothing is sent before it is booked, or after the last second;
- the spans are accounted for: by the files, and by the collector;
- at the end, the same workflows have ended as in a run without interruption; and where no trial was
  cut and the policy draws no jitter, the summary is the same.

After a power cut, a trial that is recorded has all its records; of the one that was running, lines
can be missing, of the spent amounts too. Prints the seeds that fail, each with the command that
repeats it and shows the traceback, and ends with 1 if there are any.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
import time
import traceback
from contextlib import ExitStack, redirect_stderr, suppress
from io import StringIO
from pathlib import Path
from random import Random
from typing import Any, NamedTuple
from unittest.mock import patch

from benchmarks.survival_checks import (
    TrialRun,
    check,
    check_budget,
    check_end,
    lines_of,
    trials_begun,
    trials_recorded,
)
from benchmarks.survival_collector import (
    TARGET,
    Collector,
    SpanLedger,
    check_account,
    spans_in,
)
from benchmarks.survival_disk import KINDS, POWER, Disk, Killed, ignore
from benchmarks.survival_world import (
    Bill,
    Provider,
    Session,
    anchors,
    faults_at_every_seam,
    last_moment,
    patched,
    without_http,
)
from harness.bench import runner
from harness.bench.cells import expand
from harness.bench.resume import RunProgress, progress_of, with_budget
from harness.bench.runner import Hooks
from harness.bench.scenario import Scenario
from harness.bench.scenario_file import parse_scenario
from harness.bench.spending import is_counted, limits_of
from harness.cli.execute import finish_traces
from harness.cli.views import Views
from harness.config.request_settings import NO_KEY, Secrets
from harness.config.toml_text import toml_document
from harness.endpoints.simulated import SimulatedEndpoint
from harness.records.clock import SECOND, Anchor
from harness.records.errors import StorageError
from harness.records.schema import Run, Spent, Trial
from harness.simulator.profiles import load_profile
from harness.store import run_directory
from harness.store.run_directory import RUN_FILE, each
from harness.store.trial_reader import TrialReader
from harness.telemetry.export import TRACES, Exporter, export_stored

MOST_SESSIONS = 12
CALM_FROM = 6
"""From this session on nothing goes wrong but the budget and the provider."""
FAULTS = (
    "server_error", "unavailable", "rate_limited", "reset_in_body", "stall", "malformed_json",
    "empty_answer", "blank_body",
)  # fmt: skip
MOST = {"attempts": 10**9, "tokens": 10**12, "usd": 10**6, "seconds": 86_400}
LIMITS = {"attempts": (3, 60), "tokens": (8_000, 60_000), "usd": (1, 30), "seconds": (3, 100)}
"""Of budgets; thousandths of a dollar."""
STREAMS_ONLY = ("missing_done",)
OUTAGES = ("connect_failed", "connect_timeout")


class Plan(NamedTuple):
    """A scenario with the profile of its provider.

    `is_plain`: its policy draws no jitter. `is_traced`: its spans are sent to a collector.
    """

    scenario: Scenario
    profile: dict[str, Any]
    is_plain: bool
    is_traced: bool


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
    if random.random() < 0.3:
        outage = {"start": f"{random.randint(0, 20)}s", "duration": f"{random.randint(1, 60)}s"}
        faults.append({"kind": random.choice(OUTAGES), "outage": outage})
    limits: dict[str, Any] = {}
    for name in random.sample(tuple(LIMITS), random.choice((0, 0, 1, 1, 2))):
        amount = random.randint(*LIMITS[name])
        limits[name] = amount / 1000 if name == "usd" else amount
    records = random.choice(("full", "full", "summary"))
    clock = random.choice(("virtual", "real")) if records == "full" else "virtual"
    values = {
        "name": "survival",
        "seed": random.randrange(1000),
        "transcripts": False,
        "records": records,
        "workflow": {
            "topics": ["tides", "seed banks", "tram depots"],
            "sub_questions": random.randint(1, 4),
            "max_tokens": {"decompose": 400, "research": 600, "synthesize": 600},
        },
        "endpoint": {
            "profile": random.choice(("deepseek-reasoner", "plain-chat")),
            "time": clock, "stream": stream, "faults": faults,
            "price": {"input": 0.3, "output": 1.2},
        },
        "timeouts": {"connect": random.choice(("5s", "1h")), "call": "2h"},
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
    scenario = parse_scenario(toml_document(values), "survival")
    endpoint = scenario.endpoint
    assert isinstance(endpoint, SimulatedEndpoint)
    return Plan(
        scenario,
        load_profile(endpoint.profile, endpoint.overrides).as_dict(),
        is_plain=retry in ("none", "fixed"),
        is_traced=records == "full" and random.random() < 0.5,
    )


HOOKS = Hooks(*[ignore] * len(Hooks._fields))


class History:
    """What is known of the earlier sessions of a run; see `Provider`, `Disk` and `SpanLedger`.

    `lenient`: the trials that were running when the power failed, whose records can be incomplete.
    `idle`: nanoseconds between the sessions of a run in real time.
    """

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan = plan
        self.run = folder / "run"
        self.bill = None if plan.scenario.is_virtual else Bill()
        self.synced: dict[int, int] = {}
        self.spans = SpanLedger()
        self.lost_power = False
        self.lenient: set[TrialRun] = set()
        self.idle = 0

    def note_power_cut(self) -> None:
        """Take note that the power has failed."""
        self.lost_power, self.spans.is_exact = True, False
        self.lenient |= trials_begun(self.run) - trials_recorded(self.run)


def play(plan: Plan, run: Path, progress: RunProgress | None = None, hooks: Hooks = HOOKS) -> Run:
    """Play a session of a run."""
    scenario = plan.scenario if progress is None else progress.scenario
    cells = [cell.id for cell in expand(scenario)]
    profiles, keys = dict.fromkeys(cells, plan.profile), dict.fromkeys(cells, Secrets(NO_KEY))
    return runner.run(scenario, profiles, keys, run, hooks, progress=progress)


class Survived(NamedTuple):
    """The number of sessions of a run, whether its summary was compared, and its records."""

    sessions: int
    is_compared: bool
    digest: str


def survive(seed: int, folder: Path) -> Survived:
    """Play the run of one seed until it is complete.

    Raises AssertionError if something does not hold.
    """
    random = Random(seed)
    plan = drawn(random)
    history, unix_ns = History(plan, folder), 1_790_000_000 * SECOND
    for number in range(MOST_SESSIONS):
        is_calm = number >= CALM_FROM
        interrupt = None if is_calm or random.random() < 0.6 else random.randint(1, 60)
        kinds = KINDS if plan.scenario.is_virtual else (*KINDS, POWER)
        unix_ns += random.randint(-5000, 5000) * SECOND
        session = Session(
            random,
            Provider(interrupt, history.bill),
            Disk(random, history.run, () if is_calm else kinds, history.synced),
            Collector(random, history.spans, is_calm=is_calm),
            unix_ns,
        )
        finished = play_session(history, session, must_end=is_calm)
        if finished is not None and finished.status == "complete":
            send_rest(history, session)
            is_compared = compare_with_whole(plan, history.run, folder, number + 1)
            return Survived(number + 1, is_compared, digest(history.run))
    raise AssertionError(f"not complete after {MOST_SESSIONS} sessions")


def play_session(history: History, session: Session, *, must_end: bool) -> Run | None:
    """Play one session, and check what it left; None if it was killed or could not write."""
    run, finished, account = history.run, None, None
    before = lines_of(run)
    with (
        faults_at_every_seam(session),
        suppress(Killed, StorageError, KeyboardInterrupt),
        redirect_stderr(StringIO()),  # views that cannot be made
    ):
        finished = play_next(history, session, must_end=must_end)
        if history.plan.is_traced:
            account = finish_traces(finished, session.traces, run, TARGET, None, wait=False)
    history.spans.is_exact &= session.disk.has_worked
    if session.disk.lost_power:
        history.note_power_cut()
    if (run / RUN_FILE).exists():
        check(run, history.plan.scenario, before, history.lenient, lost=session.disk.lost_power)
        check_budget(run, is_booked=not history.lost_power)
    if account is not None:
        check_account(account, run / TRACES, history.spans)
    return finished


def play_next(history: History, session: Session, *, must_end: bool) -> Run:
    """Begin the run or go on with it; a budget that stopped it is raised, in the end removed."""
    plan, run, provider = history.plan, history.run, session.provider
    progress = None
    if (run / RUN_FILE).exists():
        progress = progress_of(run)
        provider.booked = Spent(**progress.spent._asdict())
        stopped = run_directory.read_run(run).stopped
        if must_end or (stopped is not None and stopped.by == "budget"):
            progress = with_budget(progress, raised(progress.scenario, session.random, must_end))
    run.mkdir(exist_ok=True)
    scenario = plan.scenario if progress is None else progress.scenario
    if history.lost_power and history.bill is not None:  # what was booked last can be lost
        history.bill.limit(provider.booked)
    begun, provider.is_counted = provider.booked, is_counted(scenario)
    seconds = limits_of(scenario).seconds
    provider.seconds = None if seconds is None else round(seconds * SECOND)
    provider.elapsed = sum(trial.end for trial in each(run, Trial))

    def started(now: int) -> None:
        last = 0 if progress is None else last_moment(run)
        assert now >= last, "the times of a session follow those of the records"
        history.idle += now - last
        provider.elapsed = history.idle

    hooks = HOOKS
    if plan.is_traced:
        session.traces = Exporter(run, TARGET, {}, earlier=each(run, Trial))
        safe = Views(run).safe("the traces", session.traces.after_trial, "")
        hooks = HOOKS._replace(after_trial=lambda the_run, read: safe(the_run, read()))
    with ExitStack() as stack:
        if not scenario.is_virtual:
            stack.enter_context(without_http(scenario, plan.profile, started))
        finished = play(plan, run, progress, hooks)
    provider.close(begun)
    return finished


def raised(scenario: Scenario, random: Random, must_end: bool) -> list[str]:
    """Return overrides that raise the budget."""
    found = []
    for name, limit in scenario.budget.model_dump().items():
        if limit is not None:
            more = 1000 if must_end else random.choice((1, 2, 5))
            found.append(f"budget.{name}={min(limit * more, MOST[name])}")
    return found


def send_rest(history: History, session: Session) -> None:
    """Send the spans that are left to a collector that takes them all."""
    if not history.plan.is_traced:
        return
    traces = history.run / TRACES
    calm = Collector(session.random, history.spans, is_calm=True)
    with calm.listening(), patch("os.fsync", ignore):
        account = export_stored(history.run, TrialReader(history.run), TARGET, {})
    check_account(account, traces, history.spans)
    assert account.undelivered == 0, "all spans are delivered or rejected in the end"
    assert spans_in(traces).keys() <= history.spans.acknowledged.keys(), "each has arrived"


def compare_with_whole(plan: Plan, run: Path, folder: Path, sessions: int) -> bool:
    """Play the same run without interruption, and compare; return whether by its summary."""
    whole = folder / "whole"
    whole.mkdir()
    budget = plan.scenario.budget
    # Attempts wait for room in such a budget. What was cut off has used some of it.
    has_waits = budget.tokens is not None or budget.usd is not None
    scenario = plan.scenario
    if sessions > 1:
        scenario = Scenario.model_validate({**scenario.as_dict(), "budget": {}})
    with ExitStack() as stack:
        stack.enter_context(patch("os.fsync", ignore))  # takes most of the time
        stack.enter_context(patched(anchors(Anchor(unix_ns=0, monotonic_ns=0))))
        if not scenario.is_virtual:
            stack.enter_context(without_http(scenario, plan.profile, ignore))
        play(plan._replace(scenario=scenario), whole)
    return check_end(run, whole, is_plain=plan.is_plain and not (has_waits and sessions > 1))


def digest(run: Path) -> str:
    """Return a digest of the records, which a seed determines."""
    lines = [line for _, found in sorted(lines_of(run).items()) for line in found]
    return hashlib.sha256(b"".join(lines)).hexdigest()[:16]


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
                if options.seeds == 1:
                    traceback.print_exception(error)
    seconds = time.monotonic() - began
    print(
        f"simulated: {options.seeds} runs, {sum(one.sessions for one in survived)} sessions, "
        f"{sum(one.is_compared for one in survived)} summaries compared, {failed} failed, "
        f"{seconds / options.seeds * 1000:.0f} ms a run"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
