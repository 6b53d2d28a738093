"""What a critical path says, in sentences: the same in the terminal and in the report."""

from __future__ import annotations

from collections.abc import Callable

from harness.analysis.call_segments import PARTS
from harness.analysis.critical_path import CellPath, CriticalPath, OneMore
from harness.records.schema import Decision, Run
from harness.report.waterfall import FailedAttempt
from harness.report.wording import number, percent, sentence

WORDS = {
    "permit_wait": "permit wait",
    "client_wait": "client wait",
    "backoff": "backoff",
    "failed_attempts": "failed attempts",
    "to_first_token": "first token",
    "reasoning": "reasoning",
    "answer": "answer",
    "other": "other",
}
"""Each part of `pieces.PARTS` in words."""

ToSeconds = Callable[[int], float]
"""From nanoseconds of the records to scenario seconds."""


def in_scenario_seconds(time_scale: float) -> ToSeconds:
    """Return what makes scenario seconds of a run's nanoseconds."""
    return lambda length: length / 1e9 / time_scale


def simulated_line(run: Run) -> str:
    """Say that a run was simulated and whose seconds are shown; empty for a live endpoint."""
    if not run.simulated:
        return ""
    how = "in virtual time" if run.virtual else f"at time scale {run.time_scale:g}"
    return f"SIMULATED {how}: durations are in scenario seconds"


def path_sentences(path: CriticalPath, seconds: ToSeconds) -> list[str]:
    """Say what the workflow's end waited for, which phase most, and which branch held it."""
    if not path.latency:
        return []
    shares = sorted(path.parts().items(), key=lambda item: -item[1])
    parts = ", ".join(f"{WORDS[part]} {percent(time / path.latency)}" for part, time in shares)
    said = [f"Critical path of {number(seconds(path.latency))} s: {parts}."]
    phases = path.phases()
    if phases:
        longest = max(phases, key=lambda name: phases[name])
        share = percent(phases[longest] / path.latency)
        said.append(f"{sentence(longest.replace('_', '-'))} took most of it ({share}).")
    for one in path.stragglers:
        behind = f", {number(seconds(one.behind))} s after the one before it" if one.behind else ""
        why = (
            f": {number(seconds(one.excess))} s more {WORDS[one.because]} than the median of the "
            "others"
            if one.because
            else ""
        )
        phase = (one.phase or "workflow").replace("_", "-")
        said.append(f"Branch {one.branch + 1} held the {phase}{behind}{why}.")
    return said


def failure_line(failure: FailedAttempt, seconds: ToSeconds) -> str:
    """Say what one failed attempt was and what the policy made of it."""
    status = "" if failure.status is None else f" ({failure.status})"
    what = failure.outcome.replace("_", " ")
    return (
        f"{failure.label}, attempt {failure.attempt}: {what}{status} after "
        f"{number(seconds(failure.took))} s{_then(failure.decision, seconds)}"
    )


def _then(decision: Decision | None, seconds: ToSeconds) -> str:
    if decision is None:
        return ""
    if decision.give_up is not None:
        return f"; given up: {decision.give_up.replace('_', ' ')}"
    if decision.source == "breaker":
        return "; parked by the breaker"
    if decision.retry_in is None:
        return ""
    by = "the server" if decision.source == "retry_after" else "the policy"
    return f"; again after {number(seconds(decision.retry_in))} s, as {by} said"


def held_by(path: CellPath) -> str:
    """Say what the last branches of a cell's fan-outs had more of than others, most first."""
    held = sorted(path.held_by.items(), key=lambda item: (-item[1], PARTS.index(item[0])))
    return ", ".join(f"{WORDS[part]} {times} times" for part, times in held).replace(
        " 1 times", " once"
    )


def one_more_words(more: OneMore | None) -> str:
    """Say what one permit more would buy at best: the change of the makespan."""
    if more is None:
        return "—"
    change = more.ratio.value - 1
    if abs(change) < 0.005:
        return "nothing"
    return f"{'−' if change < 0 else '+'}{percent(abs(change))}"
