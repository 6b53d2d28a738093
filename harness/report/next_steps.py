"""The commands that a run proposes at its end."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from harness.analysis.model import Cell, Summary
from harness.analysis.question import MEASURING
from harness.records.tune_blocks import TRIALS_A_BLOCK
from harness.report.wording import in_seconds, kept, lost

OWN = "--endpoint URL --model NAME"
"""Options that point a scenario at a server of one's own."""


_HEADROOM = 1.25
"""A proposed budget is this many times what the run would use if it goes on as it did."""


_VIRTUAL = "endpoint.time=virtual"
"""The setting with which a trial needs no real time, and no processes that divide it."""


class Rerun(NamedTuple):
    """How the scenario was run: its path or name, the settings replaced, and other options.

    `budget`: the limits of the scenario by key. `settle`: scenario seconds between two trials.
    `verb`: the command. `processes`: that ran each trial together. `blocks`: the most blocks of a
    tune, 0 for another run.
    """

    scenario: str
    overrides: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    budget: Mapping[str, float] = {}
    settle: float = 0.0
    verb: Literal["run", "tune"] = "run"
    processes: int = 1
    blocks: int = 0

    def command(self, *changed: str) -> str:
        """Return the command that runs it again with other settings, `key=value`."""
        keys = {_key(one) for one in changed}
        settings = [*(one for one in self.overrides if _key(one) not in keys), *changed]
        words = ["harness", self.verb, self.scenario, *self.options]
        if self.processes > 1 and _VIRTUAL not in changed:
            words += ["--processes", str(self.processes)]
        for setting in settings:
            words += ["--set", setting]
        return shlex.join(words)


def _key(override: str) -> str:
    return override.partition("=")[0].strip()


class Step(NamedTuple):
    """A command, and what it is for."""

    command: str
    purpose: str


def next_steps(summary: Summary, directory: Path, rerun: Rerun | None) -> list[Step]:
    """Return commands, the most useful first. `rerun`: how to run the scenario again, if known."""
    run = shlex.quote(str(directory))
    if summary.serves_requests:
        return _steps_of_gateway(summary, run)
    steps: list[Step] = []
    if summary.status != "complete":
        more = _raised_budget(summary, rerun)
        settles = summary.recommendation.settles_with
        is_enough = settles is not None and settles.by_resuming
        purpose = "go on until it is proven" if is_enough else "go on with it"
        steps.append(Step(f"harness run --resume {run}{more}", purpose))
    failed = Step(f"harness trace {run} --failed", "why workflows failed")
    if any(map(lost, summary.cells)) and not any(map(kept, summary.cells)):
        steps.append(failed)
    if rerun is not None:
        steps += _reruns(summary, rerun)
    steps.append(Step(f"harness report {run} --verbose", "all tables, code to paste"))
    if any(map(lost, summary.cells)):
        steps.append(failed)
    elif rerun is not None and summary.has_simulator and summary.question != "accuracy":
        steps.append(
            Step(f"harness {rerun.verb} {shlex.quote(rerun.scenario)} {OWN}", "with your own model")
        )
    steps += [
        Step(f"harness trace {run} --slowest 3", "why it took so long"),
        Step(f"harness export {run}", "the records as CSV"),
    ]
    return list(dict.fromkeys(steps))


def _steps_of_gateway(summary: Summary, run: str) -> list[Step]:
    why = [Step(f"harness trace {run} --failed", "why requests failed")]
    return [
        *(why if any(map(lost, summary.cells)) else []),
        Step(f"harness fit {run} -o twin.toml", "a twin of the provider"),
        Step(f"harness trace {run} --slowest 3", "what took so long"),
        Step(f"harness report {run} --verbose", "all tables"),
    ]


def _reruns(summary: Summary, rerun: Rerun) -> Iterable[Step]:
    """Yield how to run the scenario again so that it says more."""
    if summary.question in MEASURING:
        if summary.virtual:
            yield Step(rerun.command("endpoint.time=real"), "measure this machine")
        elif summary.question == "accuracy":
            yield Step(rerun.command("sweep.permits=[1, 4, 16]"), "with fewer streams")
        else:
            yield Step(rerun.command("sweep.permits=[1, 8, 64]"), "by the number of streams")
        return
    if summary.verdict.bottleneck != "none" and can_be_virtual(summary):
        yield Step(rerun.command(_VIRTUAL), "whatever the machine")
    if summary.tune is not None and summary.tune.changed is not None:
        yield Step(rerun.command(), "at the provider as it is now")
    settles = summary.recommendation.settles_with
    if settles is not None and settles.max_repeats is not None and not settles.by_resuming:
        changed = ["sweep.repeats=auto"] if summary.planned_workflows is not None else []
        purpose = "may be enough for a proof" if settles.at_least else "enough for a proof"
        key = "sweep.max_repeats" if summary.tune is None else "tune.max_blocks"
        if settles.max_repeats > rerun.blocks:
            changed.append(f"{key}={settles.max_repeats}")
        workflows = (settles.workflows or 0) * _settings_a_repeat(summary)
        for name, limit in rerun.budget.items():
            needed = _needed(name, summary, workflows, rerun.settle)
            if needed is not None and needed > limit:
                changed.append(f"budget.{name}={_written(needed)}")
        if changed:
            yield Step(rerun.command(*changed), purpose)


def _settings_a_repeat(summary: Summary) -> int:
    count = len(summary.cells)
    return count if summary.tune is None else min(count, TRIALS_A_BLOCK)


def _raised_budget(summary: Summary, rerun: Rerun | None) -> str:
    """Return the option with which a run goes on that a budget has stopped; empty for others.

    It is more than the limit in any case: an attempt can use less than its worst case, which has to
    fit.
    """
    if summary.stopped is None or summary.stopped.by != "budget":
        return ""
    key, limit, *_ = summary.stopped.because.replace(" = ", " ").split()
    planned, settle = summary.planned_workflows, 0.0 if rerun is None else rerun.settle
    settles = summary.recommendation.settles_with
    if planned is None and settles is not None and settles.workflows is not None:
        planned = settles.workflows * _settings_a_repeat(summary)
    name = key.removeprefix("budget.")
    needed = None if planned is None else _needed(name, summary, planned, settle)
    more = "MORE" if needed is None else _written(max(needed, _HEADROOM * float(limit)))
    return f" --set {key}={more}"


def _needed(name: str, summary: Summary, workflows: int, settle: float) -> float | None:
    """Return the budget with which so many workflows end, if they are like those of the run.

    `workflows`: of all settings together. None if it is not known.
    """
    begun = [cell for cell in summary.cells if cell.workflows.started]
    used = [_used(name, cell, summary) for cell in begun]
    known = [one for one in used if one is not None]
    if not known or len(known) < len(used):
        return None
    each = [one / cell.workflows.started for one, cell in zip(known, begun, strict=True)]
    warm_up = _warm_up(name, summary) / sum(cell.workflows.started for cell in begun)
    pauses = 0.0
    if name == "seconds":
        pauses = settle * sum(c.repeats for c in begun) / sum(c.workflows.started for c in begun)
    return _HEADROOM * workflows * (math.fsum(each) / len(each) + warm_up + pauses)


def _used(name: str, cell: Cell, summary: Summary) -> float | None:
    match name:
        case "attempts":
            return cell.attempts.total
        case "tokens":
            return cell.tokens.input + cell.tokens.output
        case "usd":
            return cell.cost_usd
        case _:
            makespan = in_seconds(cell.makespan_s, summary)
            return None if makespan is None else makespan.value * cell.repeats


def _warm_up(name: str, summary: Summary) -> float:
    seen = summary.cold_start
    if seen is None:
        return 0.0
    used = {"attempts": seen.warmup_calls, "tokens": seen.warmup_tokens, "usd": seen.warmup_usd}
    return used.get(name) or 0.0


def _written(value: float) -> str:
    """Write a number rounded up to two significant digits."""
    step: float = 10.0 ** (math.floor(math.log10(value)) - 1) if value > 0 else 1.0
    return f"{math.ceil(value / step - 1e-9) * step:.12g}"


def can_be_virtual(summary: Summary) -> bool:
    """Return whether virtual time answers the question.

    It has no threads, no wire client and no processes, and it measures nothing.
    """
    has_time = "time" in summary.endpoint_keys and not summary.virtual
    has_threads = any(cell.mode == "threads" for cell in summary.cells)
    is_possible = has_time and not has_threads and "wire" not in summary.clients
    is_possible = is_possible and not summary.runs_commands
    return is_possible and summary.question not in MEASURING
