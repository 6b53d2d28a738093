"""The commands that a run proposes at its end."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from harness.analysis.model import Summary
from harness.report.wording import kept, lost

OWN = "--endpoint URL --model NAME"
"""Options that point a scenario at a server of one's own."""


class Rerun(NamedTuple):
    """How the scenario was run: its path or name, the settings replaced, and other options."""

    scenario: str
    overrides: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def command(self, *changed: str) -> str:
        """Return the command that runs it again with other settings, `key=value`."""
        keys = {_key(one) for one in changed}
        settings = [*(one for one in self.overrides if _key(one) not in keys), *changed]
        words = ["harness", "run", self.scenario, *self.options]
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
    steps: list[Step] = []
    if summary.status != "complete":
        more = ""
        if summary.stopped is not None and summary.stopped.by == "budget":
            more = f" --set {summary.stopped.because.partition(' = ')[0]}=MORE"
        settles = summary.recommendation.settles_with
        is_enough = settles is not None and settles.by_resuming
        purpose = "go on until it is proven" if is_enough else "go on with it"
        steps.append(Step(f"harness run --resume {run}{more}", purpose))
    failed = Step(f"harness trace {run} --failed", "why workflows failed")
    if not any(map(kept, summary.cells)):
        steps.append(failed)
    if rerun is not None:
        steps += _reruns(summary, rerun)
    steps.append(Step(f"harness report {run} --verbose", "all tables, code to paste"))
    if any(map(lost, summary.cells)):
        steps.append(failed)
    elif rerun is not None and summary.has_simulator and summary.question != "accuracy":
        steps.append(
            Step(f"harness run {shlex.quote(rerun.scenario)} {OWN}", "with your own model")
        )
    steps += [
        Step(f"harness trace {run} --slowest 3", "why it took so long"),
        Step(f"harness export {run}", "the records as CSV"),
    ]
    return list(dict.fromkeys(steps))


def _reruns(summary: Summary, rerun: Rerun) -> Iterable[Step]:
    """Yield how to run the scenario again so that it says more."""
    if summary.question == "accuracy":
        if summary.virtual:
            yield Step(rerun.command("endpoint.time=real"), "measure this machine")
        else:
            yield Step(rerun.command("sweep.permits=[1, 4, 16]"), "with fewer streams")
        return
    if summary.verdict.bottleneck != "none" and can_be_virtual(summary):
        yield Step(rerun.command("endpoint.time=virtual"), "whatever the machine")
    settles = summary.recommendation.settles_with
    if settles is not None and settles.max_repeats is not None and not settles.by_resuming:
        is_auto = summary.planned_workflows is None
        changed = [] if is_auto else ["sweep.repeats=auto"]
        purpose = "may be enough for a proof" if settles.at_least else "enough for a proof"
        yield Step(rerun.command(*changed, f"sweep.max_repeats={settles.max_repeats}"), purpose)


def can_be_virtual(summary: Summary) -> bool:
    """Return whether virtual time answers the question; it has no threads and measures nothing."""
    has_time = "time" in summary.endpoint_keys and not summary.virtual
    has_threads = any(cell.mode == "threads" for cell in summary.cells)
    return has_time and not has_threads and summary.question != "accuracy"
